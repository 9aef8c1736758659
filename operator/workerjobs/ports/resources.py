"""What the table knows of custom resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from workerjobs.domain.job import Job, NewJob


@dataclass(frozen=True, slots=True)
class StoredResource:
    """What the database remembers of a custom resource."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class RunCounts:
    """How the runs of a resource ended, ever, also those whose rows were removed."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    """Of these, runs that tried again what had failed."""
    lost: int = 0
    """How often a run lost its worker and was begun anew."""


@dataclass(frozen=True, slots=True)
class ResourceState:
    """What the database knows of a resource beside its rows."""

    run_keys: frozenset[str] = frozenset()
    """Runs that were stored; each is stored once, ever."""
    is_suspended: bool = False
    history_limit: int | None = None
    has_surplus: bool = False
    """It has more finished rows than its history limit allows."""
    counts: RunCounts = RunCounts()
    last_end: datetime | None = None
    """When the last of its newest rows ended: a rerun may be over before what it was stored beside."""
    used_ticks: frozenset[datetime] = frozenset()
    """Ticks to come that its newest rows have used up, by a run or a cancellation."""


class ResourceStore(Protocol):
    """What the table knows of custom resources; errors as in `JobStore`."""

    async def states_of(self, cluster_id: str, uids: Sequence[str]) -> dict[str, ResourceState]:
        """Read what is known of each of the resources; read their rows before, so that no end is missed."""
        ...

    async def suspend_resources(self, cluster_id: str, uids: Sequence[str]) -> None:
        """Hold back pending rows of resources, and what becomes pending from now on; what runs goes on."""
        ...

    async def resume_resources(self, cluster_id: str, ticks: Mapping[str, datetime | None]) -> None:
        """Let the rows of resources go on.

        Args:
            cluster_id: Whose resources.
            ticks: By uid, the next tick of cron lines, for those whose own tick has passed.
        """
        ...

    async def keep_history(self, cluster_id: str, limits: Mapping[str, int | None]) -> None:
        """Keep so many finished rows of resources, by uid, and remove older ones, a thousand of each at most."""
        ...

    async def rows_of(self, cluster_id: str, uids: Sequence[str]) -> dict[str, list[Job]]:
        """Read, for each resource, its unfinished rows and its newest finished one, oldest first."""
        ...

    async def recorded(self, cluster_id: str, namespaces: Sequence[str]) -> list[StoredResource]:
        """Read the resources whose first row was stored and whose deletion was not; no namespaces means all."""
        ...

    async def update_pending(self, cluster_id: str, jobs: Sequence[NewJob]) -> list[int]:
        """Bring pending rows of resources up to a newer generation; rows claimed meanwhile stay as they are."""
        ...

    async def remove_resources(self, cluster_id: str, uids: Sequence[str]) -> list[Job]:
        """Note that resources are gone: pending rows are cancelled, running ones asked to stop."""
        ...

    async def cancel_deleted(self, cluster_id: str) -> list[Job]:
        """Cancel what unfinished rows resources noted as gone still have: inserted while that was noted."""
        ...

    async def forget_deleted(self, cluster_id: str, after: timedelta) -> int:
        """Drop the notes on resources that have been gone for a while and have no rows left; returns how many."""
        ...
