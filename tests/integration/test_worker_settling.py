"""The duty that stores how runs ended, step by step."""

from __future__ import annotations

import asyncio
import math

import psycopg
import pytest

from tests.support.loop import in_loop
from tests.support.table import allow_connections, claim_all, count_rows, ids, open_store, read, sql
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.domain.lifecycle import Outcome
from workerjobs.errors import DatabaseUnavailableError
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.worker.clock import DatabaseClock
from workerjobs.worker.metrics import WorkerMetrics
from workerjobs.worker.running import RunningJob, RunningJobs
from workerjobs.worker.settling import AGAIN_SECONDS, Reporting, Settling


async def claimed(store: PostgresJobStore, count: int) -> tuple[list[Job], Settling, RunningJobs]:
    """Jobs that run, and the duty that will settle them."""
    await store.submit([NewJob(type="report") for _ in range(count)])
    jobs = await claim_all(store)
    running = RunningJobs()
    for job in jobs:
        running.add(job)
    clock = DatabaseClock()
    await clock.synchronise(store)
    return jobs, Settling(store, running, clock, WorkerMetrics()), running


def of(running: RunningJobs, job: Job) -> RunningJob:
    """The run of a job."""
    found = running.get(job.id)
    assert found is not None
    return found


@pytest.mark.parametrize("result", ['"\\u0000"', '["\\ud800"]', "[NaN]", "[" * 50_000 + "]" * 50_000], ids=range(4))
def test_of_a_hundred_outcomes_the_refused_one_fails_with_its_reason(database_url: str, result: str) -> None:
    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            jobs, settling, running = await claimed(store, 100)
            for job in jobs:
                settling.add(of(running, job), Outcome(True, result if job is jobs[61] else "1"))
            assert await settling.step() is None
            assert len(running) == 0
            refused = await read(store, jobs[61])
            assert refused.state is JobState.FAILED
            assert refused.error is not None
            assert refused.error.startswith("The job's result can't be stored: ")
            assert len(refused.error) > len("The job's result can't be stored: ") + 10

    check()
    assert count_rows(database_url, "success") == 99


@in_loop
async def test_row_written_past_every_check_holds_up_nobody(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(database_url) as store:
        insert = """
            insert into "workerJobs"
                (type, "retryLimit", "retryInitialDelay", "retryFactor", "cronSchedule", "timeZone", "cronKey", tick)
            values ('nan', 9, 100, 'nan', null, null, null, null),
                ('infinite', 9, 0, 'infinity', null, null, null, null),
                ('long', 9, 2147483647, 1000, null, null, null, null),
                ('cron', null, null, null, 'every day', null, null, null),
                ('zone', null, null, null, '@hourly', 'Mars/Phobos', null, null),
                ('zone', null, null, null, '@hourly', '', null, null),
                ('far', null, null, null, '@hourly', null, 'far', '9950-01-01')
        """
        sql(database_url, insert)
        jobs, settling, running = await claimed(store, 4)
        for job in jobs:
            settling.add(of(running, job), Outcome.failure("no paper"))
        await settling.step()
        assert len(running) == 0
    assert count_rows(database_url, "success = false") == len(jobs) == 11
    # Those whose delay has a meaning are retried; the cron lines end with a word in the log.
    followed = 'select distinct j.type from "workerJobs" as j join "workerJobs" as f on f."rescheduledFromJob" = j.id'
    assert {name for (name,) in sql(database_url, followed)} == {"nan", "infinite", "long"}
    assert caplog.text.count("The cron job ends here, as its schedule has no next tick") == 4


@in_loop
async def test_outcomes_are_kept_while_the_database_is_away(database_url: str) -> None:
    async with open_store(database_url) as store:
        jobs, settling, running = await claimed(store, 3)
        for job in jobs:
            settling.add(of(running, job), Outcome(True, "1"))
        allow_connections(database_url, False)
        try:
            for _ in range(2):
                with pytest.raises(DatabaseUnavailableError):
                    await settling.step()
            assert len(running) == 3
        finally:
            allow_connections(database_url, True)
        await settling.step()
        assert len(running) == 0
    assert count_rows(database_url, "success") == 3


@in_loop
async def test_more_outcomes_than_a_batch_are_settled_in_one_step(database_url: str) -> None:
    async with open_store(database_url) as store:
        jobs, settling, running = await claimed(store, 1000)
        for job in jobs:
            settling.add(of(running, job), Outcome(True, str(job.id)))
        await settling.step()
        assert len(running) == 0
        assert ids(jobs) == [row for (row,) in sql(database_url, 'select result from "workerJobs" order by id')]


@in_loop
async def test_busy_worker_settles_what_ends_within_some_milliseconds_together(database_url: str) -> None:
    async with open_store(database_url) as store:
        jobs, settling, running = await claimed(store, 4)
        settling.add(of(running, jobs[0]), Outcome(True, "1"))
        assert await settling.step() is None
        assert count_rows(database_url, "success") == 1
        # However slow this machine is, the last settlement was just now.
        settling._last = math.inf
        settling.add(of(running, jobs[1]), Outcome(True, "1"))
        assert await settling.step() == math.inf
        assert count_rows(database_url, "success") == 1
        # Nothing else runs: nothing more would come.
        for job in jobs[2:]:
            settling.add(of(running, job), Outcome(True, "1"))
        assert await settling.step() is None
        assert count_rows(database_url, "success") == 4


@in_loop
async def test_end_that_lets_others_start_is_settled_at_once(database_url: str) -> None:
    async with open_store(database_url) as store:
        jobs, settling, running = await claimed(store, 3)
        settling._last = math.inf
        settling._is_awaited = lambda job: job.id == jobs[1].id
        settling.add(of(running, jobs[0]), Outcome(True, "1"))
        assert await settling.step() == math.inf
        settling.add(of(running, jobs[1]), Outcome(True, "1"))
        assert await settling.step() is None
        assert count_rows(database_url, "success") == 2


@in_loop
async def test_end_that_an_open_transaction_decides_about_waits_for_it_and_holds_up_nobody(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report", tag="nightly", auto_reschedule_on_failure=True)])
        jobs, settling, running = await claimed(store, 2)
        async with await psycopg.AsyncConnection.connect(database_url) as scheduler:
            await scheduler.execute("select workerjobs.submit('report', tag => 'nightly')")
            for job in jobs:
                settling.add(of(running, job), Outcome.failure("no paper"))
            assert await settling.step() == AGAIN_SECONDS
            assert [each.job.id for each in running] == [jobs[0].id]
            assert await settling.step() == AGAIN_SECONDS
            await scheduler.commit()
        assert await settling.step() is None
        assert (len(running), settling.waiting) == (0, 0)
    assert count_rows(database_url, "success = false") == 3
    assert count_rows(database_url, "finished is null") == 1


@in_loop
async def test_more_ends_than_a_batch_that_open_transactions_decide_about_are_tried_once_a_step(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workerjobs.worker.settling.BATCH", 1)
    async with open_store(database_url) as store:
        jobs = [NewJob(type="report", tag=tag, auto_reschedule_on_failure=True) for tag in ("nightly", "weekly")]
        await store.submit(jobs)
        claims, settling, running = await claimed(store, 0)
        async with await psycopg.AsyncConnection.connect(database_url) as scheduler:
            for job in jobs:
                await scheduler.execute("select workerjobs.submit('report', tag => %s)", [job.tag])
            for claim in claims:
                settling.add(of(running, claim), Outcome.failure("no paper"))
            async with asyncio.timeout(60):
                assert await settling.step() == AGAIN_SECONDS
            assert settling.waiting == 2
            # A worker that ends does not leave to others what has run.
            settling.stop_postponing()
            assert await settling.step() is None
            assert (len(running), settling.waiting) == (0, 0)
            await scheduler.rollback()
    assert count_rows(database_url, "success = false") == 2
    assert count_rows(database_url, "attempt = 2 and finished is null") == 2


@in_loop
async def test_progress_is_written_at_most_twice_a_second_however_often_it_is_told(database_url: str) -> None:
    async with open_store(database_url) as store:
        (job,), _, running = await claimed(store, 1)
        reporting = Reporting(store, running)
        of(running, job).unsaved_progress = '{"current": 1}'
        assert await reporting.step() == 0.5
        assert (await read(store, job)).progress == {"current": 1}
        # However slow this machine is, that was just now.
        reporting._last = math.inf
        of(running, job).unsaved_progress = '{"current": 2}'
        assert await reporting.step() == math.inf
        assert (await read(store, job)).progress == {"current": 1}
        reporting._last = -math.inf
        assert await reporting.step() == 0.5
        assert (await read(store, job)).progress == {"current": 2}
        reporting._last = -math.inf
        assert await reporting.step() is None


@in_loop
async def test_progress_that_was_told_while_the_database_was_away_is_written_when_it_returns(database_url: str) -> None:
    async with open_store(database_url) as store:
        (job,), _, running = await claimed(store, 1)
        reporting = Reporting(store, running)
        of(running, job).unsaved_progress = '{"current": 1}'
        allow_connections(database_url, False)
        with pytest.raises(DatabaseUnavailableError):
            await reporting.step()
        allow_connections(database_url, True)
        assert await reporting.step() == 0.5
        assert (await read(store, job)).progress == {"current": 1}
