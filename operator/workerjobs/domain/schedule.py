"""When a cron job runs next: pure rules from a schedule's text and time zone to moments.

Each field is read and checked here and handed to croniter as plain numbers, because croniter reads ``13-13`` and full
ranges as unrestricted and has rules of its own for ``H`` and for ranges that run backwards. croniter does the walk over
the calendar, on wall times without a zone; how these become moments across a clock change is decided here again (see
`CronSchedule`). What comments say about croniter was read in 7.0.0.
"""

from __future__ import annotations

import calendar
import copy
import hashlib
import importlib.resources
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from workerjobs.errors import InvalidScheduleError

MAX_LENGTH = 200
"""Characters a schedule's text may have."""

MACROS: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@minutely": "* * * * *",
    "@secondly": "* * * * * *",
}
"""Short names and the schedules they stand for; case does not matter."""

# The unit of a tick, and of a clock change in zoneinfo.
_ONE_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """A cron schedule in a time zone, checked and ready to be asked for its ticks; made by `parse`.

    **Fields**: ``minute hour day-of-month month day-of-week``, or six with the second first; or a name of `MACROS`.
    A field is ``*`` or a list of numbers, names (``JAN``-``DEC``, ``SUN``-``SAT``), ranges ``a-b`` and steps: ``*/n``,
    ``a-b/n``, and ``a/n`` for "from a to the end". Sunday is 0 and 7. Ranges run upwards (``22-23,0-2``, not ``22-2``);
    Sunday at the end of one from another day is 7 (``FRI-SUN``). ``L`` is the last day of the month, ``FRI#2`` its
    second Friday and ``FRIL`` its last one; the latter two need ``*`` as day of month. ``?`` is ``*`` in the two day
    fields.

    **Days**: where both day fields are restricted, a day matches if *either* does. A field that begins with ``*`` is
    not restricted, so with ``*/2`` in one of them a day has to match *both*.

    **H** is a number drawn from ``identity`` and the field, always the same one, so that many jobs with one text spread
    out. ``H`` is one value of the field (as day of month of 1-28), ``H/n`` every n-th value from one of the first n,
    ``H(a-b)`` and ``H(a-b)/n`` the same within a range.

    **Clock changes**: a schedule that allows all 24 hours ticks whenever a clock on the wall shows one of its times: it
    skips what the clock skips and ticks in both passes of what is shown twice, so ``*/10 * * * *`` is every ten minutes
    of real time. Any other schedule names times of day, each of which counts once a day: those that the clock skips
    become one tick at the moment of the jump, those shown twice tick in the first pass only.

    Source:
        Vixie cron's crontab(5) for fields, days and clock changes (its cron(8) tells the two kinds of schedule by a
        ``*`` as minute or hour instead); Jenkins, "Cron syntax", for ``H``.

    Attributes:
        text: As given, without surrounding blanks.
        time_zone: IANA name.
        identity: What ``H`` is drawn from.
    """

    text: str
    time_zone: str
    identity: str
    _zone: ZoneInfo = field(repr=False, compare=False)
    _calendar: Any = field(repr=False, compare=False)  # a croniter; only copies of it are asked
    _has_all_hours: bool = field(repr=False, compare=False)

    @staticmethod
    def parse(text: str, time_zone: str | None = None, *, identity: str = "") -> CronSchedule:
        """Read and check a schedule.

        >>> schedule = CronSchedule.parse("30 8 * * MON-FRI", "Europe/Berlin")
        >>> friday = datetime(2026, 1, 2, 12, tzinfo=UTC)
        >>> schedule.next_after(friday).isoformat()
        '2026-01-05T07:30:00+00:00'

        Args:
            text: Five fields, six with the second first, or a name of `MACROS`; at most `MAX_LENGTH` characters.
            time_zone: IANA name such as ``Europe/Berlin``; None is UTC.
            identity: What ``H`` is drawn from; the same for all runs of one cron job, such as its cronKey.

        Raises:
            InvalidScheduleError: All problems that were found, each with the field, the value and what is accepted.
        """
        return _parse(text, time_zone, identity)

    def next_after(self, moment: datetime) -> datetime:
        """Find the first tick strictly after a moment.

        Args:
            moment: In any time zone; from 1900 to 9900.

        Returns:
            A whole second, in UTC.

        Raises:
            ValueError: ``moment`` has no time zone, or its year is out of range.
        """
        if moment.utcoffset() is None:
            raise ValueError(f"a moment needs a time zone, {moment.isoformat()} has none")
        if not 1900 <= moment.year <= 9900:  # room for offsets, and for the longest wait: 40 years
            raise ValueError(f"ticks are known from 1900 to 9900, not in {moment.year}")
        local = moment.astimezone(self._zone)
        wall = local.replace(tzinfo=None)
        first_offset, second_offset = self._offsets(wall)
        if first_offset > second_offset:  # shown twice; each pass runs from start to just before end
            change = self._clock_change(wall - first_offset, wall - second_offset)
            start, end = change + second_offset, change + first_offset
            if self._has_all_hours:
                tick = self._next_wall_time(wall)
                if tick < end:
                    return (tick - (second_offset if local.fold else first_offset)).replace(tzinfo=UTC)
                if local.fold == 0 and (tick := self._next_wall_time(start - _ONE_SECOND)) < end:
                    return (tick - second_offset).replace(tzinfo=UTC)
            elif local.fold == 1:
                wall = end - _ONE_SECOND
        while True:
            tick = self._next_wall_time(wall)
            first_offset, second_offset = self._offsets(tick)
            if first_offset >= second_offset:
                return (tick - first_offset).replace(tzinfo=UTC)
            # The clock skips this time: the first offset is that of before the jump, the second that of after it.
            change = self._clock_change(tick - second_offset, tick - first_offset)
            if not self._has_all_hours:
                return change.replace(tzinfo=UTC)
            wall = change + second_offset - _ONE_SECOND  # to the end of what is skipped, which may be 3,600 ticks away

    def latest(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """Find the last ticks of a span of time.

        >>> schedule = CronSchedule.parse("@hourly")
        >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        >>> [tick.hour for tick in schedule.latest(noon, noon + timedelta(hours=5), 2)]
        [16, 17]

        Args:
            after: Where the span begins, itself left out; from 1900 to 9900, as the other.
            until: Where it ends, itself included.
            limit: How many at most, >= 1.

        Returns:
            Whole seconds in UTC, oldest first.
        """
        after, until = after.astimezone(UTC), until.astimezone(UTC)
        ticks = self._ticks(after, until, limit + 1)
        if len(ticks) <= limit:
            return ticks
        # Too many to walk through all of them: a long span of a schedule that ticks every second has millions.
        begin, ticks = until, []
        while len(ticks) < limit:
            begin = max(after, self._earlier(begin, limit + 1))
            ticks = self._ticks(begin, until)
        return ticks[-limit:]

    def _ticks(self, after: datetime, until: datetime, limit: int | None = None) -> list[datetime]:
        """List the ticks of a span of time, no more than the first ones where a limit is given."""
        ticks: list[datetime] = []
        tick = after
        while (limit is None or len(ticks) < limit) and (tick := self.next_after(tick)) <= until:
            ticks.append(tick)
        return ticks

    def _earlier(self, moment: datetime, ticks: int) -> datetime:
        """Find a moment about so many ticks earlier, at least a second; clock changes are left out of account."""
        local = moment.astimezone(self._zone)
        wall = local.replace(tzinfo=None, microsecond=0)
        walk = copy.copy(self._calendar)
        for _ in range(ticks):
            wall = walk.get_prev(datetime, start_time=wall)
        return moment - max(local.replace(tzinfo=None) - wall, _ONE_SECOND)

    def _next_wall_time(self, wall: datetime) -> datetime:
        """Find the first matching wall time strictly after one, on a calendar without clock changes."""
        # A copy, because get_next changes the croniter and threads may share this schedule. Whole seconds, because
        # croniter computes in float seconds, which in far years round 23:59:59.999999 up.
        found: datetime = copy.copy(self._calendar).get_next(datetime, start_time=wall.replace(microsecond=0))
        return found

    def _offsets(self, wall: datetime) -> tuple[timedelta, timedelta]:
        """Look up the offsets from UTC with fold=0 and fold=1 (PEP 495).

        The first is greater for wall times shown twice, smaller for skipped ones, equal for all others.
        """
        first = self._zone.utcoffset(wall.replace(tzinfo=self._zone, fold=0))
        second = self._zone.utcoffset(wall.replace(tzinfo=self._zone, fold=1))
        assert first is not None
        assert second is not None
        return first, second

    def _clock_change(self, before: datetime, after: datetime) -> datetime:
        """Find the moment in (before, after] at which the offset changes; all three are naive and in UTC."""
        before = before.replace(microsecond=0)

        def offset(seconds: int) -> timedelta | None:
            return (before + seconds * _ONE_SECOND).replace(tzinfo=UTC).astimezone(self._zone).utcoffset()

        old = offset(0)
        seconds = range((after - before) // _ONE_SECOND + 1)
        return before + bisect_left(seconds, True, key=lambda second: offset(second) != old) * _ONE_SECOND


# Parsing takes several times as long as finding a tick, and a worker meets the same few schedules again and again.
@lru_cache(maxsize=1024)
def _parse(text: str, time_zone: str | None, identity: str) -> CronSchedule:
    problems: list[str] = []
    zone = _read_zone(time_zone, problems)
    fields = _read_fields(text, identity, problems)
    if zone is None or fields is None:
        raise InvalidScheduleError(problems)
    return CronSchedule(text.strip(), zone.key, identity, zone, _make_calendar(fields), fields[_HOUR].is_full)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What one field accepts: values from ``low`` to ``high``, as numbers up to ``highest_number`` or as names."""

    name: str
    low: int
    high: int
    highest_number: int
    accepted: str
    names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return self.high - self.low + 1


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

# Schedules name no year, so a 29 February always comes.
_LEAP_YEAR = 2000

_SECOND = _Rule("second", 0, 59, 59, "0-59")
_MINUTE = _Rule("minute", 0, 59, 59, "0-59")
_HOUR = _Rule("hour", 0, 23, 23, "0-23")
_DAY = _Rule("day of month", 1, 31, 31, "1-31 and L")
_MONTH = _Rule("month", 1, 12, 12, "1-12 and JAN-DEC", _MONTHS)
_WEEKDAY = _Rule("day of week", 0, 6, 7, "0-7 and SUN-SAT", _WEEKDAYS)

_ITEM = re.compile(
    r"""(?: (?P<star>[*?])
          | (?P<hash>H) (?: \( (?P<hash_low>\d+) - (?P<hash_high>\d+) \) )?
          | (?P<low>\w+) (?: - (?P<high>\w+) )?
        )
        (?: / (?P<step>\d+) )?""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_NTH_WEEKDAY = re.compile(r"(?P<day>\w+?) (?: \# (?P<nth>\d+) | L )", re.ASCII | re.IGNORECASE | re.VERBOSE)


@dataclass(frozen=True, slots=True)
class _Values:
    """What one field allows.

    Attributes:
        numbers: Sorted, without repeats.
        is_full: ``numbers`` are all there are.
        is_restricted: The field does not begin with ``*``; counts for the two day fields.
        specials: What has no number, in croniter's spelling: ``l``, ``5#2`` (second Friday), ``l5`` (last Friday).
    """

    numbers: tuple[int, ...]
    is_full: bool
    is_restricted: bool
    specials: tuple[str, ...]


def _read_zone(name: str | None, problems: list[str]) -> ZoneInfo | None:
    """Find a time zone, or add to the problems."""
    if name is None:
        return ZoneInfo("UTC")
    # Asked for any name, ZoneInfo also opens what a machine happens to have: localtime, or right/… with leap seconds.
    known = _zone_names()
    match = known.get(name.lower())
    if match == name:
        return ZoneInfo(name)
    hint = f"did you mean {match}?" if match else "accepted are IANA names such as Europe/Berlin"
    problems.append(f"time zone {name[:MAX_LENGTH]!r} is unknown: {hint}")
    return None


@lru_cache(maxsize=1)
def _zone_names() -> Mapping[str, str]:
    """List the IANA names, keyed by their lower-case form."""
    names = importlib.resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return {name.lower(): name for name in names}


def _read_fields(text: str, identity: str, problems: list[str]) -> Mapping[_Rule, _Values] | None:
    """Read a schedule's fields, five or six, or add to the problems."""
    if len(text) > MAX_LENGTH:
        problems.append(f"cron schedule is too long: it has {len(text)} characters, accepted are {MAX_LENGTH}")
        return None
    text = text.strip()
    where = f"cron schedule {text!r}"
    if text.startswith("@") and text.lower() not in MACROS:
        problems.append(f"{where} is unknown: accepted are {', '.join(MACROS)}")
        return None
    if text.startswith(("TZ=", "CRON_TZ=")):
        problems.append(f"{where} begins with a time zone: give the zone apart from the schedule")
        return None
    parts = MACROS.get(text.lower(), text).split()
    if len(parts) not in (5, 6):
        problems.append(
            f"{where} has {len(parts)} field{'' if len(parts) == 1 else 's'}: accepted are five (minute, hour, day of "
            "month, month, day of week), six with the second first, and names such as @hourly"
        )
        return None
    rules = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)[-len(parts) :]
    fields = {}
    for rule, part in zip(rules, parts, strict=True):
        try:
            fields[rule] = _read_field(rule, part, identity)
        except ValueError as error:
            problems.append(f"{where}, {rule.name} {part!r}: {error}")
    if len(fields) < len(rules):
        return None
    if problem := _find_conflict(fields[_DAY], fields[_MONTH], fields[_WEEKDAY]):
        problems.append(f"{where} {problem}")
        return None
    return fields


def _find_conflict(days: _Values, months: _Values, weekdays: _Values) -> str | None:
    """Say why fields that are right one by one do not work together, if so."""
    if weekdays.specials and (days.is_restricted or not days.is_full):
        # croniter would want both to match where the rule of two restricted day fields wants either.
        return "has # or L as day of week, accepted with it is only * as day of month"
    # Of a day that the months have, every weekday comes, if only once in 40 years (a 29 February around 2100).
    if _has_day(days, months) or (days.is_restricted and weekdays.is_restricted):
        return None
    names = " or ".join(_MONTHS[month - 1] for month in months.numbers)
    return f"never comes: there is no day {days.numbers[0]} in {names}"


def _has_day(days: _Values, months: _Values) -> bool:
    longest = max(calendar.monthrange(_LEAP_YEAR, month)[1] for month in months.numbers)
    return "l" in days.specials or days.numbers[0] <= longest


def _read_field(rule: _Rule, text: str, identity: str) -> _Values:
    """Expand one field.

    Raises:
        ValueError: What is wrong and what is accepted, to follow the field's name in a sentence.
    """
    numbers: set[int] = set()
    specials: list[str] = []
    for item in text.split(","):
        if rule is _DAY and item.upper() == "L":
            specials.append("l")
        elif rule is _DAY and item.upper().endswith("W"):
            raise ValueError(f"W (the nearest weekday) is not supported, accepted are {rule.accepted}")
        elif rule is _WEEKDAY and (match := _NTH_WEEKDAY.fullmatch(item)):
            specials.append(_read_nth_weekday(match))
        else:
            numbers.update(_read_item(rule, item, identity))
    if rule is _WEEKDAY and specials and numbers:
        raise ValueError("days with # or L can't be in one list with others")  # croniter refuses it, too
    return _Values(
        numbers=tuple(sorted(numbers)),
        is_full=len(numbers) == rule.size,
        is_restricted=not text.startswith(("*", "?")),
        specials=tuple(specials),
    )


def _read_nth_weekday(match: re.Match[str]) -> str:
    day = _read_number(_WEEKDAY, match["day"]) % 7
    if match["nth"] is None:
        return f"l{day}"
    nth = int(match["nth"])
    if not 1 <= nth <= 5:
        raise ValueError(f"a month has no weekday number {nth}, accepted after # are 1-5")
    return f"{day}#{nth}"


def _read_item(rule: _Rule, item: str, identity: str) -> Iterable[int]:
    """Expand one item of a field's list, errors as in `_read_field`."""
    match = _ITEM.fullmatch(item)
    if match is None or (match["star"] == "?" and rule not in (_DAY, _WEEKDAY)):
        what = f"{item!r} can't be read" if item else "an item of the list is empty"
        raise ValueError(f"{what}, accepted are *, {rule.accepted}, a-b, */n, a-b/n, lists of these, and H")
    step = int(match["step"] or 1)
    if not 1 <= step <= rule.size:
        raise ValueError(f"step {step} is out of range, accepted are 1-{rule.size}")
    if match["hash"]:
        return _draw(rule, match, identity)
    if match["star"]:
        return range(rule.low, rule.high + 1, step)
    low = _read_number(rule, match["low"])
    end = match["high"] or (str(rule.high) if match["step"] else match["low"])
    high = _read_number(rule, end)
    if rule is _WEEKDAY:  # Sunday is 0 where a range begins, and 7 where one from another day ends
        low = 0 if low == 7 > high else low
        high = 7 if high == 0 < low else high
    if low > high:
        parts = f"{_span(low, rule.high)},{_span(rule.low, high)}"
        raise ValueError(f"the range {item!r} runs backwards, accepted are two ranges such as {parts}")
    return (number % 7 if rule is _WEEKDAY else number for number in range(low, high + 1, step))


def _span(low: int, high: int) -> str:
    return f"{low}-{high}" if low < high else f"{low}"


def _draw(rule: _Rule, match: re.Match[str], identity: str) -> Iterable[int]:
    """Expand an item with H: the same numbers for the same field and identity, whatever process or machine asks."""
    low, high = rule.low, 28 if rule is _DAY else rule.high  # 28: a day that no month lacks
    if match["hash_low"]:
        low, high = int(match["hash_low"]), int(match["hash_high"])
        if not rule.low <= low <= high <= rule.high:
            raise ValueError(f"the range {low}-{high} of H is not one from {rule.low} to {rule.high}")
    size = high - low + 1
    number = int.from_bytes(hashlib.sha256(f"{rule.name}\0{identity}".encode()).digest())
    if match["step"] is None:
        return [low + number % size]
    step = int(match["step"])
    if step > size:
        raise ValueError(f"step {step} is larger than the {size} values of H, accepted are 1-{size}")
    return range(low + number % step, high + 1, step)


def _read_number(rule: _Rule, text: str) -> int:
    if text.upper() in rule.names:
        return rule.low + rule.names.index(text.upper())
    if not text.isdecimal():
        raise ValueError(f"{text!r} is neither a number nor a name, accepted are {rule.accepted}")
    number = int(text)
    if not rule.low <= number <= rule.highest_number:
        raise ValueError(f"{number} is out of range, accepted are {rule.accepted}")
    return number


def _make_calendar(fields: Mapping[_Rule, _Values]) -> Any:
    """Make the croniter that knows the wall times of these fields, on naive datetimes."""
    # Here and not above: most processes that know jobs (commands, children) see no schedule.
    from croniter import croniter

    days, weekdays = fields[_DAY], fields[_WEEKDAY]
    either = days.is_restricted and weekdays.is_restricted
    # Two restricted fields that croniter is not good at: it takes a full list for a *, which would leave the day to the
    # other field alone, and 6.0 finds nothing at all where the day never comes (30 February or a Monday).
    every_day = either and (days.is_full or weekdays.is_full)
    only_weekdays = either and not _has_day(days, fields[_MONTH])
    spelled = {rule: _spell(values) for rule, values in fields.items()}
    if every_day or only_weekdays:
        spelled[_DAY] = "*"
    if every_day:
        spelled[_WEEKDAY] = "*"
    # croniter has the second last.
    parts = [spelled[rule] for rule in (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _SECOND) if rule in spelled]
    # The start is not used; without one, croniter reads the clock.
    return croniter(" ".join(parts), start_time=0, day_or=either)


def _spell(values: _Values) -> str:
    if values.is_full:
        return "*"
    # croniter takes any 31 different days for a *, so 1-29,31,L; the 31st is the last day anyway.
    numbers = [number for number in values.numbers if number != 31 or "l" not in values.specials]
    return ",".join([*map(str, numbers), *values.specials])
