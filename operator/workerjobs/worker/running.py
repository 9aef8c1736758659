"""The jobs that this supervisor holds a lease for, from the claim until they are settled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from workerjobs.domain.job import Job
from workerjobs.ports import Lease


class StopReason(StrEnum):
    """Why a job's child was told to end."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"


@dataclass(eq=False)
class RunningJob:
    """A claimed job and what is known of its run."""

    job: Job
    stop_reason: StopReason | None = None
    timer: asyncio.TimerHandle | None = None
    unsaved_progress: str | None = None
    is_over: bool = False
    """Its function came to an end; only settling it is left."""

    @property
    def lease(self) -> Lease:
        """What renewing, settling and releasing it needs."""
        return Lease(self.job.id, self.job.fencing_token or 0)


class RunningJobs:
    """All leased jobs of this supervisor, by id."""

    def __init__(self) -> None:
        self._jobs: dict[int, RunningJob] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[RunningJob]:
        return iter(list(self._jobs.values()))

    def get(self, job_id: int) -> RunningJob | None:
        """The running job of an id, if this supervisor has it."""
        return self._jobs.get(job_id)

    def add(self, job: Job) -> RunningJob:
        """Note a claimed job."""
        self._jobs[job.id] = RunningJob(job)
        return self._jobs[job.id]

    def remove(self, job_id: int, fencing_token: int) -> None:
        """Forget a job whose lease ended; another lease on the same row, claimed since, stays."""
        running = self._jobs.get(job_id)
        if running is not None and running.lease.fencing_token == fencing_token:
            del self._jobs[job_id]
            if running.timer is not None:
                running.timer.cancel()
            self._changed.set()

    async def wait_until_empty(self, limit: timedelta) -> bool:
        """Wait until no job is left; False when the time is up first."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while self._jobs:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True


def job_facts(job: Job | None) -> dict[str, object]:
    """What log records about a job carry."""
    return {} if job is None else {"job_id": job.id, "job_type": job.type, "attempt": job.attempt}
