"""What the documentation shows is what runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.cli import environment
from workerjobs import WorkerManager

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page that are not marked ``no-test``."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_example_in_adding_jobs_is_the_file_it_names() -> None:
    (block,) = blocks("docs/adding-jobs.md", "python")
    assert block.partition("\n")[2] == (ROOT / "docs" / "examples" / "shop_jobs.py").read_text()


def test_the_example_jobs_run(database_url: str) -> None:
    example = str(ROOT / "docs" / "examples" / "shop_jobs.py")
    with WorkerManager(database_url=database_url, worker_count=1, job_modules=[example]) as manager:
        order = manager.submitJob({"type": "priceOrder", "data": {"lines": [{"price": 5, "count": 2}]}})
        catalogue = manager.submitJob({"type": "importCatalogue", "data": {"products": ["pen", "ink"]}})
        assert manager.wait_for_job(order.id, timeout=30).result == {"total": 10}
        imported = manager.wait_for_job(catalogue.id, timeout=30)
        assert imported.result == {"imported": 2}
        assert imported.progress == {"current": 2, "total": 2, "message": "ink"}


def test_the_readme_job_runs(database_url: str, tmp_path: Path) -> None:
    own_job, script = blocks("README.md", "python")
    file = tmp_path / "jobs.py"
    file.write_text(own_job)
    with WorkerManager(database_url=database_url, worker_count=1, job_modules=[str(file)]) as manager:
        sent = manager.submit_job({"type": "sendReport", "data": {"to": ["ada", "grace"]}})
        assert manager.wait_for_job(sent.id, timeout=30).result == {"sent": 2}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(database_url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "{'upTo': 1000, 'primes': 168}\n"


def test_pages_link_to_files_that_exist() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_files_and_folders_that_the_design_names_exist() -> None:
    package = ROOT / "operator" / "workerjobs"
    named = re.findall(r"`((?:\w+/)*(?:\w+\.(?:py|sql)|\w+/))`", (ROOT / "docs" / "design.md").read_text())
    assert len(named) > 20
    missing = [
        name
        for name in named
        if not any((folder / name).exists() for folder in (ROOT, package, package / "storage"))
        # Where nothing is said to be, such as an operator/__init__.py.
        and name not in ("__init__.py", "schema.sql")
    ]
    assert missing == []


def test_every_variable_read_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    source = (ROOT / "operator" / "workerjobs" / "settings.py").read_text()
    variables = set(re.findall(r'read\("([A-Z_]+)"', source)) | {"DATABASE_URL", "WORKERJOBS_CACHE"}
    assert {name for name in variables if f"`{name}`" not in page} == set()


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    source = (ROOT / "operator" / "workerjobs" / "worker" / "metrics.py").read_text()
    assert set(re.findall(r'"(workerjobs_\w+)"', source)) == set(re.findall(r"`(workerjobs_\w+)`", page))
