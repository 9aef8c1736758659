"""The operator and workers in pods: the jobs of lost ones run elsewhere at once, and say why."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.cluster.controlplane import Cluster
from tests.support.loop import in_loop, until
from tests.support.operators import PATIENCE_SECONDS, Operators, WorkerJobs
from tests.support.pods import Node, Pod, ended, node_of
from tests.support.table import LEASE, open_store, read, sql
from tests.support.workers import Told, WorkerProcess, finished, worker_process
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.kube.cluster import KubernetesCluster
from workerjobs.kube.podstate import POD_LABELS
from workerjobs.kube.podwatch import REFUSED_SECONDS, Observed
from workerjobs.kube.protection import BUSY, PROTECTING
from workerjobs.kube.workerpods import EVERY_SECONDS
from workerjobs.storage.postgres import PostgresJobStore

pytestmark = pytest.mark.cluster

TIME_TO_RELEASE = timedelta(seconds=2)
"""After the end of the container was seen."""
TIME_TO_LOSE = timedelta(seconds=8)
"""Where the end of the container was not seen: who is gone is looked for, told to end, and given some time to."""


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Node]:
    with node_of(cluster, f"node-{uuid.uuid4().hex[:8]}") as made:
        yield made


@pytest.fixture
def pod(cluster: Cluster, jobs: WorkerJobs, node: Node) -> Pod:
    return Pod(cluster, jobs.namespace, "worker-a", node.name)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


Working = AbstractAsyncContextManager[tuple[WorkerProcess, PostgresJobStore, Job]]


@asynccontextmanager
async def working_in(pod: Pod, told: Told, url: str) -> AsyncIterator[tuple[WorkerProcess, PostgresJobStore, Job]]:
    """A worker in a pod that runs a job, once the operator knows it."""
    async with (
        worker_process(url, told.folder, count=1, name="worker", **pod.environment) as process,
        open_store(url) as store,
    ):
        (job,) = await store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        await until(lambda: adopted(store, pod), seconds=PATIENCE_SECONDS)
        yield process, store, job


@pytest.fixture
def working(operators: Operators, pod: Pod, told: Told, database_url: str) -> Working:
    """An operator, and a worker in the pod that runs a job; the test enters it."""
    operators.start()
    return working_in(pod, told, database_url)


async def adopted(store: PostgresJobStore, pod: Pod) -> bool:
    """Whether the operator knows the worker for one of its cluster."""
    # Another cluster sees those that are nobody's yet.
    return pod.uid not in [each.pod_uid for each in await store.pod_workers("another", LEASE)]


async def released(store: PostgresJobStore, job: Job, *, within: timedelta = TIME_TO_RELEASE) -> Job:
    """Wait until a job is free again, as it has to be by the database's clock within some time from now."""
    began = await store.now()

    async def look() -> Job | None:
        found = await read(store, job)
        return found if found.state is JobState.PENDING else None

    found = await until(look)
    assert found is not None
    assert found.updated_at - began <= within
    return found


async def _elsewhere(url: str, told: Told, job: Job, store: PostgresJobStore) -> None:
    async with worker_process(url, told.folder, name="elsewhere"):
        await told.run(job, number=2)
        told.go()
        assert (await finished(store, job)).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("OOMKilled", "Worker pod worker-a was OOM-killed"),
        pytest.param("Error", "Worker pod worker-a was killed (exit code 137)", marks=pytest.mark.slow),
    ],
)
def test_jobs_of_a_killed_container_are_free_within_two_seconds_and_say_why(
    working: Working, pod: Pod, told: Told, database_url: str, how: str, reason: str
) -> None:
    @in_loop
    async def check() -> None:
        async with working as (process, store, job):
            process.popen.kill()
            await asyncio.to_thread(pod.terminated, how)
            free = await released(store, job)
            assert (free.rescues, free.attempt, free.lost_reason) == (1, 1, reason)
            await _elsewhere(database_url, told, job, store)

    check()


@pytest.mark.slow
@in_loop
async def test_evicted_pod_gives_its_jobs_free_with_what_the_kubelet_says(working: Working, pod: Pod) -> None:
    async with working as (process, store, job):
        process.popen.kill()
        message = "The node was low on resource: memory."
        await asyncio.to_thread(pod.terminated, phase="Failed", reason="Evicted", message=message)
        free = await released(store, job)
        assert free.lost_reason == f"Worker pod worker-a was evicted: {message}"


@in_loop
async def test_restarted_container_frees_the_jobs_of_the_one_before_and_not_its_own(
    working: Working, pod: Pod, told: Told, database_url: str
) -> None:
    async with working as (process, store, job):
        process.popen.kill()
        await asyncio.to_thread(process.popen.wait)
        # The kubelet told of both at once. Its moments are of whole seconds.
        await asyncio.sleep(1.1)
        await asyncio.to_thread(pod.runs, 1, ended("OOMKilled", 137, 0.0))
        assert (await released(store, job)).lost_reason == "Worker pod worker-a was OOM-killed"
        async with worker_process(database_url, told.folder, count=1, name="again", **pod.environment):
            await told.run(job, number=2)
            # Two looks of the operator later it has it still.
            await asyncio.sleep(2 * EVERY_SECONDS)
            again = await read(store, job)
            assert (again.state, again.rescues) == (JobState.RUNNING, 1)
            told.go()
            assert (await finished(store, job)).rescues == 1


@in_loop
async def test_pod_that_is_only_being_deleted_keeps_its_jobs(working: Working, pod: Pod, told: Told) -> None:
    async with working as (_, store, job):
        await asyncio.to_thread(pod.delete)
        assert "deletionTimestamp" in pod.read()["metadata"]
        await asyncio.sleep(3)
        assert (await read(store, job)).state is JobState.RUNNING
        told.go()
        done = await finished(store, job)
        assert (done.state, done.rescues) == (JobState.SUCCEEDED, 0)
        await asyncio.to_thread(pod.remove)


@in_loop
async def test_worker_whose_pod_was_removed_by_force_is_told_kills_its_children_and_only_then_others_get_its_jobs(
    working: Working, pod: Pod, told: Told, database_url: str
) -> None:
    async with working as (process, store, job):
        await asyncio.to_thread(pod.remove)
        free = await released(store, job, within=TIME_TO_LOSE)
        assert free.lost_reason == "Worker pod worker-a is gone"
        assert process.said("This worker's pod is gone from its cluster")
        assert await process.ended() == 0
        assert told.runs(job, "interrupted") == []
        assert sql(database_url, 'select "revocationSeenAt" is not null from "workerJobWorkers"') == [(True,)]
        await _elsewhere(database_url, told, job, store)


@pytest.mark.slow
@in_loop
async def test_worker_that_does_not_hear_that_its_pod_is_gone_loses_its_jobs_after_two_seconds(
    working: Working, pod: Pod
) -> None:
    async with working as (process, store, job):
        process.send(signal.SIGSTOP)
        try:
            await asyncio.to_thread(pod.remove)
            free = await released(store, job, within=TIME_TO_LOSE)
            assert (free.rescues, free.lost_reason) == (1, "Worker pod worker-a is gone")
        finally:
            process.send(signal.SIGCONT)
        # It finds out by itself, and its run changes nothing.
        assert await process.ended() == 0


@pytest.mark.slow
@in_loop
async def test_jobs_on_a_node_that_is_gone_are_freed(working: Working, pod: Pod, node: Node) -> None:
    async with working as (process, store, job):
        process.popen.kill()
        await asyncio.to_thread(node.delete)
        free = await released(store, job, within=TIME_TO_LOSE)
        assert free.lost_reason == f"Node {node.name} of worker pod worker-a is gone"


@pytest.mark.slow
@in_loop
async def test_what_happened_while_the_operator_was_away_is_found_at_its_return(
    operators: Operators, cluster: Cluster, jobs: WorkerJobs, node: Node, told: Told, database_url: str
) -> None:
    gone = Pod(cluster, jobs.namespace, "worker-gone", node.name)
    killed = Pod(cluster, jobs.namespace, "worker-killed", node.name)
    first = operators.start()
    async with (
        working_in(gone, told, database_url) as (process, store, job),
        worker_process(database_url, told.folder, count=1, name="second", **killed.environment) as second,
    ):
        (other,) = await store.submit([NewJob(type="hold", data=told.data())])
        await told.run(other)
        first.kill()
        for each in (process, second):
            each.popen.kill()
        await asyncio.to_thread(gone.remove)
        await asyncio.to_thread(killed.terminated, "OOMKilled")
        operators.start()
        assert (
            await released(store, other, within=timedelta(seconds=PATIENCE_SECONDS))
        ).lost_reason == "Worker pod worker-killed was OOM-killed"
        assert (
            await released(store, job, within=timedelta(seconds=PATIENCE_SECONDS))
        ).lost_reason == "Worker pod worker-gone is gone"


@pytest.mark.slow
@in_loop
async def test_worker_in_a_pod_without_our_labels_is_not_taken_for_gone(
    operators: Operators, cluster: Cluster, jobs: WorkerJobs, node: Node, told: Told, database_url: str
) -> None:
    plain = Pod(cluster, jobs.namespace, "plain", node.name, labels={})
    cluster_id = cluster.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}").stdout
    operators.start()
    plain_environment = plain.environment | {"WORKERJOBS_CLUSTER_ID": cluster_id}
    async with (
        worker_process(database_url, told.folder, count=1, name="worker", **plain_environment) as process,
        open_store(database_url) as store,
    ):
        (job,) = await store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        await asyncio.sleep(5)
        assert (await read(store, job)).state is JobState.RUNNING
        assert process.popen.poll() is None
        told.go()
        assert (await finished(store, job)).state is JobState.SUCCEEDED


@in_loop
async def test_worker_drains_while_its_node_is_going_and_works_again_when_the_node_stays(
    working: Working, node: Node, told: Told
) -> None:
    async with working as (process, store, job):
        await asyncio.to_thread(node.taint, "karpenter.sh/disrupted:NoSchedule")
        await until(lambda: process.said("Draining (NodeGoing)"))
        told.go()
        assert (await finished(store, job)).state is JobState.SUCCEEDED
        (later,) = await store.submit([NewJob(type="echo")])
        await asyncio.sleep(1)
        assert (await read(store, later)).state is JobState.PENDING
        await asyncio.to_thread(node.taint, "karpenter.sh/disrupted-")
        assert (await finished(store, later)).state is JobState.SUCCEEDED


@pytest.mark.slow
@in_loop
async def test_pod_is_protected_from_autoscalers_while_it_is_busy_and_only_then(
    working: Working, pod: Pod, told: Told
) -> None:
    async with working as (_, store, job):
        await until(lambda: PROTECTING.items() <= pod.annotations.items())
        told.go()
        await finished(store, job)
        await asyncio.sleep(3)
        assert BUSY in pod.annotations  # not written for every short job
        await until(lambda: not {*PROTECTING, BUSY} & pod.annotations.keys())


# --- watching


@in_loop
async def test_watch_that_was_refused_is_tried_again_soon(
    jobs: WorkerJobs, restricted_kubeconfig: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An API server that has just begun refuses whose rights it has yet to read."""
    monkeypatch.setenv("KUBECONFIG", restricted_kubeconfig)
    api = await KubernetesCluster.connect()
    observed = Observed("Pods", lambda: api.watch_pods(jobs.namespace, POD_LABELS), lambda: None)
    task = asyncio.create_task(observed.run())
    try:
        await until(lambda: "Pods can't be watched" in caplog.text)
        jobs.kubectl("create", "role", "pods", "--verb=list,watch", "--resource=pods")
        jobs.kubectl("create", "rolebinding", "pods", "--role=pods", f"--serviceaccount={jobs.namespace}:default")
        await until(lambda: observed.is_complete, seconds=REFUSED_SECONDS / 2)
    finally:
        task.cancel()
        await asyncio.wait({task})
        await api.close()
