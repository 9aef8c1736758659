"""The first tick of cron jobs that were scheduled in SQL, which can't read schedules: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from workerjobs.domain.lifecycle import Outcome
from workerjobs.domain.schedule import CronSchedule
from workerjobs.errors import InvalidScheduleError


@dataclass(frozen=True, slots=True)
class UnplannedRun:
    """A cron row that waits for its first tick."""

    job_id: int
    cron_schedule: str
    time_zone: str | None
    cron_key: str
    after: datetime
    """When the row was made, or its line's latest tick if that is later."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to store for it."""

    job_id: int
    tick: datetime | None
    """None: there is none, and the job has failed."""
    result_json: str | None = None
    """Why, as ``{"error": …}``."""


def plan(run: UnplannedRun) -> Plan:
    """Find the first tick after a row was made: one that passed since runs at once.

    >>> from datetime import UTC
    >>> run = UnplannedRun(7, "0 8 * * *", None, "report", datetime(2026, 1, 1, 7, 59, 59, tzinfo=UTC))
    >>> plan(run).tick.isoformat()
    '2026-01-01T08:00:00+00:00'
    """
    try:
        schedule = CronSchedule.parse(run.cron_schedule, run.time_zone, identity=run.cron_key)
        return Plan(run.job_id, schedule.next_after(run.after))
    except (InvalidScheduleError, ValueError) as error:
        return Plan(run.job_id, None, Outcome.failure(str(error)).result_json)
