"""What is kept of jobs' lines while the database is away."""

from __future__ import annotations

import logging

import pytest

from tests.support.loop import in_loop
from tests.support.table import allow_connections, open_store, sql
from workerjobs.errors import DatabaseUnavailableError
from workerjobs.worker import keeping
from workerjobs.worker.keeping import LogKeeping

LENGTH, LINES, JOBS = 10_000, 10, 20


@in_loop
async def test_lines_that_wait_for_the_database_are_bounded_and_the_newest_are_stored(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "WAITING_BYTES", 1_000_000)
    monkeypatch.setattr(keeping, "BATCH", 30)
    held = set(range(1, JOBS + 1))
    async with open_store(database_url) as store:
        kept = LogKeeping(store, 1000, held.__contains__)
        try:
            allow_connections(database_url, False)
            for number in range(LINES):
                for job_id in (*held, 99):
                    line = {"name": "workerjobs.job.x", "levelno": logging.INFO, "msg": f"{number}" + "x" * LENGTH}
                    kept._handler.handle(logging.makeLogRecord(line | {"job_id": job_id}))
            with pytest.raises(DatabaseUnavailableError):
                await kept.step()
        finally:
            allow_connections(database_url, True)
        waiting = [line.message for line in kept._waiting]
        assert 900_000 < sum(map(len, waiting)) < 1_000_000
        assert waiting[-JOBS:] == [f"{LINES - 1}" + "x" * LENGTH] * JOBS
        # Nothing is remembered of jobs that are not, or no longer, run here.
        assert set(kept._left) == held
        held.clear()
        await kept.step()
        assert (not kept._waiting, kept._waiting_bytes, len(kept._left)) == (True, 0, 0)
        stored = sql(database_url, 'select message from "workerJobLogs" order by id')
        assert [message for (message,) in stored] == waiting
