"""A database migrated by this release, used by the one before: how every rolling update begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import environment, workerjobs, workerjobs_json
from tests.support.loop import in_loop, until
from tests.support.require import require_or_skip
from tests.support.table import count_rows, open_store, sql
from tests.support.workers import finished, worker_process
from workerjobs.domain.job import JobState, NewJob, RetryPolicy

PREVIOUS = "458f265952c54d8f9c5f98fdd3671bc1ade3bd54"
"""Its newest migration is 0001."""
ROOT = Path(__file__).parents[2]

# Both releases load it, so it uses what both have.
JOBS = """
import os, time
import workerjobs
from workerjobs import job

@job("where")
def where(data, context):
    return {"file": workerjobs.__file__, "n": data.get("n")}

@job("failOnce")
def fail_once(data, context):
    if context.attempt == 1:
        raise RuntimeError("once")
    return {"file": workerjobs.__file__}

@job("wait")
def wait(data, context):
    context.progress(1, 2, "waiting")
    while not os.path.exists(data["until"]):
        time.sleep(0.01)
    return {"file": workerjobs.__file__}
"""


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source root of the previous release."""
    folder = tmp_path_factory.mktemp("previous")
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", PREVIOUS, "operator"], capture_output=True, check=False
    )
    if archive.returncode != 0:
        reason = archive.stderr.decode(errors="replace").strip() or "no reason given"
        require_or_skip("history", f"The previous release, commit {PREVIOUS}, is not in this clone: {reason}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "operator"


@pytest.fixture
def jobs(tmp_path: Path) -> str:
    file = tmp_path / "both_jobs.py"
    file.write_text(JOBS)
    return str(file)


def old_json(previous: Path, *arguments: str, database_url: str) -> Any:
    """Run a command of the previous release."""
    ended = subprocess.run(
        [sys.executable, "-m", "workerjobs", *arguments],
        env=environment(database_url, PYTHONPATH=str(previous)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout) if "-o" in arguments else ended.stdout


def ran_in(result: Any) -> Path:
    """The source root of the release that ran a job."""
    return Path(result["file"]).parents[1]


def test_the_previous_release_is_that_and_accepts_the_schema(previous: Path, database_url: str) -> None:
    where = "import workerjobs; print(workerjobs.__file__)"
    imported = subprocess.run(
        [sys.executable, "-c", where],
        env={**os.environ, "PYTHONPATH": str(previous)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(imported.stdout.strip()).is_relative_to(previous)
    assert old_json(previous, "migrate", database_url=database_url) == "The database is up to date.\n"


@in_loop
async def test_previous_release_runs_what_both_submit(
    previous: Path, database_url: str, tmp_path: Path, jobs: str
) -> None:
    go = tmp_path / "go"
    old = {"PYTHONPATH": str(previous), "WORKER_JOB_MODULES": jobs, "WORKER_BUILTIN_JOBS": "on"}
    async with (
        worker_process(database_url, tmp_path, count=2, name="old", **old) as running,
        open_store(database_url) as store,
    ):
        retry = RetryPolicy(limit=2, initial_delay_ms=10)
        ours, failing, line, held = await store.submit(
            [
                NewJob(type="where", data={"n": 1}, tag="one"),
                NewJob(type="failOnce", retry=retry),
                NewJob(type="where", cron_schedule="* * * * * *"),
                NewJob(type="wait", data={"until": str(go)}),
            ]
        )
        theirs = old_json(previous, "submit", "where", "-d", '{"n": 2}', "-o", "json", database_url=database_url)
        for job in (ours.id, theirs["id"]):
            done = await finished(store, job)
            assert done.state is JobState.SUCCEEDED
            assert ran_in(done.result) == previous
        assert (await finished(store, failing)).state is JobState.FAILED
        again = """select id from "workerJobs" where "rescheduledFromJob" = %s"""
        await until(lambda: sql(database_url, again, failing.id))
        retried = await finished(store, sql(database_url, again, failing.id)[0][0])
        assert (retried.state, retried.attempt) == (JobState.SUCCEEDED, 2)
        # Cron goes on, one row a tick.
        runs = """select count(*), count(distinct tick) from "workerJobs" where "cronKey" = %s and success"""
        await until(lambda: sql(database_url, runs, line.cron_key)[0][0] >= 2)
        (count,) = sql(database_url, runs, line.cron_key)
        assert count[0] == count[1]
        # What runs while the worker is told to stop is finished by it.
        await until(lambda: count_rows(database_url, f"id = {held.id} and progress is not null") == 1)
        await store.cancel(
            [row[0] for row in sql(database_url, """select id from "workerJobs" where "cronSchedule" is not null""")]
        )
        running.popen.terminate()
        go.touch()
        assert await running.ended() == 0
        assert (await finished(store, held)).state is JobState.SUCCEEDED
        errors = [record["message"] for record in running.records() if record["level"] == "error"]
        assert [error for error in errors if "RuntimeError: once" not in error] == []


@in_loop
async def test_this_release_runs_what_the_previous_one_submits(
    previous: Path, database_url: str, tmp_path: Path, jobs: str
) -> None:
    first, second = [
        old_json(
            previous,
            *("submit", "where", "-d", '{"n": 3}', "--tag", "t", "--priority", "5", "-o", "json"),
            database_url=database_url,
        )
        for _ in range(2)
    ]
    failing = old_json(
        previous,
        *("submit", "failOnce", "--retries", "1", "--retry-delay", "0", "-o", "json"),
        database_url=database_url,
    )
    later = old_json(previous, "submit", "where", "--delay", "60", "-o", "json", database_url=database_url)
    assert workerjobs("cancel", str(later["id"]), database_url=database_url).returncode == 0
    shown = old_json(previous, "show", str(later["id"]), "-o", "json", database_url=database_url)
    assert shown["state"] == "cancelled"
    async with (
        worker_process(database_url, tmp_path, WORKER_JOB_MODULES=jobs),
        open_store(database_url) as store,
    ):
        assert (await finished(store, first["id"])).state is JobState.CANCELLED
        done = await finished(store, second["id"])
        assert ran_in(done.result) != previous
        assert (await finished(store, failing["id"])).state is JobState.FAILED
        await until(lambda: count_rows(database_url, "success and attempt = 2") == 1)
    assert {job["id"] for job in workerjobs_json("list", database_url=database_url)} >= {first["id"], later["id"]}


@in_loop
async def test_workers_of_both_releases_share_the_jobs_and_run_each_once(
    previous: Path, database_url: str, tmp_path: Path, jobs: str
) -> None:
    count = 400
    async with (
        worker_process(
            database_url, tmp_path, count=2, name="old", PYTHONPATH=str(previous), WORKER_JOB_MODULES=jobs
        ) as old,
        worker_process(database_url, tmp_path, count=2, name="new", WORKER_JOB_MODULES=jobs) as new,
        open_store(database_url) as store,
    ):
        go = tmp_path / "go"
        # All four children are busy, so that both workers have had a job before anything is measured.
        holding = await store.submit([NewJob(type="wait", data={"until": str(go)}) for _ in range(4)])
        await until(lambda: count_rows(database_url, "started is not null and finished is null") == 4)
        # Both renew leases, and neither takes the other's.
        renewed = """select count(*) from "workerJobs" where "leaseDeadline" > started + interval '16 seconds'"""
        await until(lambda: sql(database_url, renewed) == [(4,)])
        await store.submit([NewJob(type="where", data={"n": n}) for n in range(count)])
        go.touch()
        await until(lambda: count_rows(database_url, "finished is null") == 0, seconds=60)
        places = {ran_in((await finished(store, job)).result) for job in holding}
        assert len(places) == 2
        for running in (old, new):
            assert [record for record in running.records() if record["level"] in ("warning", "error")] == []
    assert sql(database_url, 'select distinct success, attempt, rescues from "workerJobs"') == [(True, 1, 0)]
    numbers = """select count(distinct (result->>'n')::int) from "workerJobs" where type = 'where'"""
    assert sql(database_url, numbers) == [(count,)]
