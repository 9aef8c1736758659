"""Submitting jobs: what is stored, what a tag cancels, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import (
    claim_all,
    count_rows,
    ids,
    open_store,
    open_stores,
    read,
    settlement,
    sql,
    submit_one,
    waiting_for_locks,
)
from workerjobs.client import submit
from workerjobs.domain.job import JobState, NewJob, RetryPolicy
from workerjobs.errors import InvalidInputError

HOUR = timedelta(hours=1)
REPLACED = {"error": "Job cancelled due to new job being created"}


@in_loop
async def test_submitted_job_has_the_tables_defaults(database_url: str) -> None:
    async with open_store(database_url) as store:
        before = await store.now()
        job = await submit_one(store, NewJob(type="report"))
        after = await store.now()
        assert await read(store, job) == job
    assert job.state is JobState.PENDING
    assert (job.type, job.user_id, job.data_json, job.pool, job.priority) == ("report", 0, "{}", "default", 0)
    assert before <= job.due == job.created_at == job.updated_at <= after
    assert job.remove_at == job.due + HOUR
    assert (job.attempt, job.rescues, job.persistent, job.cancel_requested) == (1, 0, False, False)
    assert (job.cron_schedule, job.cron_key, job.tick, job.tag, job.timeout_ms) == (None, None, None, None, None)
    assert (job.started, job.finished, job.success, job.result, job.progress) == (None, None, None, None, None)
    assert (job.lease_owner, job.lease_deadline, job.fencing_token) == (None, None, None)


@in_loop
async def test_submitted_job_is_stored_as_it_was_given(database_url: str) -> None:
    due = datetime(2040, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
    given = NewJob(
        type="report ≥",
        data={"z": [1, {"ü": "🚀"}], "a": None, "\\u0000": 1.5},
        user_id=2**31 - 1,
        tag="nightly",
        due=due,
        persistent=True,
        priority=-7,
        pool="heavy",
        timeout_ms=1234,
        remove_delay_ms=5000,
        auto_reschedule_on_failure=True,
        auto_reschedule_on_failure_delay_ms=99,
        retry=RetryPolicy(limit=3, initial_delay_ms=10, factor=1.5, max_delay_ms=40, jitter=0.75),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    async with open_store(database_url) as store:
        job = await submit_one(store, given)
    assert job.data_json == '{"z":[1,{"ü":"🚀"}],"a":null,"\\\\u0000":1.5}'
    assert (job.type, job.user_id, job.tag, job.due, job.persistent) == ("report ≥", 2**31 - 1, "nightly", due, True)
    assert (job.priority, job.pool, job.timeout_ms, job.remove_delay_ms) == (-7, "heavy", 1234, 5000)
    assert job.remove_at == due + timedelta(seconds=5)
    assert (job.auto_reschedule_on_failure, job.auto_reschedule_on_failure_delay_ms) == (True, 99)
    assert (job.retry_limit, job.retry_initial_delay_ms, job.retry_factor, job.retry_max_delay_ms) == (3, 10, 1.5, 40)
    assert (job.retry_jitter, job.catch_up, job.concurrency_policy) == (0.75, None, None)
    assert job.traceparent == given.traceparent


@in_loop
async def test_cron_job_is_due_at_its_next_tick_in_its_zone(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await submit_one(store, NewJob(type="report", cron_schedule="0 12 * * *", time_zone="Asia/Kathmandu"))
        given = NewJob(type="report", cron_schedule="0 12 * * *", catch_up="latest", concurrency_policy="Replace")
        other = await submit_one(store, given)
        now = await store.now()
    assert now < job.due <= now + 24 * HOUR
    assert job.tick == job.due
    assert (job.due.hour, job.due.minute) == (6, 15)
    assert (job.cron_schedule, job.time_zone) == ("0 12 * * *", "Asia/Kathmandu")
    assert job.cron_key is not None
    assert other.cron_key not in (None, job.cron_key)
    assert (job.catch_up, job.concurrency_policy) == ("none", "Forbid")
    assert (other.catch_up, other.concurrency_policy) == ("latest", "Replace")


@in_loop
async def test_bulk_comes_back_in_the_order_given(database_url: str) -> None:
    jobs = [NewJob(type="report", data={"n": n}, priority=n % 3) for n in range(1000)]
    async with open_store(database_url) as store:
        stored = await store.submit(jobs)
        assert await store.submit([]) == []
    assert [job.data["n"] for job in stored] == list(range(1000))
    assert ids(stored) == sorted(ids(stored))
    assert count_rows(database_url) == 1000


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (NewJob(type="report", data={"a": "x\x00"}), "NUL"),
        (NewJob(type="report", data={"a": "\ud800"}), "surrogate"),
        (NewJob(type="report", data={"a": float("nan")}), "data can't be stored"),
        (NewJob(type="report", data={"a": "x" * 2**20}), "1 MiB"),
        (NewJob(type="report", data=[1]), "give an object"),  # type: ignore[arg-type]
        (NewJob(type="report", cron_schedule="* *"), "2 fields"),
        (NewJob(type="report", cron_schedule="@daily", time_zone="Mars"), "Mars"),
        (NewJob(type=""), "type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_bad_job_keeps_the_whole_call_from_being_stored(database_url: str, bad: NewJob, sentence: str) -> None:
    @in_loop
    async def check() -> None:
        async with open_store(database_url) as store:
            await submit_one(store, NewJob(type="report", tag="a", due=datetime(2040, 1, 1, tzinfo=UTC)))
            with pytest.raises(InvalidInputError, match=sentence):
                await store.submit([NewJob(type="good"), NewJob(type="good", tag="a"), bad])
            with pytest.raises(InvalidInputError, match=sentence):
                await store.update_pending("here", [bad])

    check()
    assert sql(database_url, 'select type, finished from "workerJobs"') == [("report", None)]


@in_loop
async def test_what_only_postgres_refuses_is_bad_input_too(database_url: str) -> None:
    async with open_store(database_url) as store:
        with pytest.raises(InvalidInputError, match="The database refuses the job"):
            await store.submit([NewJob(type="good"), NewJob(type="report", traceparent="a\x00b")])
    assert count_rows(database_url) == 0


@in_loop
async def test_moments_beyond_pythons_years_are_read_as_the_farthest_it_knows(database_url: str) -> None:
    insert = """
        insert into "workerJobs" (type, due, "removeAt")
        values ('never removed', '2020-01-01', 'infinity'), ('never due', 'infinity', null),
            ('always', '-infinity', 'epoch')
    """
    sql(database_url, insert)
    async with open_store(database_url) as store:
        far = await submit_one(
            store, NewJob(type="far", due=datetime.max.replace(tzinfo=UTC), remove_delay_ms=2**31 - 1)
        )
        claimed = {job.type: job for job in await claim_all(store)}
        assert set(claimed) == {"never removed", "always"}
        assert claimed["never removed"].remove_at == far.remove_at == far.due == datetime(9999, 12, 30, tzinfo=UTC)
        assert (await read(store, 2)).remove_at is None
        await store.settle([settlement(job) for job in claimed.values()])
        assert await store.prune(100) == 1
        assert await store.get(1) is not None


# --- tags


@in_loop
async def test_tag_cancels_pending_jobs_of_that_tag_only(database_url: str) -> None:
    async with open_store(database_url) as store:
        running = await submit_one(store, NewJob(type="report", tag="nightly", priority=1))
        (claimed,) = await claim_all(store)
        finished = await submit_one(store, NewJob(type="report", tag="nightly"))
        await store.settle([settlement(job) for job in await claim_all(store)])
        later = datetime(2040, 1, 1, tzinfo=UTC)
        pending = await submit_one(store, NewJob(type="report", tag="nightly", due=later))
        other, untagged = await store.submit(
            [NewJob(type="report", tag="NIGHTLY", due=later), NewJob(type="report", due=later)]
        )
        newest = await submit_one(store, NewJob(type="report", tag="nightly"))

        replaced = await read(store, pending)
        assert replaced.state is JobState.CANCELLED
        assert replaced.result == REPLACED
        assert replaced.finished is not None
        assert replaced.started is None
        assert (await read(store, claimed)).state is JobState.RUNNING
        assert (await read(store, finished)).state is JobState.SUCCEEDED
        for kept in (other, untagged, newest):
            assert (await read(store, kept)).state is JobState.PENDING
        assert running.id == claimed.id


@in_loop
async def test_tag_given_again_in_one_call_cancels_the_earlier_job_of_the_call(database_url: str) -> None:
    async with open_store(database_url) as store:
        first, plain, second, other, third = await store.submit(
            [
                NewJob(type="1", tag="a"),
                NewJob(type="2"),
                NewJob(type="3", tag="a"),
                NewJob(type="4", tag="b"),
                NewJob(type="5", tag="a"),
            ]
        )
        assert [job.type for job in (first, plain, second, other, third)] == ["1", "2", "3", "4", "5"]
        for job in (first, second):
            assert (await read(store, job)).result == REPLACED
        assert ids(await claim_all(store)) == ids([plain, other, third])


@in_loop
async def test_sixteen_concurrent_submitters_of_one_tag_leave_one_pending_job(database_url: str) -> None:
    async with open_stores(database_url, 16) as stores:
        for _ in range(3):
            await asyncio.gather(*(submit_one(store, NewJob(type="report", tag="nightly")) for store in stores))
    assert count_rows(database_url, "finished is null") == 1
    assert count_rows(database_url, "result is not null") == 47


@in_loop
async def test_concurrent_submitters_of_tags_in_any_order_do_not_deadlock(database_url: str) -> None:
    tags = [NewJob(type="report", tag=f"tag-{n}") for n in range(20)]
    async with open_stores(database_url, 6) as stores:
        for _ in range(3):
            await asyncio.gather(
                *(store.submit(tags if n % 2 else tags[::-1]) for n, store in enumerate(stores)),
            )
    assert count_rows(database_url, "finished is null") == 20


@in_loop
async def test_submitter_that_waited_for_a_tag_sees_what_the_other_one_stored(database_url: str) -> None:
    async with open_stores(database_url, 2) as (first, second):
        async with first._transaction() as connection:
            earlier = await submit(connection, NewJob(type="report", tag="nightly"))
            waiting = asyncio.create_task(submit_one(second, NewJob(type="report", tag="nightly")))
            await until(lambda: waiting_for_locks(database_url))
        later = await waiting
        assert (await read(first, earlier)).state is JobState.CANCELLED
        assert (await read(first, later)).state is JobState.PENDING


@in_loop
async def test_tags_are_replaced_also_where_the_databases_default_isolation_hides_others_jobs(
    database_url: str,
) -> None:
    name = database_url.rpartition("/")[2]
    sql(database_url, f'alter database "{name}" set default_transaction_isolation = serializable')
    assert sql(database_url, "show transaction_isolation") == [("serializable",)]
    line = NewJob(type="tidy", cron_schedule="@yearly", cron_key="builtin:tidy", tag="tidy")
    async with open_stores(database_url, 4) as stores:
        await asyncio.gather(*(submit_one(store, NewJob(type="report", tag="nightly")) for store in stores))
        await asyncio.gather(*(store.submit_bulk([NewJob(type="report", tag="nightly")]) for store in stores))
        await asyncio.gather(*(store.ensure_cron([line]) for store in stores))
    assert count_rows(database_url, "finished is null and tag = 'nightly'") == 1
    assert count_rows(database_url, "tag = 'tidy'") == 1


# --- cron lines that are to exist once


@in_loop
async def test_sixteen_workers_make_one_row_of_a_cron_line(database_url: str) -> None:
    line = NewJob(type="tidy", cron_schedule="@yearly", cron_key="builtin:tidy", tag="tidy")
    async with open_stores(database_url, 16) as stores:
        made = await asyncio.gather(*(store.ensure_cron([line]) for store in stores))
    assert sorted(len(jobs) for jobs in made) == [0] * 15 + [1]
    assert sql(database_url, 'select "cronKey", finished from "workerJobs"') == [("builtin:tidy", None)]


@in_loop
async def test_rows_of_a_cron_line_that_wait_in_another_pool_are_moved(database_url: str) -> None:
    line = NewJob(type="tidy", cron_schedule="@yearly", cron_key="tidy", pool="chains")
    other = NewJob(type="tidy", cron_schedule="@yearly", cron_key="other")
    async with open_store(database_url) as store:
        await store.ensure_cron([replace(line, pool="default"), other])
        assert [await store.place([line]) for _ in range(2)] == [1, 0]
        pools = sql(database_url, 'select "cronKey", pool from "workerJobs" order by 1')
        assert pools == [("other", "default"), ("tidy", "chains")]
        # What runs stays where it is.
        sql(database_url, """update "workerJobs" set started = now() where "cronKey" = 'tidy'""")
        assert await store.place([replace(line, pool="default")]) == 0


@in_loop
async def test_cron_line_is_made_again_only_when_it_has_no_unfinished_row(database_url: str) -> None:
    every_second = NewJob(type="tidy", cron_schedule="* * * * * *", cron_key="tidy")
    yearly = NewJob(type="tidy", cron_schedule="@yearly", cron_key="yearly")
    async with open_store(database_url) as store:
        assert len(await store.ensure_cron([every_second, yearly])) == 2
        assert await store.ensure_cron([every_second, yearly]) == []
        (running,) = await until(lambda: claim_all(store))
        assert running.cron_key == "tidy"
        assert await store.ensure_cron([every_second, yearly]) == []
        await store.settle([settlement(running)])
        (again,) = await store.ensure_cron([every_second, yearly])
        assert again.cron_key == "tidy"
        assert again.tick != running.tick
        assert await store.ensure_cron([]) == []


@in_loop
async def test_cancelled_tick_can_be_made_again(database_url: str) -> None:
    line = NewJob(type="tidy", cron_schedule="0 0 1 1 *", cron_key="tidy")
    async with open_store(database_url) as store:
        ticks = set()
        for _ in range(3):
            (made,) = await store.ensure_cron([line])
            ticks.add(made.tick)
            await store.cancel([made.id])
        assert len(ticks) == 1
    assert count_rows(database_url, "\"cronKey\" = 'tidy'") == 3


@in_loop
async def test_tick_that_is_there_already_is_left_out(database_url: str) -> None:
    line = NewJob(type="tidy", cron_schedule="0 0 1 1 *", cron_key="tidy")
    async with open_store(database_url) as store:
        assert [len(await store.submit([line])) for _ in range(2)] == [1, 0]
        first, second = await store.submit([NewJob(type="a"), line, NewJob(type="b")])
        assert (first.type, second.type) == ("a", "b")
