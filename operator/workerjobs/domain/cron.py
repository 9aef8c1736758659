"""Cron lines: which rows belong to one, and which tick comes next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from workerjobs.domain.job import CatchUp, Job
from workerjobs.domain.schedule import CronSchedule
from workerjobs.errors import InvalidScheduleError

MAX_CATCH_UP = 100
"""Of more missed ticks than this only the latest are caught up with."""

LONGEST_CATCH_UP = timedelta(days=3650)
"""How far back missed ticks are looked for."""

_CAUGHT_UP = {CatchUp.LATEST: 1, CatchUp.ALL: MAX_CATCH_UP}


class RunOfLine(Protocol):
    """What tells which line a cron job's row belongs to."""

    @property
    def id(self) -> int:
        """The row's id."""
        ...

    @property
    def tag(self) -> str | None:
        """Its tag."""
        ...

    @property
    def cron_key(self) -> str | None:
        """Its line, where it names one."""
        ...

    @property
    def cron_schedule(self) -> str | None:
        """Its schedule."""
        ...


def cron_key_of(job: RunOfLine) -> str:
    """The identity of a cron job's line, also for rows that other programs wrote without one."""
    if job.cron_key is not None:
        return job.cron_key
    return tag_line(job.tag, job.cron_schedule or "") if job.tag is not None else f"job:{job.id}"


def tag_line(tag: str, cron_schedule: str) -> str:
    """The identity of a cron line that only its tag and schedule name, as those that QuickDapp's server writes."""
    return f"tag:{tag}:{cron_schedule}"


def next_tick(job: Job, *, now: datetime) -> datetime:
    """Find the tick of the row that follows a cron job's row.

    Missed are the ticks after the row's own, up to now. A line that catches up goes on with the first of those that
    are wanted, which is due at once; the row of that tick is asked again, so that they are run one after the other, and
    whoever dies meanwhile loses none.

    Args:
        job: A row of a cron line.
        now: The database's clock.

    Returns:
        Later than the row's own tick; not later than now where it is a missed one.

    Raises:
        InvalidScheduleError: Its schedule was written past every check, for example by SQL.
        ValueError: The moment is outside of the years 1900 to 9900.
    """
    schedule = CronSchedule.parse(job.cron_schedule or "", job.time_zone, identity=cron_key_of(job))
    last = job.tick or job.due
    wanted = _CAUGHT_UP.get(CatchUp(job.catch_up)) if job.catch_up in list(CatchUp) else None
    if wanted is not None and (missed := schedule.latest(max(last, now - LONGEST_CATCH_UP), now, wanted)):
        return missed[0]
    # The later of the two: a run that ended before its own tick's moment (a clock set back) must not make it again.
    return schedule.next_after(max(now, last))


class WaitingRun(RunOfLine, Protocol):
    """What tells the coming ticks of a cron job: its unfinished row."""

    @property
    def time_zone(self) -> str | None:
        """Of its schedule."""
        ...

    @property
    def started(self) -> datetime | None:
        """When it began."""
        ...

    @property
    def due(self) -> datetime:
        """When it begins."""
        ...

    @property
    def tick(self) -> datetime | None:
        """The tick that it is for."""
        ...

    @property
    def is_suspended(self) -> bool:
        """Whether it is held back."""
        ...


def next_ticks(line: WaitingRun, count: int, *, now: datetime) -> list[datetime]:
    """Tell the coming ticks of a cron job, first the one that its pending run waits for.

    Args:
        line: Its unfinished run.
        count: How many.
        now: The moment.
    """
    if line.is_suspended or line.cron_schedule is None or count == 0:
        return []
    try:
        schedule = CronSchedule.parse(line.cron_schedule, line.time_zone, identity=cron_key_of(line))
        # A run that waits for its tick, and that SQL did not leave without one.
        is_planned = line.started is None and line.tick is not None and line.due > now
        ticks = [line.due if is_planned else schedule.next_after(now)]
        while len(ticks) < count:
            ticks.append(schedule.next_after(ticks[-1]))
    except (InvalidScheduleError, ValueError):
        # Written past every check; a worker says so when the run ends.
        return []
    return ticks
