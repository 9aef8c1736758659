"""The jobs that this supervisor holds a lease for, from the claim until they are settled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import structs

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome
from workerjobs.ports.jobs import Lease

if TYPE_CHECKING:
    from workerjobs.worker.messages import Finished
    from workerjobs.worker.process import Child


class StopReason(StrEnum):
    """Why a job's child was told to end."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"


class RunningJob:
    """A claimed job and what is known of its run."""

    __slots__ = ("began", "child", "failing", "job", "outcome", "peak_mib", "stop_reason", "timer", "unsaved_progress")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.child: Child | None = None
        """Whom it was sent to."""
        self.began: float | None = None
        """When it was its turn, on the loop's clock; None: its child has not come to it."""
        self.stop_reason: StopReason | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.unsaved_progress: str | None = None
        self.outcome: Outcome | None = None
        """How its function ended; only settling it is left."""
        self.failing: Finished | None = None
        """How it failed, while its child tells the error hook and after that ended the child."""
        self.peak_mib: int | None = None
        """The most memory that it was seen to take, where that is watched."""

    def recall(self) -> None:
        """Its child will not come to it: it can be given to another."""
        self.child = self.began = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def traced(self, traceparent: str) -> None:
        """Its run is this span: what is logged of it, and a retry that follows it, belong to its trace."""
        self.job = structs.replace(self.job, traceparent=traceparent)

    @property
    def lease(self) -> Lease:
        """What renewing, settling and releasing it needs."""
        return Lease(self.job.id, self.job.fencing_token or 0)


class RunningJobs:
    """All leased jobs of this supervisor, by id."""

    def __init__(self) -> None:
        self._jobs: dict[int, RunningJob] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[RunningJob]:
        return iter(list(self._jobs.values()))

    def get(self, job_id: int) -> RunningJob | None:
        """The running job of an id, if this supervisor has it."""
        return self._jobs.get(job_id)

    def add(self, job: Job) -> RunningJob:
        """Note a claimed job."""
        running = self._jobs[job.id] = RunningJob(job)
        self._empty.clear()
        return running

    def remove(self, running: RunningJob) -> None:
        """Forget a job whose lease ended; another lease on the same row, claimed since, stays."""
        if running.timer is not None:
            running.timer.cancel()
        if self._jobs.get(running.job.id) is running:
            del self._jobs[running.job.id]
            if not self._jobs:
                self._empty.set()

    async def wait_until_empty(self, limit: timedelta) -> bool:
        """Wait until no job is left; False when the time is up first."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True


def job_facts(job: Job | None) -> dict[str, object]:
    """What log records about a job carry."""
    return {} if job is None else job.log_facts
