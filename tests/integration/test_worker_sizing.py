"""WORKER_COUNT=auto: children come with the work, and go after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.loop import in_loop, until
from tests.support.workers import Told, finished, worker
from workerjobs.domain.job import NewJob
from workerjobs.worker import sizing


@in_loop
async def test_children_come_as_long_as_all_are_busy_and_go_once_some_are_spare(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(sizing, "SPARE_SECONDS", 0.2)
    told = Told(tmp_path)
    async with worker(database_url, 3, fewest_children=1) as running:
        await running.supervisor.known_types(10)
        assert running.supervisor.child_count == 1
        # More than there may be children.
        jobs = await running.store.submit([NewJob(type="hold", data=told.data()) for _ in range(4)])
        await until(lambda: sum(bool(told.runs(job)) for job in jobs) == 3)
        assert running.supervisor.child_count == len(running.supervisor.child_pids) == 3
        told.go()
        pids = {(await finished(running.store, job)).result["pid"] for job in jobs}
        assert len(pids) == 3
        await until(lambda: len(running.supervisor.child_pids) == 1)
        # And again.
        again = await running.store.submit([NewJob(type="hold", data=told.data(until="again")) for _ in range(2)])
        await until(lambda: all(told.runs(job) for job in again))
        told.go("again")
        for job in again:
            assert (await finished(running.store, job)).success
