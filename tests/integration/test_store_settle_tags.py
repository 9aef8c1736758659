"""Retries under tags: a job that is stored under a tag replaces them, whoever is first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest

from tests.support.loop import in_loop, until
from tests.support.table import (
    FAILURE,
    claim_all,
    claim_one,
    count_rows,
    follower_of,
    open_store,
    open_stores,
    read,
    settlement,
    sql,
    submit_one,
    waiting_for_locks,
)
from workerjobs.domain.job import JobState, NewJob, RetryPolicy
from workerjobs.domain.lifecycle import FollowUp, FollowUpKind, settle
from workerjobs.storage.postgres import PostgresJobStore

DUE = datetime(2040, 1, 1, 12, 0, tzinfo=UTC)
RETRY = FollowUp(FollowUpKind.RETRY, DUE, attempt=2, cron_key=None)


@in_loop
async def test_retry_is_dropped_where_a_newer_pending_job_has_its_tag(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store, NewJob(type="report", tag="nightly"))
        other = await claim_one(store, NewJob(type="report", tag="weekly"))
        newer = await submit_one(store, NewJob(type="report", tag="nightly", due=DUE))
        await store.settle([settlement(job, FAILURE, RETRY), settlement(other, FAILURE, RETRY)])
        assert (await read(store, job)).state is JobState.FAILED
        assert await follower_of(store, database_url, job) is None
        assert await follower_of(store, database_url, other) is not None
        assert (await read(store, newer)).state is JobState.PENDING


@pytest.mark.parametrize("is_committed", [True, False])
def test_retry_waits_for_the_end_of_a_transaction_that_stores_a_job_of_its_tag(
    database_url: str, is_committed: bool
) -> None:
    retry = RetryPolicy(limit=1, initial_delay_ms=3_600_000)

    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            jobs = [NewJob(type="report", tag=tag, retry=retry) for tag in ("nightly", "weekly", "nightly again")]
            job, other, third = [await claim_one(store, each) for each in jobs]
            ends = [settle(each, FAILURE, now=await store.now()) for each in (job, other, third)]
            async with await psycopg.AsyncConnection.connect(database_url) as scheduler:
                await scheduler.execute("select workerjobs.submit('report', tag => 'nightly', delay => '1 hour')")
                # Nobody else has to wait for it.
                settled = await store.settle(ends)
                assert settled.stored == {other.id, third.id}
                assert settled.postponed == {job.id}
                assert (settled.stale, settled.refused) == (frozenset(), {})
                assert (await read(store, job)).state is JobState.RUNNING
                await (scheduler.commit() if is_committed else scheduler.rollback())
            settled = await store.settle(ends[:1])
            assert settled.stored == {job.id}
            assert not settled.postponed
            assert (await follower_of(store, database_url, job) is None) == is_committed
            for each in (other, third):
                assert await follower_of(store, database_url, each) is not None

    check()
    assert count_rows(database_url, "tag = 'nightly' and finished is null") == 1


@in_loop
async def test_end_of_a_replaced_run_is_not_held_up_by_those_who_store_jobs_of_its_tag(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store, NewJob(type="report", tag="nightly", retry=RetryPolicy(limit=1)))
        await store.submit([NewJob(type="report", tag="nightly", due=DUE)])
        async with await psycopg.AsyncConnection.connect(database_url) as scheduler:
            await scheduler.execute("select workerjobs.submit('report', tag => 'nightly', delay => '1 hour')")
            settled = await store.settle([settle(job, FAILURE, now=await store.now())])
            assert settled.stored == {job.id}
            assert not settled.postponed
            await scheduler.rollback()
        assert await follower_of(store, database_url, job) is None
        assert count_rows(database_url, "finished is null") == 1


@in_loop
async def test_transaction_that_cancels_a_run_and_stores_a_job_of_its_tag_is_no_deadlock(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store, NewJob(type="report", tag="nightly", retry=RetryPolicy(limit=1)))
        end = settle(job, FAILURE, now=await store.now())
        async with await psycopg.AsyncConnection.connect(database_url) as scheduler:
            await scheduler.execute("select workerjobs.cancel(%s)", [job.id])
            async with asyncio.TaskGroup() as settling:
                task = settling.create_task(store.settle([end]))
                await until(lambda: waiting_for_locks(database_url))
                await scheduler.execute("select workerjobs.submit('report', tag => 'nightly', delay => '1 hour')")
                await scheduler.commit()
        settled = task.result()
        if settled.postponed:
            # Postgres frees a transaction's rows before its advisory locks: the tag may have been held a moment longer.
            settled = await store.settle([end])
        assert settled.stored == {job.id}
        assert await follower_of(store, database_url, job) is None
        assert count_rows(database_url, "finished is null") == 1


@in_loop
async def test_bulk_of_so_many_tags_that_it_locks_all_postpones_retries_too(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store, NewJob(type="report", tag="nightly", retry=RetryPolicy(limit=1)))
        end = settle(job, FAILURE, now=await store.now())
        async with await psycopg.AsyncConnection.connect(database_url) as bulk:
            await bulk.execute(
                "select workerjobs.lock_names('tag', array(select n::text from generate_series(1, 501) n))"
            )
            assert (await store.settle([end])).postponed == {job.id}
        assert (await store.settle([end])).stored == {job.id}


@in_loop
async def test_sixteen_schedulers_and_workers_whose_jobs_fail_leave_one_pending_job_of_a_tag(database_url: str) -> None:
    job = NewJob(type="report", tag="nightly", retry=RetryPolicy(limit=1, initial_delay_ms=3_600_000))

    ended = asyncio.Condition()
    ends_so_far = 0
    over = asyncio.Event()

    async def schedule(store: PostgresJobStore) -> None:
        for _ in range(6):
            before = ends_so_far
            await store.submit([job])
            # All at once as soon as one failed, so that retries come, and schedulers in their midst.
            async with ended:
                while ends_so_far == before:
                    await ended.wait()

    async def work(store: PostgresJobStore) -> None:
        nonlocal ends_so_far
        while not over.is_set():
            ends = [settle(each, FAILURE, now=await store.now()) for each in await claim_all(store)]
            while ends:
                settled = await store.settle(ends)
                ends = [each for each in ends if each.job_id in settled.postponed]
                async with ended:
                    ends_so_far += len(settled.stored)
                    ended.notify_all()

    async with open_stores(database_url, 20) as stores:
        workers = [asyncio.create_task(work(store)) for store in stores[16:]]
        await asyncio.gather(*(schedule(store) for store in stores[:16]))
        over.set()
        await asyncio.gather(*workers)
    assert count_rows(database_url, "attempt = 2") > 0
    assert count_rows(database_url, "finished is null") == 1
    # Nor were there ever two: one transaction would have cancelled both.
    together = """
        select count(*) from "workerJobs" where started is null and finished is not null
        group by xmin::text having count(*) > 1
    """
    assert sql(database_url, together) == []
