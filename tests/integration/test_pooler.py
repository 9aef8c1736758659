"""Everything through pgbouncer in transaction mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.cli import workerjobs, workerjobs_json
from tests.support.loop import in_loop, until
from tests.support.pgbouncer import Pgbouncer, pgbouncer
from tests.support.postgres import PostgresServer
from tests.support.table import LEASE, claim_all, count_rows, open_store, open_stores, read, settlement, sql, submit_one
from tests.support.workers import JOBS, Told, finished, run_jobs, run_one, worker_process
from workerjobs import WorkerManager
from workerjobs.domain.job import JobState, NewJob
from workerjobs.errors import DatabaseRefusedError
from workerjobs.ports.notices import DueNotice, Notice, Reconnected
from workerjobs.storage.connection import connect, is_pooled
from workerjobs.storage.listen import PostgresListener
from workerjobs.storage.migrate import migrate_url


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[Pgbouncer]:
    with pgbouncer(postgres_server.url) as running:
        yield running


@pytest.fixture
def pooled_url(pooler: Pgbouncer, database_url: str) -> Iterator[str]:
    yield pooler.url_for(database_url)
    # Its idle sessions would keep the test's database from being dropped in time.
    pooler.admin("RECONNECT")


@asynccontextmanager
async def heard(listener: PostgresListener) -> AsyncIterator[asyncio.Queue[Notice]]:
    """What a listener yields, as it comes."""
    queue: asyncio.Queue[Notice] = asyncio.Queue()

    async def listen() -> None:
        async for notice in listener.notices():
            queue.put_nowait(notice)

    task = asyncio.create_task(listen())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.wait({task})


@in_loop
async def test_a_pooler_is_recognized(pooled_url: str, database_url: str) -> None:
    for url, pooled in ((pooled_url, True), (database_url, False)):
        connection = await connect(url, "test")
        assert await is_pooled(connection) is pooled
        assert (connection.prepare_threshold is None) is pooled
        await connection.close()


@in_loop
async def test_statements_that_psycopg_would_prepare_run_in_whatever_session(pooled_url: str) -> None:
    # Psycopg prepares what it ran five times; the clients are more than the pooler's three sessions.
    async with open_stores(pooled_url, 8) as stores:

        async def work(number: int) -> None:
            store = stores[number]
            for _ in range(12):
                (stored,) = await store.submit([NewJob(type="report", tag=f"tag {number}")])
                while not (claimed := await store.claim(f"owner {number}", "default", 1, LEASE)):
                    if (job := await store.get(stored.id)) is None or job.started is not None:
                        break
                for job in claimed:
                    assert (await store.settle([settlement(job)])).stored == {job.id}

        await asyncio.gather(*(work(number) for number in range(8)))
        rest = await claim_all(stores[0])
        await stores[0].settle([settlement(job) for job in rest])
    rows = sql(pooled_url, 'select finished is not null, count(*) from "workerJobs" group by 1')
    assert rows == [(True, 96)]


@in_loop
async def test_nothing_is_left_in_the_poolers_sessions(pooled_url: str, database_url: str, pooler: Pgbouncer) -> None:
    pooler.admin("RECONNECT")
    sql(database_url, "drop schema public, workerjobs cascade")
    sql(database_url, "create schema public")
    migrate_url(pooled_url)
    async with open_stores(pooled_url, 4) as stores:
        for _ in range(10):
            await asyncio.gather(*(submit_one(store, NewJob(type="report", tag="one")) for store in stores))
    left = """
        select current_setting('search_path'), (select count(*) from pg_prepared_statements),
            (select count(*) from pg_locks join pg_database as here on here.oid = database
                where locktype = 'advisory' and datname = current_database()),
            (select count(*) from pg_listening_channels())
    """
    for _ in range(6):
        assert sql(pooled_url, left) == [('"$user", public', 0, 0, 0)]


def test_refusals_of_the_pooler_are_told_from_outages(pooler: Pgbouncer, database_url: str) -> None:
    url = pooler.url_for(database_url)

    @in_loop
    async def open_it(url: str) -> None:
        async with open_store(url):
            pass

    account = f"//{urlsplit(url).username}:"
    for wrong in (f"{url}_gone", url.replace(account, "//somebody:"), url.replace("@127", "x@127")):
        with pytest.raises(DatabaseRefusedError):
            open_it(wrong)


# --- hearing


@in_loop
async def test_listener_behind_a_pooler_says_so_once_and_polls(
    pooled_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with heard(PostgresListener(pooled_url, "test", poll_seconds=0.05)) as notices:
        for _ in range(3):
            assert await asyncio.wait_for(notices.get(), 60) == Reconnected()
    assert caplog.text.count("behind a pooler and DATABASE_DIRECT_URL is not set") == 1
    assert sql(pooled_url, "select pg_listening_channels()") == []


@in_loop
async def test_direct_url_is_listened_to_whatever_it_leads_through(pooler: Pgbouncer, database_url: str) -> None:
    with pgbouncer(database_url, pool_mode="session") as sessions:
        url = sessions.url_for(database_url)
        async with (
            heard(PostgresListener(url, "test", is_direct=True)) as notices,
            open_store(pooler.url_for(database_url)) as store,
        ):
            assert await asyncio.wait_for(notices.get(), 60) == Reconnected()
            await submit_one(store)
            assert await asyncio.wait_for(notices.get(), 60) == DueNotice("default", 0)
    pooler.admin("RECONNECT")


@in_loop
async def test_jobs_are_looked_for_while_the_direct_url_does_not_answer(database_url: str) -> None:
    gone = "postgresql://somebody@127.0.0.1:1/jobs"
    async with heard(PostgresListener(gone, "test", is_direct=True)) as notices:
        for _ in range(2):
            assert await asyncio.wait_for(notices.get(), 60) == Reconnected()


# --- workers


@in_loop
async def test_worker_runs_jobs_cron_tags_and_cancels_through_a_pooler(
    pooled_url: str, database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    variables = {"DATABASE_DIRECT_URL": database_url, "WORKER_BUILTIN_JOBS": "on"}
    async with (
        worker_process(pooled_url, tmp_path, count=3, **variables) as running,
        open_store(pooled_url) as store,
    ):
        # Heard, not polled: three sessions and two ways to the database, and jobs start at once.
        done = await run_jobs(store, *(NewJob(type="echo", data={"n": n}) for n in range(60)))
        assert [job.result for job in done] == [{"n": n} for n in range(60)]
        singly = [await run_one(store, "echo") for _ in range(5)]
        # One of them may have met a busy moment of this machine; with polls, every 2 s, most would be later.
        assert sorted(job.started - job.due for job in singly if job.started)[2] < timedelta(seconds=1)
        # A tag cancels what is pending.
        first, second = [await submit_one(store, NewJob(type="echo", tag="t", due=None)) for _ in range(2)]
        assert (await finished(store, second)).state is JobState.SUCCEEDED
        assert (await finished(store, first)).state in (JobState.CANCELLED, JobState.SUCCEEDED)
        # Cron goes on.
        await store.submit([NewJob(type="echo", cron_schedule="* * * * * *")])
        runs = """select count(*) from "workerJobs" where "cronKey" like 'line:%%' and success"""
        await until(lambda: sql(database_url, runs)[0][0] >= 2)
        # Failing, retried; reading the table from a child.
        assert (await run_one(store, "removeOldWorkerJobs")).state is JobState.SUCCEEDED
        # A running job is cancelled.
        (held,) = await store.submit([NewJob(type="hold", data=told.data())])
        await told.run(held)
        await store.cancel([held.id])
        assert (await finished(store, held)).state is JobState.CANCELLED
        assert running.said("behind a pooler") == []
        assert sql(database_url, """select count(*) from "workerJobs" where type = 'removeOldWorkerJobs'""") != [(0,)]
        levels = {record["level"] for record in running.records()}
        assert levels <= {"info", "debug"}, running.records()


@in_loop
async def test_worker_without_a_direct_url_finds_jobs_and_cancellations_within_two_seconds(
    pooled_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with (
        worker_process(pooled_url, tmp_path, count=2) as running,
        open_store(pooled_url) as store,
    ):
        await until(lambda: running.said("looking for news every 2 s"))
        (held,) = await store.submit([NewJob(type="hold", data=told.data())])
        await told.run(held)
        found = await read(store, held)
        assert found.started is not None
        # Two seconds, and some for what is done then.
        assert found.started - found.due <= timedelta(seconds=4)
        asked = await store.now()
        await store.cancel([held.id])
        done = await finished(store, held)
        assert done.state is JobState.CANCELLED
        assert done.finished is not None
        assert done.finished - asked <= timedelta(seconds=10)


def test_commands_and_the_manager_work_through_a_pooler(
    pooler: Pgbouncer, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = pooler.url_for(empty_database_url)
    direct = {"DATABASE_DIRECT_URL": empty_database_url}
    assert workerjobs("migrate", database_url=url, variables=direct).returncode == 0
    job = workerjobs_json("submit", "echo", "--data", '{"a": 1}', database_url=url)
    # What the environment says of other databases does not count beside an argument.
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("DATABASE_DIRECT_URL", "postgresql://nobody@127.0.0.1:1/none")
    with WorkerManager(
        database_url=url, database_direct_url=empty_database_url, worker_count=1, job_modules=[JOBS]
    ) as manager:
        assert manager.wait_for_job(job["id"], timeout=60).result == {"a": 1}
    pooler.admin("RECONNECT")


def test_migrating_uses_the_direct_url(empty_database_url: str) -> None:
    # Nothing answers at the other one.
    url = "postgresql://nobody@127.0.0.1:1/none"
    ended = workerjobs("migrate", database_url=url, variables={"DATABASE_DIRECT_URL": empty_database_url})
    assert ended.returncode == 0, ended.stderr
    assert "Applied 0001_jobs" in ended.stdout
    assert count_rows(empty_database_url) == 0
