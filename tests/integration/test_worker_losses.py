"""What is lost and comes back: workers, leases, the database."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import allow_connections, claim_all, count_rows, open_store, read, sql, submit_one
from tests.support.workers import Told, finished, gone, is_alive, process, processes, run_one, worker, worker_process
from workerjobs.domain.job import JobState, NewJob

TERMINATE = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""


@pytest.mark.slow
@in_loop
async def test_jobs_of_a_killed_supervisor_run_elsewhere_within_20_s_and_nothing_of_it_is_left(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with (
        worker_process(database_url, tmp_path, count=4, name="first") as first,
        worker_process(database_url, tmp_path, count=4, name="second", WORKER_POOL="reserve") as second,
        open_store(database_url) as store,
    ):
        jobs = await store.submit([NewJob(type="family", data=told.data()) for _ in range(4)])
        runs = [await told.run(job) for job in jobs]
        # The second one watches over leases of all pools, and now takes jobs of this one.
        sql(database_url, """update "workerJobs" set pool = 'reserve'""")
        old = first.family
        grandchildren = {process(pid) for run in runs for pid in run["grandchildren"]}
        assert len(grandchildren) == 12
        # Those that left their session are the nursery's, so all of them count as the supervisor's family.
        assert grandchildren < old
        assert {process(run["pid"]) for run in runs} < old

        first.send(signal.SIGKILL)
        killed_at = time.monotonic()
        await gone(old, seconds=5)
        again = [await told.run(job, number=2, seconds=25) for job in jobs]
        took = time.monotonic() - killed_at
        assert not old & processes().keys()
        assert took <= 20
        assert {process(run["pid"]) for run in again} < second.family
        for job in jobs:
            running = await read(store, job)
            assert (running.state, running.rescues, running.attempt) == (JobState.RUNNING, 1, 1)
        told.go()
        for job in jobs:
            assert (await finished(store, job)).state is JobState.SUCCEEDED
        assert [len(told.runs(job)) for job in jobs] == [2] * 4


@in_loop
async def test_job_whose_workers_are_lost_again_and_again_fails(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(database_url) as store:
        job = await submit_one(store, NewJob(type="echo", pool="default"))
        other = await submit_one(store, NewJob(type="echo"))
        await claim_all(store)
        expired = """
            update "workerJobs" set "leaseDeadline" = now() - interval '1 second', rescues = %s where id = %s
        """
        sql(database_url, expired, 4, job.id)
        sql(database_url, expired, 3, other.id)
        # A lease that outlives a busy moment: one rescue is counted here.
        async with worker(database_url, lease=2, renew_every=0.2, rescue_every=0.1) as running:
            failed = await finished(store, job)
            assert failed.state is JobState.FAILED
            assert failed.error == "Worker lost 5 times while running this job"
            assert failed.rescues == 5
            survivor = await finished(store, other)
            assert (survivor.state, survivor.rescues) == (JobState.SUCCEEDED, 4)
            assert running.metric("workerjobs_jobs_rescued_total", type="echo") == 2
    assert "Rescued a job from a lost worker (4 times so far)" in caplog.text


@in_loop
async def test_job_that_was_to_be_cancelled_when_its_worker_was_lost_ends_cancelled(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await submit_one(store, NewJob(type="echo"))
        await claim_all(store)
        await store.cancel([job.id])
        sql(database_url, """update "workerJobs" set "leaseDeadline" = now() - interval '1 second'""")
        async with worker(database_url, lease=0.2, renew_every=0.05, rescue_every=0.1):
            cancelled = await finished(store, job)
        assert cancelled.state is JobState.CANCELLED
        assert cancelled.error == "Job cancelled"


@in_loop
async def test_lost_lease_ends_the_run_at_once_and_its_outcome_changes_nothing(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(tmp_path)
    async with worker(database_url, children=2, renew_every=0.1) as running:
        stolen, kept = await running.store.submit([NewJob(type="hold", data=told.data()) for _ in range(2)])
        started = [await told.run(job) for job in (stolen, kept)]
        child = process(started[0]["pid"])
        steal = """
            update "workerJobs" set "fencingToken" = nextval('workerjobs.fencing_token'), "leaseOwner" = 'another',
                "leaseDeadline" = now() + interval '1 hour' where id = %s
        """
        sql(database_url, steal, stolen.id)
        await gone([child])
        theirs = await read(running.store, stolen)
        assert (theirs.state, theirs.lease_owner) == (JobState.RUNNING, "another")
        # SIGKILL: no cleaning up beside the run that has the lease now.
        assert told.runs(stolen, "interrupted") == []
        assert await until(lambda: running.metric("workerjobs_jobs_running") == 1)
        told.go()
        assert (await finished(running.store, kept)).state is JobState.SUCCEEDED
        assert await read(running.store, stolen) == theirs
    assert "The lease of a running job was lost; it is stopped here" in caplog.text


@in_loop
async def test_run_whose_job_its_own_worker_claims_anew_is_ended_first(database_url: str, tmp_path: Path) -> None:
    """As after a pause of the whole worker, longer than its leases."""
    told = Told(tmp_path)
    async with worker(database_url, children=2, renew_every=600) as running:
        (job,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        first = process((await told.run(job))["pid"])
        rescued = """
            update "workerJobs" set started = null, "leaseOwner" = null, "leaseDeadline" = null, "fencingToken" = null
        """
        sql(database_url, rescued)
        second = await told.run(job, number=2)
        await gone([first])
        assert told.runs(job, "interrupted") == []
        told.go()
        assert (await finished(running.store, job)).result["pid"] == second["pid"]


@in_loop
async def test_run_whose_job_its_own_worker_gives_up_is_ended(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url, lease=0.3, renew_every=600, rescue_every=0.1) as running:
        later = datetime.now(UTC) + timedelta(hours=1)
        (job,) = await running.store.submit([NewJob(type="hold", data=told.data(), due=later)])
        sql(database_url, """update "workerJobs" set rescues = 4, due = now()""")
        run = await told.run(job)
        assert (await finished(running.store, job)).error == "Worker lost 5 times while running this job"
        await until(lambda: not is_alive(run["pid"]))
        assert (await run_one(running.store, "echo")).state is JobState.SUCCEEDED


@in_loop
async def test_outcome_of_a_run_whose_lease_was_lost_unnoticed_changes_nothing(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(tmp_path)
    async with worker(database_url, renew_every=600) as running:
        (job,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        sql(database_url, """update "workerJobs" set "fencingToken" = 999, "leaseOwner" = 'another'""")
        before = await read(running.store, job)
        told.go()
        await until(lambda: "This run's outcome was not stored" in caplog.text)
        assert await read(running.store, job) == before
        assert running.metric("workerjobs_jobs_settled_total", type="hold", outcome="succeeded") == 0
        assert (await run_one(running.store, "echo")).state is JobState.SUCCEEDED


# --- the database


@in_loop
async def test_nothing_is_lost_when_all_connections_are_terminated_again_and_again(database_url: str) -> None:
    async with worker(database_url, children=4) as running:
        await running.store.submit([NewJob(type="echo", data={"n": n}) for n in range(4000)])
        done = [0]
        for _ in range(4):
            await until(lambda: count_rows(database_url, "finished is not null") > min(done[-1], 3999))
            done.append(count_rows(database_url, "finished is not null"))
            sql(database_url, TERMINATE)
        await until(lambda: count_rows(database_url, "finished is not null") == 4000)
        assert await until(lambda: running.metric("workerjobs_database_up") == 1)
        await until(lambda: running.metric("workerjobs_jobs_running") == 0)
    # A claim whose answer got lost is made good by a rescue.
    assert sql(database_url, 'select distinct success, attempt from "workerJobs"') == [(True, 1)]
    assert count_rows(database_url, "rescues > 1") == 0
    assert count_rows(database_url, "(result->>'n')::int + 1 = id") == 4000


@in_loop
async def test_jobs_go_on_while_the_database_is_away_and_are_settled_when_it_is_back(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="workerjobs")
    told = Told(tmp_path)
    async with worker(database_url, children=2, lease=2, renew_every=0.2, rescue_every=0.2) as running:
        jobs = await running.store.submit(
            [NewJob(type="hold", data=told.data()), NewJob(type="hold", data=told.data(until="later"))]
        )
        for job in jobs:
            await told.run(job)
        allow_connections(database_url, False)
        try:
            await until(lambda: running.metric("workerjobs_database_up") == 0)
            told.go()
            await until(lambda: "Succeeded" in caplog.text)
            # Longer than the lease.
            await asyncio.sleep(2.2)
        finally:
            allow_connections(database_url, True)
        await until(lambda: running.metric("workerjobs_database_up") == 1)
        async with open_store(database_url) as store:
            assert (await finished(store, jobs[0])).state is JobState.SUCCEEDED
            # Its owner renewed it before anyone could take it.
            other = await read(store, jobs[1])
            assert (other.state, other.rescues) == (JobState.RUNNING, 0)
            told.go("later")
            assert (await finished(store, jobs[1])).state is JobState.SUCCEEDED
            # New jobs are announced again.
            assert (await run_one(store, "echo")).state is JobState.SUCCEEDED
    assert [len(told.runs(job)) for job in jobs] == [1, 1]


# --- many workers


@pytest.mark.slow
@in_loop
async def test_eight_children_of_four_workers_run_each_of_5000_jobs_exactly_once(
    database_url: str, tmp_path: Path
) -> None:
    sql(database_url, "create table runs (n int primary key, pid int)")
    async with AsyncExitStack() as stack:
        starting = [
            stack.enter_async_context(
                worker_process(database_url, tmp_path, count=2, name=str(number), WORKER_LOG_LEVEL="info")
            )
            for number in range(4)
        ]
        store = await stack.enter_async_context(open_store(database_url))
        workers = await asyncio.gather(*starting)
        for start in range(0, 5000, 1000):
            await store.submit([NewJob(type="insert", data={"n": n}) for n in range(start, start + 1000)])
        await until(lambda: count_rows(database_url, "finished is null") == 0, seconds=180)
        pids = {each.pid for running in workers for each in running.family}
    assert sql(database_url, "select count(*), min(n), max(n) from runs") == [(5000, 0, 4999)]
    # A second run of a job would have violated the key and failed.
    assert sql(database_url, 'select distinct success, attempt, rescues from "workerJobs"') == [(True, 1, 0)]
    assert count_rows(database_url, "(data->>'n')::int + 1 <> id") == 0
    share = Counter(dict(sql(database_url, "select pid, count(*) from runs group by pid")))
    assert len(share) == 8
    assert set(share) < pids
