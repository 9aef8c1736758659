"""What is asked of workers through their line in the table: to drain, to work again, to end as their pod is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from tests.support.loop import in_loop, until
from tests.support.table import LEASE, count_rows, open_store, read, sql, submit_one
from tests.support.workers import Told, WorkerProcess, finished, gone, worker, worker_process
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.ports.workers import DrainReason, LostWorker, PodIdentity, WorkerStatus
from workerjobs.storage.postgres import PostgresJobStore

POD = {"POD_UID": "uid-1", "POD_NAME": "worker-a", "POD_NAMESPACE": "shop", "WORKERJOBS_CLUSTER_ID": "here"}


@asynccontextmanager
async def worker_in_pod(url: str, folder: Path, name: str = "worker") -> AsyncIterator[WorkerProcess]:
    """A worker whose environment is that of a pod."""
    async with worker_process(url, folder, count=2, name=name, **POD) as process:
        yield process


async def only_worker(store: PostgresJobStore) -> WorkerStatus:
    (status,) = await until(lambda: store.workers(LEASE))
    return status


async def drained(store: PostgresJobStore) -> bool:
    return (await only_worker(store)).is_drained


@in_loop
async def test_worker_in_a_pod_is_known_by_the_pod_and_its_own_start(database_url: str, tmp_path: Path) -> None:
    async with open_store(database_url) as store:
        owners = []
        for name in ("first", "second"):
            async with worker_in_pod(database_url, tmp_path, name):
                status = await only_worker(store)
                assert (status.namespace, status.pod_name, status.pod_uid) == ("shop", "worker-a", "uid-1")
                owners.append(status.owner)
        assert [owner.partition(":")[0] for owner in owners] == ["uid-1", "uid-1"]
        assert owners[0] != owners[1]
        assert await store.workers(LEASE) == []


@in_loop
async def test_draining_worker_finishes_what_it_runs_takes_no_more_and_then_works_again(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker_in_pod(database_url, tmp_path) as process, open_store(database_url) as store:
        (job,) = await store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        owner = (await only_worker(store)).owner
        assert await store.drain_workers([owner, "nobody"], DrainReason.SCALE_DOWN) == [owner]
        assert await store.drain_workers([owner], DrainReason.SCALE_DOWN) == []
        await until(lambda: process.said("Draining (ScaleDown): 1 jobs are running"))
        status = await until(lambda: is_draining(store))
        assert status is not None
        assert (status.running, status.is_drained, status.drain_reasons) == (1, False, ["ScaleDown"])
        assert "hold" in status.types  # nobody fails its jobs as unknown meanwhile
        later = await submit_one(store, NewJob(type="echo"))
        told.go()
        assert (await finished(store, job)).state is JobState.SUCCEEDED
        await until(lambda: drained(store))
        assert (await read(store, later)).state is JobState.PENDING
        # A second reason keeps it drained when the first is gone.
        await store.drain_workers([owner], DrainReason.NODE_GOING)
        assert await store.undrain_workers([owner], DrainReason.SCALE_DOWN) == [owner]
        assert await store.undrain_workers([owner], DrainReason.SCALE_DOWN) == []
        assert await drained(store)
        assert (await read(store, later)).state is JobState.PENDING
        await store.undrain_workers([owner], DrainReason.NODE_GOING)
        assert (await finished(store, later)).state is JobState.SUCCEEDED
        assert process.said("Taking jobs again")


async def is_draining(store: PostgresJobStore) -> WorkerStatus | None:
    status = await only_worker(store)
    return status if status.is_draining else None


@in_loop
async def test_worker_whose_pod_is_being_deleted_ends_after_its_jobs(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url, pod=PodIdentity("uid")) as running:
        job = await submit_one(running.store, NewJob(type="hold", data=told.data()))
        await told.run(job)
        await running.store.drain_workers([running.supervisor.owner], DrainReason.POD_GOING)
        await until(lambda: is_draining(running.store))
        # The kubelet's SIGTERM, which comes later than the operator's word here, is the first and hurries nobody.
        running.supervisor.stop()
        later = await submit_one(running.store, NewJob(type="echo"))
        told.go()
        assert (await finished(running.store, job)).state is JobState.SUCCEEDED
        assert (await read(running.store, later)).state is JobState.PENDING


@in_loop
async def test_worker_that_was_drained_while_the_database_was_not_heard_drains(database_url: str) -> None:
    """Its line says it; the announcement only makes it look sooner."""
    async with worker(database_url, renew_every=0.1, pod=PodIdentity("uid")) as running:
        sql(database_url, 'alter table "workerJobWorkers" disable trigger "announceWorker"')
        await only_worker(running.store)
        await running.store.drain_workers([running.supervisor.owner], DrainReason.NODE_GOING)
        await until(lambda: drained(running.store))


@in_loop
async def test_worker_that_drains_gives_back_what_it_claimed_ahead(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url, pod=PodIdentity("uid")) as running:
        running.supervisor._dispatch.ran([0.0])  # jobs are tiny here, so it claims many for its one child
        jobs = await running.store.submit([NewJob(type="hold", data=told.data()) for _ in range(30)])
        await told.run(jobs[0])
        await running.store.drain_workers([running.supervisor.owner], DrainReason.SCALE_DOWN)
        await until(lambda: count_rows(database_url, "started is not null") == 1)
        told.go()
        await until(lambda: drained(running.store))
        assert count_rows(database_url, "finished is null and started is null and rescues = 0") == 29
        assert sum(len(told.runs(job)) for job in jobs) == 1


@in_loop
async def test_worker_whose_pod_is_gone_kills_its_children_says_so_and_ends(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker_in_pod(database_url, tmp_path) as process, open_store(database_url) as store:
        job = await running_job(store, told)
        (before,) = await store.pod_workers("here", LEASE)
        assert (before.running, before.revoked_seconds, before.has_stopped, before.is_alive) == (1, None, False, True)
        family = process.family
        assert await store.revoke_workers([before.owner]) == [before.owner]
        await until(lambda: stopped(store))
        assert await process.ended() == 0
        await gone(family)
        # Killed, and not asked to end: others may have the job already.
        assert told.runs(job, "interrupted") == []
        assert process.said("This worker's pod is gone from its cluster")
        # The row is for the operator to give back, with the reason.
        assert (await read(store, job)).state is JobState.RUNNING
        (released,) = await store.release_lost([LostWorker(before.owner, "Worker pod worker-a is gone")])
        assert (released.state, released.rescues, released.attempt) == (JobState.PENDING, 1, 1)
        assert released.lost_reason == "Worker pod worker-a is gone"
        # A kubelet that does not know it yet starts the container again.
        async with worker_in_pod(database_url, tmp_path, "again") as again:
            assert await again.ended() == 0
        assert (await read(store, job)).state is JobState.PENDING


async def stopped(store: PostgresJobStore) -> bool:
    (only,) = await store.pod_workers("here", LEASE)
    return only.has_stopped


async def running_job(store: PostgresJobStore, told: Told) -> Job:
    (job,) = await store.submit([NewJob(type="hold", data=told.data())])
    await told.run(job)
    return job


# --- giving back the jobs of lost workers


@in_loop
async def test_jobs_of_lost_workers_run_again_at_once_and_say_how_the_worker_was_lost(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker_in_pod(database_url, tmp_path, "first") as first, open_store(database_url) as store:
        job = await running_job(store, told)
        owner = (await only_worker(store)).owner
        first.popen.kill()
        async with worker(database_url) as second:
            seen = await store.now()
            released = await store.release_lost([LostWorker(owner, "Worker pod worker-a was OOM-killed")])
            assert [each.id for each in released] == [job.id]
            await told.run(job, number=2)
            again = await read(store, job)
            assert again.started is not None
            assert again.started - seen <= timedelta(seconds=3)
            assert (again.lease_owner, again.rescues, again.attempt) == (second.supervisor.owner, 1, 1)
            assert again.lost_reason == "Worker pod worker-a was OOM-killed"
            told.go()
            done = await finished(store, job)
            assert (done.state, done.lost_reason) == (JobState.SUCCEEDED, "Worker pod worker-a was OOM-killed")
            # Nothing is left to release, and its line goes.
            assert await store.release_lost([LostWorker(owner, "again")]) == []
            await store.forget_workers([owner])
            assert await store.pod_workers("here", LEASE) == []


@in_loop
async def test_job_whose_workers_are_lost_again_and_again_fails_with_how_the_last_one_was(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker(database_url, lease=2.0, renew_every=0.2, rescue_every=0.1) as running:
        # Whoever rescues has had answers for a whole lease.
        await until(lambda: running.supervisor._rescue.is_steady)
        job = await running_job(running.store, told)
        for times in range(4):
            await told.run(job, number=times + 1)
            lost = LostWorker(running.supervisor.owner, f"Worker pod x was evicted ({times + 1})")
            assert len(await running.store.release_lost([lost])) == 1
        await told.run(job, number=5)
        (left,) = await running.store.release_lost(
            [LostWorker(running.supervisor.owner, "Worker pod x was OOM-killed")]
        )
        assert (left.state, left.rescues) == (JobState.RUNNING, 4)
        done = await finished(running.store, job)
        assert (done.state, done.rescues) == (JobState.FAILED, 5)
        assert done.error == "Worker lost 5 times while running this job: Worker pod x was OOM-killed"


@in_loop
async def test_job_to_be_cancelled_is_cancelled_and_not_run_again_when_its_worker_is_lost(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await submit_one(store, NewJob(type="hold"))
        await store.claim("lost", "default", 1, LEASE)
        await store.cancel([job.id])
        (left,) = await store.release_lost([LostWorker("lost", "Worker pod x was evicted")])
        assert left.state is JobState.RUNNING
        assert left.fencing_token is not None
        sql(database_url, 'update "workerJobs" set "leaseDeadline" = now() - interval \'1 second\'')
        (taken,) = (await store.rescue("rescuer", timedelta(milliseconds=1), 10)).taken
        assert (taken.id, taken.lost_reason) == (job.id, "Worker pod x was evicted")
