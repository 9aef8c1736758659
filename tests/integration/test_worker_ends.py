"""Jobs that end their process, and jobs that do not end at all."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import open_store, read, sql
from tests.support.workers import (
    Told,
    family_of,
    finished,
    gone,
    is_alive,
    kill,
    process,
    run_jobs,
    run_one,
    worker,
    worker_process,
)
from workerjobs.domain.job import JobState, NewJob, RetryPolicy
from workerjobs.worker import children

BY_SIGNAL = "The job's process was killed by signal {}"
BY_EXIT = "The job's process ended with exit code {}"
ENDS = {
    "SIGKILL": BY_SIGNAL.format("SIGKILL"),
    "its group": BY_SIGNAL.format("SIGKILL"),
    "SIGSEGV": BY_SIGNAL.format("SIGSEGV"),
    "SIGTERM": BY_EXIT.format(0),
    "exit code 0": BY_EXIT.format(0),
    "exit code 7": BY_EXIT.format(7),
    "closed descriptors": BY_SIGNAL.format("SIGKILL"),
}


@pytest.fixture
def quick_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second from SIGTERM to SIGKILL."""
    monkeypatch.setattr(children, "KILL_SECONDS", 0.5)


@in_loop
async def test_job_that_ends_its_process_fails_and_nothing_else_is_disturbed(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url, children=3) as running:
        (neighbour,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        before = await told.run(neighbour)
        jobs = await run_jobs(running.store, *(NewJob(type="end", data={"how": how}) for how in ENDS))
        assert {how: job.result for how, job in zip(ENDS, jobs, strict=True)} == {
            how: {"error": error} for how, error in ENDS.items()
        }
        assert {job.state for job in jobs} == {JobState.FAILED}
        assert running.metric("workerjobs_children_lost_total") == len(ENDS)
        # As many children as before, and the neighbour still runs in its first one.
        await until(lambda: running.metric("workerjobs_children", state="idle") == 2)
        assert len(running.supervisor.child_pids) == 3
        told.go()
        done = await finished(running.store, neighbour)
        assert done.result["pid"] == before["pid"]
        assert len(told.runs(neighbour)) == 1


@in_loop
async def test_child_killed_in_the_middle_of_a_job_fails_it_and_is_retried_as_its_row_says(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    retry = RetryPolicy(limit=1, initial_delay_ms=0)
    async with worker(database_url, children=3) as running:
        jobs = await running.store.submit(
            [
                NewJob(type="hold", data=told.data()),
                NewJob(type="hold", data=told.data(), retry=retry),
                NewJob(type="hold", data=told.data(until="go on")),
            ]
        )
        plain, retried, other = jobs
        for job in (plain, retried):
            kill((await told.run(job))["pid"])
            failed = await finished(running.store, job)
            assert failed.error == "The job's process was killed by signal SIGKILL"
        again = await until(lambda: told.runs(other.id + 1))
        assert again[0]["attempt"] == 2
        told.go()
        succeeded = await finished(running.store, other.id + 1)
        assert (succeeded.rescheduled_from_job, succeeded.result["attempt"]) == (retried.id, 2)
        told.go("go on")
        assert (await finished(running.store, other)).result["pid"] == told.runs(other)[0]["pid"]
        assert len(told.runs(other)) == 1


@in_loop
async def test_idle_child_that_is_killed_is_replaced(database_url: str) -> None:
    async with worker(database_url) as running:
        await until(lambda: running.metric("workerjobs_children", state="idle") == 1)
        (first,) = running.supervisor.child_pids
        kill(first)
        await until(lambda: running.supervisor.child_pids not in ([], [first]))
        assert (await run_one(running.store, "echo")).state is JobState.SUCCEEDED
        assert running.metric("workerjobs_children_lost_total") == 0


@in_loop
async def test_forked_copy_of_a_job_does_not_speak_for_it(database_url: str) -> None:
    async with worker(database_url) as running:
        for _ in range(3):
            jobs = await run_jobs(running.store, NewJob(type="fork"), NewJob(type="echo", data={"a": 1}))
            assert [job.result for job in jobs] == ["done", {"a": 1}]
        await until(lambda: len(family_of(running.nursery)) == 2)
        assert running.metric("workerjobs_children_lost_total") == 0


@in_loop
async def test_worker_recovers_when_its_nursery_is_killed(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(tmp_path)
    async with worker(database_url, children=3) as running:
        first = running.nursery
        jobs = await running.store.submit(
            [
                NewJob(type="family", data=told.data()),
                NewJob(type="hold", data=told.data(), retry=RetryPolicy(limit=1, initial_delay_ms=0)),
            ]
        )
        plain, retried = jobs
        started = [await told.run(job) for job in jobs]
        children_before = [process(pid) for pid in running.supervisor.child_pids]
        in_group = process(started[0]["grandchildren"][0])
        orphans = [process(pid) for pid in started[0]["grandchildren"][1:]]
        kill(first)
        for job in jobs:
            assert (await finished(running.store, job)).error == "The job's process was killed by signal SIGKILL"
        await gone([*children_before, in_group])
        again = await told.run(retried.id + 1)
        assert running.nursery != first
        told.go()
        assert (await finished(running.store, retried.id + 1)).result["pid"] == again["pid"]
        await until(lambda: len(running.supervisor.child_pids) == 3)
        assert (await run_one(running.store, "echo")).state is JobState.SUCCEEDED
        # Only what left its group and lost its nursery has nobody to end it.
        for orphan in orphans:
            if is_alive(orphan.pid):
                kill(orphan.pid)
        await gone(orphans)
        assert plain.id == 1
    assert "The process that starts the children ended; starting it anew" in caplog.text


@in_loop
async def test_job_that_kills_its_nursery_again_and_again_fails_each_time(database_url: str) -> None:
    async with worker(database_url, children=2) as running:
        for _ in range(3):
            job = await run_one(running.store, "end", {"how": "its nursery"})
            assert job.error == "The job's process was killed by signal SIGKILL"
        await until(lambda: running.metric("workerjobs_children", state="idle") == 2)
        assert len(running.supervisor.child_pids) == 2
        assert (await run_one(running.store, "echo")).state is JobState.SUCCEEDED


NO_FORK = """
import os

if "WORKERJOBS_CHILD" in os.environ:
    fork, calls = os.fork, []

    def fork_but_once():
        calls.append(1)
        if len(calls) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    os.fork = fork_but_once
"""


@in_loop
async def test_child_that_can_not_be_forked_is_tried_again_and_the_others_go_on(
    database_url: str, tmp_path: Path
) -> None:
    # There is no limit of processes for root that could be reached, so the nursery is told of one.
    (tmp_path / "sitecustomize.py").write_text(NO_FORK)
    told = Told(tmp_path)
    async with (
        worker_process(database_url, tmp_path, count=2, PYTHONPATH=str(tmp_path)) as running,
        open_store(database_url) as store,
    ):
        jobs = await store.submit([NewJob(type="hold", data=told.data()) for _ in range(2)])
        message = "A child could not be started: no memory, or too many processes; starting another in 1.0 s"
        await until(lambda: running.said(message))
        runs = [await told.run(job) for job in jobs]
        assert len({run["pid"] for run in runs}) == 2
        told.go()
        for job in jobs:
            assert (await finished(store, job)).state is JobState.SUCCEEDED
        assert [len(told.runs(job)) for job in jobs] == [1, 1]


# --- jobs that do not return

ENDED_BY_SIGTERM = ["sleep", "lock", "thread", "asyncio", "program", "iterator", "regular expression"]
NEEDING_SIGKILL = ["asyncio thread", "ignores SIGTERM", "swallows", "sum"]


@pytest.mark.usefixtures("quick_kill")
@in_loop
async def test_job_that_does_not_return_is_ended_at_its_timeout(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    kinds = [*ENDED_BY_SIGTERM, *NEEDING_SIGKILL, "pow"]
    async with worker(database_url, children=6) as running:
        # Long enough for a job to begin with what it does against its end.
        limit = timedelta(seconds=1)
        (neighbour,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        await told.run(neighbour)
        submitted = await running.store.submit(
            [NewJob(type="never", data=told.data(how=how), timeout_ms=1000) for how in kinds]
        )
        jobs = [await finished(running.store, job) for job in submitted]
        assert {how: job.result for how, job in zip(kinds, jobs, strict=True)} == {
            how: {"error": "Job timed out after 1 s"} for how in kinds
        }
        assert {job.state for job in jobs} == {JobState.FAILED}
        for how, job in zip(kinds, jobs, strict=True):
            assert job.started is not None
            assert job.finished is not None
            took = job.finished - job.started
            assert took >= limit
            if how in NEEDING_SIGKILL:
                assert took >= limit + timedelta(seconds=0.5)
        # A timeout is no lost child, and costs the neighbour nothing.
        assert running.metric("workerjobs_children_lost_total") == 0
        told.go()
        assert (await finished(running.store, neighbour)).result["pid"] == told.runs(neighbour)[0]["pid"]
        assert (await run_one(running.store, "echo")).state is JobState.SUCCEEDED


@pytest.mark.slow
@in_loop
async def test_job_that_ignores_sigterm_is_killed_five_seconds_later(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url) as running:
        job = await run_one(running.store, "never", told.data(how="ignores SIGTERM"), timeout_ms=1000)
        assert job.error == "Job timed out after 1 s"
        assert job.started is not None
        assert job.finished is not None
        assert timedelta(seconds=6) <= job.finished - job.started < timedelta(seconds=12)


@in_loop
async def test_job_that_is_being_stopped_is_killed_at_once_when_its_lease_is_lost(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may run it by then: it has no time to clean up."""
    monkeypatch.setattr(children, "KILL_SECONDS", 600.0)
    told = Told(tmp_path)
    async with worker(database_url, renew_every=0.1) as running:
        never = NewJob(type="never", data=told.data(how="ignores SIGTERM"), timeout_ms=200)
        (job,) = await running.store.submit([never])
        child = process((await told.run(job))["pid"])
        await until(lambda: running.metric("workerjobs_jobs_stopped_total", reason="timed_out"))
        others = """"fencingToken" = nextval('workerjobs.fencing_token'), "leaseDeadline" = now() + interval '1 hour'"""
        sql(database_url, f'update "workerJobs" set {others}')
        await gone([child])


@in_loop
async def test_job_that_ends_in_time_is_not_stopped_later(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="workerjobs")
    told = Told(tmp_path)
    async with worker(database_url) as running:

        async def is_in_time() -> bool:
            return (await run_one(running.store, "echo", timeout_ms=200)).state is JobState.SUCCEEDED

        # On a machine that does much else the first one may be late.
        await until(is_in_time)
        caplog.clear()
        (job,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        # Longer than the first one's limit, in the same child.
        await asyncio.sleep(0.3)
        told.go()
        assert (await finished(running.store, job)).state is JobState.SUCCEEDED
        assert told.runs(job, "interrupted") == []
    assert "Stopping: timed out" not in caplog.text


@in_loop
async def test_timed_out_job_is_retried_as_its_row_says(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    retry = RetryPolicy(limit=1, initial_delay_ms=0)
    async with worker(database_url) as running:
        first = await run_one(running.store, "never", told.data(how="sleep"), timeout_ms=100, retry=retry)
        second = await finished(running.store, first.id + 1)
        assert [job.error for job in (first, second)] == ["Job timed out after 0.1 s"] * 2
        assert (second.attempt, second.rescheduled_from_job) == (2, first.id)
        assert await running.store.get(first.id + 2) is None


# --- cancelling


@pytest.mark.parametrize(
    "job_type", ["hold", "holdAsync", "busyAsync", "blockingAsync", "slowCleanup", "failingCleanup"]
)
def test_running_job_that_is_cancelled_can_clean_up_and_ends_cancelled(
    database_url: str, tmp_path: Path, job_type: str
) -> None:
    @in_loop
    async def check() -> None:
        told = Told(tmp_path)
        # A heartbeat that never comes: the announcement alone has to do it.
        async with worker(database_url, children=2, renew_every=600) as running:
            wanted, other = await running.store.submit(
                [
                    NewJob(type=job_type, data=told.data(), retry=RetryPolicy(limit=3, initial_delay_ms=0)),
                    NewJob(type="hold", data=told.data()),
                ]
            )
            for job in (wanted, other):
                await told.run(job)
            await running.store.cancel([wanted.id])
            cancelled = await finished(running.store, wanted)
            assert cancelled.state is JobState.CANCELLED
            assert cancelled.error == "Job cancelled"
            assert len(told.runs(wanted, "interrupted")) == 1
            assert (await read(running.store, other)).state is JobState.RUNNING
            told.go()
            assert (await finished(running.store, other)).state is JobState.SUCCEEDED
            # Not retried.
            assert await running.store.get(other.id + 1) is None

    check()


@in_loop
async def test_cancel_whose_announcement_was_missed_is_found_by_the_heartbeat(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    sql(database_url, 'drop trigger "announceCancel" on "workerJobs"')
    async with worker(database_url, renew_every=0.1) as running:
        (job,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        await running.store.cancel([job.id])
        assert (await finished(running.store, job)).state is JobState.CANCELLED


@in_loop
async def test_processes_that_a_job_started_are_stopped_with_it(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url) as running:
        (job,) = await running.store.submit([NewJob(type="family", data=told.data())])
        started = await told.run(job)
        in_group, *left = [process(pid) for pid in started["grandchildren"]]
        await running.store.cancel([job.id])
        assert (await finished(running.store, job)).state is JobState.CANCELLED
        await gone([in_group])
    # And those in sessions of their own when the worker ends.
    await gone(left)
