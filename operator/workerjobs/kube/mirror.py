"""The mirror: brings the table and the WorkerJobs' status to what the resources and the rows say, again and again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from workerjobs.errors import ClusterError, DatabaseRefusedError, DatabaseUnavailableError, InvalidInputError
from workerjobs.kube.reconcile import StatusPatch, reconcile
from workerjobs.ports import Cluster, JobStore, NoticeSource, Reconnected, ResourceNotice, ResourceStore

log = logging.getLogger(__name__)

BATCH = 500
"""Resources a pass."""
GATHER_SECONDS = 0.03
"""How long a pass waits for more resources to become dirty."""
RETRY_SECONDS = 1.0
SWEEP_SECONDS = 60.0
PATCHES_AT_ONCE = 16


class Store(JobStore, ResourceStore, Protocol):
    """The table, with what it knows of resources."""


class Mirror:
    """Knows the resources of a cluster, and which of them to look at.

    Everything is level-triggered: an event or a notice says only that a resource has to be looked at; what is to be
    done comes from what the resource and its rows are then.
    """

    def __init__(self, store: Store, cluster: Cluster, cluster_id: str, namespaces: Sequence[str]) -> None:
        self._store = store
        self._cluster = cluster
        self._cluster_id = cluster_id
        self._namespaces = namespaces
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._dirty: dict[str, None] = {}
        self._deleted: dict[str, None] = {}
        self._has_work = asyncio.Event()
        self._is_troubled = False
        self._last_life = time.monotonic()
        self.started = asyncio.Event()

    @property
    def seconds_since_life(self) -> float:
        """How long ago the loop last moved; may be asked from any thread."""
        return time.monotonic() - self._last_life

    # --- what happened

    def resource_seen(self, resource: Mapping[str, Any]) -> None:
        """A resource exists, or changed."""
        self._resources[resource["metadata"]["uid"]] = resource
        self._mark([resource["metadata"]["uid"]])

    def resource_deleted(self, uid: str) -> None:
        """A resource is gone."""
        self._resources.pop(uid, None)
        self._dirty.pop(uid, None)
        self._deleted[uid] = None
        self._has_work.set()

    def _mark(self, uids: Iterable[str]) -> None:
        self._dirty.update(dict.fromkeys(uids))
        self._has_work.set()

    # --- loops

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._live())
            group.create_task(self._pass_again_and_again())
            group.create_task(self._sweep_again_and_again())

    async def listen(self, notices: NoticeSource) -> None:
        """Take the database's notices, until cancelled."""
        async for notice in notices.notices():
            match notice:
                case ResourceNotice(cluster_id=self._cluster_id, uid=uid):
                    if uid in self._resources:
                        self._mark([uid])
                case Reconnected():
                    self._mark(self._resources)

    async def _live(self) -> None:
        while True:
            self._last_life = time.monotonic()
            await asyncio.sleep(1)

    async def _pass_again_and_again(self) -> None:
        while True:
            await self._has_work.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._has_work.clear()
            try:
                await self.step()
            except (DatabaseUnavailableError, DatabaseRefusedError, ClusterError) as error:
                await self._wait_after(error)
            except Exception:
                log.exception("A pass over %s resources failed", len(self._dirty))
                await asyncio.sleep(5 * RETRY_SECONDS)
            else:
                self._is_troubled = False
            if self._dirty or self._deleted:
                self._has_work.set()

    async def _sweep_again_and_again(self) -> None:
        while True:
            try:
                await self.sweep()
                self.started.set()
                delay = SWEEP_SECONDS
            except (DatabaseUnavailableError, DatabaseRefusedError, ClusterError) as error:
                await self._wait_after(error)
                delay = RETRY_SECONDS
            except Exception:
                log.exception("Looking for resources that vanished failed")
                delay = 5 * RETRY_SECONDS
            await asyncio.sleep(delay)

    async def _wait_after(self, error: Exception) -> None:
        log.log(logging.DEBUG if self._is_troubled else logging.WARNING, "%s", error)
        self._is_troubled = True
        await asyncio.sleep(RETRY_SECONDS)

    # --- single steps

    async def step(self) -> None:
        """Look at a batch of dirty resources; those that could not be dealt with stay dirty."""
        if self._deleted:
            gone = list(self._deleted)
            await self._remove(gone)
            for uid in gone:
                self._deleted.pop(uid, None)
        uids = [uid for uid in list(self._dirty)[:BATCH] if uid in self._resources]
        for uid in list(self._dirty)[:BATCH]:
            self._dirty.pop(uid)
        try:
            await self._look_at(uids)
        except BaseException:
            self._mark(uids)
            raise

    async def _look_at(self, uids: Sequence[str]) -> None:
        if not uids:
            return
        resources = [self._resources[uid] for uid in uids]
        now = await self._store.now()
        actions = reconcile(resources, await self._store.rows_of(self._cluster_id, uids), self._cluster_id, now=now)
        if actions.submit or actions.restore or actions.update:
            try:
                await self._store.submit(actions.submit)
                await self._store.ensure_cron(actions.restore)
                await self._store.update_pending(self._cluster_id, actions.update)
            except InvalidInputError:
                # Found by Postgres alone, in one of many: let each resource fail or pass by itself.
                if len(uids) == 1:
                    raise
                for uid in uids:
                    await self._look_at([uid])
                return
            still = [uid for uid in uids if uid in self._resources]
            actions = reconcile(
                [self._resources[uid] for uid in still],
                await self._store.rows_of(self._cluster_id, still),
                self._cluster_id,
                now=now,
            )
        await self._write(actions.patches)

    async def _write(self, patches: Sequence[StatusPatch]) -> None:
        turn = asyncio.Semaphore(PATCHES_AT_ONCE)

        async def write(patch: StatusPatch) -> None:
            before = (self._resources.get(patch.uid) or {}).get("status") or {}
            # A merge patch removes what it names as null.
            nulls = {name: None for name in before if name not in patch.status}
            async with turn:
                await self._cluster.patch_status(patch.namespace, patch.name, patch.uid, nulls | patch.status)

        results = await asyncio.gather(*(write(patch) for patch in patches), return_exceptions=True)
        failed = [(patch, result) for patch, result in zip(patches, results, strict=True) if result is not None]
        self._mark(patch.uid for patch, _ in failed)
        for _, error in failed[:1]:
            raise error

    async def sweep(self) -> None:
        """Find resources that vanished unseen, from a complete list of our own.

        The list is read after the record: a resource recorded meanwhile can't be missing from it by its age.
        """
        recorded = await self._store.recorded(self._cluster_id, self._namespaces)
        listed = {
            resource["metadata"]["uid"]: resource for resource in await self._cluster.list_workerjobs(self._namespaces)
        }
        vanished = [resource.uid for resource in recorded if resource.uid not in listed]
        for uid in [uid for uid in self._resources if uid not in listed and uid in set(vanished)]:
            del self._resources[uid]
        await self._remove(vanished)
        await self._store.cancel_deleted(self._cluster_id)
        for uid, resource in listed.items():
            if uid not in self._resources:
                self.resource_seen(resource)
        self._mark(self._resources)

    async def _remove(self, uids: Sequence[str]) -> None:
        if not uids:
            return
        jobs = await self._store.remove_resources(self._cluster_id, uids)
        if jobs:
            log.info("Cancelled %s jobs of %s deleted resources", len(jobs), len(uids))
