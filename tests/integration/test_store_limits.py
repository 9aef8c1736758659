"""Claiming under limits: of keys and types, jobs at once and starts in a period."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.support.loop import in_loop, until
from tests.support.table import (
    LEASE,
    claim_all,
    count_rows,
    ids,
    lease_of,
    open_store,
    open_stores,
    read,
    settlement,
    sql,
    submit_one,
)
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.domain.limits import LimitKind
from workerjobs.errors import InvalidInputError
from workerjobs.ports.jobs import FIRST_PLACE, StoredLimit
from workerjobs.ports.notices import DueNotice, LimitedNotice
from workerjobs.storage.limited import KEYS
from workerjobs.storage.listen import PostgresListener
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.worker import looks, pickup
from workerjobs.worker.pickup import Pickup

TYPES = ("report", "x", "y")
SHORT = timedelta(milliseconds=1)


def keyed(key: str = "a", *, limit: int | None = None, rate: tuple[int, int] | None = None, **more: Any) -> NewJob:
    """A job under a key; its rate is (starts, seconds)."""
    rate_ms = None if rate is None else rate[1] * 1000
    return NewJob(
        **{"type": "report"} | more,
        concurrency_key=key,
        concurrency_limit=limit,
        rate_limit=rate and rate[0],
        rate_period_ms=rate_ms,
    )


async def claim_limited(
    store: PostgresJobStore, limit: int = 1000, *, types: Sequence[str] = TYPES, pool: str = "default"
) -> list[Job]:
    """One whole round over all keys, as workers make it."""
    jobs: list[Job] = []
    after = FIRST_PLACE
    while True:
        claim = await store.claim_limited("a worker", pool, limit - len(jobs), LEASE, types, after)
        jobs += claim.jobs
        after = claim.after
        if after == FIRST_PLACE or len(jobs) == limit:
            return jobs


async def settle(store: PostgresJobStore, *jobs: Job) -> None:
    settled = await store.settle([settlement(job) for job in jobs])
    assert settled.stored == set(ids(jobs))


# --- jobs at once


@in_loop
async def test_jobs_of_a_key_run_so_many_at_once_as_they_say(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([keyed(limit=2) for _ in range(5)])
        assert await claim_all(store) == []  # never past the key's lock
        first = await claim_limited(store)
        assert ids(first) == [1, 2]
        assert first[0].state is JobState.RUNNING
        assert first[0].lease_owner == "a worker"
        assert first[0].fencing_token is not None
        assert await claim_limited(store) == []
        await settle(store, first[1])
        assert ids(await claim_limited(store)) == [3]
        await store.release([lease_of(first[0])])
        assert ids(await claim_limited(store)) == [1]


@in_loop
async def test_limits_of_types_and_keys_come_from_the_table_too(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.set_limit(LimitKind.KEY, "a", 2)
        await store.set_limit(LimitKind.TYPE, "x", 1)
        await store.submit([keyed(), keyed(), keyed(), NewJob(type="x"), NewJob(type="x"), NewJob(type="y")])
        assert ids(await claim_all(store)) == [6]
        assert ids(await claim_limited(store)) == [1, 2, 4]
        await store.set_limit(LimitKind.KEY, "a", 3)
        assert ids(await claim_limited(store)) == [3]
        assert await store.remove_limit(LimitKind.TYPE, "x")
        assert ids(await claim_all(store)) == [5]


@in_loop
async def test_job_with_a_key_of_a_type_with_limits_needs_both(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.set_limit(LimitKind.TYPE, "x", 2)
        jobs = [
            keyed("a", limit=1, type="x"),
            keyed("a", limit=1, type="x"),
            keyed("b", type="x"),
            keyed("c", type="x"),
        ]
        await store.submit([*jobs, keyed("a", limit=1, type="y"), NewJob(type="x")])
        first = await claim_limited(store)
        assert ids(first) == [1, 3]
        await settle(store, first[0])
        # One place of the type is free, and the key: the first by id takes it.
        assert ids(await claim_limited(store)) == [2]
        await settle(store, first[1])
        assert ids(await claim_limited(store)) == [4]


@in_loop
async def test_key_is_one_across_pools_and_types(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([keyed(limit=1), keyed(limit=1, type="x", pool="other"), keyed("b", pool="other")])
        (job,) = await claim_limited(store)
        assert ids(await claim_limited(store, pool="other")) == [3]
        await settle(store, job)
        assert await claim_limited(store) == []
        assert ids(await claim_limited(store, pool="other")) == [2]


@in_loop
async def test_only_known_types_are_claimed_and_others_hold_nobody_up(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([keyed(type="unknown", priority=9) for _ in range(30)])
        await store.submit([keyed(limit=1)])
        assert [job.type for job in await claim_limited(store)] == ["report"]


# --- one order


@in_loop
async def test_jobs_with_and_without_limits_start_in_one_order(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.set_limit(LimitKind.TYPE, "x", 100)
        now = await store.now()

        def due(minutes: int) -> dict[str, Any]:
            return {"due": now - timedelta(minutes=minutes)}

        jobs = [
            keyed("a", type="report", **due(1)),
            NewJob(type="y", due=now - timedelta(minutes=1)),
            keyed("b", type="y", priority=5, **due(0)),
            NewJob(type="y", due=now - timedelta(minutes=9)),
            NewJob(type="x", due=now - timedelta(minutes=5)),
            NewJob(type="y", priority=7, due=now),
            NewJob(type="x", priority=-1, due=now - timedelta(days=1)),
            keyed("a", type="report", priority=-1, **due(1440)),
        ]
        await store.submit(jobs)
        order: list[int] = []
        for _ in range(len(jobs)):
            claim = await store.claim_limited("a worker", "default", 1, LEASE, TYPES)
            assert len(claim.jobs) + claim.unlimited == 1
            order += ids(claim.jobs)
            if claim.unlimited:
                # Something under a limit could start as well, and is not forgotten.
                assert claim.retry_seconds == 0
                order += ids(await store.claim("a worker", "default", 1, LEASE, TYPES))
        assert order == [6, 3, 4, 5, 1, 2, 7, 8]


@in_loop
async def test_three_thousand_keys_take_turns(database_url: str) -> None:
    assert KEYS < 1500
    async with open_store(database_url) as store:
        await store.submit([keyed(f"k{n % 3000}", limit=1) for n in range(6000)])
        claimed: list[Job] = []
        after = FIRST_PLACE
        looks = 0
        while len(claimed) < 3000:
            claim = await store.claim_limited("a worker", "default", 100, LEASE, TYPES, after)
            claimed += claim.jobs
            after = claim.after
            looks += 1
            assert looks <= 100
        assert len({job.concurrency_key for job in claimed}) == 3000
        assert await claim_limited(store) == []


@in_loop
async def test_very_many_keys_that_can_not_start_do_not_hide_the_others(database_url: str) -> None:
    async with open_store(database_url) as store:
        # Keys by which letters are sorted differently than by their codes, before and after.
        await store.submit([keyed(f"{letter}{n}", type="x") for letter in "aZ" for n in range(KEYS)])
        await store.submit([keyed("a0"), keyed("ä"), keyed("zz"), keyed("Zz", type="y")])
        sql(database_url, """insert into "workerJobPauses" (kind, name) values ('type', 'x')""")
        jobs = await claim_limited(store)
        assert sorted(job.concurrency_key or "" for job in jobs) == ["Zz", "a0", "zz", "ä"]


# --- what others hold


@in_loop
async def test_key_that_another_claim_works_under_is_left_out_and_looked_at_again(database_url: str) -> None:
    async with open_store(database_url) as store:
        sql(database_url, """insert into "workerJobLimits" (kind, name) values ('key', 'a')""")
        await store.submit([keyed("a"), keyed("b")])
        with psycopg.connect(database_url) as other:
            other.execute("""select from "workerJobLimits" where name = 'a' for update""")
            claim = await store.claim_limited("a worker", "default", 10, LEASE, TYPES)
            assert ids(claim.jobs) == [2]
            assert claim.retry_seconds == 0
            claim = await store.claim_limited("a worker", "default", 10, LEASE, TYPES)
            assert claim.jobs == ()
            assert claim.retry_seconds == 0
        assert ids(await claim_limited(store)) == [1]


@in_loop
async def test_type_whose_line_another_claim_holds_is_not_taken_for_one_without_limits(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.set_limit(LimitKind.TYPE, "x", 1)
        await store.submit([NewJob(type="x"), keyed("a", type="x")])
        with psycopg.connect(database_url) as other:
            other.execute("""select from "workerJobLimits" where kind = 'type' for update""")
            claim = await store.claim_limited("a worker", "default", 10, LEASE, TYPES)
            assert claim.jobs == ()
            assert claim.retry_seconds == 0
        assert ids(await claim_limited(store)) == [1]


@in_loop
async def test_row_that_another_transaction_holds_does_not_count_as_started(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await submit_one(store, keyed(rate=(1, 3600)))
        with psycopg.connect(database_url) as other:
            other.execute('update "workerJobs" set priority = 1')
            assert (await store.claim_limited("a worker", "default", 1, LEASE, TYPES)).jobs == ()
        assert ids(await claim_limited(store)) == [job.id]


# --- permits of dead workers


def expire(url: str) -> None:
    sql(
        url,
        """update "workerJobs" set "leaseDeadline" = now() - interval '1 second' where "leaseDeadline" is not null""",
    )


@in_loop
async def test_permit_of_a_dead_worker_returns_with_its_lease_before_any_rescue(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.set_limit(LimitKind.TYPE, "x", 1)
        await store.submit([keyed(limit=1), keyed(limit=1), NewJob(type="x"), NewJob(type="x")])
        dead = await claim_limited(store)
        assert ids(dead) == [1, 3]
        short = timedelta(milliseconds=50)
        expire(database_url)
        # Within a lease of the server's start owners could not renew, and all their permits count.
        claim = await store.claim_limited("another", "default", 10, timedelta(days=1000), TYPES)
        assert claim.jobs == ()
        # Nor may who asked before an outage judge others.
        before = await store.now() - timedelta(seconds=1)
        claim = await store.claim_limited("another", "default", 10, short, TYPES, asked=before)
        assert claim.jobs == ()
        claim = await store.claim_limited("another", "default", 10, short, TYPES)
        assert ids(claim.jobs) == [2, 4]


@in_loop
async def test_run_whose_permit_another_took_is_lost_when_it_comes_back(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([keyed("a", limit=1), keyed("a", limit=1), keyed("b", limit=1), keyed("c"), keyed("c")])
        late = await store.claim_limited("late", "default", 4, LEASE, TYPES)
        assert ids(late.jobs) == [1, 3, 4, 5]
        expire(database_url)
        claim = await store.claim_limited("another", "default", 4, timedelta(milliseconds=50), TYPES)
        assert ids(claim.jobs) == [2]
        sql(database_url, """update "workerJobs" set "leaseDeadline" = now() + interval '1 hour' where id = 2""")
        renewal = await store.renew([lease_of(job) for job in late.jobs], LEASE)
        # Not 1, whose permit is taken; 4 and 5 share a key that limits nothing.
        assert renewal.held == {3, 4, 5}


@in_loop
async def test_run_whose_types_permit_another_took_is_lost_too(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.set_limit(LimitKind.TYPE, "x", 1)
        await store.set_limit(LimitKind.TYPE, "y", rate_limit=9, rate_period_ms=1000)
        await store.submit([NewJob(type=name) for name in ("x", "x", "y", "y")])
        late = await store.claim_limited("late", "default", 2, LEASE, TYPES)
        assert ids(late.jobs) == [1, 3]
        expire(database_url)
        claim = await store.claim_limited("another", "default", 4, timedelta(milliseconds=50), TYPES)
        assert ids(claim.jobs) == [2, 4]
        sql(database_url, """update "workerJobs" set "leaseDeadline" = now() + interval '1 hour' where id in (2, 4)""")
        renewal = await store.renew([lease_of(job) for job in late.jobs], LEASE)
        assert renewal.held == {3}


@in_loop
async def test_permits_neither_leak_nor_multiply_when_lost_jobs_are_rescued(database_url: str) -> None:
    async with open_stores(database_url, 2) as (store, rescuer):
        await store.submit([keyed(limit=3) for _ in range(9)])
        for round_number in range(3):
            assert len(await claim_limited(store)) == 3, round_number
            expire(database_url)
            released = (await rescuer.rescue("rescuer", SHORT, 100)).released
            assert len(released) == 3
        jobs = await claim_limited(store)
        await settle(store, *jobs)
        assert len(await claim_limited(store)) == 3


# --- rates


@in_loop
async def test_rate_is_exact_among_many_claimers_and_over_many_starts(database_url: str) -> None:
    async with open_stores(database_url, 8) as stores:
        await stores[0].submit([keyed(rate=(5, 3600)) for _ in range(60)])

        async def claim_more(store: PostgresJobStore) -> int:
            count = 0
            for _ in range(6):
                claim = await store.claim_limited("a worker", "default", 3, LEASE, TYPES)
                count += len(claim.jobs)
            return count

        async def started() -> int:
            return sum(await asyncio.gather(*(claim_more(store) for store in stores)))

        assert await started() == 5
        for _ in range(4):
            # Time passes: a fifth of the period lets one more start.
            sql(database_url, """update "workerJobLimits" set "nextStart" = "nextStart" - interval '12 minutes'""")
            assert await started() == 1
        sql(database_url, """update "workerJobLimits" set "nextStart" = "nextStart" - interval '1 day'""")
        assert await started() == 5
        assert count_rows(database_url, "started is not null") == 14


@in_loop
async def test_rate_says_when_to_look_again(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([keyed(rate=(2, 60)) for _ in range(5)])
        assert ids(await claim_limited(store)) == [1, 2]
        claim = await store.claim_limited("a worker", "default", 1, LEASE, TYPES)
        assert claim.jobs == ()
        assert claim.retry_seconds == pytest.approx(30, abs=20)
        assert claim.retry_seconds is not None
        assert 0 < claim.retry_seconds <= 30


@in_loop
async def test_claim_of_a_job_that_is_not_begun_leaves_its_rates_as_they_were(database_url: str) -> None:
    """A worker that gave back what waited in vain behind a slow job held it up for a whole period of its rate."""
    async with open_store(database_url) as store:
        await store.set_limit(LimitKind.TYPE, "report", rate_limit=2, rate_period_ms=86_400_000)
        await store.submit([keyed(rate=(1, 86_400)), NewJob(type="report")])
        first, second = await claim_limited(store)
        await store.release([], [lease_of(first), lease_of(second)])
        assert ids(await claim_limited(store)) == [1, 2]
        # The answer was lost.
        await store.release_strays("a worker", [])
        first, second = await claim_limited(store)
        # This one's function was called.
        await store.release([lease_of(first)], [lease_of(second)])
        assert ids(await claim_limited(store)) == [2]


@in_loop
async def test_job_under_a_limit_that_is_due_later_says_when(database_url: str) -> None:
    async with open_store(database_url) as store:
        due = await store.now() + timedelta(seconds=60)
        await store.submit([keyed(due=due)])
        claim = await store.claim_limited("a worker", "default", 1, LEASE, TYPES)
        assert claim.retry_seconds is not None
        assert 20 < claim.retry_seconds <= 60


@in_loop
async def test_new_rate_forgets_starts_under_another_one(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.set_limit(LimitKind.KEY, "a", rate_limit=1, rate_period_ms=86_400_000)
        await store.submit([keyed() for _ in range(5)])
        assert ids(await claim_limited(store)) == [1]
        await store.set_limit(LimitKind.KEY, "a", 10, rate_limit=1, rate_period_ms=86_400_000)
        assert await claim_limited(store) == []
        await store.set_limit(LimitKind.KEY, "a", rate_limit=2, rate_period_ms=86_400_000)
        assert ids(await claim_limited(store)) == [2, 3]


# --- many claimers


class Claimer:
    """A worker's pickup with places for a few jobs, whose jobs end by themselves a moment later."""

    is_plenty = False

    def __init__(
        self, store: PostgresJobStore, look: psycopg.AsyncConnection[Any], places: int, seen: Counter[str]
    ) -> None:
        self.places, self.seen, self.look = places, seen, look
        self.held: dict[int, Job] = {}
        self.problems: list[str] = []
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()
        self.pickup = Pickup(
            store,
            owner=str(id(self)),
            pool="default",
            lease=LEASE,
            takers=self,
            types=lambda: TYPES,
            asked=lambda: None,
            leases=lambda: [lease_of(job) for job in self.held.values()],
            run=self._run,
        )

    def count_wanted(self) -> int:
        return self.places - len(self.held)

    def _run(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.held[job.id] = job
            task = asyncio.create_task(self._work(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, job: Job) -> None:
        # In one snapshot: what runs now, this job among it.
        statement = """
            select 'key ' || "concurrencyKey", count(*), min("concurrencyLimit") from "workerJobs"
            where started is not null and finished is null and "concurrencyKey" is not null group by 1
            union all
            select 'type ' || type, count(*), 4 from "workerJobs"
            where started is not null and finished is null and type = 'x' group by 1
        """
        mine = {f"key {job.concurrency_key}": job.concurrency_limit, f"type {job.type}": 4 if job.type == "x" else None}
        while True:
            for name, running, limit in await (await self.look.execute(statement)).fetchall():
                self.seen[name] = max(self.seen[name], running)
                if running > limit:
                    self.problems.append(f"{running} jobs of {name}")
            # Its permits are held until all that there are were used at once.
            if all(limit is None or self.seen[name] >= limit for name, limit in mine.items()):
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(random.random() * 0.01)
        await settle(self._store, job)
        del self.held[job.id]
        self.pickup.wake()


@pytest.fixture
def without_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found but by an announcement."""
    for module in (looks, pickup):
        monkeypatch.setattr(module, "POLL_SECONDS", 600.0)


@pytest.mark.usefixtures("without_polls")
@pytest.mark.parametrize("limit", [1, 3])
def test_limits_hold_and_nothing_is_forgotten_among_many_claimers(database_url: str, limit: int) -> None:
    @in_loop
    async def check() -> None:
        seen: Counter[str] = Counter()
        async with (
            open_stores(database_url, 10) as stores,
            await psycopg.AsyncConnection.connect(database_url, autocommit=True) as look,
        ):
            claimers = [Claimer(store, look, 1 + n % 4, seen) for n, store in enumerate(stores)]

            async def listen() -> None:
                async for notice in PostgresListener(database_url, "test").notices():
                    for claimer in claimers:
                        if isinstance(notice, DueNotice):
                            claimer.pickup.notice(notice)
                        elif isinstance(notice, LimitedNotice):
                            claimer.pickup.limits_changed()

            listening = asyncio.create_task(listen())
            for claimer in claimers:
                claimer.pickup.start()
            await stores[0].set_limit(LimitKind.TYPE, "x", 4)
            chance = random.Random(limit)
            jobs = []
            for n in range(180):
                key = chance.choice(["a", "b", "c", None])
                job_type, priority = chance.choice(TYPES), chance.randrange(3)
                tag = f"tag {n % 60}" if n % 3 == 0 else None
                job = NewJob(type=job_type, priority=priority, tag=tag)
                jobs.append(job if key is None else keyed(key, limit=limit, type=job_type, priority=priority, tag=tag))
            for start in range(0, 180, 30):
                await stores[start // 30].submit(jobs[start : start + 30])

            # Each permit that frees wakes who waits for it.
            async def are_done() -> bool:
                cursor = await look.execute('select from "workerJobs" where finished is null limit 1')
                return await cursor.fetchone() is None

            await until(are_done)
            for claimer in claimers:
                await claimer.pickup.stop()
            listening.cancel()
            await asyncio.wait({listening})
        assert [problem for claimer in claimers for problem in claimer.problems] == []
        # And they were used to the full.
        assert [seen[name] for name in ("key a", "key b", "key c", "type x")] == [limit] * 3 + [4]
        statement = "select deadlocks from pg_stat_database where datname = current_database()"
        assert sql(database_url, statement) == [(0,)]
        assert count_rows(database_url, "not success and started is not null") == 0

    check()


@in_loop
async def test_claims_scheduling_and_cleaning_over_the_same_names_never_block_each_other(database_url: str) -> None:
    async with open_stores(database_url, 8) as stores:
        chance = random.Random(7)

        async def work(store: PostgresJobStore, number: int) -> None:
            for _ in range(12):
                names = chance.sample("abcdefgh", 4)
                await store.submit([keyed(name, limit=2, tag=f"tag {name}", rate=(100, 1)) for name in names])
                claim = await store.claim_limited(str(number), "default", 5, LEASE, TYPES)
                await store.settle([settlement(job) for job in claim.jobs])
                if number == 0:
                    await store.remove_unused()
                if number == 1:
                    await store.set_limit(LimitKind.KEY, chance.choice(names), 2)

        # A deadlock would be an error here.
        await asyncio.gather(*(work(store, number) for number, store in enumerate(stores)))


# --- setting limits


@in_loop
async def test_limits_are_listed_with_the_jobs_that_run_under_them(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.set_limit(LimitKind.KEY, "a", 2)
        await store.set_limit(LimitKind.TYPE, "x", rate_limit=10, rate_period_ms=60_000)
        await store.submit([keyed("a"), keyed("b", limit=1), NewJob(type="x"), NewJob(type="x")])
        await claim_limited(store)
        assert await store.limits(LEASE) == [
            StoredLimit(LimitKind.KEY, "a", 2, None, None, 1),
            StoredLimit(LimitKind.TYPE, "x", None, 10, 60_000, 2),
        ]
        assert await store.remove_limit(LimitKind.KEY, "a")
        assert not await store.remove_limit(LimitKind.KEY, "a")
        assert not await store.remove_limit(LimitKind.KEY, "b")
        assert await store.remove_limit(LimitKind.TYPE, "x")
        assert await store.limits(LEASE) == []
        with pytest.raises(InvalidInputError, match="no limit is given"):
            await store.set_limit(LimitKind.KEY, "a")


@in_loop
async def test_only_keys_that_nothing_needs_are_forgotten(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([keyed("used"), keyed("unused"), keyed("rated", rate=(1, 3600)), keyed("set")])
        await store.set_limit(LimitKind.KEY, "set", 1)
        _, *others = await claim_limited(store)
        await settle(store, *others)
        await store.remove_unused()
        names = sql(database_url, 'select name from "workerJobLimits" order by name')
        # A key whose rate still holds back its next job is needed.
        assert names == [("rated",), ("set",), ("used",)]


@in_loop
async def test_job_under_a_key_replaces_pending_ones_of_its_tag(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([keyed(limit=1, tag="t")])
        (running,) = await claim_limited(store)
        await store.submit([keyed(limit=1, tag="t")])
        await store.submit([keyed(limit=1, tag="t")])
        assert [(await read(store, n)).state for n in (1, 2, 3)] == ["running", "cancelled", "pending"]
        await settle(store, running)
        assert ids(await claim_limited(store)) == [3]
