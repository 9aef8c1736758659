"""The mirror: brings the table and the WorkerJobs' status to what the resources and the rows say, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from workerjobs.domain.job import NewJob
from workerjobs.errors import ClusterError, DatabaseRefusedError, DatabaseUnavailableError, InvalidInputError
from workerjobs.kube.carrying import Store, carry_out
from workerjobs.kube.events import EventWriter
from workerjobs.kube.reconcile import Resource, reconcile
from workerjobs.kube.workerjob import KIND, parse_workerjob
from workerjobs.kube.writer import StatusWriter
from workerjobs.ports.cluster import Cluster
from workerjobs.ports.notices import NoticeSource, Reconnected, ResourceNotice
from workerjobs.settings import LEASE_SECONDS

log = logging.getLogger(__name__)

BATCH = 500
"""Resources with news, or that are gone, a pass."""
UNHURRIED_BATCH = 100
"""Resources without news a pass: so few that news, which come meanwhile, do not wait for long."""
GATHER_SECONDS = 0.03
"""How long a pass waits for more resources to become dirty; also lets a short run's states become one status write."""
SWEEP_SECONDS = 60.0
"""How often resources that vanished unseen are looked for."""
KEEP_DELETED = timedelta(days=1)
"""How long a deleted resource is remembered, so that no late event brings its job back."""
RETRY_SECONDS = 1.0
POSTPONE_SECONDS = 60.0
"""When a resource is looked at again that something unforeseen is wrong with."""
ROUNDS = 6
"""A pass writes rows, looks at them again, and is done after two rounds, or some more where several fields changed or a
worker was faster."""
TYPES_SECONDS = 1.0
"""How long to believe what workers said of the job types that they know."""
DELETIONS_AT_ONCE = 8

TROUBLES = (DatabaseUnavailableError, DatabaseRefusedError, ClusterError)


class Mirror:
    """Knows the resources of a cluster, and which of them to look at.

    Everything is level-triggered: an event or a notice says only that a resource has to be looked at; what is to be
    done comes from what the resource and its rows are then. One loop writes rows and notes that resources are gone, so
    that these can't overtake each other.

    Args:
        store: The table.
        cluster: The Kubernetes API.
        cluster_id: Whose rows are looked at and written.
        namespaces: Those watched; none means all.
        sweep_seconds: How often to sweep, see `sweep`.
        on_pass: Told how many seconds each pass over dirty resources took.
        on_failure: Told of each look that failed: at ``workerjobs``, or at ``deleted`` ones.
    """

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        cluster_id: str,
        namespaces: Sequence[str] = (),
        *,
        sweep_seconds: float = SWEEP_SECONDS,
        on_pass: Callable[[float], None] = lambda seconds: None,
        on_failure: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.started = asyncio.Event()
        """Set once the resources could be listed and the table be read."""
        self._store = store
        self._cluster = cluster
        self._cluster_id = cluster_id
        self._namespaces = namespaces
        self._sweep_seconds = sweep_seconds
        self._resources: dict[str, Resource] = {}
        self._dirty: dict[str, None] = {}
        """To be looked at, as there is news."""
        self._unhurried: dict[str, None] = {}
        """To be looked at, though nothing is known to have happened."""
        self._deleted: dict[str, None] = {}
        self._has_work = asyncio.Event()
        self._writer = StatusWriter(cluster, self._status_was_written, self._status_was_lost)
        self._events = EventWriter(cluster, KIND, lambda: self._writer.is_busy)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._types: dict[str, frozenset[str]] = {}
        self._types_at = -TYPES_SECONDS
        self._said: dict[str, str] = {}
        self._is_acting = False
        self._on_pass = on_pass
        self._on_failure = on_failure
        self._last_life = time.monotonic()

    @property
    def seconds_since_life(self) -> float:
        """How long ago the loop last moved; may be asked from any thread."""
        return time.monotonic() - self._last_life

    @property
    def queue_length(self) -> int:
        """How many resources are to be looked at."""
        return len(self._dirty | self._unhurried) + len(self._deleted)

    # --- what happened

    def resource_seen(self, manifest: Mapping[str, Any], version: int = 0) -> None:
        """A resource exists, or changed; ``version`` tells old news from new."""
        metadata = manifest["metadata"]
        uid = metadata["uid"]
        if metadata.get("deletionTimestamp"):
            # It only waits for someone's finalizer.
            self.resource_deleted(uid)
            return
        known = self._resources.get(uid)
        if known is not None and 0 < version < known.version:
            return
        status = manifest.get("status") or {}
        generation = int(metadata.get("generation") or 0)
        if known is not None and known.generation == generation:
            self._resources[uid] = replace(known, status=status, version=version)
            if known.status == status:
                return
        else:
            job, problems = self._parse(manifest)
            self._resources[uid] = Resource(
                uid=uid,
                namespace=metadata["namespace"],
                name=metadata["name"],
                generation=generation,
                job=job,
                problems=problems,
                status=status,
                version=version,
            )
        self._mark([uid])

    def resource_deleted(self, uid: str) -> None:
        """A resource is gone. While standing by that is not kept: the first sweep of who acts finds it."""
        self._forget(uid)
        if not self._is_acting:
            return
        self._deleted[uid] = None
        self._has_work.set()

    async def listen(self, notices: NoticeSource) -> None:
        """Take the database's notices, until cancelled."""
        async for notice in notices.notices():
            match notice:
                case ResourceNotice(cluster_id=self._cluster_id, uid=uid):
                    self._mark([uid])
                case Reconnected():
                    self._mark_all()

    async def is_watchable(self) -> None:
        """Wait until the cluster knows WorkerJobs and lets them be listed."""
        await self.started.wait()
        while not await self._try("Finding WorkerJobs in the cluster", self._require_workerjobs):
            pass

    async def is_listable(self) -> None:
        """Wait for the same while standing by, when nothing else looks."""
        while not (
            await self._try("Listing WorkerJobs", self._require_list)
            and await self._try("Finding WorkerJobs in the cluster", self._require_workerjobs)
        ):
            pass

    async def _require_list(self) -> None:
        await self._cluster.workerjob_uids(self._namespaces)

    async def _require_workerjobs(self) -> None:
        if not await self._cluster.serves_workerjobs():
            raise ClusterError("The cluster knows no WorkerJobs: apply manifests/crds first")

    def _parse(self, manifest: Mapping[str, Any]) -> tuple[NewJob | None, tuple[str, ...]]:
        try:
            return parse_workerjob(manifest, self._cluster_id), ()
        except InvalidInputError as error:
            return None, tuple(error.problems)

    def _mark(self, uids: Iterable[str]) -> None:
        self._dirty.update((uid, None) for uid in uids if uid in self._resources)
        if self._dirty:
            self._has_work.set()

    def _mark_all(self) -> None:
        """Look at everything, in its time: what there is news of goes first."""
        self._unhurried.update(dict.fromkeys(self._resources))
        if self._unhurried:
            self._has_work.set()

    def _mark_later(self, uids: Iterable[str], seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._mark, list(uids))

    def _forget(self, uid: str) -> None:
        self._resources.pop(uid, None)
        self._dirty.pop(uid, None)
        self._unhurried.pop(uid, None)
        self._writer.forget(uid)
        if (timer := self._timers.pop(uid, None)) is not None:
            timer.cancel()

    def _status_was_written(self, uid: str, version: int) -> None:
        if (resource := self._resources.get(uid)) is not None:
            self._resources[uid] = replace(resource, version=max(version, resource.version))

    def _status_was_lost(self, uid: str) -> None:
        if (resource := self._resources.get(uid)) is not None:
            self._resources[uid] = replace(resource, status=None)
            self._mark_later([uid], POSTPONE_SECONDS)

    # --- loops

    async def run(self) -> None:
        """Work until cancelled; before that, what there is to look at is kept known, but nothing done about it."""
        self._is_acting = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run())
            group.create_task(self._events.run())
            group.create_task(self._pass_again_and_again())
            group.create_task(self._sweep_again_and_again())

    async def live(self) -> None:
        """Show that the loop moves, until cancelled."""
        while True:
            self._last_life = time.monotonic()
            await asyncio.sleep(1)

    async def _pass_again_and_again(self) -> None:
        while True:
            await self._has_work.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._has_work.clear()
            began = time.monotonic()
            if not await self._try("Mirroring WorkerJobs", self.step):
                self._on_failure("workerjobs")
            self._on_pass(time.monotonic() - began)
            if self._dirty or self._unhurried or self._deleted:
                self._has_work.set()

    async def _sweep_again_and_again(self) -> None:
        while True:
            if await self._try("Looking for deleted WorkerJobs", self.sweep):
                self.started.set()
                await asyncio.sleep(self._sweep_seconds)
            else:
                self._on_failure("deleted")

    async def _try(self, what: str, do: Callable[[], Awaitable[None]]) -> bool:
        """Do something that is done again if it fails; what troubles it is said when it begins or changes."""
        try:
            await do()
        except TROUBLES as error:
            log.log(logging.DEBUG if self._said.get(what) == str(error) else logging.WARNING, "%s", error)
            self._said[what] = str(error)
            await asyncio.sleep(RETRY_SECONDS)
            return False
        except Exception:
            log.exception("%s failed, and is tried again", what)
            await asyncio.sleep(5 * RETRY_SECONDS)
            return False
        if self._said.pop(what, None):
            log.info("%s works again", what)
        return True

    # --- single steps

    async def step(self) -> None:
        """Note what is gone, look at a batch of resources with news, and at some without.

        What the database could not take stays.
        """
        if gone := list(islice(self._deleted, BATCH)):
            await self._remove(gone)
            for uid in gone:
                self._deleted.pop(uid, None)
        for waiting, size in ((self._dirty, BATCH), (self._unhurried, UNHURRIED_BATCH)):
            uids = list(islice(waiting, size))
            for uid in uids:
                self._dirty.pop(uid, None)
                self._unhurried.pop(uid, None)
            try:
                await self._look_at_each(uids)
            except BaseException:
                waiting.update((uid, None) for uid in uids if uid in self._resources)
                raise

    async def sweep(self) -> None:
        """Find resources that vanished unseen, from a complete list of our own.

        The record is read first: what is in it existed before the list, so what the list lacks is gone. Resources are
        only ever taken out here, never put in: the list may be older than what the watch has told meanwhile.
        """
        recorded = await self._store.recorded(self._cluster_id, self._namespaces)
        known = set(self._resources)
        listed = await self._cluster.workerjob_uids(self._namespaces)
        for uid in {resource.uid for resource in recorded} | known:
            if uid not in listed:
                self.resource_deleted(uid)
        await self._store.cancel_deleted(self._cluster_id)
        await self._store.forget_deleted(self._cluster_id, KEEP_DELETED)
        # A slow look at everything, for changes that were announced to nobody, such as through a pooler.
        self._mark_all()

    async def _remove(self, uids: Sequence[str]) -> None:
        jobs = await self._store.remove_resources(self._cluster_id, uids)
        if jobs:
            log.info("Cancelled %s jobs of deleted WorkerJobs", len(jobs))

    async def _look_at_each(self, uids: Sequence[str]) -> None:
        """Look at resources together, or one by one where something unforeseen is wrong with one of them."""
        try:
            await self._look_at(uids)
        except TROUBLES:
            raise
        except Exception:
            if len(uids) > 1:
                for uid in uids:
                    await self._look_at_each([uid])
                return
            log.exception("WorkerJob %s could not be mirrored", self._name_of(uids[0]))
            self._mark_later(uids, POSTPONE_SECONDS)

    async def _look_at(self, uids: Iterable[str]) -> None:
        now = None
        for _ in range(ROUNDS):
            resources = [self._resources[uid] for uid in uids if uid in self._resources]
            if not resources:
                return
            now = now or await self._store.now()
            uids = await self._look_once(resources, now)
        self._mark_later(uids, RETRY_SECONDS)

    async def _look_once(self, resources: Sequence[Resource], now: datetime) -> set[str]:
        """Do what one look at some resources asks for; returns those whose rows were written, to look at again."""
        uids = [resource.uid for resource in resources]
        rows = await self._store.rows_of(self._cluster_id, uids)
        states = await self._store.states_of(self._cluster_id, uids)
        actions = reconcile(resources, rows, states, await self._known_types(), now=now)
        for write in actions.statuses:
            if (resource := self._resources.get(write.uid)) is not None:
                # From here on this is what it says; the event that tells of it then finds nothing to do.
                self._resources[write.uid] = replace(resource, status=write.status)
                self._writer.put(write)
                for event in write.events:
                    self._events.put(write.uid, write.namespace, write.name, event)
        await self._write_rows(actions.submit, self._store.submit)
        await self._write_rows(actions.update, lambda jobs: self._store.update_pending(self._cluster_id, jobs))
        await self._write_rows(actions.restore, self._store.ensure_cron)
        await carry_out(self._store, self._cluster_id, actions)
        for uid, moment in actions.look_again.items():
            self._look_again(uid, (moment - now).total_seconds())
        await self._delete(actions.delete)
        written = (*actions.submit, *actions.update, *actions.restore)
        changed = {job.resource.uid for job in written if job.resource is not None}
        return changed | {*actions.suspend, *actions.resume, *actions.cancel}

    async def _known_types(self) -> Mapping[str, frozenset[str]]:
        """The job types that live workers know, by pool."""
        if time.monotonic() - self._types_at >= TYPES_SECONDS:
            found: dict[str, frozenset[str]] = {}
            for worker in await self._store.workers(timedelta(seconds=LEASE_SECONDS)):
                # One that begins has not been told its types yet, and one that drains shows none.
                if worker.types:
                    found[worker.pool] = found.get(worker.pool, frozenset()).union(worker.types)
            self._types, self._types_at = found, time.monotonic()
        return self._types

    def _look_again(self, uid: str, seconds: float) -> None:
        if (timer := self._timers.pop(uid, None)) is not None:
            timer.cancel()
        self._timers[uid] = asyncio.get_running_loop().call_later(max(0.0, seconds), self._mark, [uid])

    async def _delete(self, resources: Sequence[Resource]) -> None:
        """Delete resources whose time is up; the watch tells of it, and of those that were changed meanwhile."""
        places = asyncio.Semaphore(DELETIONS_AT_ONCE)

        async def delete(resource: Resource) -> None:
            async with places:
                try:
                    await self._cluster.delete_workerjob(
                        resource.namespace, resource.name, resource.uid, resource.version
                    )
                except ClusterError as error:
                    log.log(logging.DEBUG if self._said.get("delete") == str(error) else logging.WARNING, "%s", error)
                    self._said["delete"] = str(error)
            # Where it was not deleted after all.
            self._look_again(resource.uid, RETRY_SECONDS)

        await asyncio.gather(*map(delete, resources))

    async def _write_rows(
        self, jobs: Sequence[NewJob], write: Callable[[Sequence[NewJob]], Awaitable[Any]]
    ) -> Sequence[NewJob]:
        """Write rows together, or one by one where the database refuses one of them; returns those not refused."""
        if not jobs:
            return []
        with contextlib.suppress(InvalidInputError):
            await write(jobs)
            return jobs
        written = []
        for job in jobs:
            try:
                await write([job])
                written.append(job)
            except InvalidInputError as error:
                self._change(job, job=None, problems=tuple(error.problems))
        return written

    def _change(self, of: NewJob, **changes: Any) -> None:
        """Note something about a job's resource, if it is still the one that the job came from."""
        assert of.resource is not None
        resource = self._resources.get(of.resource.uid)
        if resource is not None and resource.generation == of.resource.generation:
            self._resources[resource.uid] = replace(resource, **changes)

    def _name_of(self, uid: str) -> str:
        resource = self._resources.get(uid)
        return f"{resource.namespace}/{resource.name}" if resource is not None else uid
