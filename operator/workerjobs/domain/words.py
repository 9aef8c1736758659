"""Amounts and names in words, for sentences."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest names that are like one, as the end of a sentence; empty where none is, or where it is known.

    >>> did_you_mean("reprot", ["report", "thumbnail"]), did_you_mean("report", ["report"])
    (' Did you mean report?', '')
    """
    names = sorted(set(known))
    near = [] if name in names else get_close_matches(name, names, 3)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def unknown_type(job_type: str, pool: str, known: Iterable[str]) -> str:
    """Say that the workers of a pool do not know a type; empty where they do, or where there are none to ask.

    >>> unknown_type("reprot", "default", ["report"])
    'No live worker of the pool default knows the type reprot. Did you mean report?'
    >>> unknown_type("report", "default", ["report"]), unknown_type("report", "default", [])
    ('', '')
    """
    names = set(known)
    if not names or job_type in names:
        return ""
    return f"No live worker of the pool {pool} knows the type {job_type}.{did_you_mean(job_type, names)}"


def missing(sentence: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no such thing, and which one may have been meant.

    >>> missing("There is no type reprot", "reprot", ["report"])
    'There is no type reprot. Did you mean report?'
    """
    hint = did_you_mean(name, known)
    return f"{sentence}.{hint}" if hint else sentence
