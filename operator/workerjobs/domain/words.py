"""Amounts in words, for sentences."""

from __future__ import annotations

from datetime import timedelta


def span(length: timedelta) -> str:
    """Write a length of time in the largest unit that it has at least two of.

    >>> [span(timedelta(seconds=seconds)) for seconds in (-1, 119, 120, 7_200, 172_800)]
    ['0 s', '119 s', '2 min', '2 h', '2 days']
    """
    seconds = max(0.0, length.total_seconds())
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
