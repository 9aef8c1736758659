"""How an idle worker comes to the one job that it hears of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.support.loop import in_loop
from tests.support.table import claim_all, ids, open_store, submit_one
from workerjobs.domain.job import Job, NewJob
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.ports.notices import DueNotice
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.worker.pickup import Pickup

LEASE = timedelta(seconds=15)
TYPES = ["report"]


class Places:
    """Children that are free; each job takes one."""

    is_plenty = False

    def __init__(self, store: PostgresJobStore, count: int) -> None:
        self.count = count
        self.begun: list[Job] = []
        self.pickup = Pickup(
            store,
            owner="a worker",
            pool="default",
            lease=LEASE,
            takers=self,
            types=lambda: TYPES,
            asked=lambda: None,
            leases=list,
            run=self._run,
        )

    def count_wanted(self) -> int:
        return self.count - len(self.begun)

    def _run(self, jobs: Sequence[Job]) -> None:
        self.begun += jobs

    async def hear(self, *jobs: Job) -> None:
        """Do what is done after the announcements of jobs."""
        for job in jobs:
            self.pickup.notice(DueNotice("default", 0, job.type, job.id))
        self.pickup._awake.clear()
        await self.pickup.step()


@in_loop
async def test_idle_worker_claims_the_announced_job_without_a_search(database_url: str) -> None:
    async with open_store(database_url) as store:
        places = Places(store, 3)
        await places.pickup.step()
        unheard = await submit_one(store, NewJob(type="report", priority=9))
        heard = await submit_one(store, NewJob(type="report"))
        await places.hear(heard)
        assert ids(places.begun) == [heard.id]
        # With more news, or none of a single job, it looks for all that is due.
        more = [await submit_one(store, NewJob(type="report")) for _ in range(2)]
        await places.hear(*more)
        assert ids(places.begun) == [heard.id, unheard.id, more[0].id]


@in_loop
async def test_worker_that_may_have_left_jobs_behind_looks_for_all(database_url: str) -> None:
    async with open_store(database_url) as store:
        places = Places(store, 1)
        jobs = [await submit_one(store, NewJob(type="report", priority=n)) for n in range(3)]
        await places.pickup.step()
        assert ids(places.begun) == [jobs[2].id]
        places.count += 1
        await places.hear(jobs[0])
        assert ids(places.begun) == [jobs[2].id, jobs[1].id]
        places.count += 1
        places.pickup.place_freed()
        assert places.pickup._awake.is_set()


@in_loop
async def test_worker_looks_on_where_another_one_has_the_announced_job(database_url: str) -> None:
    async with open_store(database_url) as store:
        places = Places(store, 3)
        await places.pickup.step()
        taken = await submit_one(store, NewJob(type="report"))
        await claim_all(store, owner="another")
        other = await submit_one(store, NewJob(type="report"))
        await places.hear(taken)
        assert ids(places.begun) == [other.id]


@in_loop
async def test_announced_job_is_claimed_only_where_any_claim_would_take_it(database_url: str) -> None:
    later = datetime(2040, 1, 1, tzinfo=UTC)
    async with open_store(database_url) as store, open_store(database_url) as elsewhere:
        namespaced = PostgresJobStore(elsewhere._url, "workerjobs test", ["team-a"])
        try:

            async def claimed(job: Job, store: PostgresJobStore = store) -> list[Job]:
                return await store.claim_announced("a worker", "default", job.id, LEASE, TYPES)

            for refused in (
                NewJob(type="unknown"),
                NewJob(type="report", pool="heavy"),
                NewJob(type="report", due=later),
                NewJob(type="report", concurrency_key="k", concurrency_limit=5),
            ):
                assert await claimed(await submit_one(store, refused)) == []
            job = await submit_one(store, NewJob(type="report", data={"a": 1}))
            assert await claimed(job, namespaced) == []
            for kind, name in ((PauseKind.TYPE, "report"), (PauseKind.POOL, "default")):
                await store.pause(kind, name)
                assert await claimed(job) == []
                await store.resume(kind, name)
            await store.set_limit(LimitKind.TYPE, "report", 7)
            assert await claimed(job) == []
            await store.remove_limit(LimitKind.TYPE, "report")
            (found,) = await claimed(job)
            assert (found.id, found.lease_owner, found.data) == (job.id, "a worker", {"a": 1})
            assert found.started is not None
            assert found.fencing_token is not None
            assert await claimed(job) == []
        finally:
            await namespaced.close()
