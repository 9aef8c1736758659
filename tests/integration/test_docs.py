"""What the documentation shows is what runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.support.cli import environment
from tests.support.docs import ROOT, all_blocks, blocks, go_through
from workerjobs import InvalidInputError, WorkerManager, app
from workerjobs.domain.doctor import SERVER_CHECKS, TABLE_CHECKS


@pytest.mark.parametrize("page", ["docs/adding-jobs.md", "docs/chain-jobs.md", "docs/testing-jobs.md"])
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
    assert "4 passed" in ended.stdout


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
        assert manager.wait_for_job(order.id, timeout=60).result == {"total": 10}
        imported = manager.wait_for_job(catalogue.id, timeout=60)
        assert imported.result == {"imported": 2}
        assert imported.progress == {"current": 2, "total": 2, "message": "ink"}


def test_the_typed_example_runs(database_url: str) -> None:
    example = str(ROOT / "docs" / "examples" / "invoice_jobs.py")
    data = {"to": "Ada", "due": "2030-01-31", "lines": [{"text": "pen", "price": -1}]}
    with WorkerManager(database_url=database_url, worker_count=1, job_modules=[example]) as manager:
        with pytest.raises(InvalidInputError) as raised:
            manager.submit_job({"type": "sendInvoice", "data": data})
        assert f"`{raised.value}`" in (ROOT / "docs" / "adding-jobs.md").read_text()


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        (
            "README.md",
            {
                "/": ["sendReport"],
                "/jobs?type=sendReport": ["sendReport", "Succeeded"],
                "/jobs/{sendReport}": ["grace"],
            },
        ),
        (
            "docs/quickstart.md",
            {"/jobs?state=failed": ["sendOrder", "the carrier does not answer"], "/cron": ["restock", "Europe/Berlin"]},
        ),
    ],
)
def test_a_newcomer_gets_through_the_page_and_sees_the_jobs_in_the_dashboard(
    page: str, shown: dict[str, list[str]], database_url: str, tmp_path: Path
) -> None:
    def look(address: str) -> None:
        assert "http://127.0.0.1:8095>" in (ROOT / page).read_text()
        # Its number is 3 where the hour ends meanwhile, and with it removeOldWorkerJobs has its next row.
        with psycopg.connect(database_url) as connection:
            rows = connection.execute('select "type", "id" from "workerJobs" order by "id" desc').fetchall()
        ids: dict[str, int] = dict(rows)
        for path, words in shown.items():
            path = path.format_map(ids)
            with urllib.request.urlopen(f"{address}{path}", timeout=20) as answer:
                html = answer.read().decode()
            assert [word for word in words if word.lower() not in html.lower()] == [], path

    go_through(page, tmp_path, database_url, look)


def test_every_block_of_the_first_pages_is_run() -> None:
    for page in ("README.md", "docs/quickstart.md"):
        for block in all_blocks(page):
            assert block.marks <= {"no-test", "slow", "background"}, block.place
            # In no other language, which nothing would run.
            assert block.language in ("python", "shell", "sql", "text", "yaml"), block.place
    # What the slow tests run: tests/e2e/test_demo.py and test_node_docs.py.
    slow = [block.text.partition(" ")[0] for block in all_blocks("README.md") if "slow" in block.marks]
    assert slow == ["make", ".venv/bin/kubectl"]
    # The tests themselves, and a node beside the one of the tests: CI runs both after each other.
    left_out = [block.text for block in all_blocks("README.md") if "no-test" in block.marks]
    assert left_out == ["make test\n", "make cluster\n"]
    ran = (ROOT / ".ci" / "run").read_text().splitlines(keepends=True)
    assert [each for each in left_out if each not in ran] == []


def test_what_other_queues_did_is_done_as_the_pages_say(database_url: str, tmp_path: Path) -> None:
    pages = ["docs/quickdapp.md", *(f"docs/from-{name}.md" for name in ("celery", "cronjobs", "graphile-worker"))]
    app.install_quickdapp(database_url)
    for block in (block for page in pages for block in all_blocks(page) if block.file):
        (tmp_path / str(block.file)).write_text(block.content)
    modules = [str(file) for file in tmp_path.glob("*.py")]
    with (
        WorkerManager(database_url=database_url, worker_count=1, job_modules=modules) as manager,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        for page in pages:
            for block in all_blocks(page):
                if block.language == "sql" and "no-test" not in block.marks:
                    connection.execute(block.text.encode())
                elif block.language == "python" and not block.file and "no-test" not in block.marks:
                    run([sys.executable, "-W", "error", "-c", block.text], database_url)
        run(["workerjobs", "apply", "--filename", str(tmp_path / "tidy-up.yaml")], database_url)
        # As QuickDapp's server does it.
        ((digest,),) = connection.execute(
            """insert into worker_jobs (type, user_id, data, due) values ('sendDigest', 0, '{"topic": "x"}', now())
            returning id"""
        ).fetchall()
        assert manager.wait_for_job(digest, timeout=60).result == {"users": 0}
        closed = manager.submit_job({"type": "closeDay"})
        assert manager.wait_for_job(closed.id, timeout=60).success
        tidied = manager.submit_job({"type": "runProgram", "data": {"program": "tidyUp"}})
        assert manager.wait_for_job(tidied.id, timeout=60).success
        ((welcome,),) = connection.execute("""select min(id) from "workerJobs" where type = 'sendWelcome'""").fetchall()
        assert manager.wait_for_job(welcome, timeout=60).result == {"user": 7}
        waiting = connection.execute(
            """select type, "cronSchedule", "timeZone" from "workerJobs"
            where started is null and type in ('closeDay', 'runProgram', 'cleanUp') order by type"""
        ).fetchall()
        assert waiting == [
            ("cleanUp", "0 4 * * *", None),
            ("closeDay", "0 1 * * *", "Europe/Berlin"),
            ("runProgram", "15 3 * * *", "Europe/Berlin"),
        ]
        mails = connection.execute(
            """select tag, priority, "retryLimit", "concurrencyKey", "concurrencyLimit" from "workerJobs"
            where type = 'sendMail' and attempt = 1 order by id"""
        ).fetchall()
        assert mails == [("welcome:ada", -5, 4, "ada", 1), ("welcome:grace", -5, 24, None, None)]


EXAMPLES = {
    "nightly-report": ["succeeded: {'day':", "'products': 4"],
    "thumbnails": [
        "25 of 25",
        "'made': 24, 'broken': ['broken.jpg']",
        "24 small pictures",
    ],
    "token-watcher": ["booked {'token': 'DGLD', 'amount': '12'}", "notification 2: received 12", "2 is revoked"],
}
"""What each of them says at last."""


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_example_runs_by_one_command(example: str) -> None:
    ((command,),) = (blocks(f"docs/examples/{example}/README.md", "shell"),)
    words = command.split()
    assert words[0] == ".venv/bin/python"
    ended = run([sys.executable, *words[1:]], None)
    for expected in EXAMPLES[example]:
        assert expected in ended.stdout


def test_the_sql_of_the_pages_runs(database_url: str) -> None:
    # Accounts are the server's, which other tests use as well.
    accounts = {name: f"{name}_{uuid4().hex[:12]}" for name in ("shop_app", "keda")}
    with psycopg.connect(database_url, autocommit=True) as connection:
        try:
            for page in ("README.md", "docs/submitting.md", "docs/operating.md", "docs/autoscaling.md"):
                for block in blocks(page, "sql"):
                    text = re.sub(rf"\b({'|'.join(accounts)})\b", lambda name: accounts[name[0]], block)
                    connection.execute(text.encode())
            types = connection.execute('select type, count(*) from "workerJobs" group by 1 order by 1').fetchall()
            assert types == [("confirmOrder", 1), ("report", 1), ("sendMail", 3), ("sendReport", 1)]
        finally:
            for account in accounts.values():
                connection.execute(f"drop owned by {account}; drop role {account}".encode())


def test_the_arguments_that_the_page_lists_are_those_of_the_functions(database_url: str) -> None:
    (arguments,) = re.findall(
        r"^\| argument .*?\n\n", (ROOT / "docs/submitting.md").read_text(), re.MULTILINE | re.DOTALL
    )
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", arguments, re.MULTILINE))))
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select proname, proargnames from pg_proc"
            " where oid in ('workerjobs.submit'::regproc, 'workerjobs.schedule'::regproc)"
        ).fetchall()
    names = {name: set(given) for name, given in rows}
    of_lines = {"catch_up", "concurrency_policy"}
    assert listed - of_lines == names["submit"] - {"type"}
    assert names["schedule"] == listed - {"due", "delay", "traceparent"} | {"type", "cron", "time_zone", "key"}


def test_the_python_of_the_submitting_page_runs(database_url: str) -> None:
    for program in blocks("docs/submitting.md", "python"):
        run([sys.executable, "-W", "error", "-c", program], database_url)
    with psycopg.connect(database_url) as connection:
        row = connection.execute('select count(*), count(distinct "cronKey") from "workerJobs"').fetchone()
    assert row == (10_004, 1)


def test_the_commands_of_the_submitting_page_run(database_url: str) -> None:
    (commands,) = blocks("docs/submitting.md", "shell")
    ended = run(["bash", "-ec", commands], database_url)
    assert "Job 1 submitted" in ended.stdout
    assert "Job 1 cancelled" in ended.stdout


def run(command: list[str], database_url: str | None) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        command, env=environment(database_url, PATH=path), capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def test_pages_link_to_files_that_exist() -> None:
    for page in [ROOT / "README.md", ROOT / "manifests" / "README.md", *(ROOT / "docs").rglob("*.md")]:
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
    page = "".join(
        (ROOT / "docs" / f"{name}.md").read_text() for name in ("configuration", "notifications", "api", "dashboard")
    )
    folder = ROOT / "operator" / "workerjobs" / "settings"
    source = "".join(file.read_text() for file in folder.glob("*.py"))
    variables = set(re.findall(r'read\("([A-Z_]+)"', source)) | {
        "DATABASE_URL",
        "DATABASE_DIRECT_URL",
        "WORKERJOBS_CACHE",
    }
    assert {name for name in variables if f"`{name}`" not in page} == set()


def test_every_check_of_the_doctor_is_documented() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    source = (ROOT / "operator" / "workerjobs" / "domain" / "doctor.py").read_text()
    names = set(re.findall(r'_(?:ok|warn|fail)\(\s*"([a-z ]+)"', source))
    assert len(names) == len(SERVER_CHECKS) + len(TABLE_CHECKS)
    assert names == set(re.findall(r"^\| `([a-z ]+)` \|", page, flags=re.MULTILINE))


def test_the_commands_of_the_limits_page_run(database_url: str) -> None:
    for commands in blocks("docs/limits.md", "shell"):
        run(["bash", "-ec", commands], database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute('select count(*) from "workerJobPauses"').fetchone() == (0,)
        left = connection.execute('select kind, name, "rateLimit" from "workerJobLimits" where "rateLimit" is not null')
        assert left.fetchall() == [("key", "some-api", 3)]
