"""The server goes away and comes back: running jobs go on, and what they return is stored; nothing runs twice."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path

import pytest

from tests.support.loop import in_loop, in_loop_for, until
from tests.support.pgbouncer import pgbouncer
from tests.support.server import FAST, IMMEDIATE, OwnServer, own_server
from tests.support.table import count_rows, open_store, sql
from tests.support.workers import Told, Worker, finished, run_one, worker, worker_process
from workerjobs.domain.job import JobState, NewJob

LEASE = 2.0
"""Seconds; outages of twice that are long."""


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as running:
        yield running


def worker_here(url: str, server: OwnServer, children: int = 2) -> AbstractAsyncContextManager[Worker]:
    """A worker with short leases that hears of news straight from the server."""
    return worker(url, children, lease=LEASE, renew_every=LEASE / 3, rescue_every=LEASE / 10, direct_url=server.url)


@pytest.mark.slow
@pytest.mark.parametrize("how", [FAST, IMMEDIATE], ids=["fast", "immediate"])
@pytest.mark.parametrize("way", ["straight", "through a pooler"])
@in_loop
async def test_restart_loses_nothing_and_runs_nothing_twice_that_finished(
    server: OwnServer, tmp_path: Path, how: signal.Signals, way: str
) -> None:
    """Two workers with running jobs and a busy table; the outage is twice as long as their leases."""
    told = Told(tmp_path)
    with ExitStack() as stack:
        url = server.url
        if way != "straight":
            url = stack.enter_context(pgbouncer(server.url)).url_for(server.url)
        async with worker_here(url, server, children=4) as first, worker_here(url, server, children=3) as second:
            # Held in both workers: those that end during the outage, and those that go on after it.
            holding = [
                *await first.store.submit([NewJob(type="hold", data=told.data()) for _ in range(2)]),
                *await first.store.submit([NewJob(type="hold", data=told.data(until="later")) for _ in range(2)]),
            ]
            for job in holding:
                await told.run(job)
            await first.store.submit([NewJob(type="tell", data=told.data(n=n)) for n in range(600)])
            await until(lambda: count_rows(server.url, "finished is not null") >= 50)
            await asyncio.to_thread(server.stop, how)
            went = time.monotonic()
            told.go()
            await until(lambda: all(told.runs(job, "ended") for job in holding[:2]))
            if way == "straight":
                # A pooler keeps a statement waiting instead of refusing it.
                await until(lambda: {each.metric("workerjobs_database_up") for each in (first, second)} == {0})
            # Nothing can be waited for here: the leases have to run out while nobody can renew them.
            await asyncio.sleep(max(0.0, 2 * LEASE - (time.monotonic() - went)))
            await asyncio.to_thread(server.start)
            async with open_store(server.url) as store:
                for job in holding[:2]:
                    assert (await finished(store, job)).state is JobState.SUCCEEDED
                told.go("later")
                for job in holding[2:]:
                    assert (await finished(store, job)).state is JobState.SUCCEEDED
                await until(lambda: count_rows(server.url, "finished is null") == 0)
                assert (await run_one(store, "echo")).state is JobState.SUCCEEDED
    assert [len(told.runs(job)) for job in holding] == [1] * 4
    assert count_rows(server.url) == 605
    assert sql(server.url, 'select distinct success, attempt from "workerJobs"') == [(True, 1)]
    # A claim whose answer got lost leaves rows that nobody runs: a rescue makes them good, once. Every other job ran
    # just once, and a row's result is that of its newest run.
    for job_id, rescues in sql(server.url, """select id, rescues from "workerJobs" where type = 'tell'"""):
        runs = told.runs(job_id, "ran")
        assert len(runs) == 1, (job_id, rescues, runs)
        assert rescues <= 1


@pytest.mark.slow
@in_loop
async def test_jobs_are_not_taken_from_an_owner_whose_connection_comes_back_a_little_later(
    server: OwnServer, tmp_path: Path
) -> None:
    """Connections and server outlive this outage, so their age does not tell of it."""
    told = Told(tmp_path)
    async with worker_here(server.url, server) as owner, worker_here(server.url, server) as other:
        jobs = await owner.store.submit([NewJob(type="hold", data=told.data()) for _ in range(4)])
        for job in jobs:
            await told.run(job)
        # Both could rescue: they had the server's answers for a whole lease.
        await until(lambda: owner.supervisor._rescue.is_steady and other.supervisor._rescue.is_steady)
        connection = owner.supervisor._store._connection  # type: ignore[attr-defined]
        session = [connection.info.backend_pid]
        with server.frozen(only=session):
            with server.frozen(without=session):
                await asyncio.sleep(1.5 * LEASE)
            # The other one sees leases that ran out, and that it could not have seen them renewed.
            await until(lambda: not other.supervisor._rescue.is_steady)
            await asyncio.sleep(LEASE / 3)
            assert count_rows(server.url, '"leaseDeadline" < now()') >= 2
        told.go()
        for job in jobs:
            done = await finished(owner.store, job)
            assert (done.state, done.rescues) == (JobState.SUCCEEDED, 0)
    assert [len(told.runs(job)) for job in jobs] == [1] * 4


@pytest.mark.slow
@pytest.mark.timeout(480)
@in_loop_for(400)
async def test_outage_of_a_minute_with_the_leases_that_users_have(server: OwnServer, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with (
        worker_process(server.url, tmp_path, count=2, name="first") as first,
        worker_process(server.url, tmp_path, count=2, name="second") as second,
        open_store(server.url) as store,
    ):
        ending, going_on = [
            await store.submit([NewJob(type="hold", data=told.data(until=until_)) for _ in range(2)])
            for until_ in ("go", "later")
        ]
        for job in (*ending, *going_on):
            await told.run(job)
        await asyncio.to_thread(server.stop, FAST)
        went = time.monotonic()
        told.go()
        await asyncio.sleep(60 - (time.monotonic() - went))
        await asyncio.to_thread(server.start)
        async with open_store(server.url) as later:
            for job in ending:
                done = await finished(later, job)
                assert (done.state, done.rescues) == (JobState.SUCCEEDED, 0)
            # Longer than the lease that rescuers wait after an outage.
            await asyncio.sleep(17)
            told.go("later")
            for job in going_on:
                done = await finished(later, job)
                assert (done.state, done.rescues) == (JobState.SUCCEEDED, 0)
        for running in (first, second):
            assert running.popen.poll() is None
            # Said once, not once a second.
            assert 1 <= len([r for r in running.records() if r["level"] == "warning"]) <= 15
    assert [len(told.runs(job)) for job in (*ending, *going_on)] == [1] * 4
