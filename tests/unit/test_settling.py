"""How ends of runs are put together for one statement."""

from __future__ import annotations

from typing import cast

import pytest

from tests.support.factories import running_job
from workerjobs.domain.lifecycle import Outcome
from workerjobs.ports.jobs import JobStore
from workerjobs.worker.clock import DatabaseClock
from workerjobs.worker.metrics import WorkerMetrics
from workerjobs.worker.running import RunningJob, RunningJobs
from workerjobs.worker.settling import BATCH, BATCH_CHARACTERS, Settling


@pytest.mark.parametrize(
    ("lengths", "count"),
    [
        ([1] * (BATCH + 5), BATCH),
        ([BATCH_CHARACTERS // 2] * 5, 2),
        ([BATCH_CHARACTERS + 1, 1], 1),
        ([1, BATCH_CHARACTERS], 1),
        ([], 0),
    ],
    ids=["many", "large ones", "one that is too large goes alone", "before a large one", "none"],
)
def test_batch_is_bounded_in_number_and_in_size(lengths: list[int], count: int) -> None:
    settling = Settling(cast(JobStore, None), RunningJobs(), DatabaseClock(), WorkerMetrics())
    for length in lengths:
        settling.add(RunningJob(running_job()), Outcome(True, "x" * length))
    assert len(settling._next_batch()) == count
