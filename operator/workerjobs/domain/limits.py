"""Which jobs may start under the limits of their keys and types: so many at once, so many in a period."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

LimitName = tuple[str, str]
"""Kind, "key" or "type", and the key's or type's name."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What is allowed under one key or type; None: without limit."""

    concurrency: int | None = None
    """Jobs at once, >= 0."""
    rate_limit: int | None = None
    """Starts in each ``rate_period_ms``."""
    rate_period_ms: int | None = None
    next_start: datetime | None = None
    """When the starts so far would have happened, had they come evenly at the allowed rate."""


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
        of_type = ("type", self.type)
        return (of_type,) if self.concurrency_key is None else (("key", self.concurrency_key), of_type)


@dataclass(frozen=True, slots=True)
class Admission:
    """What may start."""

    candidates: tuple[Candidate, ...]
    """In the order in which to start them."""
    next_starts: Mapping[LimitName, datetime]
    """What to note for rate limits."""
    retry_seconds: float | None
    """When a job that its rate (and nothing else) holds back, or that is not due yet, may start; None: only another
    job's end, or a change, makes more start."""


def admit(
    candidates: Sequence[Candidate],
    limits: Mapping[LimitName, Limit],
    running: Mapping[LimitName, int],
    count: int,
    *,
    now: datetime,
) -> Admission:
    """Choose jobs that may start now: highest priority first, then due, then id.

    Args:
        candidates: Jobs, in any order.
        limits: Of every key, and of the types that have some; a key that is missing here is held by another worker, and
            its jobs wait.
        running: Jobs that hold a permit, for each limit.
        count: At most so many are chosen.
        now: The database's clock.

    Source:
        Generic cell rate algorithm, ITU-T I.371, as a virtual schedule: a whole period's starts may come at once, then
        one in each ``period / rate``.
    """
    taken = Counter(running)
    state = dict(limits)
    next_starts: dict[LimitName, datetime] = {}
    chosen: list[Candidate] = []
    waits: list[float] = []
    for candidate in sorted(candidates, key=lambda each: (-each.priority, each.due, each.id)):
        if candidate.seconds > 0:
            waits.append(candidate.seconds)
            continue
        if len(chosen) == count:
            break
        if candidate.concurrency_key is not None and ("key", candidate.concurrency_key) not in state:
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
            if limit.rate_limit is not None and limit.rate_period_ms is not None:
                start = max(limit.next_start or now, now) + _interval(limit)
                next_starts[name] = start
                state[name] = replace(state[name], next_start=start)
    return Admission(tuple(chosen), next_starts, min(waits, default=None))


def _with_own(limit: Limit, candidate: Candidate, name: LimitName) -> Limit:
    """Put what a job says of its key beside what was set for the key."""
    if name[0] != "key":
        return limit
    concurrency = min(
        (each for each in (limit.concurrency, candidate.concurrency_limit) if each is not None), default=None
    )
    own = Limit(concurrency, candidate.rate_limit, candidate.rate_period_ms, limit.next_start)
    if limit.rate_limit is not None and (own.rate_limit is None or _interval(limit) > _interval(own)):
        return replace(limit, concurrency=concurrency)
    return own


def _interval(limit: Limit) -> timedelta:
    return timedelta(milliseconds=(limit.rate_period_ms or 0) / (limit.rate_limit or 1))


def _wait_seconds(limit: Limit, now: datetime) -> float:
    if limit.rate_limit is None or limit.rate_period_ms is None or limit.next_start is None:
        return 0.0
    burst = timedelta(milliseconds=limit.rate_period_ms) - _interval(limit)
    # A microsecond is what moments are exact to; without it a wait could be cut to nothing and come again and again.
    return max(0.0, (limit.next_start - burst - now).total_seconds())
