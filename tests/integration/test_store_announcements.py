"""What the database announces, and how listeners come through lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

import workerjobs
from tests.support.factories import resource_job
from tests.support.loop import in_loop, until
from tests.support.table import LEASE, claim_all, claim_one, lease_of, open_store, settlement, sql, submit_one
from workerjobs.domain.job import NewJob
from workerjobs.domain.lifecycle import Outcome
from workerjobs.ports.jobs import Progress
from workerjobs.ports.notices import CancelNotice, DueNotice, Notice, PlanNotice, Reconnected, ResourceNotice
from workerjobs.storage.listen import PostgresListener

LATER = datetime(2040, 1, 1, tzinfo=UTC)


class Heard:
    """Notices as they come, up to a mark that the test sets."""

    def __init__(self, url: str, notices: AsyncIterator[Notice]) -> None:
        self._url = url
        self._notices = notices

    async def next(self) -> Notice:
        async with asyncio.timeout(60):
            return await anext(self._notices)

    async def so_far(self) -> list[Notice]:
        """Everything since the last call: notices come in the order of their commits."""
        sql(self._url, """select pg_notify('workerJobs', '{"kind": "cancel", "jobId": -1}')""")
        heard = []
        while (notice := await self.next()) != CancelNotice(-1):
            heard.append(notice)
        return heard


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Heard]:
    source = PostgresListener(url, "workerjobs test").notices()
    heard = Heard(url, source)
    try:
        assert await heard.next() == Reconnected()
        yield heard
    finally:
        await source.aclose()  # type: ignore[attr-defined]


@in_loop
async def test_bulk_of_a_thousand_due_jobs_is_announced_once(database_url: str) -> None:
    async with open_store(database_url) as store, listening(database_url) as heard:
        await store.submit([NewJob(type="report") for _ in range(1000)])
        assert await heard.so_far() == [DueNotice("default", 0)]


@in_loop
async def test_announcement_names_the_wait_for_the_earliest_job_of_each_pool(database_url: str) -> None:
    async with open_store(database_url) as store, listening(database_url) as heard:
        now = await store.now()
        waits = [("default", 900), ("heavy", 400), ("default", 300), ("heavy", 500)]
        await store.submit([NewJob(type="x", pool=pool, due=now + timedelta(seconds=wait)) for pool, wait in waits])
        notices = {notice.pool: notice.seconds for notice in await heard.so_far() if isinstance(notice, DueNotice)}
        assert set(notices) == {"default", "heavy"}
        assert 240 < notices["default"] <= 300
        assert 340 < notices["heavy"] <= 400


@in_loop
async def test_row_that_any_program_inserts_is_announced(database_url: str) -> None:
    async with listening(database_url) as heard:
        sql(database_url, """insert into "workerJobs" (type, due) values ('x', now() - interval '1 day')""")
        assert await heard.so_far() == [DueNotice("default", 0)]
        finished = 'insert into "workerJobs" (type, started, finished, success) values (%s, now(), now(), true)'
        sql(database_url, finished, "imported")
        assert await heard.so_far() == []


@in_loop
async def test_single_job_is_named_and_many_statements_of_a_transaction_are_told_once(database_url: str) -> None:
    async with open_store(database_url) as store, listening(database_url) as heard:
        job = await submit_one(store)
        (notice,) = await heard.so_far()
        assert isinstance(notice, DueNotice)
        assert (notice.job_id, notice.job_type) == (job.id, job.type)
        await store.submit([NewJob(type="x", concurrency_key="k", concurrency_limit=1)])
        assert [getattr(notice, "job_id", None) for notice in await heard.so_far()] == [None, None]
        insert = """insert into "workerJobs" (type) values ('x')"""
        sql(database_url, f"do $$ begin for n in 1 .. 50 loop {insert}; end loop; end $$")
        named = [notice.job_id for notice in await heard.so_far() if isinstance(notice, DueNotice)]
        assert named == [job.id + 2, None]


@in_loop
async def test_running_a_plain_job_announces_nothing(database_url: str) -> None:
    async with open_store(database_url) as store:
        await submit_one(store)
        async with listening(database_url) as heard:
            (job,) = await claim_all(store)
            await store.renew([lease_of(job)], LEASE)
            await store.save_progress([Progress(job.id, lease_of(job).fencing_token, "{}")])
            await store.settle([settlement(job)])
            await store.prune(10)
            assert await heard.so_far() == []


@in_loop
async def test_job_given_back_or_rescued_is_announced(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        async with listening(database_url) as heard:
            await store.release([lease_of(job)])
            assert await heard.so_far() == [DueNotice("default", 0)]
            await claim_all(store)
            sql(database_url, """update "workerJobs" set "leaseDeadline" = now() - interval '1 second'""")
            await store.rescue("rescuer", timedelta(milliseconds=1), 10)
            assert await heard.so_far() == [DueNotice("default", 0)]


@in_loop
async def test_only_cancels_of_running_jobs_are_announced_and_once_each(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="x") for _ in range(2)])
        running = await claim_all(store)
        pending = await submit_one(store)
        async with listening(database_url) as heard:
            await store.cancel([job.id for job in (*running, pending)])
            assert await heard.so_far() == [CancelNotice(job.id) for job in running]
            await store.cancel([job.id for job in running])
            assert await heard.so_far() == []


@in_loop
async def test_changes_of_a_resources_rows_are_announced_and_renewals_are_not(database_url: str) -> None:
    changed = ResourceNotice("here", "a")
    async with open_store(database_url) as store, listening(database_url) as heard:
        await submit_one(store, resource_job("a"))
        assert set(await heard.so_far()) == {changed, DueNotice("default", 0)}
        (job,) = await claim_all(store)
        assert await heard.so_far() == [changed]
        await store.renew([lease_of(job)], LEASE)
        assert await heard.so_far() == []
        await store.save_progress([Progress(job.id, lease_of(job).fencing_token, '{"current": 1}')])
        assert await heard.so_far() == [changed]
        await store.settle([settlement(job, Outcome.failure("no paper"))])
        assert await heard.so_far() == [changed]


@in_loop
async def test_rolled_back_changes_are_not_announced(database_url: str) -> None:
    async with open_store(database_url) as store, listening(database_url) as heard:
        try:
            async with store._transaction() as connection:
                await connection.execute("""insert into "workerJobs" (type) values ('x')""")
                raise RuntimeError("changed my mind")
        except RuntimeError:
            pass
        assert await heard.so_far() == []


@in_loop
async def test_rolled_back_submits_wake_no_one_and_committed_ones_once(database_url: str) -> None:
    async with listening(database_url) as heard:
        with psycopg.connect(database_url) as connection:
            for way in ("rollback", "commit"):
                workerjobs.submit(connection, NewJob(type="x", tag="t"))
                connection.execute("select workerjobs.submit('x', tag => 't')")
                workerjobs.submit_many(connection, [NewJob(type="x"), NewJob(type="x", due=LATER)])
                connection.execute("select workerjobs.schedule('x', '@hourly', pool => 'other')")
                assert await heard.so_far() == []
                connection.execute(way.encode())
                notices = await heard.so_far()
                if way == "rollback":
                    assert notices == []
                else:
                    # What Postgres was told several times in a transaction, it says once; the first row also by its id.
                    named, now, far, to_plan = notices
                    assert (named, to_plan) == (now, PlanNotice())
                    assert (now, to_plan) == (DueNotice("default", 0), PlanNotice())
                    assert isinstance(far, DueNotice)
                    assert far.seconds == pytest.approx(86_400, abs=60)


@in_loop
async def test_copy_of_a_hundred_thousand_jobs_is_announced_once(database_url: str) -> None:
    async with open_store(database_url) as store, listening(database_url) as heard:
        jobs = [NewJob(type="report", data={"n": n}) for n in range(100_000)]
        assert await store.submit_bulk(jobs) == 100_000
        assert await heard.so_far() == [DueNotice("default", 0)]
        rows = sql(
            database_url,
            """select count(*), count(distinct data ->> 'n'), bool_and(due = "createdAt") from "workerJobs" """,
        )
        assert rows == [(100_000, 100_000, True)]


@in_loop
async def test_what_others_say_on_the_channel_is_ignored(database_url: str) -> None:
    async with listening(database_url) as heard:
        for payload in (
            "",
            "hello",
            "[]",
            "5",
            '{"kind": "due"}',
            '{"kind": "cancel", "jobId": "x"}',
            '{"kind": "new"}',
            "[" * 7999,
        ):
            sql(database_url, """select pg_notify('workerJobs', %s)""", payload)
        assert await heard.so_far() == []


@in_loop
async def test_listener_comes_back_after_its_connection_was_terminated_and_says_so(database_url: str) -> None:
    async with open_store(database_url) as store, listening(database_url) as heard:
        listeners = "where datname = current_database() and query ilike 'listen%%'"
        waiting = asyncio.create_task(heard.next())
        await asyncio.sleep(0)
        sql(database_url, f"select pg_terminate_backend(pid) from pg_stat_activity {listeners}")
        assert await waiting == Reconnected()
        await submit_one(store)
        assert await heard.so_far() == [DueNotice("default", 0)]


@in_loop
async def test_listener_closes_its_connection_when_it_is_no_longer_wanted(database_url: str) -> None:
    count = "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%%'"
    async with listening(database_url):
        assert sql(database_url, count) == [(1,)]
    await until(lambda: sql(database_url, count) == [(0,)])
