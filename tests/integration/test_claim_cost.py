"""What claims cost among very many pending rows: pages read, as Postgres counts them, and never time.

The statements are those of the store, in the plan that Postgres makes once for all values, and also before the table
was ever analysed.
"""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from workerjobs.storage.queries import query

ROWS = 100_000
PAGES = 400
"""A claim reads a few pages for each type, key and priority. The rows of these tests fill more than 2,000."""

# What the pending rows are that must not be in the way: columns of "workerJobs" and their values.
CASES = {
    "of a paused type": ("type", "'paused'"),
    "of a type unknown here": ("type", "'unknown'"),
    "of many unknown types": ("type", "'unknown ' || n %% 50"),
    "of a paused type, behind keys": ('type, "concurrencyKey"', "'paused', 'k' || n %% 20"),
    "of a type unknown here, behind one key": ('type, "concurrencyKey"', "'unknown', 'k'"),
    "of higher priority, due tomorrow": ("type, priority, due", "'report', 5, now() + interval '1 day'"),
    "of other priorities, due tomorrow": ("type, priority, due", "'report', n %% 5 + 1, now() + interval '1 day'"),
    "behind an exhausted key": ('type, "concurrencyKey", "concurrencyLimit"', "'report', 'full', 1"),
    "behind a key exhausted by the table": ('type, "concurrencyKey"', "'report', 'limited'"),
    "behind a key, due tomorrow": ('type, "concurrencyKey", due', "'report', 'k', now() + interval '1 day'"),
    "of a type with a limit, exhausted": ("type", "'limited'"),
    "of another pool": ("type, pool", "'report', 'other'"),
    "behind a key that may start": ('type, "concurrencyKey", "concurrencyLimit"', "'report', 'free', 2"),
    "due now": ("type", "'report'"),
}
TYPES = ["report", "paused", "limited"]


@pytest.fixture(scope="module", params=["fresh", "analysed"])
def analysed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "analysed")


def pages(connection: psycopg.Connection[Any], name: str, **more: Any) -> int:
    """How many pages a statement of the store reads, found in the cache or not."""
    values = {
        "owner": "a worker",
        "pool": "default",
        "limit": 10,
        "lease": "15 seconds",
        "types": TYPES,
        "namespaces": None,
        "now": None,
        "asked": None,
        "after_type": "",
        "after_key": "",
        "keys": 1000,
        "each": 10,
        **more,
    }
    with connection.transaction(force_rollback=True):
        plan = connection.execute(b"explain (analyze, buffers, timing off) " + query(name), values).fetchall()
    text = "\n".join(line for (line,) in plan)
    # The first are those of the whole statement, with all its parts.
    counts = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", text)
    assert counts is not None, text
    return sum(int(count or 0) for count in counts.groups())


@pytest.mark.parametrize("case", CASES)
def test_claims_read_a_few_pages_only(database_url: str, case: str, analysed: bool) -> None:
    columns, values = CASES[case]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute('alter table "workerJobs" set (autovacuum_enabled = false)')
        connection.execute("set plan_cache_mode = force_generic_plan")
        # One job that can start behind them all, and one that holds the permit of each limit.
        connection.execute("""insert into "workerJobPauses" (kind, name) values ('type', 'paused')""")
        connection.execute(
            """
            insert into "workerJobLimits" (kind, name, concurrency) values ('type', 'limited', 1), ('key', 'limited', 1)
            """
        )
        connection.execute(
            """
            insert into "workerJobs" (type, "concurrencyKey", started, "leaseOwner", "leaseDeadline", "fencingToken")
            select case key when 'type' then 'limited' else 'report' end, nullif(key, 'type'), now(), 'another',
                now() + interval '1 hour', 1
            from unnest(array['full', 'limited', 'free', 'type']) as key
            """
        )
        connection.execute(
            f'insert into "workerJobs" ({columns}) select {values} from generate_series(1, %s) as n'.encode(), [ROWS]
        )
        connection.execute("""insert into "workerJobs" (type, priority) values ('report', -1)""")
        connection.execute(
            """insert into "workerJobs" (type, priority, "concurrencyKey") values ('report', -1, 'zz')"""
        )
        if analysed:
            connection.execute('analyze "workerJobs"')
        for name in ("claim", "next_due", "limited_candidates", "plain_heads"):
            assert pages(connection, name) <= PAGES, name
        assert pages(connection, "count_running", keys=["full", "free", "k"], types=["limited"]) <= PAGES
        # And what they are for is still found.
        names = {row[0] for row in connection.execute(query("limited_candidates"), _look()).fetchall()}
        assert ROWS + 6 in names


def _look() -> dict[str, Any]:
    return {
        "pool": "default",
        "limit": 10,
        "lease": "15 seconds",
        "asked": None,
        "types": TYPES,
        "namespaces": None,
        "after_type": "",
        "after_key": "",
        "keys": 1000,
        "each": 10,
    }


@pytest.mark.parametrize("case", ["of a paused type", "due now", "of higher priority, due tomorrow", "of another pool"])
def test_looking_for_unknown_types_reads_a_few_pages_only(database_url: str, case: str) -> None:
    columns, values = CASES[case]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute('alter table "workerJobs" set (autovacuum_enabled = false)')
        connection.execute("""insert into "workerJobPauses" (kind, name) values ('type', 'paused')""")
        connection.execute(
            f'insert into "workerJobs" ({columns}) select {values} from generate_series(1, %s) as n'.encode(), [ROWS]
        )
        connection.execute("""insert into "workerJobs" (type) values ('unknown')""")
        assert pages(connection, "claim_unknown") <= PAGES
