"""Cron lines in workers with real children: overlap, replacement, catching up, and supervisors that are killed."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.support.loop import in_loop, until
from tests.support.table import count_rows, open_store, read, sql, submit_one
from tests.support.workers import Told, finished, gone, worker, worker_process
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.ports.jobs import JobStore, Lease
from workerjobs.ports.notices import DueNotice
from workerjobs.worker.pickup import POLL_SECONDS, Pickup

SECOND = timedelta(seconds=1)
PAST = datetime(2026, 1, 1, tzinfo=UTC)
POLICIES = ["Allow", "Forbid", "Replace"]


def runs(url: str) -> int:
    return count_rows(url, "started is not null and finished is null")


@in_loop
async def test_runs_of_a_line_that_allows_it_overlap(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    line = NewJob(type="hold", data=told.data(), cron_schedule="* * * * * *", concurrency_policy="Allow")
    async with worker(database_url, children=3) as running:
        first = await submit_one(running.store, line)
        await until(lambda: runs(database_url) == 3)
        told.go()
        assert (await finished(running.store, first)).state is JobState.SUCCEEDED
    assert count_rows(database_url, '"cancelRequested" or success = false') == 0


@in_loop
async def test_runs_of_a_line_that_forbids_it_wait_for_each_other(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    line = NewJob(type="hold", data=told.data(), cron_schedule="* * * * * *")
    async with worker(database_url, children=3) as running:
        first = await submit_one(running.store, line)
        await told.run(first)
        # Another line that ticks twice shows that time has passed.
        other = await submit_one(running.store, NewJob(type="echo", cron_schedule="* * * * * *"))
        await until(lambda: count_rows(database_url, "type = 'echo' and success") == 2)
        assert count_rows(database_url, "type = 'hold'") == 1
        told.go()
        await finished(running.store, first)
        await until(lambda: count_rows(database_url, "type = 'hold' and finished is null") == 1)
        assert other.cron_key != first.cron_key


@in_loop
async def test_run_that_begins_stops_the_older_one_that_it_replaces(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    line = NewJob(type="hold", data=told.data(), cron_schedule="* * * * * *", concurrency_policy="Replace")
    async with AsyncExitStack() as stack:
        # In two workers: the one that has the older run may be another.
        workers = [await stack.enter_async_context(worker(database_url, children=2)) for _ in range(2)]
        store = workers[0].store
        first = await submit_one(store, line)
        for _ in range(2):
            replaced = await finished(store, first)
            assert (replaced.state, replaced.error) == (JobState.CANCELLED, "Job cancelled")
            assert told.runs(first, "interrupted")
            (following,) = sql(database_url, 'select id from "workerJobs" where "rescheduledFromJob" = %s', first.id)
            first = await read(store, following[0])
        await until(lambda: runs(database_url) <= 2)
    assert count_rows(database_url, "started is null and finished is null") >= 1


@pytest.mark.parametrize("policy", ["Allow", "Forbid"])
def test_workers_catch_up_with_every_missed_tick_once(database_url: str, policy: str) -> None:
    missed = 12

    @in_loop
    async def check() -> None:
        async with AsyncExitStack() as stack:
            workers = [await stack.enter_async_context(worker(database_url, children=2)) for _ in range(3)]
            store = workers[0].store
            begin = (await store.now()).replace(microsecond=0) - missed * SECOND
            line = NewJob(type="echo", cron_schedule="* * * * * *", due=begin, catch_up="all")
            await submit_one(store, dataclasses.replace(line, concurrency_policy=policy))
            await until(lambda: count_rows(database_url, "success") >= missed + 2, seconds=120)
        ticks = [tick for (tick,) in sql(database_url, 'select tick from "workerJobs" order by tick')]
        assert ticks == [begin + number * SECOND for number in range(len(ticks))]
        assert count_rows(database_url, "success = false") == 0

    check()


@in_loop
async def test_worker_catches_up_with_the_latest_missed_tick(database_url: str) -> None:
    async with worker(database_url) as running:
        now = await running.store.now()
        begin = now.replace(year=now.year - 1, day=1, hour=0, minute=0, second=0, microsecond=0)
        line = NewJob(type="echo", cron_schedule="0 0 1 * *", due=begin, catch_up="latest")
        late = await finished(running.store, await submit_one(running.store, line))
        (following,) = await until(
            lambda: sql(database_url, 'select id from "workerJobs" where "rescheduledFromJob" = %s', late.id)
        )
        extra = await finished(running.store, following[0])
        assert extra.tick is not None
        assert extra.tick <= now + timedelta(minutes=1)
        assert now - extra.tick < timedelta(days=31)
        await until(lambda: count_rows(database_url, "finished is null") == 1)
        assert count_rows(database_url) == 3


# --- supervisors that are killed

# Holds every worker in the statement that inserts a line's next row, as long as someone else has the lock.
HOLD_NEXT_ROWS = """
    create function hold() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock_shared(42); return new; end $$;
    create trigger hold before insert on "workerJobs" for each row when (new."rescheduledFromJob" is not null)
    execute function hold();
"""
# Tests beside this one hold their workers by the same lock of their own databases.
HELD = """
    select pid from pg_locks where locktype = 'advisory' and objid = 42 and not granted
        and database = (select oid from pg_database where datname = current_database())
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_stored", [True, False], ids=["stored after its death", "never stored"])
@pytest.mark.parametrize("policy", POLICIES)
def test_line_goes_on_in_one_row_after_kill_9_of_its_supervisor_as_it_stores_the_next_row(
    database_url: str, tmp_path: Path, policy: str, is_stored: bool
) -> None:
    line = NewJob(type="echo", cron_schedule="0 0 1 1 *", due=PAST, concurrency_policy=policy, cron_key="line")

    @in_loop
    async def check() -> None:
        sql(database_url, HOLD_NEXT_ROWS)
        async with open_store(database_url) as store:
            async with (
                await psycopg.AsyncConnection.connect(database_url) as other,
                worker_process(database_url, tmp_path) as mortal,
            ):
                await other.execute("select pg_advisory_xact_lock(42)")
                job = await submit_one(store, line)
                (held,) = await until(lambda: sql(database_url, HELD))
                # Under Forbid the run is over by now; otherwise it has not begun.
                assert (await read(store, job)).state is JobState.RUNNING
                family = mortal.family
                mortal.send(signal.SIGKILL)
                await gone(family)
                if not is_stored:
                    sql(database_url, "select pg_terminate_backend(%s)", held[0])
                await other.rollback()
                await until(lambda: not sql(database_url, "select from pg_stat_activity where pid = %s", held[0]))
            expired = """update "workerJobs" set "leaseDeadline" = now() - interval '1 second' where finished is null
                and started is not null"""
            sql(database_url, expired)
            async with worker(database_url, lease=2.0, renew_every=0.1, rescue_every=0.1):
                done = await finished(store, job)
            assert done.state is JobState.SUCCEEDED
            assert done.rescues == (0 if is_stored and policy == "Forbid" else 1)
        rows = sql(database_url, 'select "cronKey", tick > now(), started is null from "workerJobs" order by tick')
        assert rows == [("line", False, False), ("line", True, True)]

    check()


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_line_goes_on_in_one_row_after_kill_9_of_its_supervisor_while_it_runs(
    database_url: str, tmp_path: Path, policy: str
) -> None:
    told = Told(tmp_path)
    line = NewJob(type="hold", data=told.data(), cron_schedule="0 0 1 1 *", due=PAST, concurrency_policy=policy)

    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            async with worker_process(database_url, tmp_path) as mortal:
                job = await submit_one(store, line)
                await told.run(job)
                assert count_rows(database_url, "started is null") == (policy != "Forbid")
                family = mortal.family
                mortal.send(signal.SIGKILL)
                await gone(family)
            sql(
                database_url,
                """update "workerJobs" set "leaseDeadline" = now() - interval '1 second'
                where started is not null""",
            )
            told.go()
            async with worker(database_url, lease=2.0, renew_every=0.1, rescue_every=0.1):
                assert (await finished(store, job)).state is JobState.SUCCEEDED
        assert count_rows(database_url, "started is null and tick > now()") == 1
        assert count_rows(database_url) == 2

    check()


@in_loop
async def test_connection_lost_before_a_run_was_begun_gives_it_back_and_begins_it_again(database_url: str) -> None:
    line = NewJob(type="echo", cron_schedule="0 0 1 1 *", due=PAST, concurrency_policy="Allow")
    sql(database_url, HOLD_NEXT_ROWS)
    async with worker(database_url) as running, await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("select pg_advisory_xact_lock(42)")
        job = await submit_one(running.store, line)
        (held,) = await until(lambda: sql(database_url, HELD))
        sql(database_url, "select pg_terminate_backend(%s)", held[0])
        await until(lambda: sql(database_url, HELD) not in ([], [held]))
        await other.rollback()
        done = await finished(running.store, job)
        # Not rescued: its own worker gave it back, and never ran it twice.
        assert (done.state, done.rescues) == (JobState.SUCCEEDED, 0)
    assert count_rows(database_url, "started is null") == 1
    assert count_rows(database_url) == 2


REFUSE_NEXT_ROWS = """
    create function refuse() returns trigger language plpgsql as $$
    begin raise exception using errcode = 'insufficient_privilege', message = 'not today'; end $$;
    create trigger refuse before insert on "workerJobs" for each row when (new."rescheduledFromJob" is not null)
    execute function refuse();
"""


@in_loop
async def test_run_that_the_account_may_not_begin_is_given_back_until_it_may(database_url: str) -> None:
    """Nobody knew of the claim: its lease ran out, and the job had lost a worker."""
    line = NewJob(type="echo", cron_schedule="0 0 1 1 *", due=PAST, concurrency_policy="Allow")
    sql(database_url, REFUSE_NEXT_ROWS)
    async with worker(database_url) as running:
        job = await submit_one(running.store, line)
        await until(lambda: running.supervisor._pickup._is_troubled)
        sql(database_url, 'drop trigger refuse on "workerJobs"')
        done = await finished(running.store, job)
        assert (done.state, done.rescues) == (JobState.SUCCEEDED, 0)
    assert count_rows(database_url) == 2


# --- waking up when something becomes due


class OneTaker:
    """Wants one job, always."""

    is_plenty = False

    def count_wanted(self) -> int:
        return 1


def pickup_of_one(store: JobStore, leases: list[Lease], run: Callable[[Sequence[Job]], None]) -> Pickup:
    """What claims for a worker that always has one child free, for jobs of one type."""
    return Pickup(
        store,
        owner="a worker",
        pool="default",
        lease=timedelta(seconds=15),
        takers=OneTaker(),
        types=lambda: ["report"],
        asked=lambda: None,
        leases=lambda: leases,
        run=run,
    )


@in_loop
async def test_pickup_sleeps_exactly_until_the_next_job_is_due(database_url: str) -> None:
    claimed: list[Job] = []
    leases: list[Lease] = []
    async with open_store(database_url) as store:
        pickup = pickup_of_one(store, leases, claimed.extend)
        # Nothing to come: only the slow poll, also of jobs under limits, which was set a moment earlier.
        sleep = await pickup.step()
        assert sleep is not None
        assert POLL_SECONDS - 5 < sleep <= POLL_SECONDS
        due = await store.now() + 20 * SECOND
        await store.submit([NewJob(type="report", due=due + 5 * SECOND), NewJob(type="report", due=due)])
        before = await store.now()
        sleep = await pickup.step()
        after = await store.now()
        assert sleep is not None
        assert due - after <= timedelta(seconds=sleep) <= due - before
        assert claimed == []


@in_loop
async def test_announcement_of_a_job_to_come_sets_a_timer_for_that_very_moment(database_url: str) -> None:
    loop = asyncio.get_running_loop()
    async with open_store(database_url) as store:
        pickup = pickup_of_one(store, [], lambda jobs: None)
        begin = loop.time()
        pickup.notice(DueNotice("default", 0.25, "report"))
        pickup.notice(DueNotice("default", 0.05, "another type"))
        pickup.notice(DueNotice("another pool", 0.05))
        assert not pickup._awake.is_set()
        await pickup._awake.wait()
        # Timers are never early; how late depends on the machine, and is measured by tests/bench.
        assert loop.time() - begin >= 0.25 - 0.001
