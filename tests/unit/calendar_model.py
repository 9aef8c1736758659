"""A slow calendar to compare schedules with: it walks over every minute or second and asks whether a clock matches.

It shares no code with `workerjobs.domain.schedule`: it knows a schedule by its sets of values, not by its text, and a
clock change by what the clock shows before and after it, not by offsets.
"""

from __future__ import annotations

import calendar
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Model:
    """A schedule as sets of values.

    Attributes:
        seconds: None for five fields, which tick at second 0.
        weekdays: 0 is Sunday.
        nth_weekdays: ``(weekday, n)``, n = -1 for the last; with any, ``weekdays`` is not looked at.
        needs_both_days: Whether a day must match both day fields, rather than either.
    """

    seconds: frozenset[int] | None
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    has_last_day: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    needs_both_days: bool

    @property
    def unit(self) -> timedelta:
        return timedelta(minutes=1) if self.seconds is None else timedelta(seconds=1)

    def matches_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        length = calendar.monthrange(day.year, day.month)[1]
        by_day = day.day in self.days or (self.has_last_day and day.day == length)
        weekday = day.isoweekday() % 7
        if self.nth_weekdays:
            nth = (day.day - 1) // 7 + 1
            is_last = day.day + 7 > length
            by_weekday = (weekday, nth) in self.nth_weekdays or (is_last and (weekday, -1) in self.nth_weekdays)
        else:
            by_weekday = weekday in self.weekdays
        return (by_day and by_weekday) if self.needs_both_days else (by_day or by_weekday)

    def matches(self, wall: datetime) -> bool:
        return (
            wall.second in (self.seconds or {0})
            and wall.minute in self.minutes
            and wall.hour in self.hours
            and self.matches_day(wall)
        )

    def next_wall_time(self, wall: datetime, years: int) -> datetime | None:
        """The first match strictly after a wall time, day by day, or None in so many years."""
        day = wall.date()
        for _ in range(366 * years):
            if self.matches_day(day):
                seconds = sorted(self.seconds or {0})
                for clock in itertools.product(sorted(self.hours), sorted(self.minutes), seconds):
                    tick = datetime.combine(day, time(*clock))
                    if tick > wall:
                        return tick
            day += timedelta(days=1)
        return None

    def ticks(self, zone: str, start: datetime, end: datetime) -> Iterator[datetime]:
        """All ticks from start to end; a time shown twice must not have its first pass before start."""
        seen: set[datetime] = set()
        previous: datetime | None = None
        for moment, wall in _clock(zone, start, end, self.unit):
            if len(self.hours) == 24:
                if self.matches(wall):
                    yield moment
            else:
                is_repeat = wall in seen
                seen.add(wall)
                skipped = previous + self.unit if previous else wall
                found = self.matches(wall) and not is_repeat
                while skipped < wall and not found:
                    found = self.matches(skipped)
                    skipped += self.unit
                if found:
                    yield moment
                previous = wall


@lru_cache(maxsize=64)
def _clock(zone: str, start: datetime, end: datetime, unit: timedelta) -> list[tuple[datetime, datetime]]:
    """What the clock on the wall shows at every moment from start to end."""
    moments = [start + number * unit for number in range((end - start) // unit + 1)]
    return [(moment, moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)) for moment in moments]


def moment(text: str) -> datetime:
    """A moment in UTC, such as ``2026-03-29 01:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
