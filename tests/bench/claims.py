"""What a claim of ours costs, by how full the table is: the four cases that a single index gets wrong.

- ``due``: a million rows are due now;
- ``tomorrow``: a million rows of a higher priority are due tomorrow, a thousand are due now;
- ``paused``: a million rows are of a paused type, a thousand are not;
- ``key``: a million rows wait behind one concurrencyKey that has no permit left, a thousand have no key.
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
from workerjobs.storage.postgres import PostgresJobStore

CLAIM_CASES: Mapping[str, str] = {
    "due": "all due now",
    "tomorrow": "higher priority, due tomorrow",
    "paused": "of a paused type",
    "key": "behind an exhausted key",
}
OTHERS = 1_000
"""Plain rows that are due in every case, so that there is something to claim."""
CLAIMS = 60
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


_NEEDS: Mapping[str, str] = {"paused": '"workerJobPauses"', "key": '"workerJobLimits"'}


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
    """Measure all cases with all numbers of (finished, pending) rows; those that the schema can't express are said.

    The finished rows are made once per size; a case's pending rows are made and removed again.
    """
    for finished, pending in sizes:
        with server.database("claims") as url:
            asyncio.run(app.wait_to_migrate(url, 10))
            with psycopg.connect(url, autocommit=True) as connection:
                # Announcing rows one statement at a time is no part of this, and a million take memory.
                connection.execute('ALTER TABLE "workerJobs" DISABLE TRIGGER USER')
                _fill(connection, "finished", finished)
                for case in CLAIM_CASES:
                    if case in _NEEDS and not _exists(connection, _NEEDS[case]):
                        report(f"claims: the schema has no {_NEEDS[case]}; the case '{case}' is left out")
                        continue
                    connection.execute('DELETE FROM "workerJobs" WHERE finished IS NULL')
                    if case in _PREPARE:
                        connection.execute(_PREPARE[case].encode())
                    _fill(connection, "due", OTHERS)
                    _fill(connection, case, pending)
                    connection.execute('VACUUM (ANALYZE) "workerJobs"')
                    server.checkpoint()
                    milliseconds = asyncio.run(_claim(url))
                    report(f"claims: {finished:,} finished, {pending:,} pending, {case}: {milliseconds:.2f} ms")
                    yield ClaimCost(server.version, case, finished, pending, milliseconds)


def _fill(connection: psycopg.Connection[tuple[object, ...]], what: str, count: int) -> None:
    if count:
        connection.execute(_FILL[what].format(count=count).encode())


def _exists(connection: psycopg.Connection[tuple[object, ...]], table: str) -> bool:
    return connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone() == (True,)


async def _claim(url: str) -> float:
    """Claim a few rows again and again; returns the median in milliseconds."""
    store = await PostgresJobStore.open(url, "workerjobs bench")
    try:
        samples = []
        for number in range(CLAIMS):
            began = time.perf_counter()
            jobs = await store.claim("bench", "default", ROWS, timedelta(seconds=60))
            samples.append((time.perf_counter() - began) * 1000)
            if len(jobs) != ROWS or any(job.type != "noop" or job.priority == 5 for job in jobs):
                raise RuntimeError(f"claim {number} took {[(job.type, job.priority) for job in jobs]}")
    finally:
        await store.close()
    # The first ones plan and prepare.
    return statistics.median(samples[10:])
