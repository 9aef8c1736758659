"""What the HTTP API reads: pages, histories and counts, at a cost that does not grow with the table."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from tests.support.loop import in_loop
from tests.support.table import sql
from workerjobs.domain.job import JobState
from workerjobs.ports.jobs import JobQuery
from workerjobs.storage import api as storage
from workerjobs.storage.api import PostgresApiStore
from workerjobs.storage.filters import BEYOND
from workerjobs.storage.queries import query

ROWS = 100_000


def fill(url: str, count: int, columns: str, values: str) -> None:
    """Insert rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute('alter table "workerJobs" disable trigger user')
        rows = f"select 'report', {values} from generate_series(1, {count}) as n"
        connection.execute(f'insert into "workerJobs" (type, {columns}) {rows}'.encode())
        connection.execute('analyze "workerJobs"')


@in_loop
async def test_pages_together_are_what_a_filter_finds(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "WINDOW", 7)
    monkeypatch.setattr(storage, "FEW", 5)
    states = {
        JobState.PENDING: "null, null, null, false",
        JobState.RUNNING: "now(), null, null, false",
        JobState.SUCCEEDED: "now(), now(), true, false",
        JobState.FAILED: "now(), now(), false, false",
        JobState.CANCELLED: "now(), now(), false, true",
    }
    expected: dict[JobState, list[int]] = {}
    for round_ in range(4):
        for number, (state, values) in enumerate(states.items()):
            for _ in range(round_ * number % 5 + 1):
                ((job_id,),) = sql(
                    database_url,
                    'insert into "workerJobs" (type, started, finished, success, "cancelRequested") '
                    f"values ('a', {values}) returning id",
                )
                expected.setdefault(state, []).insert(0, job_id)
    store = await PostgresApiStore.open(database_url, "test")
    try:
        groups: list[tuple[JobState, ...]] = [(state,) for state in states]
        groups += [
            (),
            (JobState.PENDING, JobState.RUNNING),
            (JobState.CANCELLED, JobState.FAILED),
            (JobState.FAILED, JobState.RUNNING),
        ]
        for group in groups:
            wanted = sorted((each for state in group or states for each in expected[state]), reverse=True)
            for limit in (1, 3, 50):
                found: list[int] = []
                before: int | None = None
                while True:
                    page = await store.page(JobQuery(states=group, limit=limit, before=before))
                    assert {job.state for job in page.jobs} <= set(group or states)
                    found += [job.id for job in page.jobs]
                    before = page.before
                    if before is None:
                        break
                assert found == wanted, (group, limit)
    finally:
        await store.close()


CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "floor": ("api/floor", {"window": 20_000}, 1_500),
    "page": ("api/page", {"floor": ROWS - 20_000, "type": "rare"}, 3_000),
    "failed of none": ("api/page_unsuccessful", {"floor": -BEYOND, "states": ["failed"]}, 50),
    "floor of failed": ("api/floor_unsuccessful", {"window": 20_000}, 50),
    "history": ("api/history", {"id": 50_000, "most": 50}, 50),
    "cron": ("api/cron_lines", {"after": 0}, 50),
    "recent": ("api/recent_runs", {"sample": 2000}, 1_000),
    "queues": ("api/queues", {"most": 1_000}, 2_000),
    "pending": ("api/few_pending", {"most": 1_000}, 2_000),
    "running": ("api/few_running", {"most": 1_000}, 50),
    "to cancel": ("matching_to_cancel", {"most": 1_000, "type": "rare"}, 2_000),
    "to retry": ("matching_to_retry", {"most": 1_000}, 50),
    "cancel": ("cancel_matching", {"type": "rare", "reason": "x"}, 2_000),
    # All but one of these are of the catalogue, as the function is called for the first time.
    "retry": ("retry_matching", {}, 1_000),
    "seen": ("api/seen", {"known": [1, 2, 3], "last": ROWS, "most": 1_000}, 100),
}


@pytest.mark.parametrize("rows", ["finished", "pending"])
def test_reads_look_at_few_pages_of_a_large_table(database_url: str, rows: str) -> None:
    if rows == "finished":
        fill(database_url, ROWS, "started, finished, success", "now(), now(), true")
    else:
        fill(database_url, ROWS, "due", "now() + make_interval(secs => n)")
    base = {
        **dict.fromkeys(("states", "type", "tag", "pool", "user_id", "namespace", "cron_key", "since", "until")),
        "is_last": False,
        "before": BEYOND,
        "limit": 50,
    }
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(query("plan_by_index"))
        costly = []
        for case, (name, values, most) in CASES.items():
            plan = connection.execute(
                b"explain (analyze, buffers, timing off) " + query(name), base | values, prepare=True
            ).fetchall()
            text = "\n".join(line for (line,) in plan)
            counts = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", text)
            assert counts is not None, text
            pages = sum(int(count or 0) for count in counts.groups())
            if pages > most:
                costly.append(f"{case} reads {pages} pages\n{text}")
        assert not costly, "\n".join(costly)
