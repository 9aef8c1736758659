"""Reading jobs: filters and what a stored job says of itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tests.support.loop import in_loop
from tests.support.table import claim_all, ids, open_store, read, settlement, sql, submit_one
from workerjobs.domain.job import JobState, NewJob
from workerjobs.domain.lifecycle import Outcome
from workerjobs.ports.jobs import JobQuery

LATER = datetime(2040, 1, 1, tzinfo=UTC)


@in_loop
async def test_list_is_newest_first_and_filtered(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="good"), NewJob(type="bad"), NewJob(type="stopped"), NewJob(type="running")])
        good, bad, stopped, running = await claim_all(store)
        await store.cancel([stopped.id])
        await store.settle(
            [settlement(good), settlement(bad, Outcome.failure("x")), settlement(stopped, Outcome.failure("x"))]
        )
        replaced = await submit_one(store, NewJob(type="waiting", tag="nightly", due=LATER))
        pending = await submit_one(store, NewJob(type="waiting", tag="nightly", due=LATER))

        assert ids(await store.list(JobQuery())) == [6, 5, 4, 3, 2, 1]
        assert ids(await store.list(JobQuery(limit=2))) == [6, 5]
        expected = {
            JobState.PENDING: [pending],
            JobState.RUNNING: [running],
            JobState.SUCCEEDED: [good],
            JobState.FAILED: [bad],
            JobState.CANCELLED: [replaced, stopped],
        }
        for state, jobs in expected.items():
            listed = await store.list(JobQuery(states=(state,)))
            assert ids(listed) == ids(jobs)
            assert {job.state for job in listed} == {state}
        assert ids(await store.list(JobQuery(type="waiting"))) == [6, 5]
        assert ids(await store.list(JobQuery(tag="nightly", states=(JobState.PENDING,)))) == [6]
        assert await store.list(JobQuery(type="good", tag="nightly")) == []


@in_loop
async def test_get_of_an_unknown_id_gives_none(database_url: str) -> None:
    async with open_store(database_url) as store:
        assert await store.get(4711) is None
        assert await store.get(2**62) is None


@in_loop
async def test_to_dict_has_every_column_of_the_table_that_a_job_has(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await submit_one(store, NewJob(type="report", data={"z": 1, "a": 2}))
        row = (await read(store, job)).to_dict()
    statement = "select column_name from information_schema.columns where table_name = 'workerJobs'"
    columns = {name for (name,) in sql(database_url, statement)}
    # What only statements look at.
    unseen = {"heldDue", "isFollowed"}
    assert set(row) == columns - unseen | {"state", "isSuspended"}
    assert json.loads(json.dumps(row))["data"] == {"z": 1, "a": 2}


@in_loop
async def test_store_works_whatever_time_zone_the_server_has(database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    sql(database_url, f"""alter database "{name}" set timezone = 'Asia/Kathmandu'""")
    async with open_store(database_url) as store:
        job = await submit_one(store, NewJob(type="report", due=LATER))
        assert job.due == LATER
        assert job.to_dict()["due"] == "2040-01-01T00:00:00+00:00"
        assert abs((datetime.now(UTC) - await store.now()).total_seconds()) < 60
