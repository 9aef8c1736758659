"""Presence: a worker shows that it lives and which job types it knows, and fails jobs of types that nobody knows."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from workerjobs.domain.data_schema import ANY_OBJECT
from workerjobs.domain.job import Job
from workerjobs.domain.json_text import encode_json
from workerjobs.domain.lifecycle import Outcome
from workerjobs.jobs.registry import JobDescription, JobOptions, with_defaults
from workerjobs.ports.jobs import JobStore
from workerjobs.ports.notices import DueNotice
from workerjobs.ports.workers import PodIdentity, WorkerOrders, WorkerRecord
from workerjobs.worker.duty import Duty
from workerjobs.worker.messages import Ready

log = logging.getLogger(__name__)

UNKNOWN_EVERY_SECONDS = 10.0
"""How often types that nobody knows are looked for without an announcement."""
BATCH = 200


class KnownTypes:
    """The job types that this worker's children know; the same for all, but for modules that fail now and then."""

    def __init__(self) -> None:
        self.types: tuple[str, ...] = ()
        self.descriptions: dict[str, JobDescription] = {}
        """What is known of the types, by name."""
        self.limits: dict[str, int] = {}
        """How many jobs of a type run at once, for those whose code says it."""
        self._options_with_defaults: dict[str, JobOptions] = {}
        """Of the types that say something for jobs that do not."""
        self.problems: tuple[str, ...] = ()
        self.is_ready = False
        """The first child has told."""
        self.first_is_over = asyncio.Event()
        """Set once a child has told, or ended before it could."""

    def learn(self, ready: Ready) -> bool:
        """Take what a child says; returns whether that is news."""
        before = self.descriptions, self.problems
        # What children learned since their start is not forgotten for a new one that has not.
        news = {name: each for name, each in ready.types.items() if each.is_loaded or name not in self.descriptions}
        self._describe(news)
        self.problems = tuple(ready.problems)
        self.is_ready = True
        self.first_is_over.set()
        return before != (self.descriptions, self.problems)

    def learn_type(self, description: JobDescription) -> bool:
        """Take what a child says of a type it has imported; returns whether that is news."""
        before = self.descriptions
        self._describe({description.type: description})
        return before != self.descriptions

    @property
    def schemas_json(self) -> str:
        """JSON Schema of the data of those types that say what it has to be: an object of them by type."""
        return encode_json({name: each.schema for name, each in self.descriptions.items() if each.schema != ANY_OBJECT})

    def memory_mib_of(self, job_type: str) -> int | None:
        """Memory that a job of a type may take, as far as the type says."""
        description = self.descriptions.get(job_type)
        return None if description is None else description.options.memory_mib

    def with_defaults(self, job: Job) -> Job:
        """Give a job its type's timeout and retry policy where it names none of its own."""
        options = self._options_with_defaults.get(job.type)
        return job if options is None else with_defaults(job, options)

    def _describe(self, news: Mapping[str, JobDescription]) -> None:
        self.descriptions = {**self.descriptions, **news}
        self.types = tuple(sorted(self.descriptions))
        self._options_with_defaults = {
            name: description.options
            for name, description in self.descriptions.items()
            if description.options.timeout_seconds is not None or description.options.retry is not None
        }
        self.limits = {
            name: description.options.concurrency
            for name, description in self.descriptions.items()
            if description.options.concurrency is not None
        }


class Presence(Duty):
    """Keeps this worker's line in the table of workers.

    Args:
        store: The table.
        owner: Who this is.
        pool: Whose jobs it runs.
        children: How many it has.
        pod: The pod that this is in, if it is in one.
        known: The types it knows.
        only: Of these it runs only those; empty: all.
        every: How often to show that it lives.
        is_stopping: Whether it ends: it does not count any more as one that knows its types.
        is_draining: Whether it takes no more jobs, and none is being claimed for it.
        on_declared: Told once the table knows the limits of types that were new here.
        on_orders: Told what this worker is asked to do, each time that it shows itself.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        owner: str,
        pool: str,
        children: int,
        pod: PodIdentity | None,
        known: KnownTypes,
        only: Sequence[str],
        every: timedelta,
        is_stopping: Callable[[], bool],
        is_draining: Callable[[], bool],
        on_declared: Callable[[], None],
        on_orders: Callable[[WorkerOrders], None],
    ) -> None:
        super().__init__()
        self._store = store
        self._owner = owner
        self._pool = pool
        self._children = children
        self._pod = pod
        self._booted = datetime.now(UTC)
        self._known = known
        self._only = frozenset(only)
        self._every = every
        self._is_stopping_soon = is_stopping
        self._is_draining = is_draining
        self._on_declared = on_declared
        self._on_orders = on_orders
        self._declared: dict[str, int] = {}
        self.types_shown = asyncio.Event()
        """Set once the table knows what the first child knows: no other worker takes its types for unknown."""
        # Read from files: once, and not at every step.
        self._version = version("workerjobs")

    async def step(self) -> float | None:
        """Show once."""
        is_ready = self._known.is_ready
        record = WorkerRecord(
            owner=self._owner,
            pool=self._pool,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=self._version,
            children=self._children,
            types=() if self._is_stopping_soon() else tuple(self._run_types),
            schemas_json=self._known.schemas_json,
            is_draining=self._is_draining(),
            booted=self._booted,
            pod=self._pod,
        )
        if self._known.limits != self._declared:
            limits = dict(self._known.limits)
            await self._store.declare_limits(limits)
            self._declared = limits
            self._on_declared()
        orders = await self._store.show_worker(record)
        if is_ready:
            self.types_shown.set()
        self._on_orders(orders)
        return self._every.total_seconds()

    @property
    def claimable_types(self) -> Sequence[str]:
        """The types known here whose own limits the table knows: jobs of others could be claimed as without limits."""
        types = self._run_types
        if self._known.limits == self._declared:
            return types
        return [name for name in types if self._known.limits.get(name) == self._declared.get(name)]

    @property
    def _run_types(self) -> Sequence[str]:
        if not self._only:
            return self._known.types
        return [name for name in self._known.types if name in self._only]


class UnknownTypes(Duty):
    """Fails due jobs whose type no live worker of the pool knows.

    Args:
        store: The table.
        owner: Whom the leases belong to.
        pool: Whose jobs.
        lease: How long a worker counts as alive that does not show itself.
        known: The types known here.
        is_draining: Whether this worker takes no jobs, for whatever purpose.
        asked: The moment of asking, as the store wants it of those who judge others by their leases.
        settle: Takes jobs that end here.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        owner: str,
        pool: str,
        lease: timedelta,
        known: KnownTypes,
        is_draining: Callable[[], bool],
        asked: Callable[[], datetime | None],
        settle: Callable[[Job, Outcome], None],
    ) -> None:
        super().__init__()
        self._store = store
        self._owner = owner
        self._pool = pool
        self._lease = lease
        self._known = known
        self._is_draining = is_draining
        self._asked = asked
        self._settle = settle

    async def step(self) -> float | None:
        """Look once, as long as there are more."""
        while self._known.is_ready and not self._is_stopping and not self._is_draining():
            types: Sequence[str] = self._known.types
            jobs = await self._store.claim_unknown(self._owner, self._pool, BATCH, self._lease, types, self._asked())
            for job in jobs:
                why = f" ({'; '.join(self._known.problems)})" if self._known.problems else ""
                self._settle(job, Outcome.failure(f"Unknown job type: {job.type}{why}"))
            if len(jobs) < BATCH:
                break
        return UNKNOWN_EVERY_SECONDS

    def notice(self, notice: DueNotice) -> None:
        """Something is or becomes due."""
        if notice.pool == self._pool and (notice.job_type is None or notice.job_type not in self._known.types):
            asyncio.get_running_loop().call_later(min(notice.seconds, UNKNOWN_EVERY_SECONDS), self.wake)
