"""Numbers, durations and moments in words, for people."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def duration(seconds: float | None) -> str:
    """Write a duration with two units at most.

    >>> [duration(each) for each in (0.0004, 0.012, 1.25, 42, 61, 3_600, 90_061, None)]
    ['0.4 ms', '12 ms', '1.25 s', '42 s', '1 min 1 s', '1 h', '1 d 1 h', '–']
    """
    if seconds is None:
        return "–"
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.{1 if 0 < seconds < 0.01 else 0}f} ms"
    if seconds < 10:
        return f"{seconds:.3g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    rest = round(seconds)
    parts = []
    for name, size in (*_UNITS, ("s", 1)):
        if rest >= size:
            parts.append(f"{rest // size} {name}")
        elif parts:
            parts.append("")
        rest %= size
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def between(start: datetime | None, end: datetime | None) -> str:
    """Write how long something took."""
    return duration(None if start is None or end is None else (end - start).total_seconds())


def relative(moment: datetime, now: datetime) -> str:
    """Write a moment as seen from now.

    >>> now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> relative(datetime(2026, 1, 1, 11, 58, tzinfo=UTC), now), relative(datetime(2026, 1, 1, 14, tzinfo=UTC), now)
    ('2 min ago', 'in 2 h')
    """
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    # To the second: what changes faster than that can't be read.
    size = next((size for _, size in _UNITS if abs(seconds) >= size), 1)
    words = duration(abs(seconds) // size * size)
    return f"in {words}" if seconds > 0 else f"{words} ago"


def clock(moment: datetime) -> str:
    """Write a moment, to the second, in UTC.

    >>> clock(datetime(2026, 1, 1, 12, 30, tzinfo=UTC))
    '2026-01-01 12:30:00 UTC'
    """
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def time_of_day(moment: datetime) -> str:
    """Write when within a day something was, to the millisecond, in UTC.

    >>> time_of_day(datetime(2026, 1, 1, 12, 30, 1, 250_000, tzinfo=UTC))
    '12:30:01.250'
    """
    return moment.astimezone(UTC).time().isoformat("milliseconds")


def count(number: float) -> str:
    """Write a number.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{number:,.0f}"


def percent(part: float, whole: float) -> str:
    """Write a part of a whole; a small one is never called none, nor a large one all.

    >>> percent(1, 4), percent(1, 1000), percent(999, 1000), percent(0, 0)
    ('25 %', '< 1 %', '> 99 %', '–')
    """
    if not whole:
        return "–"
    share = part / whole
    if 0 < share < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def pretty(value: Any) -> str:
    """Write JSON over several lines, with its keys in their order."""
    return json.dumps(value, indent=2, ensure_ascii=False)
