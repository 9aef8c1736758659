"""What the table knows of workers: their lines, their pods, and those that were lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from workerjobs.domain.job import Job


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The pod that a worker runs in, as the downward API tells it."""

    uid: str
    namespace: str | None = None
    name: str | None = None
    cluster_id: str | None = None
    """Its cluster, where the pod knows; None: an operator that finds the pod notes it."""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as others see it."""

    owner: str
    pool: str
    host: str
    pid: int
    version: str
    children: int
    types: tuple[str, ...]
    schemas_json: str
    """What each type's data must look like, as JSON Schema: an object of them by type."""
    is_draining: bool
    """It takes no more jobs, and none is being claimed for it."""
    booted: datetime
    """When it began, by its own machine's clock: the kubelet stamps its container by the same one."""
    pod: PodIdentity | None = None


@dataclass(frozen=True, slots=True)
class WorkerOrders:
    """What a worker is asked to do."""

    drain_reasons: list[str]
    """Why it should take no more jobs; empty: it should work."""
    is_revoked: bool
    """Its pod is gone: others get its jobs, so it stops them at once and ends."""


class DrainReason(StrEnum):
    """Why workers are asked to take no more jobs; one may have several reasons at once."""

    SCALE_DOWN = "ScaleDown"
    """There are to be fewer of them."""
    NODE_GOING = "NodeGoing"
    """Their node is about to be removed, or can't be reached."""
    POD_GOING = "PodGoing"
    """Their pod is being deleted: they end as at SIGTERM, which a container that just began may not have heard."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker that lives."""

    owner: str
    pool: str
    host: str
    pid: int
    version: str
    children: int
    types: list[str]
    is_draining: bool
    started: datetime
    seen: datetime
    """When it last showed itself."""
    running: int
    """Jobs that it holds."""
    namespace: str | None
    """Of its pod; None outside of Kubernetes."""
    pod_name: str | None
    pod_uid: str | None
    drain_reasons: list[str]
    """Why it is asked to take no more jobs."""

    @property
    def is_drained(self) -> bool:
        """It takes no more jobs, and the last one has ended: to remove it interrupts nothing."""
        return self.is_draining and not self.running


@dataclass(frozen=True, slots=True)
class PodWorker:
    """A worker in a pod, also one that has not shown itself for long."""

    owner: str
    cluster_id: str | None
    """Whose pod it is; None: no operator has found the pod yet."""
    namespace: str | None
    pod_name: str | None
    pod_uid: str
    booted: datetime
    """By the clock of its node."""
    drain_reasons: list[str]
    revoked_seconds: float | None
    """How long ago it was asked to stop its jobs and end; None: it was not."""
    has_stopped: bool
    """It says that it has."""
    running: int
    """Jobs that it holds."""
    is_alive: bool
    """It showed itself within a lease."""


@dataclass(frozen=True, slots=True)
class LostWorker:
    """A worker that is known to have ended, and how."""

    owner: str
    reason: str
    """A sentence for people, such as ``Worker pod x was OOM-killed``."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """One operator's time as the leader: who wrote since another one began is refused."""

    lease: str
    """The Lease, and whose: ``cluster id/namespace/name``."""
    transitions: int
    """How often the Lease had changed hands."""
    holder: str


class PodStore(Protocol):
    """What the table knows of workers in pods; errors as in `JobStore`."""

    async def pod_workers(self, cluster_id: str, lease: timedelta) -> list[PodWorker]:
        """Read the workers in pods of a cluster, and those whose cluster nobody has noted; oldest first."""
        ...

    async def adopt_workers(self, cluster_id: str, owners: Sequence[str]) -> None:
        """Note that a cluster has the pods of these workers."""
        ...

    async def revoke_workers(self, owners: Sequence[str]) -> list[str]:
        """Ask workers to stop their jobs at once and end; they hear of it, and say so when they have."""
        ...

    async def release_lost(self, lost: Sequence[LostWorker]) -> list[Job]:
        """Take the jobs of lost workers from them, and note why.

        Returns:
            Those rows: pending again (``started`` None), with one rescue more; or, where they were lost too often or
            are to be cancelled, still running under a lease that has ended, for the workers' rescue to settle.
        """
        ...

    async def forget_workers(self, owners: Sequence[str]) -> None:
        """Remove the lines of workers that have ended."""
        ...
