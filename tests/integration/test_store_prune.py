"""Removing finished jobs past their time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from tests.support.factories import resource_job
from tests.support.loop import in_loop
from tests.support.table import claim_all, count_rows, open_store, open_stores, settlement, sql
from workerjobs.domain.job import NewJob
from workerjobs.storage.postgres import PostgresJobStore

LATER = datetime(2040, 1, 1, tzinfo=UTC)


async def finish_all(store: PostgresJobStore, url: str) -> None:
    """Settle what is due, and let its time pass."""
    await store.settle([settlement(job) for job in await claim_all(store)])
    sql(url, """update "workerJobs" set "removeAt" = now() - interval '1 second' where finished is not null""")


def types(url: str) -> list[str]:
    return [row[0] for row in sql(url, 'select type from "workerJobs" order by id')]


@in_loop
async def test_finished_jobs_past_their_time_are_removed(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type=name) for name in ("removed", "also removed")])
        await finish_all(store, database_url)
        await store.submit(
            [NewJob(type="persistent", persistent=True), NewJob(type="running"), NewJob(type="pending", due=LATER)]
        )
        persistent, _ = await claim_all(store)
        await store.settle([settlement(persistent)])
        # All of them are past their time but the last one.
        sql(database_url, """update "workerJobs" set "removeAt" = now() - interval '1 day'""")
        await store.submit([NewJob(type="not yet")])
        await store.settle([settlement(job) for job in await claim_all(store)])
        assert await store.prune(100) == 2
        assert types(database_url) == ["persistent", "running", "pending", "not yet"]
        assert await store.prune(100) == 0


@in_loop
async def test_cancelled_and_failed_jobs_are_removed_too(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="cancelled", due=LATER, tag="a"), NewJob(type="newest", due=LATER, tag="a")])
        sql(database_url, """update "workerJobs" set "removeAt" = now() - interval '1 day'""")
        assert await store.prune(100) == 1
        assert types(database_url) == ["newest"]


@in_loop
async def test_prune_removes_no_more_than_asked_oldest_first(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type=str(n)) for n in range(10)])
        await finish_all(store, database_url)
        sql(database_url, """update "workerJobs" set "removeAt" = now() - id * interval '1 minute'""")
        assert await store.prune(4) == 4
        assert types(database_url) == [str(n) for n in range(6)]
        assert [await store.prune(4), await store.prune(4), await store.prune(4)] == [4, 2, 0]


@in_loop
async def test_concurrent_pruners_do_not_wait_for_each_other_and_remove_each_row_once(database_url: str) -> None:
    async with open_stores(database_url, 4) as stores:
        await stores[0].submit([NewJob(type="report") for _ in range(1000)])
        await finish_all(stores[0], database_url)
        removed = await asyncio.gather(*(store.prune(1000) for store in stores))
        assert sum(removed) == 1000
    assert count_rows(database_url) == 0


@in_loop
async def test_newest_finished_row_of_a_live_resource_stays(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([resource_job("live"), resource_job("gone"), resource_job("running"), NewJob(type="plain")])
        await finish_all(store, database_url)
        # Further runs of the same resources, as cron and retries make them.
        copies = """
            insert into "workerJobs" (type, "clusterId", "resourceUid", started, finished, success, "removeAt")
            select 'second', "clusterId", "resourceUid", now(), f, case when f is not null then true end, 'epoch'
            from "workerJobs", (values ('live', now()), ('gone', now()), ('running', null)) as v (uid, f)
            where "resourceUid" = v.uid
        """
        sql(database_url, copies)
        await store.remove_resources("here", ["gone"])
        assert await store.prune(100) == 4
        left = sql(database_url, 'select type, "resourceUid", finished is null from "workerJobs" order by id')
        # Of the running one, the first row is still its newest finished one.
        assert left == [("report", "running", False), ("second", "live", False), ("second", "running", True)]
