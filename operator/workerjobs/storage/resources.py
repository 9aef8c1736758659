"""The rows of custom resources: `ResourceStore`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

from workerjobs.domain.job import Job, NewJob, ResourceRef
from workerjobs.domain.job_checks import check_job
from workerjobs.ports.resources import ResourceState, RunCounts, StoredResource
from workerjobs.storage.queries import query
from workerjobs.storage.rows import struct_row
from workerjobs.storage.statements import Statements, fetch
from workerjobs.storage.submitting import jobs_json


class PostgresResourceStore(Statements):
    """What resources asked for and what became of it."""

    async def rows_of(self, cluster_id: str, uids: Sequence[str]) -> dict[str, list[Job]]:
        """See `ResourceStore.rows_of`."""
        values = {"cluster_id": cluster_id, "uids": list(uids)}
        rows: dict[str, list[Job]] = defaultdict(list)
        for job in await self._rows("rows_of_resources", values, struct_row(Job)):
            rows[job.resource_uid or ""].append(job)
        return dict(rows)

    async def states_of(self, cluster_id: str, uids: Sequence[str]) -> dict[str, ResourceState]:
        """See `ResourceStore.states_of`."""
        values = {"cluster_id": cluster_id, "uids": list(uids)}
        return {
            row["uid"]: ResourceState(
                run_keys=frozenset(row["run_keys"]),
                is_suspended=row["is_suspended"],
                history_limit=row["history_limit"],
                has_surplus=row["has_surplus"],
                counts=RunCounts(row["succeeded"], row["failed"], row["cancelled"], row["retried"], row["lost"]),
                last_end=row["last_end"],
                used_ticks=frozenset(row["used_ticks"]),
            )
            for row in await self._rows("resource_states", values, dict_row)
        }

    async def suspend_resources(self, cluster_id: str, uids: Sequence[str]) -> None:
        """See `ResourceStore.suspend_resources`."""
        values = {"cluster_id": cluster_id, "uids": list(uids), "is_suspended": True}
        async with self._transaction() as connection:
            await connection.execute(query("set_suspended"), values)
            # A statement of its own, which sees the rows of those that held the lock before.
            await connection.execute(query("hold_pending"), values)

    async def resume_resources(self, cluster_id: str, ticks: Mapping[str, datetime | None]) -> None:
        """See `ResourceStore.resume_resources`."""
        values = {
            "cluster_id": cluster_id,
            "uids": list(ticks),
            "ticks": list(ticks.values()),
            "is_suspended": False,
        }
        async with self._transaction() as connection:
            await connection.execute(query("set_suspended"), values)
            await connection.execute(query("release_held"), values)

    async def keep_history(self, cluster_id: str, limits: Mapping[str, int | None]) -> None:
        """See `ResourceStore.keep_history`."""
        values = {
            "cluster_id": cluster_id,
            "uids": list(limits),
            "limits": list(limits.values()),
        }
        async with self._transaction() as connection:
            await connection.execute(query("set_history_limits"), values)
            await connection.execute(query("trim_history"), values)

    async def recorded(self, cluster_id: str, namespaces: Sequence[str]) -> list[StoredResource]:
        """See `ResourceStore.recorded`."""
        values = {"cluster_id": cluster_id, "namespaces": list(namespaces)}
        return await self._rows("recorded_resources", values, class_row(StoredResource))

    async def update_pending(self, cluster_id: str, jobs: Sequence[NewJob]) -> list[int]:
        """See `ResourceStore.update_pending`."""
        now = datetime.now(UTC)
        for job in jobs:
            check_job(job, now=now)
        values = {"cluster_id": cluster_id, "jobs": jobs_json(jobs, now, set())}
        return [row["id"] for row in await self._rows("update_pending", values, dict_row)]

    async def remove_resources(self, cluster_id: str, uids: Sequence[str]) -> list[Job]:
        """See `ResourceStore.remove_resources`."""
        values = {"cluster_id": cluster_id, "uids": list(uids)}
        async with self._transaction() as connection:
            await connection.execute(query("mark_resources_deleted"), values)
            unfinished = await fetch(connection, "unfinished_of_resources", values, dict_row)
            return await _cancel_deleted(connection, unfinished)

    async def cancel_deleted(self, cluster_id: str) -> list[Job]:
        """See `ResourceStore.cancel_deleted`."""
        async with self._transaction() as connection:
            left = await fetch(connection, "unfinished_of_deleted", {"cluster_id": cluster_id}, dict_row)
            return await _cancel_deleted(connection, left)

    async def forget_deleted(self, cluster_id: str, after: timedelta) -> int:
        """See `ResourceStore.forget_deleted`."""
        return len(await self._rows("forget_deleted", {"cluster_id": cluster_id, "after": after}, dict_row))


async def record_resources(
    connection: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob]
) -> set[tuple[str, str, str]]:
    """Note runs of resources; returns (cluster id, uid, run key) of those that were not noted before."""
    resources = [job.resource for job in jobs if job.resource is not None]
    if not resources:
        return set()
    values = {
        "cluster_ids": [resource.cluster_id for resource in resources],
        "uids": [resource.uid for resource in resources],
        "run_keys": [resource.run_key for resource in resources],
        "namespaces": [resource.namespace for resource in resources],
        "names": [resource.name for resource in resources],
        "are_suspended": [resource.holds_back for resource in resources],
        "history_limits": [resource.history_limit for resource in resources],
    }
    rows = await fetch(connection, "record_resources", values, dict_row)
    return {(row["cluster_id"], row["uid"], row["run_key"]) for row in rows}


def run_of(resource: ResourceRef) -> tuple[str, str, str]:
    """How `record_resources` names the run that a job of a resource is."""
    return resource.cluster_id, resource.uid, resource.run_key


async def _cancel_deleted(
    connection: psycopg.AsyncConnection[Any], unfinished: Sequence[Mapping[str, Any]]
) -> list[Job]:
    values = {"ids": [row["id"] for row in unfinished], "reason": "Job cancelled as its WorkerJob was deleted"}
    return await fetch(connection, "cancel", values, struct_row(Job))
