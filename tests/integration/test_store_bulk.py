"""Very many jobs at once, by COPY: stored as single submits would store them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.support.factories import resource_job
from tests.support.loop import in_loop
from tests.support.table import claim_all, count_rows, open_store, read, settlement, sql, submit_one
from workerjobs.domain.job import Job, JobState, NewJob, RetryPolicy
from workerjobs.errors import InvalidInputError
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.storage.submitting import PART_JOBS

REPLACED = {"error": "Job cancelled due to new job being created"}
JOBS = [
    NewJob(type="plain"),
    NewJob(type='a\\b "q" ≥', data={"tab\t": "line\nend\r", "\\": ["\\N", "\\."], "🚀": {"": None}}),
    NewJob(type="\\N", tag="\\."),
    NewJob(type="due", due=datetime(2040, 2, 29, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=5.75)))),
    NewJob(
        type="full",
        data={"z": 1.5, "a": -0.0},
        user_id=2**31 - 1,
        tag="nightly",
        persistent=True,
        priority=-7,
        pool="heavy",
        timeout_ms=1234,
        remove_delay_ms=5000,
        auto_reschedule_on_failure=True,
        auto_reschedule_on_failure_delay_ms=99,
        retry=RetryPolicy(limit=3, initial_delay_ms=10, factor=1.5, max_delay_ms=40),
        concurrency_key="k",
        concurrency_limit=2,
        rate_limit=10,
        rate_period_ms=1000,
        traceparent="tab\there",
    ),
    NewJob(type="cron", cron_schedule="0 12 1 1 *", time_zone="Asia/Kathmandu"),
    NewJob(type="replaced", tag="often"),
    NewJob(type="replaced", tag="often", remove_delay_ms=7),
    NewJob(type="stays", tag="often"),
]
OWN = {"id", "due", "createdAt", "updatedAt", "removeAt", "cronKey", "finished"}


async def all_jobs(store: PostgresJobStore, url: str) -> list[Job]:
    return [await read(store, row[0]) for row in sql(url, 'select id from "workerJobs" order by id')]


@in_loop
async def test_bulk_stores_what_submit_stores(database_url: str) -> None:
    async with open_store(database_url) as store:
        submitted = await store.submit(JOBS)
        sql(database_url, 'delete from "workerJobs"')
        assert await store.submit_bulk(iter(JOBS)) == len(JOBS)
        copied = await all_jobs(store, database_url)
    assert len(copied) == len(JOBS)
    for given, wanted, bulk in zip(JOBS, submitted, copied, strict=True):
        expected, found = wanted.to_dict(), bulk.to_dict()
        assert {name: found[name] for name in found.keys() - OWN} == {
            name: expected[name] for name in expected.keys() - OWN
        }
        assert bulk.data_json == wanted.data_json
        assert bulk.due == (given.due or bulk.tick or bulk.created_at)
        assert (bulk.finished is None) == (wanted.finished is None)
        assert bulk.created_at == bulk.updated_at
    assert [job.state for job in copied[-3:]] == [JobState.CANCELLED, JobState.CANCELLED, JobState.PENDING]
    assert [job.state for job in submitted[-3:]] == [JobState.CANCELLED, JobState.CANCELLED, JobState.PENDING]


@in_loop
async def test_bulk_cancels_what_is_pending_under_its_tags(database_url: str) -> None:
    async with open_store(database_url) as store:
        running = await submit_one(store, NewJob(type="x", tag="a"))
        await claim_all(store)
        pending = await submit_one(store, NewJob(type="x", tag="a"))
        other = await submit_one(store, NewJob(type="x", tag="b"))
        await store.submit_bulk([NewJob(type="y", tag="a"), NewJob(type="y")])
        assert (await read(store, pending)).result == REPLACED
        assert (await read(store, running)).state is JobState.RUNNING
        assert (await read(store, other)).state is JobState.PENDING
    assert count_rows(database_url, "type = 'y' and finished is null") == 2


@in_loop
async def test_jobs_that_a_later_one_of_the_bulk_replaces_are_removed_in_time(database_url: str) -> None:
    """They were finished from the start and had no moment to be removed at: they stayed for ever."""
    long_ago, last_moment = datetime(2020, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    async with open_store(database_url) as store:
        await store.submit_bulk(
            [
                NewJob(type="x", tag="a", due=long_ago),
                NewJob(type="x", tag="a", due=long_ago, remove_delay_ms=1000),
                NewJob(type="x", tag="a"),
                NewJob(type="x", tag="a", due=last_moment),
                NewJob(type="x", tag="a"),
            ]
        )
        *replaced, last = await all_jobs(store, database_url)
        assert [(job.remove_at or job.due) - job.due for job in replaced[:3]] == [
            timedelta(hours=1),
            timedelta(seconds=1),
            timedelta(hours=1),
        ]
        assert (replaced[3].remove_at is not None, last.remove_at) == (True, None)
        assert await store.prune(100) == 2


@in_loop
async def test_moments_that_bulk_leaves_to_the_database_are_its_own(database_url: str) -> None:
    async with open_store(database_url) as store:
        before = await store.now()
        await store.submit_bulk([NewJob(type="x"), NewJob(type="later", due=datetime(2040, 1, 1, tzinfo=UTC))])
        await store.submit_bulk([NewJob(type="x")])
        jobs = await claim_all(store)
        assert len(jobs) == 2
        for job in jobs:
            assert before <= job.due == job.created_at <= await store.now()
        # Filled in when the job ends, as for rows of other programs.
        assert [job.remove_at for job in jobs] == [None, None]
        await store.settle([settlement(job) for job in jobs])
        for job in jobs:
            assert (await read(store, job)).remove_at == job.due + timedelta(hours=1)


@in_loop
async def test_bad_jobs_are_named_by_their_index_and_nothing_is_stored(database_url: str) -> None:
    jobs: list[Any] = [
        NewJob(type="good", tag="a"),
        NewJob(type=""),
        {"type": "x", "dta": 1},
        NewJob(type="x", data={"a": "\x00"}, priority=70_000),
        resource_job("uid"),
        {"type": "x", "due": "soon"},
        5,
    ]
    async with open_store(database_url) as store:
        await submit_one(store, NewJob(type="x", tag="a", due=datetime(2040, 1, 1, tzinfo=UTC)))
        with pytest.raises(InvalidInputError) as raised:
            await store.submit_bulk(jobs)
        many = [NewJob(type="") for _ in range(1000)]
        with pytest.raises(InvalidInputError) as cut:
            await store.submit_bulk(many)
        assert await store.submit_bulk([]) == 0
    assert [problem.partition(": ")[0] for problem in raised.value.problems] == [
        f"jobs[{index}]" for index in (1, 2, 3, 3, 4, 5, 6)
    ]
    assert "jobs[1]: type is ''" in raised.value.problems[0]
    assert len(cut.value.problems) == 21
    assert cut.value.problems[-1] == "and 980 more problems"
    assert sql(database_url, 'select type, finished from "workerJobs"') == [("x", None)]


@in_loop
async def test_jobs_of_many_parts_are_stored_in_their_order_with_all_that_each_gives(database_url: str) -> None:
    later = datetime(2040, 1, 1, tzinfo=UTC)
    jobs = [NewJob(type="plain", data={"n": n}) for n in range(3 * PART_JOBS)]
    jobs[PART_JOBS + 5] = NewJob(type="urgent", data={"n": PART_JOBS + 5}, priority=9)
    jobs[2 * PART_JOBS + 7] = NewJob(type="tagged", data={"n": 2 * PART_JOBS + 7}, tag="t")
    jobs += [NewJob(type="tagged", data={"n": 3 * PART_JOBS}, tag="t", due=later)]
    async with open_store(database_url) as store:
        assert await store.submit_bulk(jobs) == 3 * PART_JOBS + 1
    rows = sql(
        database_url,
        """select type, (data ->> 'n')::int, priority, finished is not null from "workerJobs" order by id""",
    )
    assert rows == [(job.type, n, job.priority, n == 2 * PART_JOBS + 7) for n, job in enumerate(jobs)]
    assert sql(database_url, "select due from \"workerJobs\" where type = 'tagged' and finished is null") == [(later,)]


@in_loop
async def test_bad_job_of_a_later_part_leaves_nothing_of_the_earlier_ones(database_url: str) -> None:
    jobs = [NewJob(type="x") for _ in range(3 * PART_JOBS)]
    jobs[2 * PART_JOBS] = NewJob(type="")
    jobs[-1] = NewJob(type="x", priority=70_000)
    async with open_store(database_url) as store:
        with pytest.raises(InvalidInputError) as raised:
            await store.submit_bulk(jobs)
        assert [problem.partition(":")[0] for problem in raised.value.problems] == [
            f"jobs[{2 * PART_JOBS}]",
            f"jobs[{3 * PART_JOBS - 1}]",
        ]
        assert await store.submit_bulk(jobs[:3]) == 3
    assert count_rows(database_url) == 3


@in_loop
async def test_what_only_postgres_refuses_undoes_the_whole_bulk(database_url: str) -> None:
    line = NewJob(type="x", cron_schedule="@yearly", cron_key="line")
    async with open_store(database_url) as store:
        await submit_one(store, NewJob(type="x", tag="a", due=datetime(2040, 1, 1, tzinfo=UTC)))
        for bad in ([NewJob(type="y", traceparent="\x00")], [line, line]):
            with pytest.raises(InvalidInputError, match="The database refuses the job"):
                await store.submit_bulk([NewJob(type="y", tag="a"), *bad])
        assert await store.submit_bulk([NewJob(type="z")]) == 1
    assert sql(database_url, 'select type, finished from "workerJobs" order by id') == [("x", None), ("z", None)]
