"""`WorkerManager`, as plain programs use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.cli import environment
from tests.support.loop import in_loop
from tests.support.table import count_rows, sql
from tests.support.workers import JOBS, Told, gone, processes, supervised_by
from workerjobs import InvalidInputError, Job, JobState, NewJob, WorkerJobsError, WorkerManager
from workerjobs.errors import (
    DatabaseRefusedError,
    DatabaseUnavailableError,
    InvalidSettingsError,
    NotFoundError,
    SchemaError,
)

SCRIPT = """
import json, os
from workerjobs import WorkerManager

manager = WorkerManager()
stored = manager.submitJob({"type": "context", "data": {"z": 1, "a": 2}, "userId": 7, "tag": "nightly"})
done = manager.wait_for_job(stored.id, timeout=60)
print(json.dumps({
    "stored": stored.to_dict(), "done": done.to_dict(), "count": manager.getWorkerCount(), "pid": os.getpid(),
}))
manager.shutdown()
manager.shutdown()
print(json.dumps({"count": manager.getWorkerCount()}))
"""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those that a test gives."""
    for name in list(os.environ):
        if name.startswith(("WORKER_", "DATABASE_")):
            monkeypatch.delenv(name)


@pytest.fixture
def manager(database_url: str, settings: None) -> Iterator[WorkerManager]:
    with WorkerManager(database_url=database_url, worker_count=2, job_modules=[JOBS]) as manager:
        yield manager


def run_script(program: str, url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment(url, WORKER_COUNT="2", WORKER_JOB_MODULES=JOBS, **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_plain_script_submits_a_job_reads_its_result_and_leaves_no_process(database_url: str) -> None:
    ended = run_script(SCRIPT, database_url)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    first, last = map(json.loads, ended.stdout.splitlines())
    assert first["stored"]["state"] == "pending"
    assert (first["stored"]["userId"], first["stored"]["tag"]) == (7, "nightly")
    assert first["done"]["state"] == "succeeded"
    assert first["done"]["result"]["keys"] == ["z", "a"]
    assert (first["count"], last["count"]) == (2, 0)
    nursery, child = first["done"]["result"]["ppid"], first["done"]["result"]["pid"]
    assert not {nursery, child, first["pid"]} & {each.pid for each in processes()}


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(0)", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_script_that_ends_without_shutdown_leaves_no_process(database_url: str, tmp_path: Path, end: str) -> None:
    told = Told(tmp_path)
    program = f"""
import os, time
from pathlib import Path
from workerjobs import WorkerManager

manager = WorkerManager()
job = manager.submit_job({{"type": "family", "data": {{"folder": {str(tmp_path)!r}}}}})
while not list(Path({str(tmp_path)!r}).glob("*.started")):
    time.sleep(0.01)
{end}
"""
    started_before = set(processes())
    ended = run_script(program, database_url)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    (job_id,) = sql(database_url, """select id from "workerJobs" where type = 'family'""")[0]
    (run,) = told.runs(job_id)
    left = {each for each in processes() if each.pid in (run["pid"], *run["grandchildren"])} - started_before

    @in_loop
    async def check() -> None:
        await gone(left, seconds=5)

    check()


def test_submit_returns_the_stored_job(manager: WorkerManager) -> None:
    stored = manager.submit_job(NewJob(type="echo", data={"a": 1}))
    assert isinstance(stored, Job)
    assert stored.state is JobState.PENDING
    done = manager.wait_for_job(stored.id, timeout=60)
    assert done.state is JobState.SUCCEEDED
    assert done.result == {"a": 1}
    assert manager.get_job(stored.id) == done
    assert manager.get_worker_count() == manager.getWorkerCount() == 2


def test_many_jobs_are_submitted_at_once_and_all_run(manager: WorkerManager, database_url: str) -> None:
    jobs: list[Any] = [{"type": "echo", "data": {"n": n}} for n in range(200)]
    assert manager.submit_jobs([*jobs, NewJob(type="echo", data={"n": 200})]) == 201
    assert manager.submitJobs(iter(())) == 0
    deadline = time.monotonic() + 60
    while count_rows(database_url, "success") < 201:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sql(database_url, "select count(distinct result ->> 'n') from \"workerJobs\"") == [(201,)]
    with pytest.raises(InvalidInputError, match=r"jobs\[1\]: type is ''"):
        manager.submit_jobs([{"type": "echo"}, {"type": ""}])
    assert count_rows(database_url, "type = 'echo'") == 201


def test_cron_job_whose_tick_is_there_is_refused_with_a_sentence(manager: WorkerManager) -> None:
    line = NewJob(type="echo", cron_schedule="0 0 1 1 *", cron_key="yearly")
    manager.submit_job(line)
    with pytest.raises(InvalidInputError, match="The tick of yearly is there already: use schedule to replace"):
        manager.submit_job(line)


def test_seeds_names_and_pythons_are_both_there(manager: WorkerManager) -> None:
    assert WorkerManager.submitJob is WorkerManager.submit_job
    by_seed = manager.submitJob({"type": "echo", "cronSchedule": "@hourly", "userId": 3, "persistent": True})
    assert (by_seed.cron_schedule, by_seed.user_id, by_seed.persistent) == ("@hourly", 3, True)
    by_python = manager.submit_job({"type": "echo", "cron_schedule": "@hourly", "user_id": 3})
    assert (by_python.cron_schedule, by_python.user_id) == ("@hourly", 3)


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ({}, "type is missing"),
        ({"type": "echo", "dat": {}}, "unknown field 'dat': did you mean data?"),
        ({"type": "echo", "data": [1]}, "data is [1]: give an object"),
        ({"type": "echo", "data": {"a": "\x00"}}, "NUL"),
        ({"type": "echo", "cronSchedule": "61 * * * *"}, "61 is out of range"),
        ({"type": "echo", "due": "soon"}, "due is 'soon'"),
        (NewJob(type="echo", priority=40_000), "priority is 40000"),
    ],
    ids=str,
)
def test_bad_job_is_refused_and_nothing_is_stored(
    manager: WorkerManager, database_url: str, job: Any, sentence: str
) -> None:
    with pytest.raises(InvalidInputError) as raised:
        manager.submit_job(job)
    assert sentence in str(raised.value)
    assert count_rows(database_url, "type = 'echo'") == 0


def test_what_is_not_there_is_named_and_waiting_has_a_limit(manager: WorkerManager, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no job 4711"):
        manager.get_job(4711)
    with pytest.raises(NotFoundError):
        manager.wait_for_job(4711, timeout=5)
    later = manager.submit_job({"type": "echo", "due": "2040-01-01"})
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        manager.wait_for_job(later.id, timeout=0.1)
    assert time.monotonic() - began < 5


def test_many_threads_share_a_manager(manager: WorkerManager) -> None:
    results: list[Any] = []

    def submit(n: int) -> None:
        stored = manager.submit_job({"type": "echo", "data": {"n": n}})
        results.append(manager.wait_for_job(stored.id, timeout=60).result["n"])

    threads = [threading.Thread(target=submit, args=[n]) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(20))


def test_shutdown_lets_running_jobs_finish_and_ends_everything(
    database_url: str, tmp_path: Path, settings: None
) -> None:
    told = Told(tmp_path)
    manager = WorkerManager(database_url=database_url, worker_count=1, job_modules=[JOBS])
    job = manager.submit_job({"type": "hold", "data": told.data()})
    deadline = time.monotonic() + 60
    while not told.runs(job):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shutting_down = threading.Thread(target=manager.shutdown)
    shutting_down.start()
    told.go()
    shutting_down.join(60)
    assert not shutting_down.is_alive()
    assert sql(database_url, 'select success from "workerJobs" where id = %s', job.id) == [(True,)]
    assert not supervised_by(os.getpid())
    assert manager.get_worker_count() == 0
    with pytest.raises(WorkerJobsError, match="This WorkerManager was shut down"):
        manager.submit_job({"type": "echo"})


def test_settings_of_the_environment_count_and_arguments_win(
    database_url: str, settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("WORKER_COUNT", "3")
    monkeypatch.setenv("WORKER_JOB_MODULES", JOBS)
    with WorkerManager() as manager:
        assert manager.get_worker_count() == 3
        assert manager.wait_for_job(manager.submit_job({"type": "echo"}).id, timeout=60).result == {}
    with WorkerManager(worker_count="1") as manager:
        assert manager.get_worker_count() == 1


@pytest.mark.parametrize("count", [0, -1, "abc", 1001, 1.5])
def test_bad_worker_count_is_refused(database_url: str, settings: None, count: Any) -> None:
    with pytest.raises(ValueError, match='give a number from 1 to 1000, "cpus" or "auto"'):
        WorkerManager(database_url=database_url, worker_count=count)


def test_bad_environment_is_refused(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_COUNT", "0")
    monkeypatch.setenv("WORKER_LOG_LEVEL", "loud")
    with pytest.raises(InvalidSettingsError) as raised:
        WorkerManager()
    assert len(raised.value.problems) == 2


def test_database_that_can_not_be_used_is_an_error_at_once(
    database_url: str, empty_database_url: str, settings: None
) -> None:
    with pytest.raises(SchemaError, match="run `workerjobs migrate`"):
        WorkerManager(database_url=empty_database_url)
    password = urlsplit(database_url).password
    with pytest.raises(DatabaseRefusedError, match="password authentication failed"):
        WorkerManager(database_url=database_url.replace(f":{password}@", ":wrong@"))
    with pytest.raises(DatabaseUnavailableError):
        WorkerManager(database_url="postgresql://ada@127.0.0.1:1/jobs")
    assert not supervised_by(os.getpid())
    assert not [thread for thread in threading.enumerate() if thread.name == "workerjobs"]
