"""Submitting from Python on the caller's own connection, synchronous and asynchronous."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

import workerjobs
from tests.support.loop import in_loop
from tests.support.table import claim_all, count_rows, ids, open_store, read, settlement, sql
from workerjobs import InvalidInputError, Job, JobState, NewJob
from workerjobs.errors import NotFoundError, SchemaError
from workerjobs.storage.steps import AsyncConnection, SyncConnection
from workerjobs.storage.submitting import PART_JOBS

LATER = datetime(2040, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def connected(kind: str, url: str, **options: Any) -> AsyncIterator[SyncConnection | AsyncConnection]:
    """A connection of a kind, closed at the end without a commit of the test's own."""
    if kind == "sync":
        connection: SyncConnection = psycopg.connect(url, **options)
        try:
            yield connection
        finally:
            connection.close()
    else:
        async_connection: AsyncConnection = await psycopg.AsyncConnection.connect(url, **options)
        try:
            yield async_connection
        finally:
            await async_connection.close()


async def done(result: Any) -> Any:
    """What a call returns, awaited where it is to be."""
    return await result if inspect.isawaitable(result) else result


both = pytest.mark.parametrize("kind", ["sync", "async"])


@both
def test_job_belongs_to_the_callers_transaction(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        async with connected(kind, database_url) as connection:
            job = await done(workerjobs.submit(connection, {"type": "report", "data": {"a": 1}, "userId": 7}))
            assert isinstance(job, Job)
            assert (job.type, job.data, job.user_id, job.state) == ("report", {"a": 1}, 7, JobState.PENDING)
            assert count_rows(database_url) == 0
            await done(connection.rollback())
            assert count_rows(database_url) == 0
            kept = await done(workerjobs.submit(connection, NewJob(type="report", tag="t")))
            await done(connection.commit())
            assert sql(database_url, 'select id from "workerJobs"') == [(kept.id,)]

    check()


@both
def test_call_on_an_autocommit_connection_is_a_transaction_by_itself(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        async with connected(kind, database_url, autocommit=True) as connection:
            await done(workerjobs.submit(connection, NewJob(type="report", tag="t")))
            await done(workerjobs.submit(connection, NewJob(type="report", tag="t")))
            assert count_rows(database_url, "finished is null") == 1
            assert await done(workerjobs.submit_many(connection, [NewJob(type="x", tag="t"), NewJob(type="x")])) == 2
            assert count_rows(database_url, "finished is null") == 2
            # What COPY finds wrong undoes the cancelling before it.
            with pytest.raises(InvalidInputError, match="The database refuses the job"):
                await done(
                    workerjobs.submit_many(
                        connection, [NewJob(type="x", tag="t"), NewJob(type="x", traceparent="a\x00b")]
                    )
                )
            assert count_rows(database_url) == 4
            assert count_rows(database_url, "finished is null") == 2

    check()


@both
def test_open_transaction_of_an_autocommit_connection_goes_on(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        async with connected(kind, database_url, autocommit=True) as connection:
            await done(connection.execute("begin"))
            await done(workerjobs.submit(connection, NewJob(type="x")))
            await done(workerjobs.submit_many(connection, [NewJob(type="x")]))
            await done(workerjobs.schedule(connection, NewJob(type="x", cron_schedule="@yearly"), key="k"))
            assert count_rows(database_url) == 0
            await done(connection.execute("rollback"))
            assert count_rows(database_url) == 0

    check()


@both
@pytest.mark.parametrize("begun", [True, False])
def test_transaction_goes_on_after_a_bulk_that_is_refused_halfway(database_url: str, kind: str, begun: bool) -> None:
    jobs = [NewJob(type="many") for _ in range(2 * PART_JOBS)] + [NewJob(type="")]

    @in_loop
    async def check() -> None:
        async with connected(kind, database_url) as connection:
            if begun:
                await done(workerjobs.submit(connection, NewJob(type="before")))
            with pytest.raises(InvalidInputError, match=rf"jobs\[{2 * PART_JOBS}\]: type is ''"):
                await done(workerjobs.submit_many(connection, jobs))
            assert count_rows(database_url) == 0
            assert await done(workerjobs.submit_many(connection, [NewJob(type="after")])) == 1
            assert count_rows(database_url) == 0
            await done(connection.commit())
        assert count_rows(database_url, "type = 'before'") == begun
        assert count_rows(database_url, "type = 'after'") == 1
        assert count_rows(database_url, "type = 'many'") == 0

    check()


def test_jobs_of_a_bulk_may_be_made_by_the_same_connection(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:

        def made() -> Iterator[NewJob]:
            for n in range(PART_JOBS + 1):
                yield NewJob(type="x", data={"n": connection.execute("select %s::int", [n]).fetchone()})

        assert workerjobs.submit_many(connection, made()) == PART_JOBS + 1
    assert count_rows(database_url) == PART_JOBS + 1


@both
def test_bad_job_is_refused_before_the_transaction_hears_of_it(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        async with connected(kind, database_url) as connection:
            for bad, sentence in (
                (NewJob(type=""), "type is ''"),
                ({"type": "x", "dta": {}}, "did you mean data"),
                ({"type": "x", "data": {"a": "\x00"}}, "NUL"),
                ("x", "a job is a str: give a NewJob or a mapping"),
            ):
                with pytest.raises(InvalidInputError, match=sentence):
                    await done(workerjobs.submit(connection, bad))  # type: ignore[arg-type]
            with pytest.raises(InvalidInputError, match="cronSchedule is missing"):
                await done(workerjobs.schedule(connection, NewJob(type="x"), key="k"))
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            await done(workerjobs.submit(connection, NewJob(type="x")))
            await done(connection.commit())
        assert count_rows(database_url) == 1

    check()


@both
def test_isolation_that_hides_others_jobs_is_told_about_tags(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        async with connected(kind, database_url) as connection:
            await done(connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ))
            await done(workerjobs.submit(connection, NewJob(type="x")))
            await done(connection.commit())
            with pytest.raises(InvalidInputError, match=r"REPEATABLE READ transaction\. Use READ COMMITTED"):
                await done(workerjobs.submit(connection, NewJob(type="x", tag="t")))
        assert count_rows(database_url) == 1

    check()


@both
def test_line_of_a_key_is_replaced_and_stays_where_nothing_changed(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        yearly = NewJob(type="x", cron_schedule="@yearly", tag="t")
        async with connected(kind, database_url, autocommit=True) as connection:
            first = await done(workerjobs.schedule(connection, yearly, key="k"))
            assert (first.cron_key, first.tick, first.due.minute) == ("k", first.due, 0)
            assert await done(workerjobs.schedule(connection, yearly, key="k")) == first
            daily = {"type": "x", "cronSchedule": "@daily"}
            second = await done(workerjobs.schedule(connection, daily, key="k"))
            assert sql(database_url, 'select id from "workerJobs" where finished is null') == [(second.id,)]
            without_key = await done(workerjobs.schedule(connection, daily))
            assert without_key.cron_key != "k"
            assert await done(workerjobs.unschedule(connection, "k")) == 1
            assert sql(database_url, 'select id from "workerJobs" where finished is null') == [(without_key.id,)]

    check()


@both
def test_tick_that_ran_already_is_not_run_again_by_scheduling_anew(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        async with connected(kind, database_url, autocommit=True) as connection:
            yearly = NewJob(type="x", cron_schedule="@yearly")
            first = await done(workerjobs.schedule(connection, yearly, key="k"))
            # As if this program's clock were behind the database's.
            sql(database_url, 'update "workerJobs" set started = now(), finished = now(), success = true')
            second = await done(workerjobs.schedule(connection, yearly, key="k"))
            assert second.tick.year == first.tick.year + 1
            # A moment of its own for the first run, and again.
            given = NewJob(type="x", cron_schedule="@yearly", due=first.tick)
            third = await done(workerjobs.schedule(connection, given, key="k"))
            assert third == second
            sql(database_url, """update "workerJobs" set priority = 1 where finished is null""")
            fourth = await done(workerjobs.schedule(connection, given, key="k"))
            assert fourth.tick == second.tick

    check()


@both
def test_cron_job_that_is_refused_replaces_nothing(database_url: str, kind: str) -> None:
    """The pending row of its tag was cancelled all the same, which was the end of the line."""

    @in_loop
    async def check() -> None:
        async with connected(kind, database_url, autocommit=True) as connection:
            first = datetime(2026, 1, 1, tzinfo=UTC)
            yearly = NewJob(type="x", cron_schedule="@yearly", cron_key="k", tag="t", due=first)
            await done(workerjobs.submit(connection, yearly))
            sql(database_url, 'update "workerJobs" set started = now(), finished = now(), success = true')
            await done(workerjobs.submit(connection, dataclasses.replace(yearly, due=LATER)))
            with pytest.raises(InvalidInputError, match="The tick of k is there already"):
                await done(workerjobs.submit(connection, yearly))
            assert count_rows(database_url, "finished is null") == 1

    check()


@both
def test_cancel_and_retry_work_on_jobs_of_the_same_transaction(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        async with connected(kind, database_url) as connection, open_store(database_url) as store:
            first = await done(workerjobs.submit(connection, NewJob(type="x", tag="a")))
            second = await done(workerjobs.submit(connection, NewJob(type="x", tag="b")))
            third = await done(workerjobs.submit(connection, NewJob(type="x", due=LATER)))
            (cancelled,) = await done(workerjobs.cancel(connection, first.id, reason="Not today"))
            assert cancelled.error == "Not today"
            assert ids(await done(workerjobs.cancel(connection, tag="b"))) == [second.id]
            assert await done(workerjobs.cancel(connection, [first.id, 4711])) == []
            assert await done(workerjobs.cancel(connection, [])) == []
            again = await done(workerjobs.retry(connection, [second.id, first.id]))
            assert [job.rescheduled_from_job for job in again] == [first.id, second.id]
            await done(connection.commit())
            assert ids(await claim_all(store)) == ids(again)
            with pytest.raises(InvalidInputError, match=f"Not finished: job {third.id}, {again[0].id}"):
                await done(workerjobs.retry(connection, [third.id, first.id, again[0].id]))
            await done(connection.rollback())
            with pytest.raises(NotFoundError, match="There is no job 4711"):
                await done(workerjobs.retry(connection, 4711))
            await done(connection.rollback())
            for wrong in ({}, {"job_ids": 1, "tag": "a"}):
                with pytest.raises(InvalidInputError, match="by their ids, or by a tag"):
                    await done(workerjobs.cancel(connection, **wrong))  # type: ignore[call-overload]
        assert count_rows(database_url) == 5

    check()


@both
def test_retried_jobs_of_one_tag_leave_one_pending(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        async with connected(kind, database_url, autocommit=True) as connection, open_store(database_url) as store:
            for _ in range(3):
                await store.submit([NewJob(type="x", tag="t")])
                await store.settle([settlement(job) for job in await claim_all(store)])
            old = [row[0] for row in sql(database_url, 'select id from "workerJobs" order by id')]
            again = await done(workerjobs.retry(connection, old))
            assert [job.state for job in again] == [JobState.CANCELLED, JobState.CANCELLED, JobState.PENDING]
            assert again[0].error == "Job cancelled due to new job being created"

    check()


@both
def test_connection_may_have_row_factories_and_a_search_path_of_its_own(database_url: str, kind: str) -> None:
    @in_loop
    async def check() -> None:
        options: dict[str, Any] = {"row_factory": dict_row, "autocommit": True, "options": "-csearch_path=pg_catalog"}
        async with connected(kind, database_url, **options) as connection, open_store(database_url) as store:
            job = await done(workerjobs.submit(connection, NewJob(type="x", tag="t")))
            assert await read(store, job) == job
            assert await done(workerjobs.submit_many(connection, [NewJob(type="y", tag="t")])) == 1
            assert (await read(store, job)).state is JobState.CANCELLED

    check()


@both
def test_database_without_the_tables_asks_for_the_migration(empty_database_url: str, kind: str) -> None:
    operations: list[Callable[[Any], Any]] = [
        lambda connection: workerjobs.submit(connection, NewJob(type="x")),
        lambda connection: workerjobs.submit_many(connection, [NewJob(type="x")]),
        lambda connection: workerjobs.cancel(connection, 1),
    ]

    @in_loop
    async def check() -> None:
        async with connected(kind, empty_database_url, autocommit=True) as connection:
            for operation in operations:
                with pytest.raises(SchemaError, match="run `workerjobs migrate`"):
                    await done(operation(connection))

    check()


def test_what_is_no_psycopg_connection_is_refused() -> None:
    with pytest.raises(TypeError, match=r"connection is a str: give a psycopg\.Connection or AsyncConnection"):
        workerjobs.submit("postgresql://…", NewJob(type="x"))  # type: ignore[call-overload]
