"""What a claim of ours costs, by how full the table is, in the cases that a single index gets wrong.

- ``due``: a million rows are due now;
- ``tomorrow``: a million rows of a higher priority are due tomorrow, a thousand are due now;
- ``paused`` and ``unknown``: a million rows are of a type that is paused, or that this worker does not know;
- ``key``: a million rows wait behind one concurrencyKey that has no permit left, a thousand have no key. Here a claim
  includes the look at jobs under limits, which a worker leaves out while nothing about them can have changed.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from tests.bench.server import Server
from workerjobs import app
from workerjobs.domain.job import Job
from workerjobs.storage.postgres import PostgresJobStore

CLAIM_CASES: Mapping[str, str] = {
    "due": "all due now",
    "tomorrow": "higher priority, due tomorrow",
    "paused": "of a paused type",
    "unknown": "of an unknown type",
    "key": "behind an exhausted key",
}
OTHERS = 1_000
"""Plain rows that are due in every case, so that there is something to claim."""
CLAIMS = 60
TYPES = ("noop", "paused")
"""The types that the claiming worker knows."""
ROWS = 10
"""Rows a claim takes; `CLAIMS` of them have to fit into `OTHERS`."""

_FILL: Mapping[str, str] = {
    "finished": """
        INSERT INTO "workerJobs" (type, due, started, finished, success, result, "removeAt")
        SELECT 'noop', moment, moment, moment, true, '{{"pid": 1}}', moment + interval '30 days'
        FROM generate_series(1, {count}) AS number, LATERAL (SELECT now() - number * interval '10 ms' AS moment) AS at
    """,
    "due": """
        INSERT INTO "workerJobs" (type, due) SELECT 'noop', now() - interval '1 hour' FROM generate_series(1, {count})
    """,
    "tomorrow": """
        INSERT INTO "workerJobs" (type, due, priority)
        SELECT 'noop', now() + interval '1 day', 5 FROM generate_series(1, {count})
    """,
    "paused": """
        INSERT INTO "workerJobs" (type, due, priority)
        SELECT 'paused', now() - interval '2 hours', 5 FROM generate_series(1, {count})
    """,
    "unknown": """
        INSERT INTO "workerJobs" (type, due, priority)
        SELECT 'unknown', now() - interval '2 hours', 5 FROM generate_series(1, {count})
    """,
    "key": """
        INSERT INTO "workerJobs" (type, due, priority, "concurrencyKey", "concurrencyLimit")
        SELECT 'noop', now() - interval '2 hours', 5, 'full', 1 FROM generate_series(1, {count})
    """,
}
_PREPARE: Mapping[str, str] = {
    "paused": """INSERT INTO "workerJobPauses" (kind, name) VALUES ('type', 'paused')""",
    # Its one permit is taken by a row that runs, with a lease that holds.
    "key": """
        INSERT INTO "workerJobs" (
            type, due, started, "leaseOwner", "leaseDeadline", "fencingToken", "concurrencyKey", "concurrencyLimit"
        ) VALUES ('noop', now(), now(), 'other', now() + interval '1 day', 0, 'full', 1)
    """,
}


@dataclass(frozen=True, slots=True)
class ClaimCost:
    """The median of one case."""

    postgres: str
    case: str
    finished: int
    pending: int
    milliseconds: float


def measure_claims(
    server: Server, sizes: Sequence[tuple[int, int]], report: Callable[[str], None]
) -> Iterator[ClaimCost]:
    """Measure all cases with all numbers of (finished, pending) rows; one result at a time.

    The finished rows are made once per size; a case's pending rows are made and removed again.
    """
    for finished, pending in sizes:
        with server.database("claims") as url:
            asyncio.run(app.wait_to_migrate(url, 10))
            with psycopg.connect(url, autocommit=True) as connection:
                # Waiting for the disk is the same in all cases, and would hide how they differ.
                connection.execute("ALTER DATABASE claims SET synchronous_commit = off")
                # Announcing rows one statement at a time is no part of this, and a million take memory.
                connection.execute('ALTER TABLE "workerJobs" DISABLE TRIGGER USER')
                _fill(connection, "finished", finished)
                for case in CLAIM_CASES:
                    connection.execute('DELETE FROM "workerJobs" WHERE finished IS NULL')
                    if case in _PREPARE:
                        connection.execute(_PREPARE[case].encode())
                    _fill(connection, "due", OTHERS)
                    _fill(connection, case, pending)
                    connection.execute('VACUUM (ANALYZE) "workerJobs"')
                    server.checkpoint()
                    milliseconds = asyncio.run(_claims(url, case))
                    report(f"claims: {finished:,} finished, {pending:,} pending, {case}: {milliseconds:.2f} ms")
                    yield ClaimCost(server.version, case, finished, pending, milliseconds)


def _fill(connection: psycopg.Connection[tuple[object, ...]], what: str, count: int) -> None:
    if count:
        connection.execute(_FILL[what].format(count=count).encode())


async def _claims(url: str, case: str) -> float:
    """Claim a few rows again and again; returns the median in milliseconds."""
    store = await PostgresJobStore.open(url, "workerjobs bench")
    try:
        samples = []
        for number in range(CLAIMS):
            began = time.perf_counter()
            jobs = await _claim(store, with_limits=case == "key")
            samples.append((time.perf_counter() - began) * 1000)
            if len(jobs) != ROWS or any(job.type != "noop" or job.priority == 5 for job in jobs):
                raise RuntimeError(f"claim {number} took {[(job.type, job.priority) for job in jobs]}")
    finally:
        await store.close()
    # The first ones plan and prepare.
    return statistics.median(samples[10:])


async def _claim(store: PostgresJobStore, *, with_limits: bool) -> list[Job]:
    lease, wanted = timedelta(seconds=60), ROWS
    limited: Sequence[Job] = ()
    if with_limits:
        claimed = await store.claim_limited("bench", "default", ROWS, lease, TYPES)
        limited, wanted = claimed.jobs, claimed.unlimited
    return [*limited, *await store.claim("bench", "default", wanted, lease, TYPES)]
