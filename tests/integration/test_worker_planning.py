"""Cron jobs that were scheduled in SQL get their first tick from workers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import claim_all, count_rows, open_store, open_stores, read, sql
from tests.support.workers import finished, run_one, worker
from workerjobs.domain.job import JobState, NewJob
from workerjobs.domain.planning import plan
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.worker.planning import Planning

SOONER_THAN_A_POLL = timedelta(seconds=25)


def schedule(url: str, cron: str, more: str = "") -> int:
    job_id: int = sql(url, f"select workerjobs.schedule('echo', %s{more})", cron)[0][0]
    return job_id


async def plan_all(store: PostgresJobStore) -> None:
    """What the duty does, until nothing is left to do."""
    while await Planning(store).step() != 30:
        pass


@in_loop
async def test_worker_plans_at_once_after_the_commit_and_runs_the_line(database_url: str) -> None:
    async with worker(database_url) as running:
        # A worker that has just run a job is listening.
        await run_one(running.store, "echo")
        yearly = schedule(database_url, "@yearly", ", time_zone => 'Asia/Kathmandu'")
        committed = await running.store.now()
        first = await until(
            lambda: sql(database_url, 'select 1 from "workerJobs" where id = %s and tick is not null', yearly)
        )
        assert first
        planned = await read(running.store, yearly)
        assert planned.updated_at - committed < SOONER_THAN_A_POLL
        assert planned.tick == planned.due
        assert (planned.due.month, planned.due.day, planned.due.hour, planned.due.minute) == (12, 31, 18, 15)
        assert planned.remove_at == planned.due + timedelta(hours=1)

        job = await finished(running.store, schedule(database_url, "* * * * * *"))
        assert job.state is JobState.SUCCEEDED
        assert job.tick is not None
        assert job.tick - job.created_at < SOONER_THAN_A_POLL
        # The line goes on as any other.
        following = await until(
            lambda: sql(database_url, 'select id from "workerJobs" where "rescheduledFromJob" = %s', job.id)
        )
        assert (await read(running.store, following[0][0])).cron_key == job.cron_key


@in_loop
async def test_schedule_that_workers_can_not_read_fails_with_the_reason(database_url: str) -> None:
    async with worker(database_url) as running:
        for cron, zone, sentence in (
            ("0 0 30 2 *", "UTC", "there is no day 30 in FEB"),
            ("0 0 * 13 *", "UTC", "13 is out of range"),
            ("@daily", "EST5EDT4", "time zone 'EST5EDT4' is unknown"),
        ):
            job = await finished(running.store, schedule(database_url, cron, f", time_zone => '{zone}'"))
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert sentence in job.error
            assert job.due == job.started
            # Not the same moment: QuickDapp's server says with that that it cancelled a job.
            assert job.finished == job.started + timedelta(microseconds=1)
            assert job.remove_at == job.due + timedelta(hours=1)
        # The next one does not suffer.
        await finished(running.store, schedule(database_url, "* * * * * *"))


@in_loop
async def test_five_workers_that_plan_at_once_give_every_line_one_tick(database_url: str) -> None:
    async with open_stores(database_url, 5) as stores:
        for round_number in range(5):
            lines = f"workerjobs.schedule('echo', '@hourly', key => '{round_number}:' || n)"
            sql(database_url, f"select {lines} from generate_series(1, 30) as n")
            await asyncio.gather(*(plan_all(store) for store in stores))
    assert count_rows(database_url) == 150
    assert count_rows(database_url, "tick = due and finished is null") == 150
    assert sql(database_url, 'select count(distinct "cronKey") from "workerJobs"') == [(150,)]


@in_loop
async def test_each_row_is_planned_by_one_of_five_workers(database_url: str) -> None:
    async with open_stores(database_url, 5) as stores:
        for _ in range(20):
            schedule(database_url, "@hourly")
        # All have read before anyone writes.
        found = await asyncio.gather(*(store.unplanned(100) for store in stores))
        assert {len(runs) for runs in found} == {20}
        planned = await asyncio.gather(
            *(store.plan([plan(run) for run in runs]) for store, runs in zip(stores, found, strict=True))
        )
        assert sorted(job.id for jobs in planned for job in jobs) == sorted(run.job_id for run in found[0])


@in_loop
async def test_row_that_was_cancelled_or_locked_meanwhile_is_left_alone(database_url: str) -> None:
    async with open_stores(database_url, 2) as (store, other):
        cancelled, locked, free = (schedule(database_url, "@hourly") for _ in range(3))
        plans = [plan(run) for run in await store.unplanned(10)]
        await store.cancel([cancelled])
        async with other._transaction() as connection:
            await connection.execute('select from "workerJobs" where id = %s for update', [locked])
            assert [job.id for job in await store.plan(plans)] == [free]
        assert [job.id for job in await store.plan(plans)] == [locked]
        assert (await read(store, cancelled)).state is JobState.CANCELLED
        # Never planned, and yet removed in time.
        assert sql(
            database_url,
            """select "removeAt" < now() + interval '2 hours' from "workerJobs" where id = %s""",
            cancelled,
        ) == [(True,)]


@in_loop
async def test_tick_counts_from_the_schedule_call_and_from_the_lines_last_tick(database_url: str) -> None:
    async with open_store(database_url) as store:
        late = schedule(database_url, "0 8 * * *")
        sql(database_url, """update "workerJobs" set "createdAt" = '2026-01-01 07:59:59+00' where id = %s""", late)
        # A run of the line's tick to come is over already, as after a clock was set back.
        line = NewJob(type="echo", cron_schedule="@yearly", cron_key="k", due=datetime(2050, 1, 1, tzinfo=UTC))
        await store.submit([line])
        sql(
            database_url,
            """update "workerJobs" set started = now(), finished = now(), success = true where "cronKey" = 'k'""",
        )
        after = schedule(database_url, "@yearly", ", key => 'k'")
        await plan_all(store)
        assert (await read(store, late)).tick == datetime(2026, 1, 1, 8, tzinfo=UTC)
        assert (await read(store, after)).tick == datetime(2051, 1, 1, tzinfo=UTC)
        assert [job.id for job in await claim_all(store)] == [late]


@in_loop
async def test_tick_that_is_taken_meanwhile_is_found_out_at_the_next_look(database_url: str) -> None:
    async with open_store(database_url) as store:
        job_id = schedule(database_url, "@yearly", ", key => 'k'")
        (run,) = await store.unplanned(10)
        planned = plan(run)
        insert = """insert into "workerJobs" (type, due, "cronKey", tick) values ('x', %s, 'k', %s)"""
        sql(database_url, insert, planned.tick, planned.tick)
        assert await store.plan([planned]) == []
        await plan_all(store)
        assert planned.tick is not None
        tick = (await read(store, job_id)).tick
        assert tick is not None
        assert tick.year == planned.tick.year + 1


@in_loop
async def test_waiting_rows_are_no_jobs_to_claim_and_are_found_without_an_announcement(database_url: str) -> None:
    job_id = schedule(database_url, "* * * * * *")
    async with open_store(database_url) as store:
        assert await claim_all(store) == []
    # Scheduled while no worker lived.
    async with worker(database_url) as running:
        assert (await finished(running.store, job_id)).state is JobState.SUCCEEDED


@pytest.mark.parametrize("count", [1, 1000])
def test_looking_for_waiting_rows_reads_no_others(database_url: str, count: int) -> None:
    insert = """
        insert into "workerJobs" (type, due, "cronKey", "cronSchedule", tick)
        select 'x', now(), n::text, '@hourly', now() from generate_series(1, %s) as n
    """
    sql(database_url, insert, count)
    sql(database_url, 'analyze "workerJobs"')

    @in_loop
    async def look() -> None:
        async with open_store(database_url) as store, store._connected() as connection:
            from workerjobs.storage.queries import query

            await connection.execute("set enable_seqscan = off")
            cursor = await connection.execute(b"explain " + query("unplanned"), {"limit": 10})
            described = "\n".join(row[0] for row in await cursor.fetchall())
            assert '"workerJobs_unplanned"' in described

    look()
