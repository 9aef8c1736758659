"""Cron lines, made, planned, and by hand run, paused and resumed: `CronStore`, and their part of `JobStore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.rows import class_row, dict_row, scalar_row

from workerjobs.domain.cron import cron_key_of
from workerjobs.domain.job import Job, NewJob
from workerjobs.domain.limits import PauseKind
from workerjobs.domain.planning import Plan, UnplannedRun
from workerjobs.domain.schedule import CronSchedule
from workerjobs.errors import InvalidScheduleError, NotFoundError
from workerjobs.ports.jobs import Pause
from workerjobs.storage.queries import query
from workerjobs.storage.rows import struct_row
from workerjobs.storage.statements import Statements, fetch
from workerjobs.storage.steps import Statement, Steps, perform
from workerjobs.storage.submitting import submitting


class PostgresCronStore(Statements):
    """Cron lines: made, placed, planned, run by hand, paused."""

    async def ensure_cron(self, jobs: Sequence[NewJob]) -> list[Job]:
        """See `JobStore.ensure_cron`."""
        keys = sorted({job.cron_key for job in jobs if job.cron_key is not None})
        if not keys:
            return []
        async with self._transaction() as connection:
            # The lock is its own statement: the next one then sees what the last holder committed.
            await connection.execute(query("lock_names"), {"kind": "cron", "names": keys})
            values = {"cron_keys": keys, "tags": [job.tag for job in jobs if job.tag is not None]}
            live = {row["cron_key"] for row in await fetch(connection, "live_cron_keys", values, dict_row)}
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
            return len(await fetch(connection, "place", values, dict_row))

    async def unplanned(self, limit: int) -> list[UnplannedRun]:
        """See `JobStore.unplanned`."""
        return await self._rows("unplanned", {"limit": limit}, class_row(UnplannedRun))

    async def plan(self, plans: Sequence[Plan]) -> list[Job]:
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

    async def trigger_cron(self, key: str) -> Job:
        """See `CronStore.trigger_cron`."""
        async with self._connected() as connection:
            return await perform(connection, _triggering(key))

    async def pause_cron(self, key: str, reason: str | None = None) -> Pause:
        """See `CronStore.pause_cron`."""
        async with self._transaction() as connection:
            return await perform(connection, _pausing(key, reason))

    async def resume_cron(self, key: str) -> bool:
        """See `CronStore.resume_cron`."""
        async with self._transaction() as connection:
            return await perform(connection, _resuming(key))


def _triggering(key: str) -> Steps[Job]:
    """Run a line's job now, beside the line."""
    stored: list[Job] = yield Statement("cron/trigger", {"key": key}, struct_row(Job))
    if not stored:
        raise _missing(key)
    return stored[0]


def _pausing(key: str, reason: str | None) -> Steps[Pause]:
    """Hold a line back. In a transaction: the lock is a statement of its own, and the next ones see what others did."""
    yield Statement("cron/lock_pauses", {}, scalar_row)
    if not (yield from _rows_of(key)):
        raise _missing(key)
    values = {"kind": str(PauseKind.CRON), "name": key, "reason": reason}
    paused: list[Pause] = yield Statement("pause", values, class_row(Pause))
    yield Statement("cron/hold", {"key": key}, scalar_row)
    return paused[0]


def _resuming(key: str) -> Steps[bool]:
    """Let a line go on. In a transaction, as `_pausing`."""
    yield Statement("cron/lock_pauses", {}, scalar_row)
    ended = yield Statement("resume", {"kind": str(PauseKind.CRON), "name": key}, scalar_row)
    rows = yield from _rows_of(key)
    if not ended:
        if not rows:
            raise _missing(key)
        return False
    yield Statement("cron/release", {"key": key, "next_tick": _next_tick(rows)}, scalar_row)
    return True


def _rows_of(key: str) -> Steps[list[Job]]:
    rows: list[Job] = yield Statement("cron/rows", {"key": key}, struct_row(Job))
    return rows


def _next_tick(rows: list[Job]) -> datetime | None:
    """The tick that a line goes on with where its own has passed; None where its schedule can't be read."""
    if not rows:
        return None
    line = rows[-1]
    try:
        schedule = CronSchedule.parse(line.cron_schedule or "", line.time_zone, identity=cron_key_of(line))
        return schedule.next_after(datetime.now(UTC))
    except (InvalidScheduleError, ValueError):
        # Written past every check; a worker says so when the run ends.
        return None


def _missing(key: str) -> NotFoundError:
    return NotFoundError(f"There is no cron job {key}")
