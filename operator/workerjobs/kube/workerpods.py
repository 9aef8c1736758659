"""Looks after the workers in pods: frees the jobs of lost ones, drains those of going nodes, protects busy ones."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from workerjobs.domain.job import Job
from workerjobs.errors import ClusterError, ClusterUnavailableError, DatabaseRefusedError, DatabaseUnavailableError
from workerjobs.kube.metrics import OperatorMetrics
from workerjobs.kube.podstate import POD_LABELS, WorkerPod, decide, read_pod, taints_of
from workerjobs.kube.podwatch import Observed
from workerjobs.kube.protection import protection_changes
from workerjobs.ports.cluster import PodCluster
from workerjobs.ports.jobs import JobStore
from workerjobs.ports.workers import DrainReason, PodStore, PodWorker

log = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
"""How often to look without being told: new workers, and which of them are busy, nobody tells."""
REVOKED_EVERY_SECONDS = 0.1
RETRY_SECONDS = 1.0
GATHER_SECONDS = 0.05


class Store(JobStore, PodStore, Protocol):
    """The table, with what it knows of workers in pods."""


class WorkerPods:
    """Watches worker pods and nodes, and does what `workerjobs.kube.podstate.decide` says.

    Watching and acting are apart: an operator that stands by watches, too.

    Args:
        store: The table.
        cluster: The Kubernetes API.
        cluster_id: Whose pods these are.
        namespaces: Where worker pods are; none means all.
        lease: How long a worker counts as alive that does not show itself.
        metrics: Counts what is released.
    """

    def __init__(
        self,
        store: Store,
        cluster: PodCluster,
        cluster_id: str,
        namespaces: Sequence[str],
        lease: timedelta,
        metrics: OperatorMetrics,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._cluster_id = cluster_id
        self._lease = lease
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._pods = [
            Observed(
                f"Worker pods of {namespace or 'all namespaces'}",
                lambda namespace=namespace: cluster.watch_pods(namespace, POD_LABELS),  # type: ignore[misc]
                self._changed.set,
            )
            for namespace in (namespaces or (None,))
        ]
        self._nodes = Observed("Nodes", cluster.watch_nodes, self._changed.set)
        self._busy_until: dict[str, float] = {}
        self._said = ""

    def watching(self) -> list[Coroutine[Any, Any, None]]:
        """What keeps the pods and nodes known; each runs until cancelled."""
        return [each.run() for each in (*self._pods, self._nodes)]

    @property
    def seconds_since_heard(self) -> float:
        """How long ago the cluster last told anything of worker pods."""
        return time.monotonic() - min(each.heard for each in self._pods)

    async def run(self) -> None:
        """Act until cancelled."""
        while True:
            self._changed.clear()
            try:
                delay = await self.step()
                if self._said:
                    log.info("Workers in pods can be looked after again")
                    self._said = ""
            except (DatabaseUnavailableError, DatabaseRefusedError, ClusterError) as error:
                log.log(logging.DEBUG if self._said == str(error) else logging.WARNING, "%s", error)
                self._said = str(error)
                delay = RETRY_SECONDS
            except Exception:
                log.exception("Looking after workers in pods failed, and is tried again")
                delay = 5 * RETRY_SECONDS
            try:
                async with asyncio.timeout(delay):
                    await self._changed.wait()
                    await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                pass

    async def step(self) -> float:
        """Look once; returns when to look again."""
        workers = await self._store.pod_workers(self._cluster_id, self._lease)
        pods = self._seen_pods()
        gone = await self._gone(workers, pods)
        taints = {node["metadata"]["name"]: taints_of(node) for node in self._nodes.objects.values()}
        lost_nodes = await self._lost_nodes(workers, pods, taints)
        decision = decide(workers, pods, gone, taints, lost_nodes)
        if decision.adopt:
            await self._store.adopt_workers(self._cluster_id, decision.adopt)
        if decision.revoke:
            for owner in await self._store.revoke_workers(decision.revoke):
                log.warning("Worker %s is told to end: its pod or node is gone", owner)
        if decision.lost:
            self._say(await self._store.release_lost(decision.lost))
        if decision.forget:
            await self._store.forget_workers(decision.forget)
        if decision.leave:
            await self._store.drain_workers(decision.leave, DrainReason.POD_GOING)
        if decision.drain:
            await self._store.drain_workers(decision.drain, DrainReason.NODE_GOING)
        if decision.undrain:
            await self._store.undrain_workers(decision.undrain, DrainReason.NODE_GOING)
        await self._protect(workers)
        return REVOKED_EVERY_SECONDS if decision.is_waiting else EVERY_SECONDS

    def _seen_pods(self) -> dict[str, WorkerPod]:
        seen = {}
        for each in self._pods:
            for manifest in (*(last for _, last in each.deleted.values()), *each.objects.values()):
                pod = read_pod(manifest)
                seen[pod.uid] = pod
        return seen

    async def _gone(self, workers: Sequence[PodWorker], pods: dict[str, WorkerPod]) -> set[str]:
        """Find the pods of this cluster that are certainly gone; pods that are there, but not watched, are added."""
        present = {uid for each in self._pods for uid in each.objects}
        deleted = {uid for each in self._pods for uid in each.deleted}
        gone = set()
        for worker in workers:
            uid = worker.pod_uid
            if uid in present or uid in gone or worker.cluster_id != self._cluster_id or _is_settled(worker):
                continue
            if uid in deleted:
                gone.add(uid)
            elif all(each.is_complete for each in self._pods) and worker.namespace and worker.pod_name:
                # Not seen: it may lack our labels, be in another namespace, or be newer than the list.
                try:
                    manifest = await self._cluster.find_pod(worker.namespace, worker.pod_name)
                except ClusterUnavailableError:
                    raise
                except ClusterError as error:
                    log.debug("Whether pod %s/%s is there is not known: %s", worker.namespace, worker.pod_name, error)
                    continue
                if manifest is None or manifest["metadata"]["uid"] != uid:
                    gone.add(uid)
                else:
                    pods[uid] = read_pod(manifest)
        return gone

    async def _lost_nodes(
        self, workers: Sequence[PodWorker], pods: Mapping[str, WorkerPod], taints: Mapping[str, frozenset[str]]
    ) -> set[str]:
        if not self._nodes.is_complete:
            return set()
        used = {
            pod.node
            for worker in workers
            if not _is_settled(worker) and (pod := pods.get(worker.pod_uid)) is not None and pod.node is not None
        }
        return {name for name in used - taints.keys() if await self._cluster.find_node(name) is None}

    async def _protect(self, workers: Sequence[PodWorker]) -> None:
        now = time.monotonic()
        pods = [read_pod(manifest) for each in self._pods for manifest in each.objects.values()]
        busy = {worker.pod_uid for worker in workers if worker.running}
        for pod in pods:
            # One found marked after a restart is taken for busy until now.
            if pod.uid in busy:
                self._busy_until[pod.uid] = now
            else:
                self._busy_until.setdefault(pod.uid, now)
        present = {pod.uid for pod in pods}
        self._busy_until = {uid: moment for uid, moment in self._busy_until.items() if uid in present}
        for change in protection_changes(pods, busy, self._busy_until, now):
            pod = change.pod
            written = await self._cluster.annotate_pod(pod.namespace, pod.name, pod.uid, change.annotations)
            if written is not None:
                # So that the next look, which may come before the event, does not write it again.
                for each in self._pods:
                    each.put(written)

    def _say(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._metrics.released(job.lost_reason or "")
            if job.started is None:
                log.warning("Released: %s (%s times so far)", job.lost_reason, job.rescues, extra=job.log_facts)
            else:
                log.warning("Left to the rescue, as it ends here: %s", job.lost_reason, extra=job.log_facts)


def _is_settled(worker: PodWorker) -> bool:
    """Nothing is left to do about a worker whose pod was gone."""
    return worker.revoked_seconds is not None and not worker.running and not worker.is_alive
