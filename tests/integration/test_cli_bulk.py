"""Changing all jobs that a filter finds, part by part, while workers go on."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.support.loop import in_loop, until
from tests.support.table import count_rows, waiting_for_locks
from workerjobs.cli import bulk
from workerjobs.domain.job import JobState, NewJob
from workerjobs.ports.jobs import JobQuery
from workerjobs.storage.api import PostgresApiStore


@in_loop
async def test_part_of_which_a_worker_takes_some_jobs_is_not_the_last(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PART", 2)
    store = PostgresApiStore(database_url, "commands")
    try:
        first, *_ = await store.submit([NewJob(type="report") for _ in range(4)])
        which = JobQuery(states=[JobState.PENDING], type="report", limit=4)

        async def cancel_part(part: JobQuery) -> int:
            return len((await store.cancel_matching(part)).cancelled)

        async with await psycopg.AsyncConnection.connect(database_url) as worker:
            await worker.execute('update "workerJobs" set started = now() where id = %s', [first.id])
            async with asyncio.TaskGroup() as cancelling:
                cancelling.create_task(bulk.changed(cancel_part, which))
                await until(lambda: waiting_for_locks(database_url))
                await worker.commit()
    finally:
        await store.close()
    assert count_rows(database_url, "finished is null and started is null") == 0
    assert count_rows(database_url, "success = false") == 3
