"""The pools: keeps a Deployment for each WorkerPool at the number of pods that it asks for, without ending a job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

from workerjobs.domain.scaling import Backlog
from workerjobs.errors import (
    ClusterError,
    ClusterUnavailableError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    InvalidInputError,
    WorkerJobsError,
)
from workerjobs.kube.default_pool import DefaultPool
from workerjobs.kube.events import EventWriter
from workerjobs.kube.podspec import memory_problem
from workerjobs.kube.poolevents import pool_events
from workerjobs.kube.poolplan import (
    COST_ANNOTATION,
    MEMORY_TOO_LOW,
    NODES_UNREADABLE,
    NOT_OURS,
    SPEC_REFUSED,
    PoolActions,
    PoolFacts,
    PoolMemory,
    Refusal,
    plan_pool,
)
from workerjobs.kube.poolspec import CONTAINER, WorkerDefaults, deployment, digest, pod_selector, pod_template
from workerjobs.kube.workerpool import KIND, WorkerPool, parse_workerpool
from workerjobs.ports.cluster import PoolCluster
from workerjobs.ports.jobs import JobStore
from workerjobs.ports.notices import DueNotice, Notice, Reconnected
from workerjobs.ports.pools import PoolStore, ShownPool, WorkerLoad
from workerjobs.ports.workers import DrainReason, WorkerStatus

log = logging.getLogger(__name__)

QUIET_SECONDS = 5.0
"""Between two looks at pools that have all they ask for: someone may have changed a Deployment, or a node is new."""
BUSY_SECONDS = 1.0
"""Between two looks where something is under way, or the number of pods follows from the jobs; and half a second more
for each 50 pods, as each look reads them all."""
GATHER_SECONDS = 0.1
"""How long a look waits for more news of the same moment."""
REFUSED_SECONDS = 30.0
"""After so long a Deployment is tried again that the API server refused, as that may be for want of rights or quota."""

TROUBLES = (DatabaseUnavailableError, DatabaseRefusedError, ClusterError)


class Store(JobStore, PoolStore, Protocol):
    """The table, with what it knows of pools."""


class Pools:
    """Knows the WorkerPools of a cluster, and looks at all of them again and again.

    Everything is level-triggered: what is to be done comes from what a look finds (the pool, its Deployment and pods,
    their workers and jobs in the tables), never from what happened; an operator that begins in the middle of a drain
    goes on with it.

    Args:
        store: The tables.
        cluster: The Kubernetes API.
        defaults: What the workers of all pools get.
        own_namespace: Where the operator is, and with it the default pool.
        lease: How long a worker counts as alive that does not show itself.
        namespaces: Those watched; none means all.
        default_pool: Kept as the operator's configuration has it; None: there is none.
        on_failure: Told of each look that failed: at ``workerpools``.
    """

    def __init__(
        self,
        store: Store,
        cluster: PoolCluster,
        defaults: WorkerDefaults,
        own_namespace: str,
        lease: timedelta,
        namespaces: Sequence[str] = (),
        default_pool: DefaultPool | None = None,
        on_failure: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._defaults = defaults
        self._own_namespace = own_namespace
        self._lease = lease
        self._namespaces = namespaces
        self._default_pool = default_pool
        self._on_failure = on_failure
        self._events = EventWriter(cluster, KIND)
        self._pools: dict[str, WorkerPool] = {}
        self._memories: dict[str, PoolMemory] = {}
        self._generations: dict[str, int] = {}
        """Of the Deployments, after they were last applied, by the uid of their pools."""
        self._refused: dict[str, tuple[str, Refusal, float]] = {}
        self._empty: set[str] = set()
        """Names of pools of jobs that a WorkerPool without pods would run by itself."""
        self._noticed: set[str] = set()
        """Names of pools that jobs came to since the last look began."""
        self._pods = 0
        self._has_work = asyncio.Event()
        self._said: dict[str, str] = {}
        self._shown: list[ShownPool] | None = None

    @property
    def statuses(self) -> dict[str, Mapping[str, Any]]:
        """What each pool's status says, by "namespace/name"; may be asked from any thread."""
        return {f"{pool.namespace}/{pool.name}": pool.status for pool in list(self._pools.values())}

    # --- what happened

    def pool_seen(self, manifest: Mapping[str, Any], version: int = 0) -> None:
        """A WorkerPool exists, or changed; ``version`` tells old news from new."""
        metadata = manifest["metadata"]
        uid = metadata["uid"]
        if metadata.get("deletionTimestamp"):
            self.pool_deleted(uid)
            return
        known = self._pools.get(uid)
        if known is not None and 0 < version < known.version:
            return
        try:
            pool = parse_workerpool(manifest, version)
        except InvalidInputError as error:
            # The API server keeps these rules but for an older definition, so there is nothing to show it in.
            log.warning("WorkerPool %s/%s is not used: %s", metadata["namespace"], metadata["name"], error)
            return
        self._pools[uid] = pool
        if known is None or known.generation != pool.generation:
            self._refused.pop(uid, None)
            self._has_work.set()

    def pool_deleted(self, uid: str) -> None:
        """A WorkerPool is gone; the cluster removes its Deployment, which it owns."""
        for known in (self._pools, self._memories, self._generations, self._refused):
            known.pop(uid, None)
        self._has_work.set()

    def notice(self, notice: Notice) -> None:
        """The database announces something: jobs of a pool that has no pods are looked at at once."""
        match notice:
            case DueNotice(pool=pool):
                self._noticed.add(pool)
                if pool in self._empty:
                    self._has_work.set()
            case Reconnected():
                self._has_work.set()

    # --- loop

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events.run())
            group.create_task(self._look_again_and_again())

    async def _look_again_and_again(self) -> None:
        while True:
            seconds = await self._look_again()
            try:
                await asyncio.wait_for(self._has_work.wait(), seconds)
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                pass

    async def _look_again(self) -> float:
        self._has_work.clear()
        try:
            is_settled = await self.step()
        except TROUBLES as error:
            self._say("", str(error))
            self._on_failure("workerpools")
            return BUSY_SECONDS
        except Exception:
            self._on_failure("workerpools")
            log.exception("Looking at the WorkerPools failed, and is tried again")
            return QUIET_SECONDS
        self._works_again("")
        return QUIET_SECONDS if is_settled else BUSY_SECONDS + self._pods / 100

    async def step(self) -> bool:
        """Look at all pools once; returns whether nothing is under way, and nothing has to be followed closely.

        Raises:
            DatabaseUnavailableError, ClusterError: For all pools together; what troubles one of them is its status's.
        """
        if self._default_pool is not None:
            await self._default_pool.step(self._cluster, self._own_namespace)
        pools = list(self._pools.values())
        if not pools:
            await self._show()
            return True
        self._noticed.clear()
        backlogs = await self._store.backlogs([each.spec.question for each in pools])
        loads = await self._store.loads(sorted({each.spec.pool for each in pools}))
        workers = by_pod(await self._store.workers(self._lease))
        nodes = await self._nodes() if any(self._needs_nodes(each) for each in pools) else ()
        self._pods, settled, empty = 0, True, set()
        for pool, backlog in zip(pools, backlogs, strict=True):
            try:
                actions = await self._look_at(pool, backlog, loads, workers, nodes)
            except ClusterUnavailableError:
                raise
            except WorkerJobsError as error:
                self._say(pool.uid, f"WorkerPool {pool.namespace}/{pool.name}: {error}")
                self._on_failure("workerpools")
                settled = False
                continue
            except Exception as error:  # noqa: BLE001  # logged
                # Whatever is wrong with one pool, the others are looked at.
                told = f"WorkerPool {pool.namespace}/{pool.name} can't be looked at"
                self._say(pool.uid, f"{told}: {error!r}", error)
                self._on_failure("workerpools")
                continue
            self._works_again(pool.uid)
            if actions is not None:
                settled = settled and actions.is_settled and pool.spec.worker_count != "auto"
                if not actions.decision.replicas:
                    empty.add(pool.spec.pool)
        self._empty = empty
        if not empty.isdisjoint(self._noticed):
            # Jobs came since they were counted.
            self._has_work.set()
        await self._show()
        return settled

    @staticmethod
    def _needs_nodes(pool: WorkerPool) -> bool:
        return pool.spec.worker_count == "cpus" and pool.spec.plain_decision() is None

    async def _nodes(self) -> Sequence[Mapping[str, Any]] | Refusal:
        try:
            return await self._cluster.list_nodes()
        except ClusterUnavailableError:
            raise
        except ClusterError as error:
            return Refusal(NODES_UNREADABLE, f"workerCount cpus needs the right to list nodes: {error}")

    # --- one pool

    async def _look_at(
        self,
        pool: WorkerPool,
        backlog: Backlog,
        loads: Sequence[WorkerLoad],
        workers: Mapping[str, WorkerStatus],
        nodes: Sequence[Mapping[str, Any]] | Refusal,
    ) -> PoolActions | None:
        """Look at one pool and do what that asks for; None where it is gone."""
        deployment_now = await self._cluster.find_deployment(pool.namespace, pool.deployment)
        if deployment_now is None and not await self._is_there(pool):
            self.pool_deleted(pool.uid)
            return None
        facts = PoolFacts(
            pool=pool,
            deployment=deployment_now,
            pods=await self._cluster.list_pods(pool.namespace, pod_selector(pool.name)),
            workers=workers,
            loads=loads,
            backlog=backlog,
            nodes=nodes,
            refusal=self._refusal(pool, deployment_now),
        )
        self._pods += len(facts.pods)
        memory = self._memories.get(pool.uid, PoolMemory())
        now = await self._store.now()
        actions = plan_pool(facts, memory, self._defaults, now=now)
        if facts.refusal is None:
            if (refusal := await self._apply(pool, facts, actions)) is not None:
                facts = replace(facts, refusal=refusal)
                actions = plan_pool(facts, memory, self._defaults, now=now)
            else:
                self._memories[pool.uid] = replace(actions.memory, generation=self._generations.get(pool.uid))
        for event in pool_events(facts, actions):
            self._events.put(pool.uid, pool.namespace, pool.name, event)
        await self._write_status(pool, actions.status)
        return actions

    async def _is_there(self, pool: WorkerPool) -> bool:
        """Whether a pool without a Deployment still exists: its deletion may be news that was missed."""
        found = await self._cluster.read_workerpool(pool.namespace, pool.name)
        return (
            found is not None
            and found["metadata"]["uid"] == pool.uid
            and not found["metadata"].get("deletionTimestamp")
        )

    def _refusal(self, pool: WorkerPool, found: Mapping[str, Any] | None) -> Refusal | None:
        if found is not None and not _is_owned(found, pool):
            told = f"Deployment {pool.deployment} exists and is not this pool's: remove it, or name the pool otherwise"
            return Refusal(NOT_OURS, told)
        template = pod_template(pool, self._defaults)
        if (problem := memory_problem(template["spec"], CONTAINER, pool.spec.slots)) is not None:
            return Refusal(MEMORY_TOO_LOW, problem)
        if (refused := self._refused.get(pool.uid)) is None:
            return None
        of, refusal, until = refused
        if asyncio.get_running_loop().time() > until or of != self._digest(pool):
            del self._refused[pool.uid]
            return None
        return refusal

    def _digest(self, pool: WorkerPool) -> str:
        return digest(deployment(pool, pod_template(pool, self._defaults), 0))

    async def _apply(self, pool: WorkerPool, facts: PoolFacts, actions: PoolActions) -> Refusal | None:
        """Do what a look asks for; returns what the API server has against the Deployment."""
        # First those that may work again, and the marks before the number: no job is begun that would be ended.
        if actions.undrain:
            await self._store.undrain_workers(actions.undrain, DrainReason.SCALE_DOWN)
        if actions.drain:
            await self._store.drain_workers(actions.drain, DrainReason.SCALE_DOWN)
        for name, uid, cost in actions.costs:
            annotations = {COST_ANNOTATION: None if cost is None else str(cost)}
            await self._cluster.annotate_pod(pool.namespace, name, uid, annotations)
        if actions.apply is None:
            return None
        try:
            applied = await self._cluster.apply_deployment(actions.apply)
        except ClusterUnavailableError:
            raise
        except ClusterError as error:
            refusal = Refusal(SPEC_REFUSED, str(error))
            until = asyncio.get_running_loop().time() + REFUSED_SECONDS
            self._refused[pool.uid] = (self._digest(pool), refusal, until)
            return refusal
        self._generations[pool.uid] = int(applied["metadata"]["generation"])
        before = None if facts.deployment is None else facts.deployment["spec"].get("replicas")
        after = actions.apply["spec"]["replicas"]
        if before != after:
            log.info(
                "Scaled pool %s/%s from %s to %s: %s",
                pool.namespace,
                pool.name,
                before or 0,
                after,
                actions.decision.message,
            )
        return None

    async def _write_status(self, pool: WorkerPool, status: Mapping[str, Any]) -> None:
        if status == pool.status:
            return
        version = await self._cluster.write_pool_status(pool.namespace, pool.name, pool.uid, status)
        if version is None:
            self.pool_deleted(pool.uid)
        elif (known := self._pools.get(pool.uid)) is not None:
            self._pools[pool.uid] = replace(known, status=status, version=max(known.version, version))

    async def _show(self) -> None:
        """Tell the tables how the pools do, where that changed: the dashboard reads it there."""
        shown = [
            ShownPool(
                uid,
                pool.namespace,
                pool.name,
                pool.spec.pool,
                pool.status["desired"],
                pool.status["replicas"],
                pool.status["ready"],
                pool.status["reason"],
                pool.status["message"],
            )
            for uid, pool in self._pools.items()
            if pool.status.get("reason")
        ]
        if shown != self._shown:
            cluster_id = self._defaults.cluster_id or await self._cluster.cluster_id()
            await self._store.show_pools(cluster_id, self._namespaces, shown)
            self._shown = shown

    # --- what people hear

    def _say(self, of: str, message: str, unforeseen: Exception | None = None) -> None:
        """Log a trouble when it begins or changes."""
        level = logging.WARNING if unforeseen is None else logging.ERROR
        log.log(logging.DEBUG if self._said.get(of) == message else level, "%s", message, exc_info=unforeseen)
        self._said[of] = message

    def _works_again(self, of: str) -> None:
        if self._said.pop(of, None):
            log.info("Looking at WorkerPools works again")


def by_pod(workers: Sequence[WorkerStatus]) -> dict[str, WorkerStatus]:
    """Workers by their pods' uids. Where a container was begun anew, its last worker seems to live for a while."""
    return {each.pod_uid: each for each in sorted(workers, key=lambda each: each.started) if each.pod_uid is not None}


def _is_owned(found: Mapping[str, Any], pool: WorkerPool) -> bool:
    return any(each["uid"] == pool.uid for each in found["metadata"].get("ownerReferences") or ())
