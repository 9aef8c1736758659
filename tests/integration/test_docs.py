"""What the documentation shows is what runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import environment
from workerjobs import InvalidInputError, WorkerManager

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page that are not marked ``no-test``."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["docs/adding-jobs.md", "docs/testing-jobs.md"])
def test_example_on_a_page_is_the_file_it_names(page: str) -> None:
    found = 0
    for block in blocks(page, "python"):
        first, _, rest = block.partition("\n")
        if first.startswith("# docs/examples/"):
            assert rest == (ROOT / first.removeprefix("# ")).read_text()
            found += 1
    assert found == len(re.findall(r"^# docs/examples/", (ROOT / page).read_text(), flags=re.MULTILINE)) > 0


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env=environment(None, PYTHONPATH=str(ROOT / "docs" / "examples"), PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_example_tests_pass_as_the_page_runs_them() -> None:
    (command,) = blocks("docs/testing-jobs.md", "shell")
    program, *arguments = command.split()
    assert program == "pytest"
    ended = run_pytest(*arguments)
    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout


def test_more_tests_of_the_page_pass(tmp_path: Path) -> None:
    _, *more = blocks("docs/testing-jobs.md", "python")
    for number, block in enumerate(more):
        (tmp_path / f"test_example_{number}.py").write_text(block)
    # Without this project's settings.
    ended = run_pytest("-c", os.devnull, str(tmp_path))
    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout


def test_the_example_jobs_run(database_url: str) -> None:
    example = str(ROOT / "docs" / "examples" / "shop_jobs.py")
    with WorkerManager(database_url=database_url, worker_count=1, job_modules=[example]) as manager:
        order = manager.submitJob({"type": "priceOrder", "data": {"lines": [{"price": 5, "count": 2}]}})
        catalogue = manager.submitJob({"type": "importCatalogue", "data": {"products": ["pen", "ink"]}})
        assert manager.wait_for_job(order.id, timeout=30).result == {"total": 10}
        imported = manager.wait_for_job(catalogue.id, timeout=30)
        assert imported.result == {"imported": 2}
        assert imported.progress == {"current": 2, "total": 2, "message": "ink"}


def test_the_typed_example_runs(database_url: str) -> None:
    example = str(ROOT / "docs" / "examples" / "invoice_jobs.py")
    data = {"to": "Ada", "due": "2030-01-31", "lines": [{"text": "pen", "price": -1}]}
    with WorkerManager(database_url=database_url, worker_count=1, job_modules=[example]) as manager:
        with pytest.raises(InvalidInputError) as raised:
            manager.submit_job({"type": "sendInvoice", "data": data})
        assert f"`{raised.value}`" in (ROOT / "docs" / "adding-jobs.md").read_text()


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


def test_every_variable_read_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    source = (ROOT / "operator" / "workerjobs" / "settings.py").read_text()
    variables = set(re.findall(r'read\("([A-Z_]+)"', source)) | {"DATABASE_URL", "WORKERJOBS_CACHE"}
    assert {name for name in variables if f"`{name}`" not in page} == set()


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    source = (ROOT / "operator" / "workerjobs" / "worker" / "metrics.py").read_text()
    assert set(re.findall(r'"(workerjobs_\w+)"', source)) == set(re.findall(r"`(workerjobs_\w+)`", page))
