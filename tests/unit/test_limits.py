"""Which jobs may start under limits, and when to look for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.factories import NOON
from workerjobs.domain.job_checks import limit_problems
from workerjobs.domain.limits import Admission, Candidate, Limit, LimitName, admit, parse_rate
from workerjobs.ports.jobs import FIRST_PLACE, LimitedClaim
from workerjobs.worker.looks import AGAIN_SECONDS, POLL_SECONDS, LimitedLooks

FREE = Limit()
A, B, REPORT = ("key", "a"), ("key", "b"), ("type", "report")


def job(
    number: int,
    key: str | None = "a",
    *,
    job_type: str = "report",
    priority: int = 0,
    due: float = -60,
    concurrency: int | None = None,
    rate: tuple[int, int] | None = None,
) -> Candidate:
    """A job due so many seconds from noon; its rate is (starts, seconds)."""
    return Candidate(
        id=number,
        type=job_type,
        priority=priority,
        due=NOON + timedelta(seconds=due),
        concurrency_key=key,
        concurrency_limit=concurrency,
        rate_limit=rate and rate[0],
        rate_period_ms=rate and rate[1] * 1000,
        seconds=max(0.0, due),
    )


def ids(admission: Admission) -> list[int]:
    return [candidate.id for candidate in admission.candidates]


# --- jobs at once


@pytest.mark.parametrize(
    ("jobs", "limits", "running", "expected"),
    [
        pytest.param([job(1), job(2)], {A: FREE}, {}, [1, 2], id="no limit"),
        pytest.param([job(1), job(2), job(3)], {A: Limit(2)}, {}, [1, 2], id="the key's"),
        pytest.param([job(1), job(2), job(3)], {A: Limit(2)}, {A: 1}, [1], id="some run"),
        pytest.param([job(1)], {A: Limit(2)}, {A: 3}, [], id="more run than allowed now"),
        pytest.param([job(1)], {A: Limit(0)}, {}, [], id="none at all"),
        pytest.param([job(n, concurrency=2) for n in (1, 2, 3)], {A: FREE}, {}, [1, 2], id="the jobs' own"),
        pytest.param([job(n, concurrency=2) for n in (1, 2)], {A: Limit(1)}, {}, [1], id="the key's is stricter"),
        pytest.param([job(n, concurrency=1) for n in (1, 2)], {A: Limit(2)}, {}, [1], id="the jobs' own is stricter"),
        pytest.param(
            [job(1, concurrency=1), job(2, concurrency=3), job(3, concurrency=3)],
            {A: FREE},
            {A: 1},
            [2, 3],
            id="each job by its own",
        ),
        pytest.param([job(1), job(2, "b"), job(3)], {A: Limit(1), B: Limit(1)}, {}, [1, 2], id="keys apart"),
        pytest.param(
            [job(1), job(2, None)], {A: FREE, REPORT: Limit(1)}, {}, [1], id="the type's, with and without key"
        ),
        pytest.param(
            [job(1), job(2, "b")], {A: Limit(1), B: FREE, REPORT: Limit(1)}, {A: 1}, [2], id="one of two limits"
        ),
        pytest.param([job(1)], {A: Limit(5), REPORT: Limit(1)}, {REPORT: 1}, [], id="the other of two limits"),
        pytest.param([job(1, job_type="x")], {A: FREE, REPORT: Limit(0)}, {}, [1], id="another type's"),
    ],
)
def test_jobs_at_once_are_limited(
    jobs: list[Candidate], limits: dict[LimitName, Limit], running: dict[LimitName, int], expected: list[int]
) -> None:
    admission = admit(jobs, limits, running, 10, now=NOON)
    assert ids(admission) == expected
    # Only another job's end helps those left.
    assert admission.retry_seconds is None
    assert admission.next_starts == {}


def test_jobs_start_in_the_order_of_priority_due_and_id() -> None:
    jobs = [job(5, due=-1), job(4, "b", due=-9), job(3, due=-9), job(2, None, priority=-1), job(1, priority=9, due=0)]
    admission = admit(jobs, {A: FREE, B: FREE, REPORT: FREE}, {}, 10, now=NOON)
    assert ids(admission) == [1, 3, 4, 5, 2]
    assert ids(admit(jobs, {A: FREE, B: FREE}, {}, 2, now=NOON)) == [1, 3]


def test_job_held_back_does_not_hold_up_those_of_other_keys() -> None:
    jobs = [job(1, priority=9), job(2, "b")]
    assert ids(admit(jobs, {A: Limit(1), B: FREE}, {A: 1}, 1, now=NOON)) == [2]


@pytest.mark.parametrize("held", [A, REPORT])
def test_job_whose_limit_another_claim_works_under_waits_a_moment(held: LimitName) -> None:
    limits = {A: FREE, B: FREE, REPORT: FREE}
    admission = admit([job(1), job(2, "b", job_type="x")], limits, {}, 10, now=NOON, held={held})
    assert ids(admission) == [2]
    assert admission.retry_seconds == 0


def test_job_that_is_not_due_waits_until_it_is() -> None:
    admission = admit([job(1, due=7), job(2, due=5)], {A: FREE}, {}, 10, now=NOON)
    assert ids(admission) == []
    assert admission.retry_seconds == 5


# --- starts in a period


def starts(seconds: float, limit: Limit, jobs: Sequence[Candidate], *, step: float = 0.25) -> list[float]:
    """When jobs start that are looked at every so many seconds; each ends at once."""
    left, moments, at = list(jobs), [], 0.0
    while at <= seconds:
        admission = admit(left[:20], {A: limit}, {}, 100, now=NOON + timedelta(seconds=at))
        moments += [at] * len(admission.candidates)
        left = left[len(admission.candidates) :]
        limit = replace(limit, next_start=admission.next_starts.get(A, limit.next_start))
        at += step
    return moments


@pytest.mark.parametrize(
    ("limit", "own", "expected"),
    [
        pytest.param(Limit(None, 3, 3000), None, [0, 0, 0, 1, 2, 3, 4], id="a burst, then evenly"),
        pytest.param(Limit(None, 1, 1000), None, [0, 1, 2, 3, 4], id="never two at once"),
        pytest.param(Limit(None, 2, 4000), None, [0, 0, 2, 4], id="slowly"),
        pytest.param(FREE, (3, 3), [0, 0, 0, 1, 2, 3, 4], id="the jobs' own"),
        pytest.param(Limit(None, 1, 2000), (3, 3), [0, 2, 4], id="the key's is stricter"),
        pytest.param(Limit(None, 3, 3000), (1, 2), [0, 2, 4], id="the jobs' own is stricter"),
        pytest.param(Limit(None, 1, 1000), (3, 3), [0, 1, 2, 3, 4], id="the key's burst is smaller"),
        pytest.param(Limit(None, 3, 3000), (1, 1), [0, 1, 2, 3, 4], id="the jobs' own burst is smaller"),
    ],
)
def test_starts_come_in_a_burst_and_then_evenly(
    limit: Limit, own: tuple[int, int] | None, expected: list[float]
) -> None:
    assert starts(4, limit, [job(n, rate=own) for n in range(20)]) == expected


def test_unused_starts_of_more_than_a_period_are_forgotten() -> None:
    limit = Limit(None, 3, 3000, NOON - timedelta(days=1))
    assert starts(1, limit, [job(n) for n in range(20)]) == [0, 0, 0, 1]


def test_rate_is_exact_over_many_starts() -> None:
    # 7 in 3 s is no whole number of microseconds.
    moments = starts(3000, Limit(None, 7, 3000), [job(n) for n in range(8000)], step=1)
    assert len(moments) == 7000 + 7


def test_rate_says_when_the_next_start_is() -> None:
    limit = Limit(None, 3, 3000)
    admission = admit([job(n) for n in range(5)], {A: limit}, {}, 10, now=NOON)
    assert ids(admission) == [0, 1, 2]
    assert admission.next_starts == {A: NOON + timedelta(seconds=3)}
    assert admission.retry_seconds == 1
    later = replace(limit, next_start=admission.next_starts[A])
    just_before = admit([job(9)], {A: later}, {}, 10, now=NOON + timedelta(seconds=1, microseconds=-1))
    assert ids(just_before) == []
    assert just_before.retry_seconds == pytest.approx(1e-6)
    assert ids(admit([job(9)], {A: later}, {}, 10, now=NOON + timedelta(seconds=1))) == [9]


def test_start_counts_for_key_and_type_or_for_neither() -> None:
    limits = {A: Limit(None, 1, 1000), B: Limit(None, 9, 1000), REPORT: Limit(None, 2, 2000)}
    admission = admit([job(1), job(2), job(3, "b"), job(4, "b")], limits, {}, 10, now=NOON)
    # The second is held back by its key and takes nothing from the type.
    assert ids(admission) == [1, 3]
    assert admission.next_starts == {
        A: NOON + timedelta(seconds=1),
        B: NOON + timedelta(seconds=1 / 9),
        REPORT: NOON + timedelta(seconds=2),
    }


def test_job_held_back_by_rate_and_by_jobs_that_run_waits_for_these() -> None:
    limit = Limit(1, 1, 1000, NOON + timedelta(seconds=5))
    assert admit([job(1)], {A: limit}, {A: 1}, 10, now=NOON).retry_seconds is None


# --- reading limits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10/1m", (10, 60_000)),
        ("3/s", (3, 1000)),
        ("1/500ms", (1, 500)),
        ("5/2h", (5, 7_200_000)),
        ("1/d", (1, 86_400_000)),
    ],
)
def test_rates_are_read(text: str, expected: tuple[int, int]) -> None:
    assert parse_rate(text) == expected


@pytest.mark.parametrize("text", ["", "10", "10/", "/s", "10/1", "1.5/s", "-1/s", "10/1M", "10 / 1m", "1/1s\n"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="10/1m"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("a", None, None, None), "no limit is given"),
        (("", 1, None, None), "name is"),
        (("a\n", 1, None, None), "control characters"),
        (("a", -1, None, None), "concurrency is -1: give a whole number from 0 to 1000000"),
        (("a", None, 0, 1000), "rate's starts is 0"),
        (("a", None, 1, 0), "rate's period (milliseconds) is 0"),
        (("a", None, 1, 2**31), "rate's period"),
    ],
)
def test_limits_that_make_no_sense_are_refused(arguments: tuple[object, ...], problem: str) -> None:
    (found,) = limit_problems(*arguments)
    assert problem in found


# --- when to look


def found(
    *, jobs: int = 0, retry: float | None = None, after: tuple[str, str] = FIRST_PLACE, unlimited: int = 0
) -> LimitedClaim:
    # What the jobs are does not matter here, only that there are some.
    return LimitedClaim((object(),) * jobs, unlimited, retry, after)  # type: ignore[arg-type]


def test_first_look_is_due_and_then_only_the_slow_poll() -> None:
    looks = LimitedLooks()
    assert looks.seconds(0) == 0
    assert looks.begin(0) == FIRST_PLACE
    looks.end(found(), 1)
    assert looks.seconds(1) == POLL_SECONDS - 1
    assert looks.seconds(POLL_SECONDS) == 0


def test_look_that_brought_jobs_is_followed_by_another() -> None:
    looks = LimitedLooks()
    looks.begin(0)
    looks.end(found(jobs=1, retry=0.0), 1)
    assert looks.seconds(1) == 0


def test_round_goes_over_all_keys_and_keeps_the_earliest_moment() -> None:
    looks = LimitedLooks()
    assert looks.begin(0) == FIRST_PLACE
    looks.end(found(retry=5.0, after=("x", "k")), 0)
    assert looks.seconds(0) == 0
    assert looks.begin(0) == ("x", "k")
    looks.end(found(retry=9.0, after=("x", "m")), 0)
    assert looks.begin(0) == ("x", "m")
    looks.end(found(), 0)
    assert looks.seconds(0) == 5


def test_what_is_told_during_a_round_makes_another_from_the_start() -> None:
    looks = LimitedLooks()
    looks.begin(0)
    looks.end(found(after=("x", "k")), 0)
    looks.want()
    assert looks.begin(0) == ("x", "k")
    looks.end(found(), 0)
    assert looks.seconds(0) == 0
    assert looks.begin(0) == FIRST_PLACE
    looks.end(found(), 0)
    assert looks.seconds(0) > 0


def test_looks_with_others_in_the_way_come_again_soon_then_less_often() -> None:
    looks = LimitedLooks()
    waits = []
    for _ in range(10):
        looks.begin(0)
        looks.end(found(retry=0.0), 0)
        waits.append(looks.seconds(0))
    assert waits[:3] == [AGAIN_SECONDS[0], 2 * AGAIN_SECONDS[0], 4 * AGAIN_SECONDS[0]]
    assert waits[-1] == AGAIN_SECONDS[1]
    looks.claimed(0)
    assert looks.seconds(0) == 0
    looks.begin(0)
    looks.end(found(retry=0.0), 0)
    assert looks.seconds(0) == AGAIN_SECONDS[0]
