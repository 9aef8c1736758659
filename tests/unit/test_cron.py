"""Which tick follows: missed ticks, and what a line catches up with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.factories import NOON, running_job
from workerjobs.domain.cron import MAX_CATCH_UP, cron_key_of, next_tick
from workerjobs.domain.job import Job
from workerjobs.domain.schedule import CronSchedule

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def line(tick: datetime | None = NOON, **changes: Any) -> Job:
    """A run of a line that ticks every five minutes."""
    return running_job(
        **({"cron_schedule": "*/5 * * * *", "cron_key": "line", "tick": tick, "due": tick} | changes),
    )


@pytest.mark.parametrize(
    ("catch_up", "after", "expected"),
    [
        # (catchUp, how long after the row's own tick, the next one after that tick in minutes)
        (None, 0, 5),
        (None, 4, 5),
        (None, 5, 10),
        (None, 33, 35),
        ("none", 33, 35),
        ("latest", 0, 5),
        ("latest", 4, 5),
        ("latest", 5, 5),
        ("latest", 9, 5),
        ("latest", 33, 30),
        ("latest", 35, 35),
        ("all", 0, 5),
        ("all", 5, 5),
        ("all", 33, 5),
        ("all", 5 * MAX_CATCH_UP + 4, 5),
        ("all", 5 * MAX_CATCH_UP + 5, 10),
        ("all", 5 * MAX_CATCH_UP + 50, 55),
        # Written past every check.
        ("sometimes", 33, 35),
    ],
)
def test_next_tick(catch_up: str | None, after: int, expected: int) -> None:
    found = next_tick(line(catch_up=catch_up), now=NOON + after * MINUTE)
    assert found == NOON + expected * MINUTE


@pytest.mark.parametrize("catch_up", ["none", "latest", "all"])
def test_clock_that_was_set_back_makes_no_tick_again(catch_up: str) -> None:
    assert next_tick(line(catch_up=catch_up), now=NOON - HOUR) == NOON + 5 * MINUTE


def test_row_of_another_program_counts_from_its_due_moment() -> None:
    job = line(tick=None, due=NOON, cron_key=None, tag="nightly", catch_up="all")
    assert next_tick(job, now=NOON + HOUR) == NOON + 5 * MINUTE
    assert cron_key_of(job) == "tag:nightly:*/5 * * * *"


@pytest.mark.parametrize("catch_up", ["none", "latest", "all"])
def test_row_from_the_beginning_of_time_goes_on_now(catch_up: str) -> None:
    # What '-infinity' in the table is read as.
    job = line(tick=None, due=datetime(1, 1, 2, tzinfo=UTC), catch_up=catch_up)
    assert NOON - MAX_CATCH_UP * 5 * MINUTE < next_tick(job, now=NOON) <= NOON + 5 * MINUTE


LONGEST_RUNS = {
    "*/5 * * * *": 9_000,
    "*/7 * * * * *": 1_000,
    "0,1,2 */4 * * *": 9_000,
    "30 2 * * *": 9_000,
    "0 * * * SUN": 9_000,
    "* * 1 * * *": 500,
}
"""Seconds, by the schedule: of those by the second, a run misses more ticks than are caught up with all the same."""
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe"]


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(
    st.sampled_from(list(LONGEST_RUNS)),
    st.sampled_from(ZONES),
    # Around two clock changes.
    st.sampled_from([datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)]),
    st.floats(0, 40_000),
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.sampled_from(["none", "latest", "all"]),
)
def test_runs_of_a_line_are_the_wanted_ticks_each_once_and_in_order(
    text: str, zone: str, begin: datetime, offset: float, runs: list[float], catch_up: str
) -> None:
    """A line under Forbid, whose runs take given parts of the longest."""
    schedule = CronSchedule.parse(text, zone, identity="line")
    first = schedule.next_after(begin + timedelta(seconds=offset))
    row = line(first, cron_schedule=text, time_zone=zone, catch_up=catch_up)
    now = row.due
    for part in runs:
        now = max(now, row.due) + timedelta(seconds=part * LONGEST_RUNS[text])
        passed = []
        tick = row.tick
        assert tick is not None
        while (tick := schedule.next_after(tick)) <= now:
            passed.append(tick)
        found = next_tick(row, now=now)
        if catch_up == "none" or not passed:
            assert found == tick
        else:
            wanted = passed[-1:] if catch_up == "latest" else passed[-MAX_CATCH_UP:]
            assert found == wanted[0]
        row = msgspec.structs.replace(row, tick=found, due=found)
