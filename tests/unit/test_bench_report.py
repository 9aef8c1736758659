"""The benchmark's report: medians, ratios, what is named best, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.bench.claims import ClaimCost
from tests.bench.measures import FIGURES, percentile
from tests.bench.report import (
    Machine,
    Queue,
    Results,
    best_peer,
    markdown,
    median,
    number,
    ratio,
    table,
    written_by_others,
)

OURS = Queue("workerjobs", "1.0", "2 children", is_ours=True)
FAST = Queue("fast", "2.0", "batches", is_ours=False)
SLOW = Queue("slow", "3.0", "defaults", is_ours=False)
RESULTS = Results(
    moment=datetime(2026, 1, 2, tzinfo=UTC),
    machine=Machine("A CPU", 2, 8 * 2**30, "Linux 6.1", 0.25),
    postgres="18.6",
    postgres_settings={"fsync": "on", "synchronous_commit": "on"},
    repetitions=3,
    counts={},
    queues=[OURS, FAST, SLOW],
    samples={},
    left_out={},
)


def with_samples(**samples: Mapping[str, Sequence[float]]) -> Results:
    return replace(RESULTS, samples=samples)


def rows_of(page: str, heading: str) -> dict[str, list[str]]:
    """Give the lines of the table below a heading by their first cell."""
    section = page.partition(f"### {heading}\n")[2].partition("\n#")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in lines[2:]}


@pytest.mark.parametrize(
    ("ordered", "share", "expected"),
    [
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 301)], 0.99, 297.0),
        ([float(n) for n in range(1, 51)], 0.99, 50.0),
        ([1.0, 2.0, 3.0], 1.0, 3.0),
    ],
)
def test_percentile_is_the_smallest_value_that_enough_do_not_exceed(
    ordered: list[float], share: float, expected: float
) -> None:
    assert percentile(ordered, share) == expected


def test_median_of_nothing_is_no_number() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert math.isnan(median([]))


def test_best_peer_has_the_highest_median_where_more_is_better() -> None:
    results = with_samples(
        workerjobs={"drain_rate": [900.0]}, fast={"drain_rate": [100.0, 300.0, 200.0]}, slow={"drain_rate": [199.0]}
    )
    assert best_peer(results, "drain_rate") == ("fast", 200.0)


def test_best_peer_has_the_lowest_median_where_less_is_better() -> None:
    results = with_samples(
        workerjobs={"pickup_p50": [0.1]}, fast={"pickup_p50": [2.0]}, slow={"pickup_p50": [9.0, 1.0, 1.5]}
    )
    assert best_peer(results, "pickup_p50") == ("slow", 1.5)


def test_ours_is_never_its_own_best_peer() -> None:
    assert best_peer(with_samples(workerjobs={"drain_rate": [900.0]}), "drain_rate") is None


@pytest.mark.parametrize(
    ("ours", "peer", "expected"),
    [(50.0, 40.0, "1.25×"), (40.0, 50.0, "0.80×"), (1.0, 0.0, "–"), (math.nan, 1.0, "–"), (1.0, math.nan, "–")],
)
def test_ratio_is_of_ours_to_the_peer(ours: float, peer: float, expected: str) -> None:
    assert ratio(ours, peer) == expected


def test_numbers_have_their_figures_digits() -> None:
    assert number(41_234.56, FIGURES["drain_rate"]) == "41,235"
    assert number(0.678, FIGURES["pickup_p50"]) == "0.68"
    assert number(math.nan, FIGURES["pickup_p50"]) == "–"


def test_page_shows_medians_ranges_and_the_ratio_to_the_best_peer_of_each_figure() -> None:
    results = with_samples(
        workerjobs={"drain_rate": [50_000.0, 40_000.0, 60_000.0], "worker_cpu": [20.0]},
        fast={"drain_rate": [40_000.0], "worker_cpu": [40.0]},
        slow={"drain_rate": [1_000.0], "worker_cpu": [16.0]},
    )
    rows = rows_of(markdown(results), "Drain of no-op jobs")
    assert rows == {
        "**workerjobs**": ["50,000 (40,000 – 60,000)", "20.0"],
        "fast": ["40,000", "40.0"],
        "slow": ["1,000", "16.0"],
        "*workerjobs, of the best peer*": ["1.25× fast", "1.25× slow"],
    }


def test_a_queue_without_a_figure_gets_a_dash_and_is_never_best() -> None:
    results = with_samples(workerjobs={"pickup_p50": [1.0], "pickup_p99": [3.0]}, fast={"pickup_p50": [2.0]})
    rows = rows_of(markdown(results), "Pickup")
    assert rows["fast"] == ["2.00", "–"]
    assert rows["*workerjobs, of the best peer*"] == ["0.50× fast", "–"]
    assert "slow" not in rows


def test_measures_that_were_not_made_have_no_section() -> None:
    page = markdown(with_samples(fast={"insert_rate": [10.0]}))
    assert "### Bulk insert" in page
    assert "### Pickup" not in page
    assert "benchmarks/pickup.svg" not in page


def test_what_is_left_out_is_said_with_its_reason() -> None:
    page = markdown(replace(RESULTS, left_out={"oban": "it needs Python 3.12"}))
    assert "- oban: it needs Python 3.12" in page
    assert "Left out" not in markdown(RESULTS)


def test_page_says_where_it_was_measured() -> None:
    page = markdown(RESULTS)
    for part in ("2026-01-02", "2 cores (A CPU)", "8 GiB", "Postgres 18.6", "`fsync = on`", "load 0.2"):
        assert part in page


def test_claim_costs_are_compared_with_the_empty_table_of_the_same_case_and_postgres() -> None:
    costs = [
        ClaimCost("18.6", "due", 0, 0, 2.0),
        ClaimCost("18.6", "due", 10_000_000, 1_000_000, 3.0),
        ClaimCost("18.6", "key", 0, 0, 4.0),
        ClaimCost("14.23", "due", 0, 0, 1.0),
        ClaimCost("14.23", "due", 10_000_000, 1_000_000, 5.0),
    ]
    page = markdown(replace(RESULTS, claims=costs))
    assert "| all due now | 2.00 (1.00×) | 3.00 (1.50×) |" in page
    assert "| behind an exhausted key | 4.00 (1.00×) | – |" in page
    assert "| all due now | 1.00 (1.00×) | 5.00 (5.00×) |" in page
    assert "| Postgres 14.23 | 0 finished, 0 pending | 10 M finished, 1 M pending |" in page


def test_cells_cannot_break_the_table() -> None:
    assert table(["", "a"], [["x | y", "1"]]).splitlines()[-1] == "| x \\| y | 1 |"


def test_what_other_programs_measured_stays_on_the_page() -> None:
    page = markdown(RESULTS)
    assert written_by_others(page) == ""
    theirs = "\n## What limits ours\n\nWork.\n\n## On Kubernetes\n\nFast.\n"
    assert written_by_others(page + theirs) == theirs
