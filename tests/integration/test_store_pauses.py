"""Pauses, pools, and types that no live worker knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.loop import in_loop
from tests.support.table import LEASE, ids, open_store, open_stores, read, sql
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.errors import InvalidInputError
from workerjobs.ports.workers import WorkerRecord
from workerjobs.storage.postgres import PostgresJobStore

TYPES = ("report", "limited")


async def claim_everything(
    store: PostgresJobStore, *, pool: str = "default", types: tuple[str, ...] = TYPES
) -> dict[int, str]:
    """Claim in every way there is; returns the ways by id."""
    plain = await store.claim("a worker", pool, 100, LEASE, types)
    limited = await store.claim_limited("a worker", pool, 100, LEASE, types)
    unknown = await store.claim_unknown("a worker", pool, 100, LEASE, types)
    ways: list[tuple[str, tuple[Job, ...]]] = [
        ("plain", tuple(plain)),
        ("limited", limited.jobs),
        ("unknown", tuple(unknown)),
    ]
    return {job.id: way for way, jobs in ways for job in jobs}


async def submit_each_kind(store: PostgresJobStore, pool: str = "default") -> list[Job]:
    """A plain job, one under a key, one of a type with limits, and two of a type that nobody knows."""
    await store.set_limit(LimitKind.TYPE, "limited", 5)
    jobs = [
        NewJob(type="report", pool=pool),
        NewJob(type="report", pool=pool, concurrency_key="a", concurrency_limit=5),
        NewJob(type="limited", pool=pool),
        NewJob(type="unknown", pool=pool),
        NewJob(type="unknown", pool=pool, concurrency_key="a"),
    ]
    return await store.submit(jobs)


WAYS = ["plain", "limited", "limited", "unknown", "unknown"]


def record(owner: str, *types: str, pool: str = "default", is_draining: bool = False) -> WorkerRecord:
    return WorkerRecord(owner, pool, "host", 1, "1", 2, types, "{}", is_draining, datetime.now(UTC))


# --- pauses


@in_loop
async def test_paused_pool_starts_nothing_until_it_is_resumed(database_url: str) -> None:
    async with open_stores(database_url, 2) as (store, other):
        jobs = await submit_each_kind(store)
        await submit_each_kind(store, "other")
        paused = await other.pause(PauseKind.POOL, "default", "maintenance")
        assert await store.pauses() == [paused]
        assert (paused.kind, paused.name, paused.reason) == ("pool", "default", "maintenance")
        assert await claim_everything(store) == {}
        assert await store.next_due("default", TYPES) is None
        assert sorted((await claim_everything(store, pool="other")).values()) == sorted(WAYS)
        assert await other.resume(PauseKind.POOL, "default")
        assert await claim_everything(store) == dict(zip(ids(jobs), WAYS, strict=True))
        assert not await other.resume(PauseKind.POOL, "default")


@pytest.mark.parametrize(("paused", "left"), [("report", {1, 2}), ("limited", {3}), ("unknown", {4, 5})])
def test_paused_type_starts_nothing_until_it_is_resumed(database_url: str, paused: str, left: set[int]) -> None:
    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            await submit_each_kind(store)
            await store.pause(PauseKind.TYPE, paused)
            assert set(await claim_everything(store)) == {1, 2, 3, 4, 5} - left
            assert await claim_everything(store) == {}
            assert await store.resume(PauseKind.TYPE, paused)
            assert set(await claim_everything(store)) == left

    check()


@in_loop
async def test_what_runs_goes_on_through_a_pause(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report")])
        (job,) = await store.claim("a worker", "default", 1, LEASE)
        await store.pause(PauseKind.TYPE, "report")
        await store.pause(PauseKind.POOL, "default")
        assert (await read(store, job)).state is JobState.RUNNING
        assert job.fencing_token is not None


@in_loop
async def test_pausing_again_changes_the_reason(database_url: str) -> None:
    async with open_store(database_url) as store:
        first = await store.pause(PauseKind.TYPE, "report", "a")
        again = await store.pause(PauseKind.TYPE, "report", "b")
        assert (again.paused_at, again.reason) == (first.paused_at, "b")
        with pytest.raises(InvalidInputError):
            await store.pause(PauseKind.TYPE, " ")


@in_loop
async def test_paused_unknown_types_do_not_hide_others(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="a", concurrency_key=key) for key in ("k", None) for _ in range(10)])
        await store.submit([NewJob(type="b")])
        await store.pause(PauseKind.TYPE, "a")
        assert ids(await store.claim_unknown("a worker", "default", 5, LEASE, TYPES)) == [21]


# --- pools


@in_loop
async def test_no_way_of_claiming_touches_another_pool(database_url: str) -> None:
    async with open_store(database_url) as store:
        jobs = await submit_each_kind(store, "theirs")
        assert await claim_everything(store, pool="ours") == {}
        assert await store.next_due("ours", TYPES) is None
        assert await claim_everything(store, pool="theirs") == dict(zip(ids(jobs), WAYS, strict=True))


# --- unknown types


@in_loop
async def test_type_that_a_live_worker_of_the_pool_knows_is_left_for_it(database_url: str) -> None:
    async with open_store(database_url) as store:
        later = datetime(2040, 1, 1, tzinfo=UTC)
        keys = (None, "k")
        await store.submit([NewJob(type=name, concurrency_key=key) for name in ("theirs", "nobody's") for key in keys])
        await store.submit([NewJob(type="nobody's", due=later), NewJob(type="elsewhere")])
        await store.show_worker(record("another", "theirs"))
        await store.show_worker(record("elsewhere", "elsewhere", pool="other"))
        unknown = await store.claim_unknown("a worker", "default", 100, LEASE, TYPES)
        assert sorted(ids(unknown)) == [3, 4, 6]
        assert {job.state for job in unknown} == {JobState.RUNNING}
        # Draining, it takes no more.
        await store.show_worker(record("another", is_draining=True))
        assert sorted(ids(await store.claim_unknown("a worker", "default", 100, LEASE, TYPES))) == [1, 2]


@in_loop
async def test_types_of_a_dead_worker_count_for_one_lease(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="theirs")])
        await store.show_worker(record("dead", "theirs"))
        sql(database_url, """update "workerJobWorkers" set "seenAt" = now() - interval '2 seconds'""")
        alive = timedelta(seconds=60)
        assert await store.claim_unknown("a worker", "default", 10, alive, TYPES) == []
        # Within a lease of the server's start nobody could show himself.
        sql(database_url, """update "workerJobWorkers" set "seenAt" = now() - interval '1 hour'""")
        assert await store.claim_unknown("a worker", "default", 10, timedelta(days=1000), TYPES) == []
        # Nor may who asked before an outage judge others.
        short, before = timedelta(milliseconds=50), await store.now() - timedelta(seconds=1)
        assert await store.claim_unknown("a worker", "default", 10, short, TYPES, before) == []
        assert ids(await store.claim_unknown("a worker", "default", 10, short, TYPES)) == [1]


@in_loop
async def test_worker_that_ended_counts_no_more(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="theirs")])
        await store.show_worker(record("another", "theirs"))
        assert await store.claim_unknown("a worker", "default", 10, LEASE, TYPES) == []
        await store.remove_worker("another")
        assert ids(await store.claim_unknown("a worker", "default", 10, LEASE, TYPES)) == [1]


@in_loop
async def test_live_workers_are_listed_with_what_they_hold(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.show_worker(record("a worker", "report"))
        await store.show_worker(record("draining", pool="other", is_draining=True))
        await store.show_worker(record("dead", "theirs"))
        sql(database_url, """update "workerJobWorkers" set "seenAt" = now() - interval '1 hour' where owner = 'dead'""")
        await store.submit([NewJob(type="report"), NewJob(type="report")])
        await store.claim("a worker", "default", 1, LEASE)
        first, second = await store.workers(LEASE)
        assert (first.owner, first.pool, first.types, first.running, first.is_draining) == (
            "a worker",
            "default",
            ["report"],
            1,
            False,
        )
        assert (second.owner, second.pool, second.types, second.is_draining) == ("draining", "other", [], True)
        assert first.started <= first.seen
