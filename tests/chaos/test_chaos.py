"""The chaos run of `make chaos-smoke` in short: see tests/chaos/smoke.py for what it checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.smoke import run


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_every_job_is_accounted_for_when_workers_are_killed_and_postgres_crashes(tmp_path: Path) -> None:
    assert run(2000, workers=3, children=3, seed=1, limit_seconds=400, folder=tmp_path) == []
