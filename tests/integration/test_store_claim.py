"""Claiming, renewing, giving back, rescuing and cancelling."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.support.loop import in_loop, until
from tests.support.table import (
    LEASE,
    claim_all,
    claim_one,
    ids,
    lease_of,
    open_store,
    open_stores,
    read,
    settlement,
    sql,
    submit_one,
    waiting_for_locks,
)
from workerjobs.domain.job import JobState, NewJob
from workerjobs.ports.jobs import Lease, Progress

LATER = datetime(2040, 1, 1, tzinfo=UTC)
SHORT = timedelta(milliseconds=1)


# --- claim


@in_loop
async def test_claim_leases_a_due_job(database_url: str) -> None:
    async with open_store(database_url) as store:
        submitted = await submit_one(store)
        before = await store.now()
        (job,) = await store.claim("this worker", "default", 5, LEASE)
        after = await store.now()
        assert job.id == submitted.id
        assert job.state is JobState.RUNNING
        assert job.started is not None
        assert before <= job.started == job.updated_at <= after
        assert (job.lease_owner, job.lease_deadline) == ("this worker", job.started + LEASE)
        assert job.fencing_token is not None
        assert await read(store, job) == job
        assert await claim_all(store) == []


@in_loop
async def test_claim_takes_highest_priority_first_then_due_then_id(database_url: str) -> None:
    def due(seconds: int) -> datetime:
        return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)

    async with open_store(database_url) as store:
        stored = await store.submit(
            [
                NewJob(type="5", priority=0, due=due(1)),
                NewJob(type="3", priority=5, due=due(9)),
                NewJob(type="1", priority=32767, due=due(9)),
                NewJob(type="6", priority=0, due=due(2)),
                NewJob(type="4", priority=5, due=due(9)),
                NewJob(type="2", priority=5, due=due(8)),
                NewJob(type="7", priority=0, due=due(2)),
                NewJob(type="8", priority=-32768, due=due(0)),
            ]
        )
        one_by_one = [(await claim_all(store, limit=1))[0].type for _ in range(3)]
        assert one_by_one == ["1", "2", "3"]
        assert [job.type for job in await claim_all(store, limit=3)] == ["4", "5", "6"]
        assert [job.type for job in await claim_all(store)] == ["7", "8"]
        assert len(stored) == 8


@in_loop
async def test_claim_takes_due_jobs_of_its_pool_only(database_url: str) -> None:
    async with open_store(database_url) as store:
        due, later, other = await store.submit(
            [NewJob(type="due"), NewJob(type="later", due=LATER), NewJob(type="other", pool="heavy")]
        )
        assert ids(await claim_all(store)) == [due.id]
        assert ids(await store.claim("w", "heavy", 5, LEASE)) == [other.id]
        assert ids(await store.claim("w", "default", 5, LEASE, now=LATER - timedelta(seconds=1))) == []
        assert ids(await store.claim("w", "default", 5, LEASE, now=LATER)) == [later.id]
        assert await store.claim("w", "no such pool", 5, LEASE) == []


@in_loop
async def test_higher_priority_that_is_not_due_yet_blocks_nothing(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="far", priority=p, due=LATER) for p in range(1, 300)])
        due = await submit_one(store)
        assert ids(await claim_all(store)) == [due.id]


@in_loop
async def test_claim_skips_rows_locked_by_another_transaction(database_url: str) -> None:
    async with open_store(database_url) as store:
        locked, free = await store.submit([NewJob(type="locked", priority=9), NewJob(type="free")])
        with psycopg.connect(database_url) as other:
            other.execute('select 1 from "workerJobs" where id = %s for update', [locked.id])
            assert ids(await claim_all(store)) == [free.id]
        assert ids(await claim_all(store)) == [locked.id]


@in_loop
async def test_concurrent_claimers_never_share_a_job(database_url: str) -> None:
    async with open_stores(database_url, 8) as stores:
        await stores[0].submit([NewJob(type="report", priority=n % 4) for n in range(1000)])

        async def claim_until_none_is_left(number: int) -> list[int]:
            mine: list[int] = []
            while jobs := await claim_all(stores[number], owner=f"worker {number}", limit=7):
                mine += ids(jobs)
            return mine

        claimed = await asyncio.gather(*(claim_until_none_is_left(number) for number in range(8)))
    assert sorted(job_id for mine in claimed for job_id in mine) == list(range(1, 1001))
    owners = dict(sql(database_url, 'select "leaseOwner", array_agg(id order by id) from "workerJobs" group by 1'))
    assert owners == {f"worker {number}": sorted(mine) for number, mine in enumerate(claimed) if mine}
    assert sql(database_url, 'select count(distinct "fencingToken") from "workerJobs"') == [(1000,)]


@in_loop
async def test_fencing_token_grows_with_every_run(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        tokens = []
        for _ in range(3):
            tokens.append(lease_of(job).fencing_token)
            await store.release([lease_of(job)])
            (job,) = await claim_all(store)
        assert tokens == sorted(set(tokens))


@in_loop
async def test_next_due_is_the_wait_for_the_earliest_pending_job_of_the_pool(database_url: str) -> None:
    async with open_store(database_url) as store:
        assert await store.next_due("default") is None
        now = await store.now()
        minutes = [timedelta(minutes=n) for n in (90, 30, 60)]
        await store.submit([NewJob(type="x", priority=n, due=now + wait) for n, wait in enumerate(minutes)])
        await store.submit([NewJob(type="x", pool="heavy", due=now + timedelta(minutes=1))])
        wait = await store.next_due("default")
        assert wait is not None
        assert timedelta(minutes=29) < wait <= timedelta(minutes=30)
        overdue = await submit_one(store, NewJob(type="x", due=now - timedelta(hours=1)))
        wait = await store.next_due("default")
        assert wait is not None
        assert wait <= timedelta(0)
        await store.cancel([overdue.id])
        assert await claim_all(store) == []
        wait = await store.next_due("default")
        assert wait is not None
        assert wait > timedelta(minutes=29)


# --- renew


@in_loop
async def test_renewal_prolongs_the_lease_and_is_no_news(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        renewal = await store.renew([lease_of(job)], timedelta(hours=1))
        renewed = await read(store, job)
        assert renewal.held == {job.id}
        assert renewal.cancel_requested == frozenset()
        assert job.lease_deadline is not None
        assert renewed.lease_deadline is not None
        assert renewed.lease_deadline > job.lease_deadline + timedelta(minutes=59)
        assert renewed.updated_at == job.updated_at


@in_loop
async def test_renewal_is_refused_for_stale_tokens_finished_and_released_jobs(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(4)])
        held, taken, finished, released = await claim_all(store)
        sql(database_url, 'update "workerJobs" set "fencingToken" = 999 where id = %s', taken.id)
        await store.settle([settlement(finished)])
        await store.release([lease_of(released)])
        before = await read(store, taken)
        renewal = await store.renew([lease_of(job) for job in (held, taken, finished, released)], LEASE)
        assert renewal.held == {held.id}
        assert await read(store, taken) == before
        assert (await store.renew([], LEASE)).held == frozenset()


@in_loop
async def test_lease_past_its_deadline_is_renewed_while_nobody_took_it(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        sql(database_url, """update "workerJobs" set "leaseDeadline" = now() - interval '1 day'""")
        assert (await store.renew([lease_of(job)], LEASE)).held == {job.id}
        renewed = await read(store, job)
        assert renewed.lease_deadline is not None
        assert renewed.lease_deadline > await store.now()


@in_loop
async def test_renewal_tells_of_wanted_cancels(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(2)])
        wanted, other = await claim_all(store)
        await store.cancel([wanted.id])
        renewal = await store.renew([lease_of(wanted), lease_of(other)], LEASE)
        assert renewal.held == {wanted.id, other.id}
        assert renewal.cancel_requested == {wanted.id}


# --- progress


@in_loop
async def test_progress_is_stored_for_the_current_run_only(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(3)])
        mine, stale, finished = await claim_all(store)
        await store.settle([settlement(finished)])
        await store.save_progress(
            [
                Progress(mine.id, lease_of(mine).fencing_token, '{"current": 5}'),
                Progress(stale.id, 999, '{"current": 5}'),
                Progress(finished.id, lease_of(finished).fencing_token, '{"current": 5}'),
            ]
        )
        assert (await read(store, mine)).progress == {"current": 5}
        assert (await read(store, stale)).progress is None
        assert (await read(store, finished)).progress is None


# --- release


@in_loop
async def test_released_job_is_pending_again_as_it_was(database_url: str) -> None:
    async with open_store(database_url) as store:
        submitted = await submit_one(store, NewJob(type="report", priority=3, timeout_ms=50))
        (job,) = await claim_all(store)
        await store.save_progress([Progress(job.id, lease_of(job).fencing_token, '{"current": 1}')])
        assert await store.release([lease_of(job)]) == [job.id]
        released = await read(store, job)
        assert released.updated_at > submitted.updated_at
        assert {**released.to_dict(), "updatedAt": None} == {**submitted.to_dict(), "updatedAt": None}


@in_loop
async def test_release_needs_the_current_token_of_an_unfinished_job(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(2)])
        running, finished = await claim_all(store)
        await store.settle([settlement(finished)])
        assert await store.release([Lease(running.id, 999), lease_of(finished), Lease(4711, 1)]) == []
        assert (await read(store, running)).state is JobState.RUNNING
        assert (await read(store, finished)).state is JobState.SUCCEEDED


# --- rescue


def expire(url: str, *, rescues: int = 0) -> None:
    """Let the leases of all running rows run out."""
    statement = """
        update "workerJobs" set "leaseDeadline" = now() - interval '1 second', rescues = %s
        where started is not null and finished is null
    """
    sql(url, statement, rescues)


@in_loop
async def test_rescue_makes_jobs_of_lost_workers_pending(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        await store.save_progress([Progress(job.id, lease_of(job).fencing_token, '{"current": 1}')])
        expire(database_url)
        rescue = await store.rescue("rescuer", SHORT, 10)
        assert ids(rescue.released) == [job.id]
        assert rescue.taken == ()
        rescued = await read(store, job)
        assert rescued.state is JobState.PENDING
        assert (rescued.rescues, rescued.attempt, rescued.progress) == (1, 1, None)
        assert (rescued.lease_owner, rescued.lease_deadline, rescued.fencing_token) == (None, None, None)
        assert (await store.rescue("rescuer", SHORT, 10)).released == ()
        assert (await store.renew([lease_of(job)], LEASE)).held == frozenset()


@in_loop
async def test_rescue_leaves_live_leases_and_finished_jobs_alone(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(3)])
        running, finished = await claim_all(store, limit=2)
        await store.settle([settlement(finished)])
        before = [await read(store, job) for job in (1, 2, 3)]
        rescue = await store.rescue("rescuer", SHORT, 10)
        assert (rescue.released, rescue.taken) == ((), ())
        assert [await read(store, job) for job in (1, 2, 3)] == before
        assert running.id == 1


@in_loop
async def test_rescue_that_was_held_up_on_its_way_does_nothing(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        expire(database_url)
        lease = timedelta(seconds=1)

        async def rescue() -> list[int]:
            return ids((await store.rescue("rescuer", lease, 10, asked=await store.now())).released)

        await until(lambda: sql(database_url, "select now() - pg_postmaster_start_time() > %s", lease) == [(True,)])
        assert (await store.rescue("rescuer", lease, 10, asked=await store.now() - lease / 2)).released == ()
        assert await until(rescue) == [job.id]


@in_loop
async def test_rescue_waits_until_the_server_has_been_up_for_a_lease(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        expire(database_url)
        # After an outage the owners get this long to renew.
        assert (await store.rescue("rescuer", timedelta(days=1000), 10)).released == ()
        assert ids((await store.rescue("rescuer", SHORT, 10)).released) == [job.id]


@in_loop
async def test_fifth_rescue_takes_the_job_for_the_rescuer_to_settle(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        for count in range(1, 5):
            expire(database_url, rescues=count - 1)
            assert ids((await store.rescue("rescuer", SHORT, 10)).released) == [job.id]
            (job,) = await claim_all(store)
            assert job.rescues == count
        expire(database_url, rescues=4)
        rescue = await store.rescue("rescuer", SHORT, 10)
        assert rescue.released == ()
        (taken,) = rescue.taken
        assert taken.id == job.id
        assert taken.state is JobState.RUNNING
        assert (taken.rescues, taken.lease_owner) == (5, "rescuer")
        assert lease_of(taken).fencing_token > lease_of(job).fencing_token
        assert (await store.settle([settlement(job)])).stale == {job.id}
        assert (await store.settle([settlement(taken)])).stored == {job.id}


@in_loop
async def test_rescue_takes_a_job_that_was_to_be_cancelled(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        await store.cancel([job.id])
        expire(database_url)
        rescue = await store.rescue("rescuer", SHORT, 10)
        assert rescue.released == ()
        assert ids(rescue.taken) == [job.id]
        assert rescue.taken[0].cancel_requested


@in_loop
async def test_row_running_without_a_lease_is_rescued_after_half_an_hour(database_url: str) -> None:
    statement = """
        insert into "workerJobs" (type, started)
        values ('old', now() - interval '31 minutes'), ('young', now() - interval '29 minutes')
    """
    sql(database_url, statement)
    async with open_store(database_url) as store:
        rescue = await store.rescue("rescuer", SHORT, 10)
        assert [job.type for job in rescue.released] == ["old"]


@in_loop
async def test_concurrent_rescuers_take_each_job_once_and_no_more_than_asked(database_url: str) -> None:
    async with open_stores(database_url, 4) as stores:
        await stores[0].submit([NewJob(type="report") for _ in range(40)])
        await claim_all(stores[0])
        expire(database_url)
        rescues = await asyncio.gather(*(store.rescue("rescuer", SHORT, 12) for store in stores))
        assert max(len(rescue.released) for rescue in rescues) <= 12
        rescued = [job for rescue in rescues for job in ids(rescue.released)]
        assert len(rescued) == len(set(rescued))
        while more := (await stores[0].rescue("rescuer", SHORT, 12)).released:
            rescued += ids(more)
    assert sorted(rescued) == list(range(1, 41))
    assert sql(database_url, 'select distinct rescues from "workerJobs"') == [(1,)]


# --- cancel


@in_loop
async def test_cancel_ends_pending_jobs_and_asks_running_ones_to_stop(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(4)])
        running, finished = await claim_all(store, limit=2)
        await store.settle([settlement(finished)])
        cancelled = await store.cancel([4, 3, running.id, finished.id, 4711], "no longer needed")
        assert ids(cancelled) == [running.id, 3, 4]
        asked, ended, _ = cancelled
        assert asked.state is JobState.RUNNING
        assert asked.cancel_requested
        assert asked.result is None
        assert (await store.renew([lease_of(running)], LEASE)).held == {running.id}
        assert ended.state is JobState.CANCELLED
        assert ended.error == "no longer needed"
        assert (await read(store, finished)).state is JobState.SUCCEEDED
        assert ids(await store.cancel([3, running.id])) == [running.id]
        assert await claim_all(store) == []


@in_loop
async def test_job_claimed_while_a_cancel_waits_for_its_lock_is_asked_to_stop(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await submit_one(store)
        with psycopg.connect(database_url) as claimer:
            claim = """
                update "workerJobs" set started = now(), "leaseOwner" = 'w', "fencingToken" = 5, "leaseDeadline" = now()
            """
            claimer.execute(claim)
            cancelling = asyncio.create_task(store.cancel([job.id]))
            await until(lambda: waiting_for_locks(database_url))
            claimer.commit()
        (cancelled,) = await cancelling
        assert cancelled.state is JobState.RUNNING
        assert cancelled.cancel_requested
        assert (cancelled.finished, cancelled.result, cancelled.fencing_token) == (None, None, 5)


@in_loop
async def test_job_settled_while_a_cancel_waits_for_its_lock_stays_succeeded(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        with psycopg.connect(database_url) as settler:
            settler.execute('update "workerJobs" set finished = now(), success = true, "leaseDeadline" = null')
            cancelling = asyncio.create_task(store.cancel([job.id]))
            await until(lambda: waiting_for_locks(database_url))
            settler.commit()
        assert await cancelling == []
        assert (await read(store, job)).state is JobState.SUCCEEDED


@in_loop
async def test_job_cancelled_while_a_claim_runs_is_not_claimed(database_url: str) -> None:
    async with open_stores(database_url, 2) as (store, other):
        await store.submit([NewJob(type="report") for _ in range(200)])
        claimed, cancelled = await asyncio.gather(claim_all(other), store.cancel(list(range(1, 201))))
        running = {job.id for job in cancelled if job.state is JobState.RUNNING}
        # Each was claimed first and is asked to stop, or was cancelled first and never claimed.
        assert running == {job.id for job in claimed if (await read(store, job)).cancel_requested}
        assert len(claimed) + len([job for job in cancelled if job.state is JobState.CANCELLED]) == 200


@pytest.mark.parametrize("reason", ["it's “done”; drop table", "x" * 5000])
def test_cancel_keeps_its_reason(database_url: str, reason: str) -> None:
    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            job = await submit_one(store)
            (cancelled,) = await store.cancel([job.id], reason)
            assert cancelled.error == reason

    check()
