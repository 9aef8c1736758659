"""Cron lines by hand: run now, pause, go on."""

from __future__ import annotations

from datetime import UTC, datetime

from psycopg.rows import class_row, scalar_row

from workerjobs.domain.cron import cron_key_of
from workerjobs.domain.job import Job
from workerjobs.domain.limits import PauseKind
from workerjobs.domain.schedule import CronSchedule
from workerjobs.errors import InvalidScheduleError, NotFoundError
from workerjobs.ports.jobs import Pause
from workerjobs.storage.rows import struct_row
from workerjobs.storage.steps import Statement, Steps


def triggering(key: str) -> Steps[Job]:
    """Run a line's job now, beside the line."""
    stored: list[Job] = yield Statement("cron/trigger", {"key": key}, struct_row(Job))
    if not stored:
        raise _missing(key)
    return stored[0]


def pausing(key: str, reason: str | None) -> Steps[Pause]:
    """Hold a line back. In a transaction: the lock is a statement of its own, and the next ones see what others did."""
    yield Statement("cron/lock_pauses", {}, scalar_row)
    if not (yield from _rows_of(key)):
        raise _missing(key)
    values = {"kind": str(PauseKind.CRON), "name": key, "reason": reason}
    paused: list[Pause] = yield Statement("pause", values, class_row(Pause))
    yield Statement("cron/hold", {"key": key}, scalar_row)
    return paused[0]


def resuming(key: str) -> Steps[bool]:
    """Let a line go on. In a transaction, as `pausing`."""
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
