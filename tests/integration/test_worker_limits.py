"""Workers under limits and pauses, in pools, and with different jobs: real supervisors and children."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import read, sql
from tests.support.workers import Told, finished, worker
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.worker import looks, pickup

SOON = 60.0
"""Sooner than any poll here."""
OTHER_JOBS = """
from workerjobs import job

@job("other")
def other(data):
    return "done by the other"
"""


@pytest.fixture(autouse=True)
def without_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found but by an announcement."""
    for module in (looks, pickup):
        monkeypatch.setattr(module, "POLL_SECONDS", 600.0)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


async def is_running(store: PostgresJobStore, job: Job) -> bool:
    return (await read(store, job)).state is JobState.RUNNING


@in_loop
async def test_permit_that_frees_wakes_another_worker_at_once(database_url: str, told: Told) -> None:
    async with worker(database_url) as one, worker(database_url) as two:
        jobs = [
            NewJob(type="hold", data=told.data(until=f"go {n}"), concurrency_key="k", concurrency_limit=1)
            for n in range(3)
        ]
        stored = await one.store.submit(jobs)
        for n, job in enumerate(stored):
            await told.run(job, seconds=SOON)
            assert [await is_running(one.store, each) for each in stored].count(True) == 1
            told.go(f"go {n}")
            assert (await finished(one.store, job, seconds=SOON)).success
        assert two.supervisor.owner != one.supervisor.owner


@in_loop
async def test_permit_that_frees_wakes_workers_of_other_pools(database_url: str, told: Told) -> None:
    async with worker(database_url) as one, worker(database_url, pool="other"):
        jobs = [
            NewJob(type="hold", data=told.data(until=pool), concurrency_key="k", concurrency_limit=1, pool=pool)
            for pool in ("default", "other")
        ]
        first, second = await one.store.submit(jobs)
        running = await until(lambda: [job for job in (first, second) if told.runs(job)], seconds=SOON)
        (waiting,) = {first.id, second.id} - {job.id for job in running}
        told.go(running[0].pool)
        await told.run(waiting, seconds=SOON)
        told.go("default")
        told.go("other")


@in_loop
async def test_type_with_a_limit_runs_so_many_at_once_and_its_jobs_are_picked_up_at_once(
    database_url: str, told: Told
) -> None:
    async with worker(database_url, 2) as one, worker(database_url, 2):
        await one.store.set_limit(LimitKind.TYPE, "hold", 1)
        # Workers have looked by now; only the announcement makes them look again.
        await until(lambda: one.supervisor._pickup._looks.seconds(asyncio.get_running_loop().time()) > 0)
        first = (await one.store.submit([NewJob(type="hold", data=told.data(until="1"))]))[0]
        await told.run(first, seconds=SOON)
        second = (await one.store.submit([NewJob(type="hold", data=told.data(until="2"))]))[0]
        echo = (await one.store.submit([NewJob(type="echo")]))[0]
        assert (await finished(one.store, echo, seconds=SOON)).success
        assert not await is_running(one.store, second)
        told.go("1")
        await told.run(second, seconds=SOON)
        told.go("2")


@in_loop
async def test_rate_starts_the_next_job_when_its_moment_comes(database_url: str) -> None:
    async with worker(database_url) as one:
        jobs = [NewJob(type="echo", concurrency_key="k", rate_limit=2, rate_period_ms=1000) for _ in range(5)]
        stored = await one.store.submit(jobs)
        done = [await finished(one.store, job, seconds=SOON) for job in stored]
        starts = sorted(job.started for job in done if job.started is not None)
        # Two at once, then one each half second; by the moments of the claims, which runs may follow a little later.
        assert starts[4] - starts[0] >= timedelta(seconds=1.4)


@in_loop
async def test_pause_holds_everywhere_and_resuming_wakes_workers_at_once(database_url: str, told: Told) -> None:
    async with worker(database_url, 2) as one, worker(database_url, 2):
        (running,) = await one.store.submit([NewJob(type="hold", data=told.data())])
        await told.run(running)
        await one.store.pause(PauseKind.POOL, "default")
        keyed = NewJob(type="echo", concurrency_key="k", concurrency_limit=1)
        pooled = await one.store.submit([NewJob(type="echo"), keyed, NewJob(type="nobody knows")])
        told.go()
        # What ran goes on to its end; the child that is free then claims nothing.
        assert (await finished(one.store, running)).success
        assert sql(database_url, 'select count(*) from "workerJobs" where started is null') == [(3,)]
        await one.store.pause(PauseKind.TYPE, "echo")
        await one.store.resume(PauseKind.POOL, "default")
        unknown = await finished(one.store, pooled[2], seconds=SOON)
        assert unknown.error == "Unknown job type: nobody knows"
        assert sql(database_url, 'select count(*) from "workerJobs" where started is null') == [(2,)]
        await one.store.resume(PauseKind.TYPE, "echo")
        for job in pooled[:2]:
            assert (await finished(one.store, job, seconds=SOON)).success


@in_loop
async def test_workers_with_different_jobs_leave_each_other_theirs(database_url: str, tmp_path: Path) -> None:
    module = tmp_path / "other_jobs.py"
    module.write_text(OTHER_JOBS)
    async with worker(database_url) as old:
        async with worker(database_url, modules=[str(module)]) as new:
            await until(lambda: "other" in new.supervisor._known.types)

            async def both_are_shown() -> bool:
                return sum(bool(each.types) for each in await old.store.workers(timedelta(seconds=15))) == 2

            await until(both_are_shown)
            keys = (None, "k")
            theirs = await old.store.submit([NewJob(type="other", concurrency_key=key) for key in keys])
            ours = await old.store.submit([NewJob(type="echo", concurrency_key=key) for key in keys])
            (nobodys,) = await old.store.submit([NewJob(type="nobody knows")])
            for job in theirs:
                assert (await finished(old.store, job, seconds=SOON)).result == "done by the other"
            for job in ours:
                assert (await finished(old.store, job, seconds=SOON)).success
            assert (await finished(old.store, nobodys, seconds=SOON)).error == "Unknown job type: nobody knows"
        # The other one has ended: nobody knows its type any more.
        (left,) = await old.store.submit([NewJob(type="other")])
        assert (await finished(old.store, left, seconds=SOON)).error == "Unknown job type: other"


@in_loop
async def test_workers_of_two_pools_share_a_table_and_no_job(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with worker(database_url) as ours, worker(database_url, pool="theirs") as theirs:
        jobs = [
            NewJob(type="echo", pool=pool, concurrency_key=key) for pool in ("default", "theirs") for key in ("k", None)
        ]
        stored = await ours.store.submit(jobs)
        (nobodys,) = await ours.store.submit([NewJob(type="echo", pool="nobody's")])
        owners = {job.id: (await finished(ours.store, job, seconds=SOON)).lease_owner for job in stored}
        assert list(owners.values()) == [ours.supervisor.owner] * 2 + [theirs.supervisor.owner] * 2
        assert (await read(ours.store, nobodys)).state is JobState.PENDING


LIMITED_JOBS = """
from tests.support.jobs import hold
from workerjobs import job

@job("few", concurrency=2)
def few(data, context):
    return hold(data, context)
"""


@in_loop
async def test_type_runs_as_many_at_once_as_its_code_says_unless_a_person_said_another_number(
    database_url: str, told: Told, tmp_path: Path
) -> None:
    module = tmp_path / "few_jobs.py"
    module.write_text(LIMITED_JOBS)
    async with (
        worker(database_url, children=2, modules=[str(module)]) as one,
        worker(database_url, children=2, modules=[str(module)]),
    ):
        stored = await one.store.submit([NewJob(type="few", data=told.data()) for _ in range(4)])
        running = await until(lambda: [job for job in stored if told.runs(job)][1:], seconds=SOON)
        assert running
        # Both know the limit; with it gone, the two that wait would have begun before this one, due later, ends.
        assert [await is_running(one.store, job) for job in stored].count(True) == 2
        await one.store.set_limit(LimitKind.TYPE, "few", 3, None, None)
        await until(lambda: len([job for job in stored if told.runs(job)]) == 3, seconds=SOON)
        assert [await is_running(one.store, job) for job in stored].count(True) == 3
        told.go()
        for job in stored:
            assert (await finished(one.store, job, seconds=SOON)).success
    # Another worker of that code leaves the number alone.
    async with worker(database_url, modules=[str(module)]) as later:
        (job,) = await later.store.submit([NewJob(type="few", data=told.data())])
        assert (await finished(later.store, job, seconds=SOON)).success
    assert sql(database_url, 'select concurrency, "isDeclared" from "workerJobLimits"') == [(3, False)]
