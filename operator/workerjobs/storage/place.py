"""A database as the place where commands work: `Place`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from workerjobs.domain.data_schema import check_data
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
    cancelled_of,
)
from workerjobs.ports.jobs import JobQuery, LogLine, Pause, StoredLimit
from workerjobs.ports.workers import WorkerStatus
from workerjobs.storage.api import PostgresApiStore

HISTORY = 50
PAGE = 500


class DatabasePlace:
    """`Place` over the tables.

    Args:
        store: The tables; closed with this.
        lease: How long a worker counts as alive that does not show itself.
    """

    def __init__(self, store: PostgresApiStore, lease: timedelta) -> None:
        self._store = store
        self._lease = lease

    async def submit(self, job: NewJob) -> Job:
        """See `Place.submit`."""
        check_data(job.data, await self._store.schemas_of(job.pool, job.type, self._lease))
        (stored,) = await self._store.submit([job])
        return stored

    async def jobs(self, which: JobQuery) -> FullPage:
        """See `Place.jobs`."""
        return await self._store.full_page(which)

    async def get(self, job_id: int) -> Job | None:
        """See `Place.get`."""
        return await self._store.get(job_id)

    async def history(self, job_id: int) -> list[JobSummary]:
        """See `Place.history`."""
        return await self._store.history(job_id, HISTORY)

    async def logs(self, job_id: int, after: int) -> list[LogLine]:
        """See `Place.logs`."""
        return await self._store.job_logs(job_id, after, PAGE)

    async def cancel(self, job_ids: Sequence[int]) -> Cancelled:
        """See `Place.cancel`."""
        return cancelled_of(await self._store.cancel(job_ids))

    async def cancel_tag(self, tag: str) -> Cancelled:
        """See `Place.cancel_tag`."""
        return cancelled_of(await self._store.cancel_tag(tag))

    async def retry(self, job_ids: Sequence[int]) -> list[int]:
        """See `Place.retry`."""
        new = {job.rescheduled_from_job: job.id for job in await self._store.retry(job_ids)}
        return [new[each] for each in dict.fromkeys(job_ids)]

    async def matching(self, change: BulkChange, which: JobQuery) -> Matching:
        """See `Place.matching`."""
        return await self._store.matching(change, which)

    async def cancel_matching(self, which: JobQuery) -> Cancelled:
        """See `Place.cancel_matching`."""
        return await self._store.cancel_matching(which)

    async def retry_matching(self, which: JobQuery) -> list[int]:
        """See `Place.retry_matching`."""
        return list((await self._store.retry_matching(which)).values())

    async def cron(self) -> list[CronLine]:
        """See `Place.cron`."""
        lines: list[CronLine] = []
        while len(page := await self._store.cron_lines(lines[-1].id if lines else 0, PAGE)) == PAGE:
            lines += page
        return lines + page

    async def trigger_cron(self, key: str) -> Job:
        """See `Place.trigger_cron`."""
        return await self._store.trigger_cron(key)

    async def pause_cron(self, key: str, reason: str | None) -> None:
        """See `Place.pause_cron`."""
        await self._store.pause_cron(key, reason)

    async def resume_cron(self, key: str) -> bool:
        """See `Place.resume_cron`."""
        return await self._store.resume_cron(key)

    async def pause(self, kind: PauseKind, name: str, reason: str | None) -> None:
        """See `Place.pause`."""
        await self._store.pause(kind, name, reason)

    async def resume(self, kind: PauseKind, name: str) -> bool:
        """See `Place.resume`."""
        return await self._store.resume(kind, name)

    async def pauses(self) -> list[Pause]:
        """See `Place.pauses`."""
        return await self._store.pauses()

    async def set_limit(
        self, kind: LimitKind, name: str, concurrency: int | None, rate_limit: int | None, rate_period_ms: int | None
    ) -> None:
        """See `Place.set_limit`."""
        await self._store.set_limit(kind, name, concurrency, rate_limit, rate_period_ms)

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        """See `Place.remove_limit`."""
        return await self._store.remove_limit(kind, name)

    async def limits(self) -> list[StoredLimit]:
        """See `Place.limits`."""
        return await self._store.limits(self._lease)

    async def workers(self) -> list[WorkerStatus]:
        """See `Place.workers`."""
        return await self._store.workers(self._lease)

    async def types(self) -> list[KnownType]:
        """See `Place.types`."""
        return await self._store.job_types(self._lease)

    async def queues(self) -> list[QueueCount]:
        """See `Place.queues`."""
        return await self._store.queues()

    async def recent_runs(self) -> list[RecentRuns]:
        """See `Place.recent_runs`."""
        return await self._store.recent_runs()

    async def close(self) -> None:
        """See `Place.close`."""
        await self._store.close()
