"""Which jobs may start under the limits of their keys and types: so many at once, so many in a period."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum


class LimitKind(StrEnum):
    """What a limit is for."""

    TYPE = "type"
    KEY = "key"


class PauseKind(StrEnum):
    """What can be paused."""

    TYPE = "type"
    POOL = "pool"
    CRON = "cron"
    """A cron line, by its key."""


LimitName = tuple[str, str]
"""Kind (`LimitKind`), and the key's or type's name."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What is allowed under one key or type; None: without limit."""

    concurrency: int | None = None
    """Jobs at once, >= 0."""
    rate_limit: int | None = None
    """Starts in each ``rate_period_ms``."""
    rate_period_ms: int | None = None
    next_start: datetime | None = None
    """When the next start would be, had those so far come evenly at the allowed rate."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending job under some limit."""

    id: int
    type: str
    priority: int
    due: datetime
    concurrency_key: str | None
    concurrency_limit: int | None
    """What the job itself says of its key, as the next two; the strictest of this and the key's own limit counts."""
    rate_limit: int | None
    rate_period_ms: int | None
    seconds: float
    """Until it is due, >= 0."""

    @property
    def names(self) -> tuple[LimitName, ...]:
        """The limits that this job may be under."""
        of_type = (LimitKind.TYPE.value, self.type)
        return (of_type,) if self.concurrency_key is None else ((LimitKind.KEY.value, self.concurrency_key), of_type)

    @property
    def order(self) -> tuple[int, datetime, int]:
        """By which jobs start."""
        return -self.priority, self.due, self.id


@dataclass(frozen=True, slots=True)
class Admission:
    """What may start."""

    candidates: tuple[Candidate, ...]
    """In the order in which to start them."""
    next_starts: Mapping[LimitName, datetime]
    """What to note for rate limits."""
    retry_seconds: float | None
    """When a job may start that its rate (and nothing else) holds back, or that is not due yet; 0: one that waits for
    another claim to be over; None: only another job's end, or a change, makes more start."""


def admit(
    candidates: Sequence[Candidate],
    limits: Mapping[LimitName, Limit],
    running: Mapping[LimitName, int],
    count: int,
    *,
    now: datetime,
    held: Collection[LimitName] = (),
) -> Admission:
    """Choose jobs that may start now: highest priority first, then due, then id.

    Args:
        candidates: Jobs, in any order.
        limits: Of every key, and of the types that have some.
        running: Jobs that hold a permit, for each limit.
        count: At most so many are chosen.
        now: The database's clock.
        held: Limits that another claim works under at this moment; their jobs wait.

    Source:
        Generic cell rate algorithm, ITU-T I.371, as a virtual schedule: a whole period's starts may come at once, then
        one in each ``period / rate``.
    """
    taken = Counter(running)
    state = dict(limits)
    next_starts: dict[LimitName, datetime] = {}
    chosen: list[Candidate] = []
    waits: list[float] = []
    for candidate in sorted(candidates, key=lambda each: each.order):
        if candidate.seconds > 0:
            waits.append(candidate.seconds)
            continue
        if len(chosen) == count:
            break
        if any(name in held for name in candidate.names):
            waits.append(0.0)
            continue
        strict = {name: _with_own(state[name], candidate, name) for name in candidate.names if name in state}
        if any(limit.concurrency is not None and taken[name] >= limit.concurrency for name, limit in strict.items()):
            continue
        wait = max((_wait_seconds(limit, now) for limit in strict.values()), default=0.0)
        if wait > 0:
            waits.append(wait)
            continue
        chosen.append(candidate)
        for name, limit in strict.items():
            taken[name] += 1
            if limit.rate_limit is not None:
                start = max(limit.next_start or now, now) + _interval(limit)
                next_starts[name] = start
                state[name] = replace(state[name], next_start=start)
    return Admission(tuple(chosen), next_starts, min(waits, default=None))


def _with_own(limit: Limit, candidate: Candidate, name: LimitName) -> Limit:
    """Put what a job says of its key beside what was set for the key."""
    if name[0] != LimitKind.KEY:
        return limit
    concurrency = min(
        (each for each in (limit.concurrency, candidate.concurrency_limit) if each is not None), default=None
    )
    own = Limit(concurrency, candidate.rate_limit, candidate.rate_period_ms, limit.next_start)
    if own.rate_limit is None or (limit.rate_limit is not None and _strictness(limit) > _strictness(own)):
        return replace(limit, concurrency=concurrency)
    return own


def _strictness(limit: Limit) -> tuple[timedelta, int]:
    """Order rates: fewer starts in the long run are stricter, then a smaller first burst."""
    return _interval(limit), -(limit.rate_limit or 1)


def _interval(limit: Limit) -> timedelta:
    return timedelta(milliseconds=(limit.rate_period_ms or 0) / (limit.rate_limit or 1))


def _wait_seconds(limit: Limit, now: datetime) -> float:
    if limit.rate_limit is None or limit.next_start is None:
        return 0.0
    burst = timedelta(milliseconds=limit.rate_period_ms or 0) - _interval(limit)
    return max(0.0, (limit.next_start - burst - now).total_seconds())


_RATE = re.compile(r"(\d+)/(\d*)(ms|s|m|h|d)", re.ASCII)
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_rate(text: str) -> tuple[int, int]:
    """Read a rate as people write it, into starts and milliseconds.

    >>> parse_rate("10/1m"), parse_rate("3/s")
    ((10, 60000), (3, 1000))

    Raises:
        ValueError: With a sentence that says what is accepted.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("give starts/period, such as 10/1m, 3/s or 1/500ms (units: ms, s, m, h, d)")
    return int(match[1]), int(match[2] or 1) * _UNIT_MS[match[3]]


def rate_text(limit: int, period_ms: int) -> str:
    """Write a rate as `parse_rate` reads it.

    >>> rate_text(10, 60_000), rate_text(1, 1_500)
    ('10/1m', '1/1500ms')
    """
    unit, size = next((unit, size) for unit, size in reversed(_UNIT_MS.items()) if period_ms % size == 0)
    return f"{limit}/{period_ms // size}{unit}"
