"""The first tick of cron jobs that were scheduled in SQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from workerjobs.domain.planning import UnplannedRun, plan

AFTER = datetime(2026, 1, 1, 7, 59, 59, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "zone", "tick"),
    [
        ("0 8 * * *", None, datetime(2026, 1, 1, 8, tzinfo=UTC)),
        ("0 8 * * *", "Asia/Kathmandu", datetime(2026, 1, 2, 2, 15, tzinfo=UTC)),
        ("* * * * * *", None, datetime(2026, 1, 1, 8, tzinfo=UTC)),
        ("@hourly", "UTC", datetime(2026, 1, 1, 8, tzinfo=UTC)),
    ],
)
def test_first_tick_is_the_one_after_the_row_was_made(schedule: str, zone: str | None, tick: datetime) -> None:
    planned = plan(UnplannedRun(7, schedule, zone, "line", AFTER))
    assert (planned.job_id, planned.tick, planned.result_json) == (7, tick, None)


def test_h_is_drawn_from_the_key_and_always_the_same() -> None:
    ticks = {key: plan(UnplannedRun(1, "H * * * *", None, key, AFTER)).tick for key in map(str, range(50))}
    assert ticks == {key: plan(UnplannedRun(2, "H * * * *", None, key, AFTER)).tick for key in ticks}
    assert len(set(ticks.values())) > 10


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "sentence"),
    [
        ("0 0 30 2 *", None, AFTER, "there is no day 30 in FEB"),
        ("61 * * * *", None, AFTER, "61 is out of range"),
        ("@hourly", "EST5EDT4", AFTER, "EST5EDT4"),
        ("@hourly", None, AFTER + timedelta(days=365 * 7900), "ticks are known from 1900 to 9900"),
    ],
)
def test_schedule_without_a_tick_fails_with_its_reason(
    schedule: str, zone: str | None, after: datetime, sentence: str
) -> None:
    planned = plan(UnplannedRun(7, schedule, zone, "line", after))
    assert planned.tick is None
    assert planned.result_json is not None
    assert sentence in json.loads(planned.result_json)["error"]
