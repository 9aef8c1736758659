"""Cron lines: one row per tick whoever races, runs that overlap or replace each other, and lines that never end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from tests.support.factories import resource_job
from tests.support.loop import in_loop, until
from tests.support.table import (
    FAILURE,
    LEASE,
    claim_all,
    count_rows,
    ids,
    open_store,
    open_stores,
    read,
    sql,
    submit_one,
    waiting_for_locks,
)
from workerjobs.domain.job import Job, JobState, NewJob, RetryPolicy
from workerjobs.domain.lifecycle import Outcome, begin, settle
from workerjobs.errors import DatabaseUnavailableError
from workerjobs.storage.postgres import PostgresJobStore

SECOND = timedelta(seconds=1)
SHORT = timedelta(milliseconds=1)
PAST = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2040, 1, 1, tzinfo=UTC)
SUCCESS = Outcome(success=True, result_json="1")
POLICIES = ["Allow", "Forbid", "Replace"]


def yearly(policy: str = "Forbid", **changes: Any) -> NewJob:
    """A line whose first tick is due and whose next one is far away."""
    given: dict[str, Any] = {"type": "report", "cron_schedule": "0 0 1 1 *", "cron_key": "line", "due": PAST}
    return NewJob(**(given | {"concurrency_policy": policy} | changes))


async def begin_all(store: PostgresJobStore, jobs: Sequence[Job]) -> None:
    """What a worker stores before it starts claimed jobs."""
    assert all(job.started is not None for job in jobs)
    begun = [begin(job, now=job.started or PAST) for job in jobs]
    assert await store.begin([each for each in begun if each is not None]) == {}


async def settle_all(store: PostgresJobStore, jobs: Sequence[Job], outcome: Outcome = SUCCESS) -> None:
    """What it stores when they ended."""
    now = await store.now()
    await store.settle([settle(job, outcome, now=now) for job in jobs])


async def start(store: PostgresJobStore) -> list[Job]:
    """Claim and begin what is due."""
    jobs = await claim_all(store)
    await begin_all(store, jobs)
    return jobs


def pending_ticks(url: str) -> list[datetime]:
    return [tick for (tick,) in sql(url, 'select tick from "workerJobs" where started is null and finished is null')]


async def new_year(store: PostgresJobStore) -> datetime:
    """The next tick of a yearly line."""
    return datetime((await store.now()).year + 1, 1, 1, tzinfo=UTC)


# --- many workers


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_twenty_workers_run_every_tick_of_a_line_once(database_url: str, policy: str) -> None:
    missed = 30
    running: set[int] = set()
    together = []

    async def work(store: PostgresJobStore, owner: str, over: asyncio.Event) -> None:
        while not over.is_set():
            jobs = await store.claim(owner, "default", 2, LEASE)
            await begin_all(store, jobs)
            running.update(ids(jobs))
            together.append(len(running))
            await asyncio.sleep(0.01)
            running.difference_update(ids(jobs))
            await settle_all(store, jobs)

    @in_loop
    async def check() -> None:
        over = asyncio.Event()
        async with open_stores(database_url, 20) as stores:
            first = (await stores[0].now()).replace(microsecond=0) - missed * SECOND
            line = yearly(policy, cron_schedule="* * * * * *", due=first, catch_up="all")
            await submit_one(stores[0], line)
            workers = [
                asyncio.create_task(work(store, f"worker {number}", over)) for number, store in enumerate(stores)
            ]
            # Those that were missed, and some that come while they race for them.
            await until(lambda: count_rows(database_url, "success") >= missed + 4, seconds=180)
            over.set()
            await asyncio.gather(*workers)
        rows = sql(database_url, 'select tick, started is null from "workerJobs" order by tick')
        assert [tick for tick, _ in rows] == [first + number * SECOND for number in range(len(rows))]
        assert [is_pending for _, is_pending in rows] == [False] * (len(rows) - 1) + [True]
        assert max(together) == 1 if policy == "Forbid" else max(together) > 1

    check()


# --- runs that may overlap


@pytest.mark.parametrize("policy", ["Allow", "Replace"])
def test_next_row_is_there_before_a_run_is_started_and_settling_adds_none(database_url: str, policy: str) -> None:
    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            await submit_one(store, yearly(policy, tag="nightly", retry=RetryPolicy(limit=1)))
            jobs = await start(store)
            assert pending_ticks(database_url) == [await new_year(store)]
            follower = await read(store, jobs[0].id + 1)
            assert (follower.rescheduled_from_job, follower.cron_key, follower.tag) == (jobs[0].id, "line", "nightly")
            assert (follower.concurrency_policy, follower.cron_schedule) == (policy, "0 0 1 1 *")
            # Whoever begins it again, or settles it, finds that it has its next row.
            await begin_all(store, jobs)
            await settle_all(store, jobs, FAILURE)
            assert count_rows(database_url, "\"cronKey\" = 'line'") == 2
            # Its retry is there all the same.
            assert count_rows(database_url, '"cronKey" is null and attempt = 2') == 1

    check()


@in_loop
async def test_line_whose_next_row_was_cancelled_while_a_run_went_on_has_ended(database_url: str) -> None:
    async with open_store(database_url) as store:
        await submit_one(store, yearly("Allow"))
        jobs = await start(store)
        await store.cancel([jobs[0].id + 1])
        await settle_all(store, jobs)
        assert pending_ticks(database_url) == []


@in_loop
async def test_run_that_begins_asks_the_older_runs_of_its_line_to_cancel(database_url: str) -> None:
    async with open_store(database_url) as store:
        others = [yearly("Replace", cron_key="other"), yearly("Allow", cron_key="allowed"), NewJob(type="report")]
        await store.submit([yearly("Replace", due=PAST + number * SECOND) for number in range(2)])
        await store.submit(others)
        older = sorted(await start(store), key=lambda job: job.id)
        # Of two that begin together, the newer one goes on.
        assert [(await read(store, job)).cancel_requested for job in older] == [True, False, False, False, False]
        (newest,) = await store.submit([yearly("Replace", due=PAST + 2 * SECOND)])
        jobs = await start(store)
        assert ids(jobs) == [newest.id]
        assert [(await read(store, job)).cancel_requested for job in older] == [True, True, False, False, False]
        assert not (await read(store, newest)).cancel_requested
        # A run of an earlier tick that comes late asks none of a later one.
        (late,) = await store.submit([yearly("Replace", due=PAST - SECOND)])
        assert ids(await start(store)) == [late.id]
        assert not (await read(store, newest)).cancel_requested


@in_loop
async def test_stale_claim_begins_nothing(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([yearly("Replace"), yearly("Replace", due=PAST + SECOND)])
        jobs = await claim_all(store)
        sql(database_url, """update "workerJobs" set "fencingToken" = nextval('workerjobs.fencing_token')""")
        await begin_all(store, jobs)
        assert count_rows(database_url) == 2
        assert count_rows(database_url, '"isFollowed" or "cancelRequested"') == 0


@in_loop
async def test_next_row_that_is_refused_keeps_no_run_from_beginning_and_is_tried_again(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([yearly("Allow", cron_key=key, tag=key) for key in ("good", "bad", "fine")])
        jobs = await claim_all(store)
        constraint = """alter table "workerJobs" add constraint x check (tag <> 'bad' or due < '2026-06-01')"""
        sql(database_url, constraint)
        begun = [begin(job, now=job.started or PAST) for job in jobs]
        refused = await store.begin([each for each in begun if each is not None])
        bad = next(job for job in jobs if job.cron_key == "bad")
        assert list(refused) == [bad.id]
        assert '"x"' in refused[bad.id]
        assert len(pending_ticks(database_url)) == 2
        sql(database_url, 'alter table "workerJobs" drop constraint x')
        await settle_all(store, jobs)
        assert pending_ticks(database_url) == [await new_year(store)] * 3


@in_loop
async def test_workers_that_begin_runs_of_two_lines_at_once_do_not_wait_for_each_other(database_url: str) -> None:
    async with open_stores(database_url, 8) as stores:
        for number in range(3):
            due = PAST + number * SECOND
            await stores[0].submit([yearly("Replace", cron_key=key, due=due) for key in "abcdefgh"])
            jobs = await claim_all(stores[0])
            await asyncio.gather(
                *(begin_all(store, (jobs * 2)[place : place + 4]) for place, store in enumerate(stores))
            )
    assert count_rows(database_url, '"isFollowed"') == 24
    assert count_rows(database_url, '"cancelRequested"') == 16


# --- whoever dies, and whenever

DEATHS = ["claimed", "beginning", "begun", "settling", "settled"]


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("policy", POLICIES)
def test_line_goes_on_in_one_row_wherever_its_worker_is_killed(database_url: str, policy: str, death: str) -> None:
    async def killed(store: PostgresJobStore, jobs: Sequence[Job]) -> None:
        """Work until the moment of death."""
        if death == "claimed":
            return
        if death == "beginning":
            await broken_off(store, begin_all(store, jobs))
            return
        await begin_all(store, jobs)
        if death == "begun":
            return
        if death == "settling":
            await broken_off(store, settle_all(store, jobs))
            return
        await settle_all(store, jobs)

    async def broken_off(store: PostgresJobStore, statement: Any) -> None:
        """End the connection while a statement waits for a row that another one holds."""
        if policy == "Forbid" and death == "beginning":
            await statement  # nothing is stored there
            return
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute('select from "workerJobs" for update')
            task = asyncio.create_task(statement)
            (waiting,) = await until(lambda: waiting_for_locks(database_url))
            sql(database_url, "select pg_terminate_backend(%s)", waiting)
            with pytest.raises(DatabaseUnavailableError):
                await task

    @in_loop
    async def check() -> None:
        async with open_stores(database_url, 2) as (mortal, survivor):
            await submit_one(mortal, yearly(policy))
            await killed(mortal, await claim_all(mortal))
            sql(
                database_url,
                """update "workerJobs" set "leaseDeadline" = now() - interval '1 second'
                where started is not null and finished is null""",
            )
            rescue = await survivor.rescue("rescuer", SHORT, 10)
            assert len(rescue.released) == (death != "settled")
            again = await start(survivor)
            assert len(again) == len(rescue.released)
            if policy != "Forbid":
                assert pending_ticks(database_url) == [await new_year(survivor)]
            await settle_all(survivor, again)
            assert pending_ticks(database_url) == [await new_year(survivor)]
            rows = sql(database_url, 'select tick, success from "workerJobs" order by tick')
            assert rows == [(PAST, True), (await new_year(survivor), None)]

    check()


@pytest.mark.parametrize("is_begun", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("end", ["lost too often", "cancelled and lost", "cancelled", "failed", "unknown type"])
def test_line_goes_on_in_one_row_however_its_run_ends(database_url: str, policy: str, end: str, is_begun: bool) -> None:
    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            await submit_one(store, yearly(policy))
            if end == "unknown type":
                jobs = await store.claim_unknown("somebody", "default", 10, LEASE, ["another type"])
            else:
                jobs = await claim_all(store)
            if is_begun:
                await begin_all(store, jobs)
            if end.startswith("cancelled"):
                await store.cancel(ids(jobs))
            if end.endswith("lost") or end == "lost too often":
                lost = """
                    update "workerJobs" set rescues = 4, "leaseDeadline" = now() - interval '1 second'
                    where started is not null
                """
                sql(database_url, lost)
                jobs = list((await store.rescue("rescuer", SHORT, 10)).taken)
            assert len(jobs) == 1
            await settle_all(store, jobs, FAILURE)
            expected = JobState.CANCELLED if end.startswith("cancelled") else JobState.FAILED
            assert (await read(store, jobs[0])).state is expected
            assert pending_ticks(database_url) == [await new_year(store)]

    check()


@in_loop
async def test_runs_given_back_and_claimed_again_add_no_rows(database_url: str) -> None:
    async with open_store(database_url) as store:
        await submit_one(store, yearly("Allow"))
        for _ in range(3):
            jobs = await start(store)
            assert len(jobs) == 1
            await store.release_strays("a worker", [])
        assert sorted(pending_ticks(database_url)) == [PAST, await new_year(store)]
        await settle_all(store, await start(store))
        assert pending_ticks(database_url) == [await new_year(store)]


# --- a tag that is scheduled anew


@pytest.mark.parametrize("policy", POLICIES)
def test_line_of_a_tag_is_replaced_also_while_it_runs(database_url: str, policy: str) -> None:
    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            await submit_one(store, yearly(policy, cron_key="old", tag="nightly"))
            jobs = await start(store)
            await submit_one(store, yearly(policy, cron_key="new", tag="nightly", due=LATER))
            assert (await read(store, jobs[0])).state is JobState.RUNNING
            # It is lost, runs again, and ends: its line does not come back.
            lost = """update "workerJobs" set "leaseDeadline" = now() - interval '1 second' where started is not null"""
            sql(database_url, lost + " and finished is null")
            assert len((await store.rescue("rescuer", SHORT, 10)).released) == 1
            jobs = await start(store)
            assert [job.cron_key for job in jobs] == ["old"]
            await settle_all(store, jobs)
            assert pending_ticks(database_url) == [LATER]

    check()


@in_loop
async def test_one_time_job_of_a_tag_leaves_a_running_line_alone(database_url: str) -> None:
    async with open_store(database_url) as store:
        await submit_one(store, yearly(tag="nightly"))
        jobs = await start(store)
        await submit_one(store, NewJob(type="report", tag="nightly", due=LATER))
        await settle_all(store, jobs)
        assert await new_year(store) in pending_ticks(database_url)


@in_loop
async def test_row_that_follows_a_run_settled_while_its_tag_is_scheduled_anew_is_cancelled(database_url: str) -> None:
    async with open_stores(database_url, 2) as (worker, scheduler):
        await submit_one(worker, yearly(cron_key="old", tag="nightly"))
        jobs = await start(worker)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            # It holds the next tick: the settlement has changed its row, and waits to insert the next one.
            insert = """insert into "workerJobs" (type, "cronKey", tick) values ('report', 'old', %s)"""
            await other.execute(insert, [await new_year(worker)])
            settling = asyncio.create_task(settle_all(worker, jobs))
            await until(lambda: len(waiting_for_locks(database_url)) == 1)
            scheduling = asyncio.create_task(
                submit_one(scheduler, yearly(cron_key="new", tag="nightly", due=LATER)),
            )
            await until(lambda: len(waiting_for_locks(database_url)) == 2)
            await other.rollback()
        await settling
        await scheduling
        assert (await read(worker, jobs[0])).state is JobState.SUCCEEDED
        assert pending_ticks(database_url) == [LATER]


@in_loop
async def test_line_of_a_key_ends_also_where_its_row_is_just_being_settled(database_url: str) -> None:
    async with open_store(database_url) as worker:
        await submit_one(worker, yearly(cron_key="k"))
        jobs = await start(worker)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            insert = """insert into "workerJobs" (type, "cronKey", tick) values ('report', 'k', %s)"""
            await other.execute(insert, [await new_year(worker)])
            settling = asyncio.create_task(settle_all(worker, jobs))
            await until(lambda: len(waiting_for_locks(database_url)) == 1)
            ending = asyncio.create_task(asyncio.to_thread(sql, database_url, "select workerjobs.unschedule('k')"))
            await until(lambda: len(waiting_for_locks(database_url)) == 2)
            await other.rollback()
        await settling
        assert await ending == [(1,)]
    assert pending_ticks(database_url) == []


@in_loop
async def test_line_of_a_key_ends_also_where_its_row_is_just_being_claimed(database_url: str) -> None:
    async with open_store(database_url) as worker:
        job = await submit_one(worker, yearly(cron_key="k"))
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            claim = """update "workerJobs" set started = now(), "leaseOwner" = 'other', "fencingToken" = 7"""
            await other.execute(claim)
            ending = asyncio.create_task(asyncio.to_thread(sql, database_url, "select workerjobs.unschedule('k')"))
            await until(lambda: len(waiting_for_locks(database_url)) == 1)
            await other.commit()
        assert await ending == [(0,)]
        # As the worker has it that claimed it.
        await settle_all(worker, [msgspec.structs.replace(job, fencing_token=7)])
    assert count_rows(database_url, "success") == 1
    assert pending_ticks(database_url) == []


@in_loop
async def test_sixteen_schedulers_of_a_tag_leave_one_line_whatever_runs_meanwhile(database_url: str) -> None:
    async def work(store: PostgresJobStore, over: asyncio.Event) -> None:
        while not over.is_set():
            jobs = await store.claim("a worker", "default", 3, LEASE)
            await begin_all(store, jobs)
            await settle_all(store, jobs)

    over = asyncio.Event()
    async with open_stores(database_url, 20) as stores:
        workers = [asyncio.create_task(work(store, over)) for store in stores[16:]]
        for number in range(3):
            await asyncio.gather(
                *(
                    submit_one(store, yearly(POLICIES[place % 3], cron_key=f"{number}/{place}", tag="nightly"))
                    for place, store in enumerate(stores[:16])
                )
            )
        await until(lambda: count_rows(database_url, "finished is null and tick < now()") == 0)
        over.set()
        await asyncio.gather(*workers)
        assert pending_ticks(database_url) == [await new_year(stores[0])]
    rows = sql(database_url, 'select "cronKey" from "workerJobs" where tick > now() and finished is null')
    latest = sql(database_url, """select "cronKey" from "workerJobs" where tick < now() order by id desc limit 1""")
    assert rows == latest


# --- a custom resource's line


@in_loop
async def test_earlier_tick_that_waits_beside_the_next_one_keeps_its_moment_in_an_update(database_url: str) -> None:
    line = resource_job("a", cron_schedule="0 0 1 1 *", cron_key="a", due=PAST, concurrency_policy="Allow")
    async with open_store(database_url) as store:
        first = await submit_one(store, line)
        await start(store)
        await store.release_strays("a worker", [])
        newer = resource_job("a", generation=2, cron_schedule="0 12 1 1 *", cron_key="a", priority=7, catch_up="all")
        assert len(await store.update_pending("here", [newer])) == 2
        earlier, later = await read(store, first), await read(store, first.id + 1)
        assert (earlier.due, earlier.tick, earlier.priority) == (PAST, PAST, 7)
        assert later.due == later.tick == await new_year(store) + timedelta(hours=12)
        assert (later.catch_up, later.concurrency_policy, later.priority) == ("all", "Forbid", 7)


# --- retries


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        (RetryPolicy(limit=0), []),
        (RetryPolicy(limit=3, initial_delay_ms=1500, factor=1), [1500, 1500, 1500]),
        (
            RetryPolicy(limit=5, initial_delay_ms=1000, factor=3, max_delay_ms=10_000),
            [1000, 3000, 9000, 10_000, 10_000],
        ),
        (RetryPolicy(limit=2, initial_delay_ms=0), [0, 0]),
        (RetryPolicy(limit=2, initial_delay_ms=2**31 - 1, max_delay_ms=2**31 - 1), [2**31 - 1, 2**31 - 1]),
    ],
)
def test_retries_are_due_exactly_and_end_at_their_limit(
    database_url: str, retry: RetryPolicy, delays: list[int]
) -> None:
    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            job = await submit_one(store, NewJob(type="report", retry=retry, due=PAST, tag="nightly", persistent=True))
            now = PAST + SECOND
            for attempt, delay in enumerate(delays, 1):
                (claimed,) = await store.claim("a worker", "default", 10, LEASE, now=job.due)
                assert claimed.id == job.id
                now += timedelta(seconds=attempt)
                await store.settle([settle(claimed, FAILURE, now=now)])
                job = await read(store, claimed.id + 1)
                assert job.due == now + timedelta(milliseconds=delay)
                assert (job.attempt, job.rescheduled_from_job) == (attempt + 1, claimed.id)
                assert (job.retry_limit, job.tag, job.persistent) == (retry.limit, "nightly", True)
                # Not a moment sooner.
                assert await store.claim("a worker", "default", 10, LEASE, now=job.due - SHORT / 1000) == []
            (last,) = await store.claim("a worker", "default", 10, LEASE, now=job.due)
            await store.settle([settle(last, FAILURE, now=now)])
            assert (await read(store, last)).state is JobState.FAILED
        assert count_rows(database_url) == len(delays) + 1

    check()


@in_loop
async def test_retries_of_jobs_that_failed_together_are_spread_by_jitter(database_url: str) -> None:
    retry = RetryPolicy(limit=1, initial_delay_ms=10_000, jitter=0.5)
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report", retry=retry) for _ in range(50)])
        now = await store.now()
        await store.settle([settle(job, FAILURE, now=now) for job in await claim_all(store)])
    dues = [due - now for (due,) in sql(database_url, 'select due from "workerJobs" where attempt = 2')]
    assert len(set(dues)) == 50
    assert all(timedelta(seconds=5) < due <= timedelta(seconds=10) for due in dues)
    assert max(dues) - min(dues) > timedelta(seconds=3)
