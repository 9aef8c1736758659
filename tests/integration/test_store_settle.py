"""Settling: outcomes, the rows that follow, and what the database refuses."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.support.factories import resource_job
from tests.support.loop import in_loop, until
from tests.support.table import (
    FAILURE,
    SUCCESS,
    claim_all,
    claim_one,
    count_rows,
    follower_of,
    ids,
    lease_of,
    open_store,
    open_stores,
    read,
    settlement,
    sql,
    submit_one,
    waiting_for_locks,
)
from workerjobs.domain.job import Job, JobState, NewJob, RetryPolicy
from workerjobs.domain.lifecycle import FollowUp, FollowUpKind, Outcome, Settlement
from workerjobs.errors import DatabaseUnavailableError
from workerjobs.storage.postgres import PostgresJobStore

DUE = datetime(2040, 1, 1, 12, 0, tzinfo=UTC)
PAST = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
RETRY = FollowUp(FollowUpKind.RETRY, DUE, attempt=2, cron_key=None)


def next_tick(key: str, due: datetime = DUE) -> FollowUp:
    return FollowUp(FollowUpKind.CRON, due, attempt=1, cron_key=key)


@in_loop
async def test_settled_job_has_its_outcome_and_no_lease_deadline(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(2)])
        good, bad = await claim_all(store)
        settled = await store.settle(
            [settlement(good, Outcome(True, '{"pages": [1, 2]}')), settlement(bad, Outcome.failure("no paper"))]
        )
        assert settled.stored == {good.id, bad.id}
        assert (settled.refused, settled.stale) == ({}, frozenset())
        good, bad = await read(store, good), await read(store, bad)
        assert good.state is JobState.SUCCEEDED
        assert good.result == {"pages": [1, 2]}
        assert bad.state is JobState.FAILED
        assert bad.result == {"error": "no paper"}
        for job in (good, bad):
            assert job.finished == job.updated_at
            assert job.lease_deadline is None
            assert job.remove_at == job.due + timedelta(hours=1)
        assert (await store.settle([])).stored == frozenset()
    assert count_rows(database_url) == 2


@in_loop
async def test_stale_token_and_finished_job_change_nothing(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(4)])
        mine, taken, finished, released = await claim_all(store)
        sql(database_url, 'update "workerJobs" set "fencingToken" = 999 where id = %s', taken.id)
        await store.settle([settlement(finished)])
        await store.release([lease_of(released)])
        before = [await read(store, job) for job in (taken, finished, released)]
        settled = await store.settle(
            [settlement(job, FAILURE, RETRY) for job in (mine, taken, finished, released)]
            + [Settlement(4711, 1, FAILURE, (RETRY,))]
        )
        assert settled.stored == {mine.id}
        assert settled.stale == {taken.id, finished.id, released.id, 4711}
        assert [await read(store, job) for job in (taken, finished, released)] == before
    assert count_rows(database_url) == 5


@in_loop
async def test_moment_of_removal_is_filled_in_where_other_programs_left_it_out(database_url: str) -> None:
    insert = """
        insert into "workerJobs" (type, due, "removeDelay") values ('a', '2020-01-01', 0), ('b', '2020-01-01', 5000),
            ('c', '2020-01-01', -5000)
    """
    sql(database_url, insert)
    async with open_store(database_url) as store:
        await store.settle([settlement(job) for job in await claim_all(store)])
        removed_at = [(await read(store, job)).remove_at for job in (1, 2, 3)]
    start = datetime(2020, 1, 1, tzinfo=UTC)
    assert removed_at == [start + timedelta(seconds=seconds) for seconds in (3600, 5, -5)]


# --- what the database refuses

REFUSED = {
    "NUL": '"\\u0000"',
    "NUL inside": '{"a": ["\\u0000"]}',
    "NUL byte": '"\x00"',
    "lone surrogate": '"\\ud800"',
    "surrogate character": '"\ud800"',
    "NaN": "NaN",
    "no JSON": "{",
    "too deep": "[" * 50_000 + "]" * 50_000,
    "huge number": "1" * 140_000,
}


@pytest.mark.parametrize("result", REFUSED.values(), ids=REFUSED)
def test_one_refused_result_in_a_batch_of_a_hundred_fails_alone(database_url: str, result: str) -> None:
    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            await store.submit([NewJob(type="report", data={"n": n}) for n in range(100)])
            jobs = await claim_all(store)
            bad = jobs[37]
            settled = await store.settle(
                [settlement(job, Outcome(True, result if job is bad else str(job.id))) for job in jobs]
            )
            assert settled.stored == set(ids(jobs)) - {bad.id}
            assert list(settled.refused) == [bad.id]
            assert settled.refused[bad.id].isprintable()
            assert len(settled.refused[bad.id]) < 200
            assert (settled.stale, settled.without_follow_up) == (frozenset(), {})
            assert (await read(store, bad)).state is JobState.RUNNING
            # With its reason, as the worker stores it.
            failed = await store.settle([settlement(bad, Outcome.failure(settled.refused[bad.id]))])
            assert failed.stored == {bad.id}
            assert (await read(store, bad)).error == settled.refused[bad.id]

    check()
    rows = sql(database_url, 'select id, result from "workerJobs" where success')
    assert len(rows) == 99
    assert all(job_id == result for job_id, result in rows)


@in_loop
async def test_refused_results_do_not_spend_the_rows_that_follow_the_others(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(8)])
        jobs = await claim_all(store)
        settlements = [
            settlement(job, Outcome(False, '"\\u0000"') if n in (0, 5) else FAILURE, RETRY)
            for n, job in enumerate(jobs)
        ]
        settled = await store.settle(settlements)
        assert set(settled.refused) == {jobs[0].id, jobs[5].id}
        for number, job in enumerate(jobs):
            assert (await follower_of(store, database_url, job) is None) == (number in (0, 5))


@in_loop
async def test_success_stays_when_the_row_that_follows_is_refused(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report", cron_schedule="@hourly", due=PAST) for _ in range(3)])
        first, second, third = await claim_all(store)
        refused = next_tick("line", datetime.max.replace(tzinfo=UTC))
        sql(database_url, """update "workerJobs" set "removeDelay" = 2147483647, "cronSchedule" = '@daily'""")
        sql(database_url, """alter table "workerJobs" add constraint x check (due < '9000-01-01')""")
        settled = await store.settle(
            [settlement(first), settlement(second, SUCCESS, refused), settlement(third, FAILURE, RETRY)]
        )
        assert settled.stored == {first.id, second.id, third.id}
        assert list(settled.without_follow_up) == [second.id]
        assert '"x"' in settled.without_follow_up[second.id]
        assert settled.refused == {}
        assert (await read(store, second)).state is JobState.SUCCEEDED
        assert await follower_of(store, database_url, second) is None
        assert await follower_of(store, database_url, third) is not None


@pytest.mark.parametrize("state", ["40001", "40P01", "53100", "53200", "55P03", "57014", "58030"])
def test_trouble_of_the_server_fails_no_job(database_url: str, state: str) -> None:
    """A full disk, a deadlock or a statement timeout says nothing about the result."""
    trigger = f"""
        create function trouble() returns trigger language plpgsql as
        $$ begin raise exception 'the server has trouble' using errcode = '{state}'; end $$;
        create trigger trouble before update on "workerJobs" for each row when (new.finished is not null)
        execute function trouble();
    """

    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            job = await claim_one(store)
            sql(database_url, trigger)
            with pytest.raises(DatabaseUnavailableError, match="the server has trouble"):
                await store.settle([settlement(job)])
            sql(database_url, 'drop trigger trouble on "workerJobs"')
            assert (await store.settle([settlement(job)])).stored == {job.id}

    check()


# --- the rows that follow

FULL = NewJob(
    type="report",
    data={"z": 1, "a": [None, 0.5]},
    user_id=42,
    tag="nightly",
    persistent=True,
    priority=9,
    pool="default",
    timeout_ms=1500,
    remove_delay_ms=7000,
    auto_reschedule_on_failure=True,
    auto_reschedule_on_failure_delay_ms=250,
    retry=RetryPolicy(limit=3, initial_delay_ms=10, factor=1.5, max_delay_ms=40, jitter=0.25),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
COPIED = (
    "type",
    "data_json",
    "user_id",
    "tag",
    "persistent",
    "priority",
    "pool",
    "timeout_ms",
    "remove_delay_ms",
    "auto_reschedule_on_failure",
    "auto_reschedule_on_failure_delay_ms",
    "retry_limit",
    "retry_initial_delay_ms",
    "retry_factor",
    "retry_max_delay_ms",
    "traceparent",
    "cluster_id",
    "namespace",
    "resource_name",
    "resource_uid",
    "resource_generation",
    "retry_jitter",
    "concurrency_key",
    "concurrency_limit",
    "rate_limit",
    "rate_period_ms",
    "data_from_json",
)
MADE_NEW = {
    "id",
    "due",
    "started",
    "finished",
    "success",
    "result_json",
    "remove_at",
    "rescheduled_from_job",
    "created_at",
    "updated_at",
    "attempt",
    "rescues",
    "lease_owner",
    "lease_deadline",
    "fencing_token",
    "cancel_requested",
    "progress_json",
    "lost_reason",
    "is_suspended",
}
OF_THE_LINE = {"cron_schedule", "time_zone", "cron_key", "tick", "catch_up", "concurrency_policy"}


def test_follow_up_tests_name_every_column() -> None:
    assert {*Job.__struct_fields__} == {*COPIED} | MADE_NEW | OF_THE_LINE


async def claimed_cron_job(store: PostgresJobStore, url: str, job: NewJob = FULL, **changes: Any) -> Job:
    """A cron job of a custom resource whose tick came, claimed, rescued and with progress."""
    line = dataclasses.replace(job, cron_schedule="0 12 * * *", time_zone="Asia/Kathmandu", cron_key="line")
    line = dataclasses.replace(line, catch_up="latest", **changes)
    resource = resource_job("uid").resource
    stored = await submit_one(store, dataclasses.replace(line, resource=resource))
    sql(url, """update "workerJobs" set due = '2026-01-01', tick = '2026-01-01', rescues = 2, attempt = 3""")
    sql(url, """update "workerJobs" set progress = '{"current": 1}'""")
    (claimed,) = await claim_all(store)
    assert claimed.id == stored.id
    # Claimed without its limits, which have tests of their own.
    sql(url, """update "workerJobs" set "concurrencyKey" = 'account', "concurrencyLimit" = 2""")
    sql(url, """update "workerJobs" set "rateLimit" = 5, "ratePeriod" = 1000""")
    return await read(store, claimed)


@in_loop
async def test_next_cron_row_is_the_line_at_its_next_tick(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claimed_cron_job(store, database_url)
        await store.settle([settlement(job, SUCCESS, next_tick("line"))])
        settled, follower = await read(store, job), await follower_of(store, database_url, job)
    assert follower is not None
    for name in COPIED:
        assert getattr(follower, name) == getattr(job, name), name
    assert (follower.cron_schedule, follower.time_zone) == ("0 12 * * *", "Asia/Kathmandu")
    assert (follower.cron_key, follower.tick, follower.due) == ("line", DUE, DUE)
    assert (follower.catch_up, follower.concurrency_policy) == ("latest", "Forbid")
    assert follower.remove_at == DUE + timedelta(seconds=7)
    assert (follower.attempt, follower.rescues, follower.rescheduled_from_job) == (1, 0, job.id)
    assert follower.state is JobState.PENDING
    assert (follower.lease_owner, follower.fencing_token, follower.progress, follower.result) == (None,) * 4
    assert follower.created_at == settled.finished


@in_loop
async def test_retry_row_is_a_copy_outside_the_cron_line(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claimed_cron_job(store, database_url)
        await store.settle([settlement(job, FAILURE, dataclasses.replace(RETRY, attempt=4))])
        follower = await follower_of(store, database_url, job)
    assert follower is not None
    for name in COPIED:
        assert getattr(follower, name) == getattr(job, name), name
    assert [getattr(follower, name) for name in sorted(OF_THE_LINE)] == [None] * 6
    assert (follower.due, follower.remove_at) == (DUE, DUE + timedelta(seconds=7))
    assert (follower.attempt, follower.rescheduled_from_job) == (4, job.id)
    assert (follower.rescues, follower.progress, follower.state) == (0, None, JobState.PENDING)


@in_loop
async def test_columns_of_later_releases_are_copied_too(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store, NewJob(type="report", cron_schedule="@hourly", due=PAST))
        sql(database_url, """update "workerJobs" set "dataFrom" = '[{"secret": "s"}]'""")
        await store.settle([settlement(job, FAILURE, RETRY, next_tick("line"))])
    rows = sql(database_url, 'select "dataFrom" from "workerJobs" where "rescheduledFromJob" is not null')
    assert rows == [([{"secret": "s"}],)] * 2


@in_loop
async def test_failed_cron_job_gets_both_rows(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claimed_cron_job(store, database_url)
        await store.settle([settlement(job, FAILURE, next_tick("line"), RETRY)])
    rows = sql(database_url, 'select "cronKey", tick is null from "workerJobs" where finished is null order by 1')
    assert rows == [("line", False), (None, True)]


@in_loop
async def test_tick_that_another_worker_made_is_left_out_and_its_job_is_settled(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claimed_cron_job(store, database_url)
        insert = """insert into "workerJobs" (type, due, "cronKey", tick) values ('report', %s, 'line', %s)"""
        sql(database_url, insert, DUE, DUE)
        assert (await store.settle([settlement(job, SUCCESS, next_tick("line"))])).stored == {job.id}
        assert (await read(store, job)).state is JobState.SUCCEEDED
        assert await follower_of(store, database_url, job) is None
    assert count_rows(database_url, "\"cronKey\" = 'line' and finished is null") == 1


@in_loop
async def test_workers_that_settle_runs_of_one_line_at_once_make_one_next_row(database_url: str) -> None:
    async with open_stores(database_url, 6) as stores:
        await stores[0].submit([NewJob(type="report", cron_schedule="@hourly", due=PAST) for _ in range(60)])
        jobs = await claim_all(stores[0])
        await asyncio.gather(
            *(
                store.settle([settlement(job, SUCCESS, next_tick("line")) for job in jobs[number::6]])
                for number, store in enumerate(stores)
            )
        )
    assert count_rows(database_url, "success") == 60
    assert count_rows(database_url, "\"cronKey\" = 'line'") == 1


@in_loop
async def test_row_that_follows_cancels_nothing_by_its_tag(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claimed_cron_job(store, database_url)
        newer = await submit_one(store, NewJob(type="report", tag="nightly", due=DUE))
        await store.settle([settlement(job, SUCCESS, next_tick("line"))])
        assert (await read(store, newer)).state is JobState.PENDING
        assert await follower_of(store, database_url, job) is not None


@in_loop
async def test_job_cancelled_while_it_ran_is_not_retried_and_its_line_goes_on(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claimed_cron_job(store, database_url)
        await store.cancel([job.id])
        await store.settle([settlement(job, Outcome.failure("Job cancelled"), next_tick("line"), RETRY)])
        assert (await read(store, job)).state is JobState.CANCELLED
        follower = await follower_of(store, database_url, job)
        assert follower is not None
        assert follower.cron_key == "line"


@in_loop
async def test_job_of_a_deleted_resource_gets_no_further_rows(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claimed_cron_job(store, database_url)
        await store.remove_resources("here", ["uid"])
        assert (await store.settle([settlement(job, SUCCESS, next_tick("line"), RETRY)])).stored == {job.id}
        assert await follower_of(store, database_url, job) is None


@in_loop
async def test_settlement_and_the_row_that_follows_are_one_transaction(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claimed_cron_job(store, database_url)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            # It holds the tick, so that the settlement can't be complete yet.
            insert = """insert into "workerJobs" (type, "cronKey", tick) values ('report', 'line', %s)"""
            await other.execute(insert, [DUE])
            settling = asyncio.create_task(store.settle([settlement(job, SUCCESS, next_tick("line"))]))
            await until(lambda: waiting_for_locks(database_url))
            assert count_rows(database_url, "finished is not null") == 0
            await other.rollback()
        await settling
        assert await follower_of(store, database_url, job) is not None
    assert count_rows(database_url, "finished is not null") == 1


def test_outcome_of_a_failure_is_always_storable(database_url: str) -> None:
    nasty = "\x00\ud800\udfff\\u0000 'quoted' \"double\" {} %s \n\r\t 🚀 " + "x" * 10_000

    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            job = await claim_one(store)
            outcome = Outcome.failure(nasty)
            assert (await store.settle([settlement(job, outcome)])).stored == {job.id}
            assert (await read(store, job)).result == json.loads(outcome.result_json)

    check()


@in_loop
async def test_settling_finds_rows_by_id_whatever_statistics_say(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="report") for _ in range(1000)])
        # As autovacuum may: nothing runs now, and an index of running rows looks as if it had one entry.
        sql(database_url, 'analyze "workerJobs"')
        jobs = await claim_all(store)
        before = reads_of_running_index(database_url)
        await store.settle([settlement(job, SUCCESS) for job in jobs])
        assert await until(lambda: count_rows(database_url, "finished is not null") == 1000)
    assert reads_of_running_index(database_url) == before


def reads_of_running_index(url: str) -> int:
    """How many entries of the index of running rows were read by sessions that have ended or reported."""
    ((count,),) = sql(
        url,
        """select idx_tup_read from pg_stat_user_indexes where indexrelname = 'workerJobs_running'""",
    )
    return int(count)


@in_loop
async def test_stale_end_in_the_batch_of_the_valid_one_makes_no_second_follow_up(database_url: str) -> None:
    """A worker that was cut off had ended a run, was rescued from, and claimed and ended the row again."""
    async with open_store(database_url) as store:
        first = await claim_one(store)
        await store.release([lease_of(first)])
        (second,) = await claim_all(store)
        retry = FollowUp(FollowUpKind.RETRY, await store.now(), attempt=2, cron_key=None)
        failure = Outcome.failure("no paper")
        settled = await store.settle([settlement(first, failure, retry), settlement(second, failure, retry)])
        assert settled.stored == {first.id}
    assert count_rows(database_url, f'"rescheduledFromJob" = {first.id}') == 1
