"""Claiming jobs under limits.

A look without locks finds what could start; most looks find nothing. Only then are the lines of the keys and types
concerned locked, in "workerJobLimits", and it is decided again from what a later statement sees: all that those who
held the locks before have claimed. Lines that another claim holds are left out, never waited for, so that claims can't
block each other.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import psycopg
from psycopg.rows import dict_row

from workerjobs.domain.job import Job
from workerjobs.domain.limits import Candidate, Limit, LimitKind, LimitName, admit
from workerjobs.ports.jobs import FIRST_PLACE, LimitedClaim, LimitedPlace
from workerjobs.storage.arrays import number_array, text_array
from workerjobs.storage.queries import query
from workerjobs.storage.rows import struct_row

KEYS = 1000
"""Keys looked at in one claim, each counted once for each of its job types; more of them take turns."""
JOBS_OF_A_KEY = 20
"""Jobs of one key, type and priority that one claim looks at."""

_KEY, _TYPE = LimitKind.KEY.value, LimitKind.TYPE.value
_CANDIDATE = (
    "id",
    "type",
    "priority",
    "due",
    "concurrency_key",
    "concurrency_limit",
    "rate_limit",
    "rate_period_ms",
    "seconds",
)


async def claim_limited(
    connection: psycopg.AsyncConnection[Any], values: Mapping[str, Any], after: LimitedPlace
) -> LimitedClaim:
    """Look once from a place on, and claim what may start; see `JobStore.claim_limited`.

    Args:
        connection: In autocommit mode.
        values: Of the claim, as the statements name them.
        after: Where the look begins.
    """
    wanted: int = values["limit"]
    place = {"after_type": after[0], "after_key": after[1], "keys": KEYS, "each": min(wanted, JOBS_OF_A_KEY)}
    found = await _rows(connection, "limited_candidates", {**values, **place})
    next_after = next(((row["type"], row["concurrency_key"]) for row in found if row["id"] is None), FIRST_PLACE)
    rows = [row for row in found if row["id"] is not None]
    if not rows:
        return LimitedClaim((), wanted, None, next_after)
    candidates = [Candidate(**{name: row[name] for name in _CANDIDATE}) for row in rows]
    limits, running = _seen(rows)
    startable = admit(candidates, limits, running, wanted, now=rows[0]["now"])
    if not startable.candidates:
        return LimitedClaim((), wanted, startable.retry_seconds, next_after)
    # Both kinds in one order: places of jobs without limits are left to them.
    plain = await _rows(connection, "plain_heads", values)
    merged = heapq.merge(
        ((each.order, each) for each in startable.candidates),
        (((-head["priority"], head["due"], head["id"]), None) for head in plain),
        key=lambda each: each[0],
    )
    first = [each for _, each in islice(merged, wanted)]
    chosen = [each for each in first if each is not None]
    jobs: list[Job] = []
    if chosen:
        async with connection.transaction():
            jobs = await _claim_chosen(connection, chosen, {name for name in limits if name[0] == _TYPE}, values)
    return LimitedClaim(tuple(jobs), wanted - len(chosen), 0.0, next_after)


async def _claim_chosen(
    connection: psycopg.AsyncConnection[Any],
    chosen: Sequence[Candidate],
    limited_types: Collection[LimitName],
    values: Mapping[str, Any],
) -> list[Job]:
    """Lock the limits of jobs, decide again, and claim; inside a transaction."""
    names = {name for candidate in chosen for name in candidate.names if name[0] == _KEY or name in limited_types}
    wanted = {
        "keys": text_array(sorted(name for kind, name in names if kind == _KEY)),
        "types": text_array(sorted(name for kind, name in names if kind == _TYPE)),
    }
    await connection.execute(query("make_limits"), wanted)
    lines = await _rows(connection, "lock_limits", wanted)
    if not lines:
        return []
    limits = {(line["kind"], line["name"]): _limit(line) for line in lines}
    # A statement of its own: it sees what those who held the locks before have claimed.
    counts = await _rows(connection, "count_running", {**wanted, "lease": values["lease"], "asked": values["asked"]})
    running = {(count["kind"], count["name"]): count["running"] for count in counts}
    now: datetime = lines[0]["now"]
    admission = admit(chosen, limits, running, values["limit"], now=now, held=names - limits.keys())
    if not admission.candidates:
        return []
    admitted = {candidate.id: candidate for candidate in admission.candidates}
    async with connection.cursor(row_factory=struct_row(Job)) as cursor:
        await cursor.execute(query("claim_chosen"), {**values, "ids": number_array(admitted)})
        jobs = await cursor.fetchall()
    # Rows may have been cancelled since they were seen: only what starts counts for its rate.
    started = admit([admitted[job.id] for job in jobs], limits, running, len(jobs), now=now)
    if started.next_starts:
        noted = {
            "kinds": text_array(kind for kind, _ in started.next_starts),
            "names": text_array(name for _, name in started.next_starts),
            "next_starts": [*started.next_starts.values()],
        }
        await connection.execute(query("save_next_starts"), noted)
    return sorted(jobs, key=lambda job: (-job.priority, job.due, job.id))


def _seen(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[LimitName, Limit], dict[LimitName, int]]:
    """Take the limits, and the jobs that run under them, from rows of candidates."""
    limits: dict[LimitName, Limit] = {}
    running: dict[LimitName, int] = {}
    for row in rows:
        if row["concurrency_key"] is not None:
            limits[_KEY, row["concurrency_key"]] = _limit(row, "key_")
            running[_KEY, row["concurrency_key"]] = row["key_running"]
        if row["type_is_limited"]:
            limits[_TYPE, row["type"]] = _limit(row, "type_")
            running[_TYPE, row["type"]] = row["type_running"]
    return limits, running


def _limit(row: Mapping[str, Any], prefix: str = "") -> Limit:
    names = ("concurrency", "rate_limit", "rate_period_ms", "next_start")
    return Limit(*(row[prefix + name] for name in names))


async def _rows(connection: psycopg.AsyncConnection[Any], name: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query(name), values)
        return await cursor.fetchall()
