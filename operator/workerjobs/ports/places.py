"""Where commands find WorkerJobs: a database, or a server that has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workerjobs.domain.job import Job, NewJob
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.ports.api import (
    BulkChange,
    Cancelled,
    CronLine,
    FullPage,
    JobSummary,
    KnownType,
    Matching,
    QueueCount,
    RecentRuns,
)
from workerjobs.ports.jobs import JobQuery, LogLine, Pause, StoredLimit
from workerjobs.ports.workers import WorkerStatus


class Place(Protocol):
    """What commands ask for and change, wherever it is.

    All raise `PlaceUnavailableError` or `DatabaseUnavailableError` where it can't be asked now, and the errors of
    `JobStore` and `ApiStore` otherwise.
    """

    async def submit(self, job: NewJob) -> Job:
        """Store a job whose data live workers accept, as far as they know its type."""
        ...

    async def jobs(self, which: JobQuery) -> FullPage:
        """Read jobs, newest first."""
        ...

    async def get(self, job_id: int) -> Job | None:
        """Read one job."""
        ...

    async def history(self, job_id: int) -> list[JobSummary]:
        """Read the runs that led to a job, itself, and those that followed it, oldest first."""
        ...

    async def logs(self, job_id: int, after: int) -> list[LogLine]:
        """Read some lines that a job logged, those after one; none: there are no more now."""
        ...

    async def cancel(self, job_ids: Sequence[int]) -> Cancelled:
        """Cancel jobs by their ids."""
        ...

    async def cancel_tag(self, tag: str) -> Cancelled:
        """Cancel all unfinished jobs of a tag."""
        ...

    async def retry(self, job_ids: Sequence[int]) -> list[int]:
        """Run finished jobs again, all of them or none; returns the new ids in the order given."""
        ...

    async def matching(self, change: BulkChange, which: JobQuery) -> Matching:
        """See `BulkStore.matching`."""
        ...

    async def cancel_matching(self, which: JobQuery) -> Cancelled:
        """See `BulkStore.cancel_matching`."""
        ...

    async def retry_matching(self, which: JobQuery) -> list[int]:
        """See `BulkStore.retry_matching`; returns the new ids, in the order of the old ones."""
        ...

    async def cron(self) -> list[CronLine]:
        """Read all cron jobs, by id."""
        ...

    async def trigger_cron(self, key: str) -> Job:
        """See `CronStore.trigger_cron`."""
        ...

    async def pause_cron(self, key: str, reason: str | None) -> None:
        """See `CronStore.pause_cron`."""
        ...

    async def resume_cron(self, key: str) -> bool:
        """See `CronStore.resume_cron`."""
        ...

    async def pause(self, kind: PauseKind, name: str, reason: str | None) -> None:
        """Start no more jobs of a pool or type."""
        ...

    async def resume(self, kind: PauseKind, name: str) -> bool:
        """End such a pause; False where there was none."""
        ...

    async def pauses(self) -> list[Pause]:
        """Read all pauses."""
        ...

    async def set_limit(
        self, kind: LimitKind, name: str, concurrency: int | None, rate_limit: int | None, rate_period_ms: int | None
    ) -> None:
        """See `JobStore.set_limit`."""
        ...

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        """See `JobStore.remove_limit`."""
        ...

    async def limits(self) -> list[StoredLimit]:
        """Read what was set, with the jobs that run under it now."""
        ...

    async def workers(self) -> list[WorkerStatus]:
        """Read the workers that live."""
        ...

    async def types(self) -> list[KnownType]:
        """Read the types that live workers know."""
        ...

    async def queues(self) -> list[QueueCount]:
        """Count the unfinished jobs of each pool and type."""
        ...

    async def recent_runs(self) -> list[RecentRuns]:
        """Read how runs of late went."""
        ...

    async def close(self) -> None:
        """Give the connection back."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    body: Any
    """JSON, read; None where there is none, or something else."""


class Exchange(Protocol):
    """The way to a server's HTTP API."""

    @property
    def name(self) -> str:
        """The server, for people."""
        ...

    async def ask(self, method: str, path: str, query: Mapping[str, str], body: Any = None) -> Answer:
        """Send a request to a path below ``/api/v1`` and read the answer.

        Raises:
            PlaceUnavailableError: No answer comes.
            ClusterError: The cluster between refuses.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
