"""Stopping a worker: running jobs finish within the grace period, the rest are given back."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.support.factories import NOON
from tests.support.loop import in_loop, until
from tests.support.table import claim_one, count_rows, lease_of, open_store, read, sql, submit_one
from tests.support.workers import Told, finished, gone, worker, worker_process
from workerjobs.domain.job import JobState, NewJob
from workerjobs.worker import children


@in_loop
async def test_running_job_finishes_within_the_grace_period_and_no_new_one_starts(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker_process(database_url, tmp_path, count=2) as process, open_store(database_url) as store:
        (job,) = await store.submit([NewJob(type="hold", data=told.data())])
        run = await told.run(job)
        family = process.family
        process.send(signal.SIGTERM)
        await until(lambda: process.said("Stopping: 1 jobs are running, grace period 20 s"))
        later = await submit_one(store, NewJob(type="echo"))
        # The signal reached the supervisor alone.
        assert told.runs(job, "interrupted") == []
        told.go()
        done = await finished(store, job)
        assert done.state is JobState.SUCCEEDED
        assert done.result == {"pid": run["pid"], "attempt": 1}
        assert await process.ended() == 0
        await gone(family)
        assert (await read(store, later)).state is JobState.PENDING
        assert told.runs(job, "interrupted") == []
        assert process.said("Traceback") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_whole_process_group_reaches_no_child(
    database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """As a terminal's Ctrl-C does it."""

    @in_loop
    async def check() -> None:
        told = Told(tmp_path)
        async with worker_process(database_url, tmp_path) as process, open_store(database_url) as store:
            (job,) = await store.submit([NewJob(type="hold", data=told.data())])
            await told.run(job)
            os.killpg(process.pid, number)
            await until(lambda: process.said("Stopping: 1 jobs are running"))
            told.go()
            assert (await finished(store, job)).state is JobState.SUCCEEDED
            assert await process.ended() == 0
            assert told.runs(job, "interrupted") == []

    check()


@pytest.mark.parametrize("job_type", ["hold", "holdAsync", "failingCleanup"])
def test_job_longer_than_the_grace_period_can_clean_up_is_given_back_and_runs_at_once_elsewhere(
    database_url: str, tmp_path: Path, job_type: str
) -> None:
    @in_loop
    async def check() -> None:
        told = Told(tmp_path)
        async with (
            worker_process(database_url, tmp_path, name="first", WORKER_GRACE_SECONDS="0.3") as first,
            open_store(database_url) as store,
        ):
            (job,) = await store.submit([NewJob(type=job_type, data=told.data())])
            await told.run(job)
            async with worker(database_url) as second:
                told_to_stop = await store.now()
                first.send(signal.SIGTERM)
                await told.run(job, number=2)
                assert len(told.runs(job, "interrupted")) == 1
                assert await first.ended() == 0
                assert first.said("Given back unfinished")[0]["job_id"] == job.id
                running = await read(store, job)
                assert running.state is JobState.RUNNING
                # At once: far sooner than its lease would have run out.
                assert running.started is not None
                assert running.started - told_to_stop < timedelta(seconds=8)
                # Not a failure of the job, nor of its worker.
                assert (running.attempt, running.rescues, running.lease_owner) == (1, 0, second.supervisor.owner)
                if job_type == "hold":
                    told.go()
                    assert (await finished(store, job)).state is JobState.SUCCEEDED
        assert count_rows(database_url) == 1

    check()


@in_loop
async def test_second_signal_hurries(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with (
        worker_process(database_url, tmp_path, WORKER_GRACE_SECONDS="600") as process,
        open_store(database_url) as store,
    ):
        (job,) = await store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        process.send(signal.SIGTERM)
        await until(lambda: process.said("grace period 600 s"))
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
        assert len(told.runs(job, "interrupted")) == 1
        assert (await read(store, job)).state is JobState.PENDING


@in_loop
async def test_job_that_ignores_sigterm_is_killed_and_given_back(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "KILL_SECONDS", 0.5)
    told = Told(tmp_path)
    async with worker(database_url, grace=0) as running:
        (job,) = await running.store.submit([NewJob(type="never", data=told.data(how="ignores SIGTERM"))])
        await told.run(job)
        await running.stop()
        assert (await read(running.store, job)).state is JobState.PENDING


@in_loop
async def test_end_that_an_open_transaction_decides_about_is_stored_before_its_worker_ends(database_url: str) -> None:
    async with (
        worker(database_url, grace=0) as running,
        await psycopg.AsyncConnection.connect(database_url) as scheduler,
    ):
        await scheduler.execute("select workerjobs.submit('echo', tag => 'nightly', delay => '1 hour')")
        # As a client of the table stores it, which takes no tag's lock.
        failing = """
            insert into "workerJobs" (type, tag, "retryLimit", "retryInitialDelay")
            values ('raise', 'nightly', 1, 3600000)
        """
        sql(database_url, failing)
        await until(lambda: running.supervisor._settling.waiting)
        await running.stop()
        assert count_rows(database_url, "success = false and attempt = 1") == 1
        assert count_rows(database_url, "finished is null and attempt = 2") == 1


@in_loop
async def test_worker_with_nothing_to_do_stops_at_once(database_url: str) -> None:
    async with worker(database_url, children=3, grace=600) as running:
        await running.stop()


@in_loop
async def test_worker_that_is_stopped_while_it_starts_leaves_nothing(database_url: str) -> None:
    for _ in range(3):
        async with worker(database_url, children=3):
            # Its children are just being forked.
            pass


@in_loop
async def test_job_cancelled_during_the_drain_ends_cancelled(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url, grace=600) as running:
        (job,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        running.supervisor.stop()
        await running.store.cancel([job.id])
        assert (await finished(running.store, job)).state is JobState.CANCELLED
        await running.stop()


@in_loop
async def test_job_given_back_although_it_was_to_be_cancelled_does_not_run_again(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with open_store(database_url) as store:
        job = await claim_one(store, NewJob(type="hold", data=told.data(), cron_schedule="@yearly", due=NOON))
        await store.cancel([job.id])
        await store.release([lease_of(job)])
        async with worker(database_url):
            cancelled = await finished(store, job)
        assert cancelled.state is JobState.CANCELLED
        assert cancelled.error == "Job cancelled"
        assert told.runs(job) == []
        # As with any cancel of a running job, its line goes on.
        assert (await read(store, job.id + 1)).state is JobState.PENDING


@in_loop
async def test_leases_are_renewed_during_a_long_drain(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url, renew_every=0.1) as running:
        (job,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        running.supervisor.stop()
        deadline = 'select "leaseDeadline" from "workerJobs"'
        seen = [sql(database_url, deadline)]
        for _ in range(3):
            await until(lambda: sql(database_url, deadline) > seen[-1])
            seen.append(sql(database_url, deadline))
        told.go()
        assert (await finished(running.store, job)).state is JobState.SUCCEEDED
