"""The table of jobs in Postgres: `JobStore` and the stores beside it, over one connection."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row

from workerjobs.domain.job import Job, NewJob
from workerjobs.domain.job_checks import check_job
from workerjobs.ports.jobs import JobQuery
from workerjobs.storage.claims import PostgresClaimStore
from workerjobs.storage.cron import PostgresCronStore
from workerjobs.storage.filters import filter_values
from workerjobs.storage.limits import PostgresLimitStore
from workerjobs.storage.migrate import check_version
from workerjobs.storage.pools import PostgresPoolStore
from workerjobs.storage.resources import PostgresResourceStore, record_resources, run_of
from workerjobs.storage.rows import struct_row
from workerjobs.storage.runs import PostgresRunStore
from workerjobs.storage.steps import perform
from workerjobs.storage.submitting import cancelling, cancelling_tag, retrying, submitting, submitting_bulk
from workerjobs.storage.workers import PostgresWorkerStore


class PostgresJobStore(
    PostgresClaimStore,
    PostgresRunStore,
    PostgresCronStore,
    PostgresLimitStore,
    PostgresWorkerStore,
    PostgresPoolStore,
    PostgresResourceStore,
):
    """Jobs in one Postgres database. Open it with `open`, which also checks the schema."""

    @classmethod
    async def open(cls, url: str, application_name: str, namespaces: Sequence[str] = ()) -> Self:
        """Connect and see that the schema fits this release.

        Args:
            url: The database.
            application_name: What the server is told of who connects.
            namespaces: Only jobs of WorkerJobs in these are claimed; empty: all jobs.

        Raises:
            DatabaseUnavailableError: No server answers at the URL.
            DatabaseRefusedError: The server refuses the account, password or database.
            SchemaError: The schema is missing, older or too new.
        """
        store = cls(url, application_name, namespaces)
        try:
            await store._check_schema()
        except BaseException:
            await store.close()
            raise
        return store

    async def _check_schema(self) -> None:
        try:
            row = (await self._rows("schema_version", {}, dict_row))[0]
        except psycopg.errors.UndefinedTable:
            row = {"version": None, "compatible_from": None}
        check_version(row["version"], row["compatible_from"], self._url)

    # --- submitting

    async def submit(self, jobs: Sequence[NewJob]) -> builtins.list[Job]:
        """See `JobStore.submit`."""
        if not jobs:
            return []
        now = datetime.now(UTC)
        for job in jobs:
            check_job(job, now=now)
        if not any(job.resource or job.tag for job in jobs):
            async with self._connected() as connection:
                return await perform(connection, submitting(jobs))
        async with self._transaction() as connection:
            fresh = await record_resources(connection, [job for job in jobs if job.resource is not None])
            chosen = [job for job in jobs if job.resource is None or run_of(job.resource) in fresh]
            # A run beside its resource's cron line would cancel the line by its tag.
            beside = [job for job in chosen if job.resource is not None and job.resource.is_beside_line]
            stored = await perform(connection, submitting([job for job in chosen if job not in beside]))
            return stored + await perform(connection, submitting(beside, cancels_by_tag=False))

    async def submit_bulk(self, jobs: Iterable[NewJob | Mapping[str, Any]]) -> int:
        """See `JobStore.submit_bulk`."""
        async with self._connected() as connection:
            return await perform(connection, submitting_bulk(jobs), atomically=True)

    # --- managing

    async def cancel(self, job_ids: Sequence[int], reason: str = "Job cancelled") -> builtins.list[Job]:
        """See `JobStore.cancel`."""
        async with self._connected() as connection:
            return await perform(connection, cancelling(job_ids, reason))

    async def cancel_tag(self, tag: str, reason: str = "Job cancelled") -> builtins.list[Job]:
        """See `JobStore.cancel_tag`."""
        async with self._connected() as connection:
            return await perform(connection, cancelling_tag(tag, reason))

    async def retry(self, job_ids: Sequence[int]) -> builtins.list[Job]:
        """See `JobStore.retry`."""
        async with self._connected() as connection:
            return await perform(connection, retrying(job_ids))

    async def prune(self, limit: int) -> int:
        """See `JobStore.prune`."""
        return len(await self._rows("prune", {"limit": limit}, dict_row))

    async def remove_unused(self) -> None:
        """See `JobStore.remove_unused`."""
        await self._execute("remove_unused", {})

    # --- reading

    async def get(self, job_id: int) -> Job | None:
        """See `JobStore.get`."""
        return next(iter(await self._rows("get", {"id": job_id}, struct_row(Job))), None)

    async def list(self, which: JobQuery) -> builtins.list[Job]:
        """See `JobStore.list`."""
        return await self._rows("list", filter_values(which), struct_row(Job))

    async def now(self) -> datetime:
        """See `JobStore.now`."""
        moment: datetime = (await self._rows("now", {}, dict_row))[0]["now"]
        return moment
