"""Jobs by a filter: the values of ``sql/job_filters.sql``, and all that it finds at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.rows import class_row, dict_row

from workerjobs.ports.api import BulkChange, Cancelled, Matching
from workerjobs.ports.jobs import JobQuery
from workerjobs.storage.steps import Statement, Steps

BEYOND = 2**63 - 1
MOST_COUNTED = 100_000


def filter_values(which: JobQuery) -> dict[str, Any]:
    """Write a filter as the values of the statements that take one."""
    return {
        "states": [str(state) for state in which.states] or None,
        "type": which.type,
        "tag": which.tag,
        "pool": which.pool,
        "user_id": which.user_id,
        "namespace": which.namespace,
        "cron_key": which.cron_key,
        "since": which.since,
        "until": which.until,
        "is_last": which.is_last,
        "before": which.before or BEYOND,
        "limit": which.limit,
    }


def matching(change: BulkChange, which: JobQuery) -> Steps[Matching]:
    """Count the jobs that a change by filter would reach."""
    values = filter_values(which) | {"most": MOST_COUNTED}
    rows: list[Matching] = yield Statement(f"matching_to_{change}", values, class_row(Matching))
    return rows[0]


def cancelling_matching(which: JobQuery, reason: str) -> Steps[Cancelled]:
    """Cancel the unfinished jobs that a filter finds."""
    values = filter_values(which) | {"reason": reason}
    rows: list[Mapping[str, Any]] = yield Statement("cancel_matching", values, dict_row)
    return Cancelled([row["id"] for row in rows if row["is_final"]], [row["id"] for row in rows if not row["is_final"]])


def retrying_matching(which: JobQuery) -> Steps[dict[int, int]]:
    """Run the jobs again that a filter finds; returns the new ids by the old ones."""
    # What somebody else runs again now has its follower only once that is committed.
    yield Statement("lock_bulk_retry", {}, dict_row)
    rows: list[Mapping[str, Any]] = yield Statement("retry_matching", filter_values(which), dict_row)
    return {row["old"]: row["new"] for row in rows}
