"""What is decided when a run ends."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.support.factories import NOON, running_job
from workerjobs.domain.cron import cron_key_of
from workerjobs.domain.lifecycle import (
    MAX_ERROR_LENGTH,
    Beginning,
    FollowUp,
    FollowUpKind,
    Outcome,
    begin,
    retry_delay,
    settle,
)

SUCCESS = Outcome(success=True, result_json="1")
FAILURE = Outcome.failure("no paper")
SECOND = timedelta(seconds=1)


def cron_job(**changes: Any) -> Any:
    return running_job(**({"cron_schedule": "*/5 * * * *", "cron_key": "line", "tick": NOON} | changes))


def retried(after: timedelta, attempt: int = 2) -> FollowUp:
    return FollowUp(FollowUpKind.RETRY, NOON + after, attempt, cron_key=None)


def next_tick(after: timedelta, key: str = "line") -> FollowUp:
    return FollowUp(FollowUpKind.CRON, NOON + after, attempt=1, cron_key=key)


MINUTE = timedelta(minutes=1)
AUTO = {"auto_reschedule_on_failure": True, "auto_reschedule_on_failure_delay_ms": 2500}
POLICY = {"retry_limit": 3, "retry_initial_delay_ms": 1000, "retry_factor": 2.0, "retry_max_delay_ms": 3000}


@pytest.mark.parametrize(
    ("job", "outcome", "follow_ups"),
    [
        pytest.param(running_job(), SUCCESS, (), id="plain job succeeded"),
        pytest.param(running_job(), FAILURE, (), id="plain job failed"),
        pytest.param(running_job(**AUTO), SUCCESS, (), id="success is not repeated"),
        pytest.param(running_job(**AUTO), FAILURE, (retried(2.5 * SECOND),), id="rescheduled after its delay"),
        pytest.param(running_job(**AUTO, attempt=900), FAILURE, (retried(2.5 * SECOND, 901),), id="for ever"),
        pytest.param(running_job(**POLICY), FAILURE, (retried(SECOND),), id="first retry"),
        pytest.param(running_job(**POLICY, attempt=2), FAILURE, (retried(2 * SECOND, 3),), id="delay grows"),
        pytest.param(running_job(**POLICY, attempt=3), FAILURE, (retried(3 * SECOND, 4),), id="delay is bounded"),
        pytest.param(running_job(**POLICY, attempt=4), FAILURE, (), id="retries are used up"),
        pytest.param(running_job(**POLICY, **AUTO, attempt=4), FAILURE, (), id="limit counts for both"),
        pytest.param(running_job(**AUTO, cancel_requested=True), FAILURE, (), id="cancelled is not retried"),
        pytest.param(cron_job(), SUCCESS, (next_tick(5 * MINUTE),), id="cron goes on after success"),
        pytest.param(cron_job(), FAILURE, (next_tick(5 * MINUTE),), id="cron goes on after failure"),
        pytest.param(cron_job(cancel_requested=True), FAILURE, (next_tick(5 * MINUTE),), id="cron after a cancel"),
        pytest.param(
            cron_job(**AUTO), FAILURE, (next_tick(5 * MINUTE), retried(2.5 * SECOND)), id="cron and retry beside it"
        ),
        pytest.param(cron_job(tick=NOON + MINUTE * 5), SUCCESS, (next_tick(10 * MINUTE),), id="clock was set back"),
        pytest.param(cron_job(tick=NOON - MINUTE * 30), SUCCESS, (next_tick(5 * MINUTE),), id="missed ticks left out"),
        pytest.param(
            cron_job(tick=NOON - MINUTE * 30, catch_up="latest"), SUCCESS, (next_tick(0 * MINUTE),), id="latest missed"
        ),
        pytest.param(
            cron_job(tick=NOON - MINUTE * 30, catch_up="all"), SUCCESS, (next_tick(-25 * MINUTE),), id="first missed"
        ),
        pytest.param(
            cron_job(cron_key=None, tick=None, tag="nightly"),
            SUCCESS,
            (next_tick(5 * MINUTE, "tag:nightly:*/5 * * * *"),),
            id="row without a key: its tag and schedule are the line",
        ),
        pytest.param(
            cron_job(cron_schedule="0 8 * * *", time_zone="Asia/Kathmandu"),
            SUCCESS,
            (next_tick(timedelta(hours=14, minutes=15)),),
            id="tick in its time zone",
        ),
    ],
)
def test_rows_that_follow(job: Any, outcome: Outcome, follow_ups: tuple[FollowUp, ...]) -> None:
    settlement = settle(job, outcome, now=NOON)
    assert settlement.follow_ups == follow_ups
    assert (settlement.job_id, settlement.fencing_token, settlement.outcome) == (7, 3, outcome)
    assert settlement.problem is None


def test_cron_job_with_a_bad_schedule_ends_with_a_problem_and_keeps_its_outcome() -> None:
    settlement = settle(cron_job(cron_schedule="every day"), SUCCESS, now=NOON)
    assert settlement.outcome == SUCCESS
    assert settlement.follow_ups == ()
    assert settlement.problem is not None
    assert "has 2 fields" in settlement.problem


def test_settling_needs_a_lease() -> None:
    with pytest.raises(ValueError, match="without a lease"):
        settle(running_job(fencing_token=None), SUCCESS, now=NOON)


@pytest.mark.parametrize(
    ("changes", "attempt", "expected"),
    [
        ({"retry_limit": 0}, 1, None),
        ({"retry_limit": 1}, 1, timedelta(0)),
        ({"retry_limit": 9, "retry_initial_delay_ms": 500}, 5, timedelta(seconds=0.5)),
        (
            {"retry_limit": 10**6, "retry_initial_delay_ms": 1, "retry_factor": 1000.0, "retry_max_delay_ms": 60_000},
            5000,
            timedelta(minutes=1),
        ),
        (
            {"retry_limit": 9, "retry_initial_delay_ms": 9000, "retry_factor": 2.0, "retry_max_delay_ms": 100},
            1,
            timedelta(seconds=0.1),
        ),
        # Written by SQL, past every check.
        ({"retry_limit": 9, "retry_initial_delay_ms": 50, "retry_factor": float("nan")}, 2, timedelta(seconds=0.05)),
        ({"retry_limit": 9, "retry_initial_delay_ms": 0, "retry_factor": float("inf")}, 2, timedelta(0)),
    ],
)
def test_retry_delay(changes: dict[str, Any], attempt: int, expected: timedelta | None) -> None:
    assert retry_delay(running_job(**changes, attempt=attempt)) == expected


@pytest.mark.parametrize(
    ("error", "stored"),
    [
        ("no paper", "no paper"),
        ("  no paper\n", "no paper"),
        ("", "Unknown error"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a?b"),
        ("x" * 5000, "x" * (MAX_ERROR_LENGTH - 1) + "…"),
    ],
    ids=["plain", "spaces", "empty", "NUL", "surrogate", "long"],
)
def test_error_is_stored_short_and_clean(error: str, stored: str) -> None:
    outcome = Outcome.failure(error)
    assert not outcome.success
    assert json.loads(outcome.result_json) == {"error": stored}


def test_cron_line_of_a_foreign_row_without_a_tag_is_its_own() -> None:
    assert cron_key_of(cron_job(cron_key=None)) == "job:7"


@pytest.mark.parametrize("policy", ["Allow", "Replace"])
def test_line_whose_runs_may_overlap_goes_on_as_a_run_begins(policy: str) -> None:
    job = cron_job(concurrency_policy=policy)
    assert begin(job, now=NOON) == Beginning(7, 3, next_tick(5 * MINUTE), replaces=policy == "Replace")
    # Each run begins the next one: of those that were missed, the first.
    missed = cron_job(concurrency_policy=policy, catch_up="all", tick=NOON - 20 * MINUTE)
    begun = begin(missed, now=NOON)
    assert begun is not None
    assert begun.next_run == next_tick(-15 * MINUTE)
    # And as it ends, for the case that it began without: the store knows.
    assert settle(job, FAILURE, now=NOON).follow_ups == (next_tick(5 * MINUTE),)


@pytest.mark.parametrize(
    "job",
    [
        running_job(),
        running_job(concurrency_policy="Allow"),
        cron_job(),
        cron_job(concurrency_policy="Forbid"),
        cron_job(concurrency_policy="Sometimes"),
        cron_job(concurrency_policy="Allow", fencing_token=None),
        cron_job(concurrency_policy="Allow", cron_schedule="every day"),
        cron_job(concurrency_policy="Allow", tick=NOON.replace(year=9999)),
    ],
)
def test_nothing_else_is_stored_as_a_run_begins(job: Any) -> None:
    assert begin(job, now=NOON) is None


JITTER = {"retry_limit": 9, "retry_initial_delay_ms": 1000, "retry_factor": 2.0, "retry_max_delay_ms": 3000}


def test_jitter_takes_a_part_off_each_delay_drawn_from_the_row() -> None:
    jobs = [running_job(**JITTER, id=number, attempt=2, retry_jitter=0.25) for number in range(400)]
    parts = [(retry_delay(job) or timedelta.max) / (2 * SECOND) for job in jobs]
    assert parts == [(retry_delay(job) or timedelta.max) / (2 * SECOND) for job in jobs]
    assert all(0.75 < part <= 1 for part in parts)
    # Spread evenly: a quarter of them in each quarter of the range.
    for low in (0.75, 0.8125, 0.875, 0.9375):
        assert 70 < sum(low < part <= low + 0.0625 for part in parts) < 130
    # Each attempt draws anew, and the longest delay is one that jitter shortens, too.
    delays = {retry_delay(running_job(**JITTER, attempt=attempt, retry_jitter=1.0)) for attempt in range(3, 9)}
    assert len(delays) == 6
    assert all(delay is not None and timedelta(0) < delay <= 3 * SECOND for delay in delays)


@pytest.mark.parametrize(("jitter", "low", "high"), [(0.0, 1, 1), (None, 1, 1), (-3.0, 1, 1), (7.0, 0, 1)])
def test_jitter_that_is_none_or_was_written_past_every_check(jitter: float | None, low: float, high: float) -> None:
    delay = retry_delay(running_job(**JITTER, retry_jitter=jitter))
    assert delay is not None
    assert low * SECOND <= delay <= high * SECOND


def test_jitter_that_is_no_number_is_none() -> None:
    assert retry_delay(running_job(**JITTER, retry_jitter=float("nan"))) == SECOND
