"""What the HTTP API reads and writes beside the table of jobs: `ApiStore` and `TokenStore`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row, scalar_row

from workerjobs.domain.job import Job, JobState
from workerjobs.errors import InvalidInputError, NotFoundError
from workerjobs.ports.api import (
    ApiToken,
    AuditEntry,
    BulkChange,
    Caller,
    Cancelled,
    CronLine,
    FullPage,
    JobPage,
    JobSummary,
    KeptAnswer,
    KnownType,
    Matching,
    QueueCount,
    RecentRuns,
    Throughput,
    ThroughputSlot,
)
from workerjobs.ports.jobs import JobQuery, LogLine
from workerjobs.ports.pools import ShownPool
from workerjobs.storage.connection import connection_errors
from workerjobs.storage.filters import BEYOND, cancelling_matching, filter_values, matching, retrying_matching
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.storage.queries import query
from workerjobs.storage.rows import struct_row
from workerjobs.storage.steps import perform

UNFINISHED = frozenset((JobState.PENDING, JobState.RUNNING))
UNSUCCESSFUL = frozenset((JobState.FAILED, JobState.CANCELLED))
WINDOW = 20_000
"""Rows that one look for a page goes through."""
WINDOWS = 5
"""Looks for a page that has found nothing yet."""
FEW = 10_000
"""So many unfinished rows are looked at all; of more, a window of the newest rows has enough."""
MOST_COUNTED = 100_000
FULL_PAGE_BYTES = 8 * 2**20
"""Of data and results, from which on a page with them is full."""
RUNS_MEASURED = 2_000
RUNS_COUNTED = 20_000
MOST_SEEN = 1_000


class _BulkStore(PostgresJobStore):
    """The table of jobs, changed by filters."""

    async def matching(self, change: BulkChange, which: JobQuery) -> Matching:
        """See `BulkStore.matching`."""
        async with self._connected() as connection:
            return await perform(connection, matching(change, which))

    async def cancel_matching(self, which: JobQuery, reason: str = "Job cancelled") -> Cancelled:
        """See `BulkStore.cancel_matching`."""
        async with self._connected() as connection:
            return await perform(connection, cancelling_matching(which, reason))

    async def retry_matching(self, which: JobQuery) -> dict[int, int]:
        """See `BulkStore.retry_matching`."""
        async with self._connected() as connection:
            return await perform(connection, retrying_matching(which), atomically=True)


class PostgresApiStore(_BulkStore):
    """The table of jobs with what the HTTP API needs beside it."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TransactionStore]:
        """See `ApiStore.transaction`."""
        async with self._transaction() as connection:
            yield TransactionStore(self._url, self._application_name, connection)

    async def page(self, which: JobQuery) -> JobPage:
        """See `ApiStore.page`."""
        values = filter_values(which) | {"window": WINDOW, "most": FEW + 1}
        asked = frozenset(which.states)
        if asked and asked <= UNFINISHED:
            ids = [each for state in asked for each in await self._rows(f"api/few_{state}", values, scalar_row)]
            if len(ids) <= FEW:
                return _page(await self._rows("api/page_of", values | {"ids": ids}, class_row(JobSummary)), which, None)
        kind = "_unsuccessful" if asked and asked <= UNSUCCESSFUL else ""
        for _ in range(WINDOWS):
            floor: int | None = next(iter(await self._rows(f"api/floor{kind}", values, scalar_row)), None)
            values["floor"] = -BEYOND if floor is None else floor
            jobs = await self._rows(f"api/page{kind}", values, class_row(JobSummary))
            if jobs or floor is None:
                break
            values["before"] = floor
        return _page(jobs, which, floor)

    async def full_page(self, which: JobQuery) -> FullPage:
        """See `ApiStore.full_page`."""
        page = await self.page(which)
        if not page.jobs:
            return FullPage([], page.before)
        values = {"ids": [job.id for job in page.jobs], "bytes": FULL_PAGE_BYTES}
        jobs = await self._rows("api/full", values, struct_row(Job))
        is_cut = bool(jobs) and jobs[-1].id > page.jobs[-1].id
        return FullPage(jobs, jobs[-1].id if is_cut else page.before)

    async def summary(self, job_id: int) -> JobSummary | None:
        """See `ApiStore.summary`."""
        return next(iter(await self._rows("api/summary", {"id": job_id}, class_row(JobSummary))), None)

    async def history(self, job_id: int, most: int) -> list[JobSummary]:
        """See `ApiStore.history`."""
        return await self._rows("api/history", {"id": job_id, "most": most}, class_row(JobSummary))

    async def job_logs(self, job_id: int, after: int, limit: int) -> list[LogLine]:
        """See `ApiStore.job_logs`."""
        values = {"id": job_id, "after": after, "limit": limit}
        return [LogLine(job_id=job_id, **row) for row in await self._rows("api/job_logs", values, dict_row)]

    async def last_job_logs(self, job_id: int, before: int, limit: int) -> list[LogLine]:
        """See `ApiStore.last_job_logs`."""
        rows = await self._rows("api/last_job_logs", {"id": job_id, "before": before, "limit": limit}, dict_row)
        return [LogLine(job_id=job_id, **row) for row in reversed(rows)]

    async def cron_lines(self, after: int, limit: int) -> list[CronLine]:
        """See `ApiStore.cron_lines`."""
        return await self._rows("api/cron_lines", {"after": after, "limit": limit}, class_row(CronLine))

    async def job_types(self, lease: timedelta, job_type: str | None = None) -> list[KnownType]:
        """See `ApiStore.job_types`."""
        return await self._rows("api/job_types", {"lease": lease, "type": job_type}, class_row(KnownType))

    async def queues(self) -> list[QueueCount]:
        """See `ApiStore.queues`."""
        return await self._rows("api/queues", {"most": MOST_COUNTED}, class_row(QueueCount))

    async def recent_runs(self) -> list[RecentRuns]:
        """See `ApiStore.recent_runs`."""
        return await self._rows("api/recent_runs", {"sample": RUNS_MEASURED}, class_row(RecentRuns))

    async def throughput(self, step: timedelta, count: int) -> Throughput:
        """See `ApiStore.throughput`."""
        seconds = step.total_seconds()
        last = (await self.now()).timestamp() // seconds * seconds
        since = datetime.fromtimestamp(last, UTC) - step * (count - 1)
        values = {"since": since, "seconds": seconds, "sample": RUNS_COUNTED}
        slots = await self._rows("api/throughput", values, class_row(ThroughputSlot))
        reach = await self._rows("api/reach", values, scalar_row)
        return Throughput(since, step, count, next(iter(reach), None), slots)

    async def worker_pools(self) -> list[ShownPool]:
        """See `ApiStore.worker_pools`."""
        return await self._rows("api/worker_pools", {}, class_row(ShownPool))

    async def newest_id(self) -> int:
        """See `ApiStore.newest_id`."""
        newest: int = (await self._rows("api/newest", {}, scalar_row))[0]
        return newest

    async def seen(self, known: Sequence[int], last: int) -> list[JobSummary]:
        """See `ApiStore.seen`."""
        values = {"known": [*known], "last": last, "most": MOST_SEEN}
        return await self._rows("api/seen", values, class_row(JobSummary))

    async def use_token(self, token_hash: str) -> Caller | None:
        """See `ApiStore.use_token`."""
        return next(iter(await self._rows("api/use_token", {"hash": token_hash}, class_row(Caller))), None)

    async def audit(self, before: int | None, limit: int) -> list[AuditEntry]:
        """See `ApiStore.audit`."""
        return await self._rows("api/audit", {"before": before or BEYOND, "limit": limit}, class_row(AuditEntry))

    # --- tokens

    async def create_token(self, name: str, scope: str, token_hash: str, lasts: timedelta | None) -> ApiToken:
        """See `TokenStore.create_token`."""
        values = {"name": name, "scope": str(scope), "hash": token_hash, "lasts": lasts}
        made = await self._rows("api/create_token", values, class_row(ApiToken))
        if not made:
            raise InvalidInputError(f"There is a token {name} already: revoke it, or give another name")
        return made[0]

    async def tokens(self) -> list[ApiToken]:
        """See `TokenStore.tokens`."""
        return await self._rows("api/tokens", {}, class_row(ApiToken))

    async def revoke_token(self, name: str) -> ApiToken:
        """See `TokenStore.revoke_token`."""
        revoked = await self._rows("api/revoke_token", {"name": name}, class_row(ApiToken))
        if not revoked:
            raise NotFoundError(f"There is no token {name}")
        return revoked[0]


class TransactionStore(_BulkStore):
    """The table of jobs on a connection whose transaction was begun; each of its own is a savepoint in that."""

    def __init__(self, url: str, application_name: str, connection: psycopg.AsyncConnection[Any]) -> None:
        super().__init__(url, application_name)
        self._connection = connection

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        assert self._connection is not None
        # Never opened anew: another connection would not be in the transaction.
        with connection_errors(self._url):
            yield self._connection

    async def record(self, caller: Caller, address: str | None, action: str, details: Mapping[str, Any]) -> None:
        """See `RecordingStore.record`."""
        values = {
            "actor": caller.actor,
            "token_id": caller.token_id,
            "address": address,
            "action": action,
            "details": json.dumps(details),
        }
        async with self._connected() as connection:
            await connection.execute(query("api/record"), values)

    async def change_pending(
        self, job_id: int, *, due: datetime | None, is_now: bool, priority: int | None, pool: str | None
    ) -> Job | None:
        """See `RecordingStore.change_pending`."""
        values = {"id": job_id, "due": due, "is_now": is_now, "priority": priority, "pool": pool}
        return next(iter(await self._rows("api/change_pending", values, struct_row(Job))), None)

    async def delete_finished(self, job_id: int) -> bool:
        """See `RecordingStore.delete_finished`."""
        return bool(await self._rows("api/delete_finished", {"id": job_id}, scalar_row))

    async def use_key(self, actor: str, key: str, fingerprint: str) -> KeptAnswer:
        """See `RecordingStore.use_key`."""
        values = {"actor": actor, "key": key, "fingerprint": fingerprint}
        return (await self._rows("api/use_key", values, class_row(KeptAnswer)))[0]

    async def keep_answer(self, actor: str, key: str, answer: Mapping[str, Any]) -> None:
        """See `RecordingStore.keep_answer`."""
        await self._execute("api/keep_answer", {"actor": actor, "key": key, "answer": json.dumps(answer)})


def _page(jobs: Sequence[JobSummary], which: JobQuery, floor: int | None) -> JobPage:
    """Say where the next page begins: after the last job of a full one, else where the look ended."""
    return JobPage(jobs, jobs[-1].id if len(jobs) == which.limit else floor)
