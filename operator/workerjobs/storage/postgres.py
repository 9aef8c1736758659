"""The table of jobs in Postgres: `JobStore`, `ResourceStore` and `PoolStore` over one connection."""

from __future__ import annotations

import asyncio
import builtins
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Self, TypeVar

import psycopg
from psycopg.rows import BaseRowFactory, class_row, dict_row, scalar_row

from workerjobs.domain.data_schema import Schema
from workerjobs.domain.job import Job, NewJob, ResourceRef, check_job, check_name, limit_problems
from workerjobs.domain.lifecycle import MAX_RESCUES, Beginning, Settlement
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.domain.planning import Plan, UnplannedRun
from workerjobs.domain.scaling import Backlog, Demand
from workerjobs.errors import InvalidInputError
from workerjobs.ports.jobs import (
    FIRST_PLACE,
    JobQuery,
    Lease,
    LimitedClaim,
    LimitedPlace,
    LogLine,
    Pause,
    Progress,
    Renewal,
    Rescue,
    Settled,
    StoredLimit,
)
from workerjobs.ports.pools import PoolQuestion, ShownPool, WorkerLoad
from workerjobs.ports.resources import ResourceState, RunCounts, StoredResource
from workerjobs.ports.workers import DrainReason, LostWorker, PodWorker, WorkerOrders, WorkerRecord, WorkerStatus
from workerjobs.storage import cron
from workerjobs.storage.arrays import flag_array, moment_array, number_array, text_array
from workerjobs.storage.connection import OneConnection, is_refusal
from workerjobs.storage.filters import filter_values
from workerjobs.storage.limited import claim_limited
from workerjobs.storage.migrate import check_version
from workerjobs.storage.queries import query
from workerjobs.storage.rows import struct_row
from workerjobs.storage.steps import perform
from workerjobs.storage.submitting import (
    cancelling,
    cancelling_tag,
    jobs_json,
    retrying,
    submitting,
    submitting_bulk,
)

Row = TypeVar("Row")

MOST_COUNTED = 10_000
"""Waiting jobs of a type are counted up to this: more of them ask for no more workers than there may be."""
RUNS_MEASURED = 2000
"""How many of the newest rows durations are read from."""


class PostgresJobStore(OneConnection):
    """Jobs in one Postgres database. Open it with `open`, which also checks the schema."""

    def __init__(self, url: str, application_name: str, namespaces: Sequence[str] = ()) -> None:
        super().__init__(url, application_name)
        self._namespaces = text_array(namespaces) if namespaces else None

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

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Hold the connection for one transaction."""
        async with self._connected() as connection, connection.transaction():
            yield connection

    async def _rows(
        self, name: str, values: Mapping[str, Any], row_factory: BaseRowFactory[Row], *, binary: bool = False
    ) -> builtins.list[Row]:
        """Run one statement by itself."""
        async with self._connected() as connection:
            cursor = connection.cursor(row_factory=row_factory, binary=binary)
            await cursor.execute(query(name), values)
        # All that the server sent is here. Whoever waits for the connection goes first, so that the server works while
        # these rows are read: claims and settlements of tiny jobs keep both busy.
        await asyncio.sleep(0)
        return await cursor.fetchall()

    async def _execute(self, name: str, values: Mapping[str, Any]) -> None:
        """Run one statement that returns nothing."""
        async with self._connected() as connection:
            await connection.execute(query(name), values)

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
            fresh = await _record_resources(connection, [job for job in jobs if job.resource is not None])
            chosen = [job for job in jobs if job.resource is None or _run_of(job.resource) in fresh]
            # A run beside its resource's cron line would cancel the line by its tag.
            beside = [job for job in chosen if job.resource is not None and job.resource.is_beside_line]
            stored = await perform(connection, submitting([job for job in chosen if job not in beside]))
            return stored + await perform(connection, submitting(beside, cancels_by_tag=False))

    async def submit_bulk(self, jobs: Iterable[NewJob | Mapping[str, Any]]) -> int:
        """See `JobStore.submit_bulk`."""
        async with self._connected() as connection:
            return await perform(connection, submitting_bulk(jobs), atomically=True)

    async def ensure_cron(self, jobs: Sequence[NewJob]) -> builtins.list[Job]:
        """See `JobStore.ensure_cron`."""
        keys = sorted({job.cron_key for job in jobs if job.cron_key is not None})
        if not keys:
            return []
        async with self._transaction() as connection:
            # The lock is its own statement: the next one then sees what the last holder committed.
            await connection.execute(query("lock_names"), {"kind": "cron", "names": keys})
            values = {"cron_keys": keys, "tags": [job.tag for job in jobs if job.tag is not None]}
            live = {row["cron_key"] for row in await _fetch(connection, "live_cron_keys", values, dict_row)}
            # As a follow-up, it cancels nothing by its tag: two lines of one tag would cancel each other for ever.
            missing = [job for job in jobs if job.cron_key not in live]
            return await perform(connection, submitting(missing, cancels_by_tag=False))

    async def place(self, jobs: Sequence[NewJob], lease: timedelta | None = None) -> int:
        """See `JobStore.place`."""
        resources = [job.resource for job in jobs]
        values = {
            "cron_keys": [job.cron_key for job in jobs],
            "cluster_ids": [None if each is None else each.cluster_id for each in resources],
            "uids": [None if each is None else each.uid for each in resources],
            "pools": [job.pool for job in jobs],
            "lease": lease,
        }
        async with self._transaction() as connection:
            return len(await _fetch(connection, "place", values, dict_row))

    async def unplanned(self, limit: int) -> builtins.list[UnplannedRun]:
        """See `JobStore.unplanned`."""
        return await self._rows("unplanned", {"limit": limit}, class_row(UnplannedRun))

    async def plan(self, plans: Sequence[Plan]) -> builtins.list[Job]:
        """See `JobStore.plan`."""
        values = {
            "ids": [plan.job_id for plan in plans],
            "ticks": [plan.tick for plan in plans],
            "results": [plan.result_json for plan in plans],
        }
        try:
            return await self._rows("plan", values, struct_row(Job))
        except psycopg.errors.UniqueViolation:
            # Somebody stored a row of this very tick since it was found; the next look counts from that.
            return []

    # --- running

    async def claim(
        self,
        owner: str,
        pool: str,
        limit: int,
        lease: timedelta,
        types: Sequence[str] | None = None,
        *,
        now: datetime | None = None,
    ) -> builtins.list[Job]:
        """See `JobStore.claim`; a test may give ``now`` to find rows due by then."""
        values = self._claim_values(owner, pool, limit, lease, types) | {"now": now}
        # In the binary protocol: five moments a row are costly to write as text and to read.
        return _in_order(await self._rows("claim", values, struct_row(Job), binary=True))

    async def claim_announced(
        self, owner: str, pool: str, job_id: int, lease: timedelta, types: Sequence[str]
    ) -> builtins.list[Job]:
        """See `JobStore.claim_announced`."""
        values = self._claim_values(owner, pool, 1, lease, types) | {"id": job_id}
        return await self._rows("claim_announced", values, struct_row(Job), binary=True)

    def _claim_values(
        self, owner: str, pool: str, limit: int, lease: timedelta, types: Sequence[str] | None
    ) -> dict[str, Any]:
        return {
            "owner": owner,
            "pool": pool,
            "limit": limit,
            "lease": lease,
            "types": None if types is None else text_array(types),
            "namespaces": self._namespaces,
        }

    async def claim_limited(
        self,
        owner: str,
        pool: str,
        limit: int,
        lease: timedelta,
        types: Sequence[str],
        after: LimitedPlace = FIRST_PLACE,
        asked: datetime | None = None,
    ) -> LimitedClaim:
        """See `JobStore.claim_limited`."""
        values = self._claim_values(owner, pool, limit, lease, types) | {"asked": asked}
        async with self._connected() as connection:
            return await claim_limited(connection, values, after)

    async def claim_unknown(
        self,
        owner: str,
        pool: str,
        limit: int,
        lease: timedelta,
        types: Sequence[str],
        asked: datetime | None = None,
    ) -> builtins.list[Job]:
        """See `JobStore.claim_unknown`."""
        values = self._claim_values(owner, pool, limit, lease, types) | {"asked": asked}
        return await self._rows("claim_unknown", values, struct_row(Job))

    async def next_due(self, pool: str, types: Sequence[str] | None = None) -> timedelta | None:
        """See `JobStore.next_due`."""
        values = {"pool": pool, "types": None if types is None else text_array(types), "namespaces": self._namespaces}
        seconds = (await self._rows("next_due", values, dict_row))[0]["seconds"]
        return None if seconds is None else timedelta(seconds=seconds)

    async def show_worker(self, worker: WorkerRecord) -> WorkerOrders:
        """See `JobStore.show_worker`."""
        pod = worker.pod
        values = {
            "owner": worker.owner,
            "pool": worker.pool,
            "host": worker.host,
            "pid": worker.pid,
            "version": worker.version,
            "children": worker.children,
            "types": text_array(worker.types),
            "schemas": worker.schemas_json,
            "is_draining": worker.is_draining,
            "booted": worker.booted,
            "cluster_id": pod.cluster_id if pod is not None else None,
            "namespace": pod.namespace if pod is not None else None,
            "pod_name": pod.name if pod is not None else None,
            "pod_uid": pod.uid if pod is not None else None,
        }
        (orders,) = await self._rows("show_worker", values, class_row(WorkerOrders))
        return orders

    async def remove_worker(self, owner: str) -> None:
        """See `JobStore.remove_worker`."""
        await self._execute("remove_worker", {"owner": owner})

    async def drain_workers(self, owners: Sequence[str], reason: DrainReason) -> builtins.list[str]:
        """See `JobStore.drain_workers`."""
        return await self._rows("drain_workers", {"owners": [*owners], "reason": str(reason)}, scalar_row)

    async def undrain_workers(self, owners: Sequence[str], reason: DrainReason) -> builtins.list[str]:
        """See `JobStore.undrain_workers`."""
        return await self._rows("undrain_workers", {"owners": [*owners], "reason": str(reason)}, scalar_row)

    async def acknowledge_revocation(self, owner: str) -> None:
        """See `JobStore.acknowledge_revocation`."""
        await self._execute("acknowledge_revocation", {"owner": owner})

    async def schemas_of(self, pool: str, job_type: str, lease: timedelta) -> builtins.list[Schema]:
        """See `JobStore.schemas_of`."""
        values = {"pool": pool, "type": job_type, "lease": lease}
        return [row["schema"] for row in await self._rows("schemas_of", values, dict_row)]

    async def renew(self, leases: Sequence[Lease], lease: timedelta) -> Renewal:
        """See `JobStore.renew`."""
        rows = await self._rows("renew", _leases(leases) | {"lease": lease}, dict_row)
        return Renewal(
            held=frozenset(row["id"] for row in rows),
            cancel_requested=frozenset(row["id"] for row in rows if row["cancel_requested"]),
        )

    async def release(self, leases: Sequence[Lease]) -> builtins.list[int]:
        """See `JobStore.release`."""
        return [row["id"] for row in await self._rows("release", _leases(leases), dict_row)]

    async def release_strays(self, owner: str, leases: Sequence[Lease]) -> builtins.list[int]:
        """See `JobStore.release_strays`."""
        values = {"owner": owner, "tokens": number_array(lease.fencing_token for lease in leases)}
        return [row["id"] for row in await self._rows("release_strays", values, dict_row)]

    async def rescue(self, owner: str, lease: timedelta, limit: int, *, asked: datetime | None = None) -> Rescue:
        """See `JobStore.rescue`."""
        values = {"owner": owner, "lease": lease, "limit": limit, "asked": asked, "max_rescues": MAX_RESCUES}
        jobs = await self._rows("rescue", values, struct_row(Job))
        return Rescue(
            released=tuple(job for job in jobs if job.started is None),
            taken=tuple(job for job in jobs if job.started is not None),
        )

    async def save_progress(self, reports: Sequence[Progress]) -> None:
        """See `JobStore.save_progress`."""
        values = {
            "ids": number_array(report.job_id for report in reports),
            "tokens": number_array(report.fencing_token for report in reports),
            "progress": text_array(report.progress_json for report in reports),
        }
        await self._execute("save_progress", values)

    async def save_logs(self, lines: Sequence[LogLine]) -> None:
        """See `JobStore.save_logs`."""
        values = {
            "ids": number_array(line.job_id for line in lines),
            "ats": [line.at for line in lines],
            "levels": text_array(line.level for line in lines),
            "messages": text_array(line.message for line in lines),
        }
        await self._execute("save_logs", values)

    async def begin(self, beginnings: Sequence[Beginning]) -> dict[int, str]:
        """See `JobStore.begin`.

        A batch that the database refuses is taken one by one.
        """
        if not beginnings:
            return {}
        try:
            await self._execute("begin", _begin_values(beginnings))
        except psycopg.Error as error:
            if not is_refusal(error):
                raise
            if len(beginnings) > 1:
                refused: dict[int, str] = {}
                for each in beginnings:
                    refused |= await self.begin([each])
                return refused
            return {beginnings[0].job_id: str(error).strip().splitlines()[0]}
        return {}

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """See `JobStore.settle`.

        A batch that the database refuses is halved until the refused settlement stands alone.
        """
        stored: set[int] = set()
        refused: dict[int, str] = {}
        without_follow_up: dict[int, str] = {}
        batches = [builtins.list(settlements)] if settlements else []
        while batches:
            batch = batches.pop()
            reason = await self._settle_batch(batch, stored)
            if reason is None:
                continue
            if len(batch) > 1:
                middle = len(batch) // 2
                batches += [batch[middle:], batch[:middle]]
                continue
            (single,) = batch
            alone = Settlement(single.job_id, single.fencing_token, single.outcome)
            if single.follow_ups and await self._settle_batch([alone], stored) is None:
                without_follow_up[single.job_id] = reason
            else:
                refused[single.job_id] = reason
        stale = {each.job_id for each in settlements} - stored - refused.keys()
        return Settled(frozenset(stored), refused, frozenset(stale), without_follow_up)

    async def _settle_batch(self, batch: Sequence[Settlement], stored: set[int]) -> str | None:
        """Settle a batch in one statement; returns the database's reason where it refuses."""
        follow_ups = [(each, follow_up) for each in batch for follow_up in each.follow_ups]
        values: dict[str, Any] = {
            "ids": number_array(each.job_id for each in batch),
            "tokens": number_array(each.fencing_token for each in batch),
            "successes": flag_array(each.outcome.success for each in batch),
            "results": text_array(each.outcome.result_json for each in batch),
            "starteds": moment_array(each.outcome.started for each in batch),
            "finisheds": moment_array(each.outcome.finished for each in batch),
        }
        statement = "settle"
        if follow_ups:
            statement = "settle_following"
            values |= {
                "follow_ids": [each.job_id for each, _ in follow_ups],
                "follow_tokens": [each.fencing_token for each, _ in follow_ups],
                "follow_kinds": [str(follow_up.kind) for _, follow_up in follow_ups],
                "follow_dues": [follow_up.due for _, follow_up in follow_ups],
                "follow_attempts": [follow_up.attempt for _, follow_up in follow_ups],
                "follow_cron_keys": [follow_up.cron_key for _, follow_up in follow_ups],
                "follow_traceparents": [follow_up.traceparent for _, follow_up in follow_ups],
            }
        try:
            stored.update(await self._rows(statement, values, scalar_row))
        except (psycopg.Error, UnicodeError) as error:
            if isinstance(error, psycopg.Error) and not is_refusal(error):
                # Nothing is wrong with these results: a missing table or privilege must not fail the jobs.
                raise
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None

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

    async def workers(self, lease: timedelta) -> builtins.list[WorkerStatus]:
        """See `JobStore.workers`."""
        return await self._rows("workers", {"lease": lease}, class_row(WorkerStatus))

    async def backlogs(self, questions: Sequence[PoolQuestion]) -> builtins.list[Backlog]:
        """See `PoolStore.backlogs`."""
        if not questions:
            return []
        values = {
            "pools": text_array(each.pool for each in questions),
            "ahead": [each.due_soon for each in questions],
            "namespaces": text_array(",".join(each.namespaces) for each in questions),
            "most": MOST_COUNTED,
            "sample": RUNS_MEASURED,
        }
        demands: dict[int, builtins.list[Demand]] = defaultdict(builtins.list)
        for row in await self._rows("backlogs", values, dict_row):
            demands[row.pop("number")].append(Demand(**row))
        return [Backlog(tuple(demands[number])) for number in range(1, len(questions) + 1)]

    async def loads(self, pools: Sequence[str]) -> builtins.list[WorkerLoad]:
        """See `PoolStore.loads`."""
        return await self._rows("loads", {"pools": text_array(pools)}, class_row(WorkerLoad))

    async def show_pools(self, cluster_id: str, pools: Sequence[ShownPool]) -> None:
        """See `PoolStore.show_pools`."""
        values = {
            "cluster_id": cluster_id,
            "uids": text_array(each.uid for each in pools),
            "shown": json.dumps([asdict(each) for each in pools]),
        }
        await self._execute("show_pools", values)

    async def pause(self, kind: PauseKind, name: str, reason: str | None = None) -> Pause:
        """See `JobStore.pause`."""
        check_name(name)
        values = {"kind": str(kind), "name": name, "reason": reason}
        (paused,) = await self._rows("pause", values, class_row(Pause))
        return paused

    async def resume(self, kind: PauseKind, name: str) -> bool:
        """See `JobStore.resume`."""
        return bool(await self._rows("resume", {"kind": str(kind), "name": name}, scalar_row))

    # --- cron lines

    async def trigger_cron(self, key: str) -> Job:
        """See `CronStore.trigger_cron`."""
        async with self._connected() as connection:
            return await perform(connection, cron.triggering(key))

    async def pause_cron(self, key: str, reason: str | None = None) -> Pause:
        """See `CronStore.pause_cron`."""
        async with self._transaction() as connection:
            return await perform(connection, cron.pausing(key, reason))

    async def resume_cron(self, key: str) -> bool:
        """See `CronStore.resume_cron`."""
        async with self._transaction() as connection:
            return await perform(connection, cron.resuming(key))

    async def pauses(self) -> builtins.list[Pause]:
        """See `JobStore.pauses`."""
        return await self._rows("pauses", {}, class_row(Pause))

    async def declare_limits(self, concurrency: Mapping[str, int]) -> None:
        """See `JobStore.declare_limits`."""
        values = {"names": text_array(concurrency), "concurrencies": number_array(concurrency.values())}
        await self._execute("declare_limits", values)

    async def set_limit(
        self,
        kind: LimitKind,
        name: str,
        concurrency: int | None = None,
        rate_limit: int | None = None,
        rate_period_ms: int | None = None,
    ) -> None:
        """See `JobStore.set_limit`."""
        if problems := limit_problems(name, concurrency, rate_limit, rate_period_ms):
            raise InvalidInputError(problems)
        values = {
            "kind": str(kind),
            "name": name,
            "concurrency": concurrency,
            "rate_limit": rate_limit,
            "rate_period_ms": rate_period_ms,
        }
        await self._execute("set_limit", values)

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        """See `JobStore.remove_limit`."""
        return bool(await self._rows("remove_limit", {"kind": str(kind), "name": name}, scalar_row))

    async def limits(self, lease: timedelta) -> builtins.list[StoredLimit]:
        """See `JobStore.limits`."""
        return await self._rows("limits", {"lease": lease, "asked": None}, class_row(StoredLimit))

    async def remove_unused(self) -> None:
        """See `JobStore.remove_unused`."""
        await self._execute("remove_unused", {})

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

    # --- custom resources

    async def rows_of(self, cluster_id: str, uids: Sequence[str]) -> dict[str, builtins.list[Job]]:
        """See `ResourceStore.rows_of`."""
        values = {"cluster_id": cluster_id, "uids": builtins.list(uids)}
        rows: dict[str, builtins.list[Job]] = defaultdict(builtins.list)
        for job in await self._rows("rows_of_resources", values, struct_row(Job)):
            rows[job.resource_uid or ""].append(job)
        return dict(rows)

    async def states_of(self, cluster_id: str, uids: Sequence[str]) -> dict[str, ResourceState]:
        """See `ResourceStore.states_of`."""
        values = {"cluster_id": cluster_id, "uids": builtins.list(uids)}
        return {
            row["uid"]: ResourceState(
                run_keys=frozenset(row["run_keys"]),
                is_suspended=row["is_suspended"],
                history_limit=row["history_limit"],
                has_surplus=row["has_surplus"],
                counts=RunCounts(row["succeeded"], row["failed"], row["cancelled"], row["retried"], row["lost"]),
            )
            for row in await self._rows("resource_states", values, dict_row)
        }

    async def suspend_resources(self, cluster_id: str, uids: Sequence[str]) -> None:
        """See `ResourceStore.suspend_resources`."""
        values = {"cluster_id": cluster_id, "uids": builtins.list(uids), "is_suspended": True}
        async with self._transaction() as connection:
            await connection.execute(query("set_suspended"), values)
            # A statement of its own, which sees the rows of those that held the lock before.
            await connection.execute(query("hold_pending"), values)

    async def resume_resources(self, cluster_id: str, ticks: Mapping[str, datetime | None]) -> None:
        """See `ResourceStore.resume_resources`."""
        values = {
            "cluster_id": cluster_id,
            "uids": builtins.list(ticks),
            "ticks": builtins.list(ticks.values()),
            "is_suspended": False,
        }
        async with self._transaction() as connection:
            await connection.execute(query("set_suspended"), values)
            await connection.execute(query("release_held"), values)

    async def keep_history(self, cluster_id: str, limits: Mapping[str, int | None]) -> None:
        """See `ResourceStore.keep_history`."""
        values = {
            "cluster_id": cluster_id,
            "uids": builtins.list(limits),
            "limits": builtins.list(limits.values()),
        }
        async with self._transaction() as connection:
            await connection.execute(query("set_history_limits"), values)
            await connection.execute(query("trim_history"), values)

    async def recorded(self, cluster_id: str, namespaces: Sequence[str]) -> builtins.list[StoredResource]:
        """See `ResourceStore.recorded`."""
        values = {"cluster_id": cluster_id, "namespaces": builtins.list(namespaces)}
        return await self._rows("recorded_resources", values, class_row(StoredResource))

    async def update_pending(self, cluster_id: str, jobs: Sequence[NewJob]) -> builtins.list[int]:
        """See `ResourceStore.update_pending`."""
        now = datetime.now(UTC)
        for job in jobs:
            check_job(job, now=now)
        values = {"cluster_id": cluster_id, "jobs": jobs_json(jobs, now, set())}
        return [row["id"] for row in await self._rows("update_pending", values, dict_row)]

    async def remove_resources(self, cluster_id: str, uids: Sequence[str]) -> builtins.list[Job]:
        """See `ResourceStore.remove_resources`."""
        values = {"cluster_id": cluster_id, "uids": builtins.list(uids)}
        async with self._transaction() as connection:
            await connection.execute(query("mark_resources_deleted"), values)
            unfinished = await _fetch(connection, "unfinished_of_resources", values, dict_row)
            return await _cancel_deleted(connection, unfinished)

    async def cancel_deleted(self, cluster_id: str) -> builtins.list[Job]:
        """See `ResourceStore.cancel_deleted`."""
        async with self._transaction() as connection:
            left = await _fetch(connection, "unfinished_of_deleted", {"cluster_id": cluster_id}, dict_row)
            return await _cancel_deleted(connection, left)

    async def forget_deleted(self, cluster_id: str, after: timedelta) -> int:
        """See `ResourceStore.forget_deleted`."""
        return len(await self._rows("forget_deleted", {"cluster_id": cluster_id, "after": after}, dict_row))

    # --- workers in pods

    async def pod_workers(self, cluster_id: str, lease: timedelta) -> builtins.list[PodWorker]:
        """See `PodStore.pod_workers`."""
        return await self._rows("pod_workers", {"cluster_id": cluster_id, "lease": lease}, class_row(PodWorker))

    async def adopt_workers(self, cluster_id: str, owners: Sequence[str]) -> None:
        """See `PodStore.adopt_workers`."""
        await self._execute("adopt_workers", {"cluster_id": cluster_id, "owners": [*owners]})

    async def revoke_workers(self, owners: Sequence[str]) -> builtins.list[str]:
        """See `PodStore.revoke_workers`."""
        return await self._rows("revoke_workers", {"owners": [*owners]}, scalar_row)

    async def release_lost(self, lost: Sequence[LostWorker]) -> builtins.list[Job]:
        """See `PodStore.release_lost`."""
        values = {
            "owners": [worker.owner for worker in lost],
            "reasons": [worker.reason for worker in lost],
            "max_rescues": MAX_RESCUES,
        }
        return await self._rows("release_lost", values, struct_row(Job))

    async def forget_workers(self, owners: Sequence[str]) -> None:
        """See `PodStore.forget_workers`."""
        await self._execute("forget_workers", {"owners": [*owners]})


async def _cancel_deleted(
    connection: psycopg.AsyncConnection[Any], unfinished: Sequence[Mapping[str, Any]]
) -> list[Job]:
    values = {"ids": [row["id"] for row in unfinished], "reason": "Job cancelled as its WorkerJob was deleted"}
    return await _fetch(connection, "cancel", values, struct_row(Job))


async def _fetch(
    connection: psycopg.AsyncConnection[Any], name: str, values: Mapping[str, Any], row_factory: BaseRowFactory[Row]
) -> list[Row]:
    async with connection.cursor(row_factory=row_factory) as cursor:
        await cursor.execute(query(name), values)
        return await cursor.fetchall()


async def _record_resources(
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
    rows = await _fetch(connection, "record_resources", values, dict_row)
    return {(row["cluster_id"], row["uid"], row["run_key"]) for row in rows}


def _run_of(resource: ResourceRef) -> tuple[str, str, str]:
    return resource.cluster_id, resource.uid, resource.run_key


def _leases(leases: Sequence[Lease]) -> dict[str, Any]:
    return {
        "ids": number_array(lease.job_id for lease in leases),
        "tokens": number_array(lease.fencing_token for lease in leases),
    }


def _begin_values(beginnings: Sequence[Beginning]) -> dict[str, Any]:
    next_runs = [each.next_run for each in beginnings]
    return {
        "ids": number_array(each.job_id for each in beginnings),
        "tokens": number_array(each.fencing_token for each in beginnings),
        "follow_kinds": [str(run.kind) for run in next_runs],
        "follow_dues": [run.due for run in next_runs],
        "follow_attempts": [run.attempt for run in next_runs],
        "follow_cron_keys": [run.cron_key for run in next_runs],
        "replaced_keys": [each.next_run.cron_key for each in beginnings if each.replaces],
    }


def _in_order(jobs: builtins.list[Job]) -> builtins.list[Job]:
    """Sort as claims do; what an UPDATE returns has no order."""
    jobs.sort(key=attrgetter("due", "id"))
    jobs.sort(key=attrgetter("priority"), reverse=True)
    return jobs
