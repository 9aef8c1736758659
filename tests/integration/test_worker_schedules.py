"""Jobs that come again: cron lines, retries, and the built-in job."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.loop import in_loop, until
from tests.support.table import count_rows, open_store, read, sql, submit_one
from tests.support.workers import finished, run_one, worker, worker_process
from workerjobs.domain.job import Job, JobState, NewJob, ResourceRef, RetryPolicy
from workerjobs.jobs.prune import REMOVE_OLD_WORKER_JOBS
from workerjobs.storage.postgres import PostgresJobStore

SECOND = timedelta(seconds=1)


async def follower(store: PostgresJobStore, url: str, job: Job) -> Job:
    """The row that follows a finished job."""
    rows = await until(lambda: sql(url, 'select id from "workerJobs" where "rescheduledFromJob" = %s', job.id))
    return await read(store, rows[0][0])


@in_loop
async def test_cron_job_goes_on_after_success_and_after_failure(database_url: str) -> None:
    lines = [
        NewJob(type="echo", cron_schedule="* * * * * *"),
        NewJob(type="raise", data={"what": "plain"}, cron_schedule="* * * * * *"),
        NewJob(type="noSuchType", cron_schedule="* * * * * *"),
    ]
    async with worker(database_url, children=3) as running:
        firsts = await running.store.submit(lines)
        for job, state in zip(firsts, (JobState.SUCCEEDED, JobState.FAILED, JobState.FAILED), strict=True):
            first = await finished(running.store, job)
            second = await finished(running.store, await follower(running.store, database_url, first))
            third = await follower(running.store, database_url, second)
            assert [first.state, second.state] == [state, state]
            assert first.tick is not None
            assert second.tick is not None
            assert third.tick is not None
            assert first.tick < second.tick < third.tick
            for run in (first, second):
                # Not before its moment, and soon after it.
                assert run.started is not None
                assert run.due <= run.started < run.due + 5 * SECOND
            assert {first.cron_key, second.cron_key, third.cron_key} == {job.cron_key}
            assert third.attempt == 1
    # One unfinished row a line.
    assert count_rows(database_url, "finished is null") == 3


@in_loop
async def test_cron_job_that_is_retried_goes_on_beside_its_retries(database_url: str) -> None:
    line = NewJob(
        type="failUntil",
        data={"attempt": 3},
        cron_schedule="* * * * * *",
        retry=RetryPolicy(limit=5, initial_delay_ms=0),
    )
    async with worker(database_url, children=2) as running:
        first = await finished(running.store, (await running.store.submit([line]))[0])
        assert first.state is JobState.FAILED
        await until(lambda: count_rows(database_url, "success") >= 1)
    rows = sql(database_url, 'select attempt, result, "cronKey" is null from "workerJobs" where success')
    # The third attempt succeeds, outside the line; the line's own runs are first attempts, always.
    assert set(rows) == {(3, 3, True)}
    assert sql(database_url, 'select distinct attempt from "workerJobs" where "cronKey" is not null') == [(1,)]


@in_loop
async def test_auto_reschedule_tries_again_after_its_delay_until_it_works(database_url: str) -> None:
    job = NewJob(
        type="failUntil",
        data={"attempt": 3},
        tag="nightly",
        persistent=True,
        priority=4,
        auto_reschedule_on_failure=True,
        auto_reschedule_on_failure_delay_ms=600,
    )
    async with worker(database_url) as running:
        runs = [await finished(running.store, await submit_one(running.store, job))]
        for _ in range(2):
            runs.append(await finished(running.store, await follower(running.store, database_url, runs[-1])))
        assert [run.state for run in runs] == [JobState.FAILED, JobState.FAILED, JobState.SUCCEEDED]
        assert [run.attempt for run in runs] == [1, 2, 3]
        assert runs[2].result == 3
        for earlier, later in pairwise(runs):
            assert earlier.finished is not None
            assert later.started is not None
            assert earlier.started is not None
            # The delay counts from the end of the run, as the worker saw it by its estimate of the database's clock,
            # between the row's start and its end.
            error = timedelta(seconds=0.3)
            assert earlier.started - error <= later.due - timedelta(seconds=0.6) <= earlier.finished + error
            assert later.started >= later.due
            assert (later.tag, later.persistent, later.priority) == ("nightly", True, 4)
    assert count_rows(database_url) == 3


@in_loop
async def test_retries_end_at_their_limit(database_url: str) -> None:
    retry = RetryPolicy(limit=3, initial_delay_ms=20, factor=2, max_delay_ms=50)
    async with worker(database_url) as running:
        runs = [await run_one(running.store, "raise", {"what": "plain"}, retry=retry)]
        for _ in range(3):
            runs.append(await finished(running.store, await follower(running.store, database_url, runs[-1])))
        assert [run.attempt for run in runs] == [1, 2, 3, 4]
        assert {run.state for run in runs} == {JobState.FAILED}
        for run in runs:
            assert run.started is not None
            assert run.started >= run.due
        # Another job that comes later shows that nothing more is due.
        await run_one(running.store, "echo")
    assert count_rows(database_url) == 5


@in_loop
async def test_result_that_only_the_database_refuses_fails_its_job_with_the_reason(database_url: str) -> None:
    constraint = """alter table "workerJobs" add constraint "no five" check (result is distinct from '{"n": 5}')"""
    sql(database_url, constraint)
    async with worker(database_url, children=4) as running:
        jobs = [
            await finished(running.store, job)
            for job in await running.store.submit([NewJob(type="echo", data={"n": n}) for n in range(20)])
        ]
        bad = jobs.pop(5)
        assert {job.state for job in jobs} == {JobState.SUCCEEDED}
        assert bad.state is JobState.FAILED
        assert bad.error is not None
        assert bad.error.startswith("The job's result can't be stored: new row for relation")
        assert '"no five"' in bad.error


@in_loop
async def test_row_that_can_not_be_settled_at_all_keeps_nobody_busy(database_url: str) -> None:
    constraint = """alter table "workerJobs" add constraint "never" check (type <> 'noSuchType' or finished is null)"""
    sql(database_url, constraint)
    async with worker(database_url, children=2) as running:
        stuck = await submit_one(running.store, NewJob(type="noSuchType"))
        await until(lambda: count_rows(database_url, "started is not null") == 1)
        jobs = [await run_one(running.store, "echo", {"n": n}) for n in range(5)]
        assert {job.state for job in jobs} == {JobState.SUCCEEDED}
        assert (await read(running.store, stuck)).state is JobState.RUNNING
        # It is no longer this worker's: its lease runs out, and it does not hold up the drain.
        await until(lambda: running.metric("workerjobs_jobs_running") == 0)
        await running.stop()


# --- the built-in job

FIRST_OF_LINE = '"rescheduledFromJob" is null'
"""Not the rows that follow where an hour ends in the middle of a test."""


@in_loop
async def test_four_workers_that_start_together_make_the_built_in_job_once(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        entered = [
            stack.enter_async_context(worker(database_url, builtin_jobs=[REMOVE_OLD_WORKER_JOBS])) for _ in range(4)
        ]
        await asyncio.gather(*entered)
        await until(lambda: count_rows(database_url) > 0)
    rows = sql(
        database_url, f'select type, "cronSchedule", tag, persistent, "cronKey" from "workerJobs" where {FIRST_OF_LINE}'
    )
    assert rows == [
        (
            "removeOldWorkerJobs",
            "0 0 * * * *",
            "cron:removeOldWorkerJobs",
            False,
            "tag:cron:removeOldWorkerJobs:0 0 * * * *",
        )
    ]


@in_loop
async def test_built_in_job_that_went_missing_is_made_again(database_url: str) -> None:
    async with open_store(database_url) as store:
        for _ in range(2):
            async with worker(database_url, builtin_jobs=[REMOVE_OLD_WORKER_JOBS]):
                await until(lambda: count_rows(database_url, "finished is null") == 1)
            ((job_id,),) = sql(database_url, 'select id from "workerJobs" where finished is null')
            await store.cancel([job_id])
    assert count_rows(database_url, FIRST_OF_LINE) == 2


@in_loop
async def test_built_in_jobs_follow_to_a_pool_that_is_served_and_stay_where_they_are(database_url: str) -> None:
    uid = ResourceRef(cluster_id="builtin", namespace="", name="once", uid="once", generation=1)
    once = NewJob(type="echo", pool="gone", resource=uid)

    def pools(finished: str = "finished is null") -> list[tuple[str, str]]:
        return sql(database_url, f'select type, pool from "workerJobs" where {finished} order by id')

    def builtin(pool: str) -> dict[str, Any]:
        return {
            "pool": pool,
            "builtin_jobs": [replace(REMOVE_OLD_WORKER_JOBS, pool=pool)],
            "jobs_at_start": [replace(once, pool=pool)],
        }

    async with open_store(database_url) as store:
        await store.ensure_cron([replace(REMOVE_OLD_WORKER_JOBS, pool="gone")])
        await store.submit([once])
        async with worker(database_url, **builtin("first")):
            await until(lambda: pools() == [("removeOldWorkerJobs", "first")])
            assert pools("finished is not null") == [("echo", "first")]
            async with worker(database_url, **builtin("second")) as second:
                await second.supervisor._presence.types_shown.wait()
                await second.supervisor._builtins.step()
                assert pools() == [("removeOldWorkerJobs", "first")]
    assert pools("true") == [("removeOldWorkerJobs", "first"), ("echo", "first")]


@in_loop
async def test_built_in_job_can_be_switched_off(database_url: str, tmp_path: Path) -> None:
    async with worker_process(database_url, tmp_path), open_store(database_url) as store:
        await run_one(store, "echo")
    assert count_rows(database_url, "type = 'removeOldWorkerJobs'") == 0


@in_loop
async def test_remove_old_worker_jobs_removes_what_is_past_its_time(database_url: str) -> None:
    insert = """
        insert into "workerJobs" (type, started, finished, success, "removeAt", persistent)
        select 'old', now(), now(), true, now() - interval '1 minute', n = 1 from generate_series(1, 12000) as n
    """
    sql(database_url, insert)
    async with worker(database_url) as running:
        await submit_one(running.store, NewJob(type="later", due=datetime(2040, 1, 1, tzinfo=UTC)))
        job = await run_one(running.store, "removeOldWorkerJobs")
        assert job.result == {"removed": 11_999}
        assert job.progress == {"current": 11_999, "total": None, "message": "11999 removed"}
    rows = sql(database_url, 'select type, persistent from "workerJobs" order by id')
    assert rows == [("old", True), ("later", False), ("removeOldWorkerJobs", False)]
