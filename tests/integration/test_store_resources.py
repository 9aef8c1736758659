"""What the table knows of custom resources."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.factories import resource_job
from tests.support.loop import in_loop
from tests.support.table import (
    LEASE,
    claim_all,
    count_rows,
    ids,
    lease_of,
    open_store,
    open_stores,
    read,
    settlement,
    sql,
    submit_one,
)
from workerjobs.domain.job import JobState, NewJob, RetryPolicy
from workerjobs.domain.lifecycle import FollowUp, FollowUpKind, Outcome
from workerjobs.errors import InvalidInputError
from workerjobs.ports.resources import StoredResource

LATER = datetime(2040, 1, 1, tzinfo=UTC)


@in_loop
async def test_resource_gets_its_first_row_once_ever(database_url: str) -> None:
    async with open_store(database_url) as store:
        assert len(await store.submit([resource_job("a"), NewJob(type="plain"), resource_job("b")])) == 3
        assert await store.submit([resource_job("a"), resource_job("b")]) == []
        # Also when its row is gone: the operator was away, the row finished and was removed.
        sql(database_url, 'delete from "workerJobs"')
        (new,) = await store.submit([resource_job("b"), resource_job("c"), resource_job("a")])
        assert new.resource_uid == "c"
        # The same uid of another cluster is another resource.
        assert len(await store.submit([resource_job("a", cluster_id="there")])) == 1


@in_loop
async def test_concurrent_operators_store_a_resource_once(database_url: str) -> None:
    jobs = [resource_job(str(n)) for n in range(50)]
    async with open_stores(database_url, 6) as stores:
        stored = await asyncio.gather(*(store.submit(jobs) for store in stores))
    assert sum(len(each) for each in stored) == 50
    assert count_rows(database_url) == 50


@in_loop
async def test_refused_job_leaves_no_note_of_its_resource(database_url: str) -> None:
    async with open_store(database_url) as store:
        with pytest.raises(InvalidInputError):
            await store.submit([resource_job("a", traceparent="\x00")])
        assert await store.recorded("here", []) == []
        assert len(await store.submit([resource_job("a")])) == 1


@in_loop
async def test_recorded_names_live_resources_of_a_cluster_and_its_namespaces(database_url: str) -> None:
    def job(uid: str, namespace: str, cluster_id: str = "here") -> NewJob:
        base = resource_job(uid, cluster_id=cluster_id)
        assert base.resource is not None
        return dataclasses.replace(base, resource=dataclasses.replace(base.resource, namespace=namespace))

    async with open_store(database_url) as store:
        await store.submit([job("a", "shop"), job("b", "mail"), job("c", "shop"), job("d", "shop", "there")])
        await store.remove_resources("here", ["c"])
        a, b = StoredResource("shop", "job-a", "a"), StoredResource("mail", "job-b", "b")
        assert await store.recorded("here", []) == [a, b]
        assert await store.recorded("here", ["shop", "empty"]) == [a]
        assert await store.recorded("there", []) == [StoredResource("shop", "job-d", "d")]
        assert await store.recorded("nowhere", []) == []


@in_loop
async def test_rows_of_a_resource_are_the_unfinished_ones_and_the_newest_finished_one(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([resource_job("a"), resource_job("b", due=LATER), resource_job("c")])
        for _ in range(2):
            # Runs fail and are retried at once.
            jobs = await claim_all(store)
            retry = FollowUp(FollowUpKind.RETRY, await store.now() - timedelta(seconds=1), 2, None)
            await store.settle([settlement(job, Outcome.failure("no paper"), retry) for job in jobs])
        rows = await store.rows_of("here", ["a", "b", "unknown"])
        assert set(rows) == {"a", "b"}
        assert [job.state for job in rows["b"]] == [JobState.PENDING]
        assert [job.state for job in rows["a"]] == [JobState.FAILED, JobState.PENDING]
        assert rows["a"][1].rescheduled_from_job == rows["a"][0].id
        assert await store.rows_of("there", ["a"]) == {}
        assert await store.rows_of("here", []) == {}


CHANGED: dict[str, Any] = {
    "data": {"z": 1, "a": 2},
    "tag": "nightly",
    "due": LATER,
    "persistent": True,
    "priority": 5,
    "pool": "heavy",
    "timeout_ms": 99,
    "remove_delay_ms": 2000,
    "auto_reschedule_on_failure": True,
    "auto_reschedule_on_failure_delay_ms": 5,
    "retry": RetryPolicy(limit=1, initial_delay_ms=2, factor=3, max_delay_ms=4),
}


@in_loop
async def test_pending_row_is_brought_up_to_a_newer_generation(database_url: str) -> None:
    async with open_store(database_url) as store:
        first = await submit_one(store, resource_job("a"))
        newer = resource_job("a", generation=2, **CHANGED)
        assert await store.update_pending("here", [newer, resource_job("unknown")]) == [first.id]
        job = await read(store, first)
        assert job.data_json == '{"z":1,"a":2}'
        assert (job.tag, job.due, job.persistent, job.priority, job.pool) == ("nightly", LATER, True, 5, "heavy")
        assert (job.timeout_ms, job.remove_delay_ms, job.remove_at) == (99, 2000, LATER + timedelta(seconds=2))
        assert (job.auto_reschedule_on_failure, job.auto_reschedule_on_failure_delay_ms) == (True, 5)
        assert (job.retry_limit, job.retry_initial_delay_ms, job.retry_factor, job.retry_max_delay_ms) == (1, 2, 3, 4)
        assert (job.resource_generation, job.created_at, job.state) == (2, first.created_at, JobState.PENDING)
        assert await store.update_pending("here", [newer]) == []
        assert await store.update_pending("there", [resource_job("a", generation=3)]) == []
        # Without a due moment it is due as of its creation.
        await store.update_pending("here", [resource_job("a", generation=3)])
        assert (await read(store, first)).due == first.created_at


@in_loop
async def test_schedule_of_a_pending_cron_row_is_changed_in_place(database_url: str) -> None:
    async with open_store(database_url) as store:
        first = await submit_one(store, resource_job("a", cron_schedule="0 12 1 1 *", cron_key="a"))
        changed = resource_job("a", generation=2, cron_schedule="0 12 1 1 *", time_zone="Asia/Kathmandu", cron_key="a")
        await store.update_pending("here", [changed])
        job = await read(store, first)
        assert (job.time_zone, job.cron_key) == ("Asia/Kathmandu", "a")
        assert job.tick == job.due == first.due - timedelta(hours=5, minutes=45)
        await store.update_pending("here", [resource_job("a", generation=3)])
        once = await read(store, first)
        assert (once.cron_schedule, once.time_zone, once.cron_key, once.tick) == (None, None, None, None)
        assert once.due == first.created_at


@in_loop
async def test_row_that_waits_for_its_retry_keeps_its_moment_and_stays_outside_the_line(database_url: str) -> None:
    line: dict[str, Any] = {"cron_schedule": "0 12 1 1 *", "cron_key": "a"}
    async with open_store(database_url) as store:
        await submit_one(store, resource_job("a", **line))
        sql(database_url, """update "workerJobs" set due = now(), tick = now()""")
        (job,) = await claim_all(store)
        retry = FollowUp(FollowUpKind.RETRY, LATER, 2, None)
        tick = FollowUp(FollowUpKind.CRON, LATER, 1, "a")
        await store.settle([settlement(job, Outcome.failure("no paper"), retry, tick)])
        updated = await store.update_pending("here", [resource_job("a", generation=2, priority=7, **line)])
        rows = [await read(store, job_id) for job_id in updated]
        assert [job.priority for job in rows] == [7, 7]
        (retried,) = [job for job in rows if job.cron_key is None]
        (next_run,) = [job for job in rows if job.cron_key == "a"]
        assert (retried.due, retried.tick, retried.cron_schedule, retried.attempt) == (LATER, None, None, 2)
        assert next_run.due == next_run.tick != LATER


@in_loop
async def test_running_and_finished_rows_keep_what_they_were_started_with(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([resource_job("running"), resource_job("finished")])
        jobs = await claim_all(store)
        await store.settle([settlement(jobs[1])])
        before = [await read(store, job) for job in jobs]
        newer = [resource_job(uid, generation=2, **CHANGED) for uid in ("running", "finished")]
        assert await store.update_pending("here", newer) == []
        assert [await read(store, job) for job in jobs] == before


@in_loop
async def test_deleted_resource_has_its_pending_row_cancelled_and_its_running_one_asked_to_stop(
    database_url: str,
) -> None:
    async with open_store(database_url) as store:
        await store.submit([resource_job("running", priority=1), resource_job("pending", due=LATER)])
        await store.submit([resource_job("kept", due=LATER), resource_job("pending", cluster_id="there", due=LATER)])
        (running,) = await claim_all(store)
        removed = await store.remove_resources("here", ["running", "pending", "unknown"])
        assert ids(removed) == [1, 2]
        asked, cancelled = removed
        assert asked.cancel_requested
        assert asked.state is JobState.RUNNING
        assert cancelled.state is JobState.CANCELLED
        assert cancelled.error == "Job cancelled as its WorkerJob was deleted"
        assert (await store.renew([lease_of(running)], LEASE)).cancel_requested == {running.id}
        assert [(await read(store, job)).state for job in (3, 4)] == [JobState.PENDING] * 2
        assert [each.uid for each in await store.recorded("here", [])] == ["kept"]
        # The uid never comes again, and a late event must not bring its job back.
        assert await store.submit([resource_job("pending")]) == []
        assert await store.remove_resources("here", ["pending"]) == []


@in_loop
async def test_deleted_resource_is_forgotten_after_a_while_when_its_rows_are_gone(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([resource_job(uid) for uid in ("live", "lately", "rows", "old")])
        await store.submit([resource_job("old", cluster_id="there")])
        for cluster_id in ("here", "there"):
            await store.remove_resources(cluster_id, ["lately", "rows", "old"])
        sql(database_url, """delete from "workerJobs" where "resourceUid" <> 'rows'""")
        deleted = """update "workerJobResources" set "deletedAt" = now() - interval '25 hours'"""
        sql(database_url, deleted + """ where "resourceUid" in ('rows', 'old')""")
        assert await store.forget_deleted("here", timedelta(days=1)) == 1
        left = 'select "clusterId", "resourceUid" from "workerJobResources" order by 1, 2'
        assert sql(database_url, left) == [
            ("here", "lately"),
            ("here", "live"),
            ("here", "rows"),
            ("there", "old"),
        ]


@in_loop
async def test_row_that_slipped_in_while_its_resource_was_deleted_is_found(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([resource_job("gone", due=LATER), resource_job("kept", due=LATER)])
        await store.remove_resources("here", ["gone"])
        insert = 'insert into "workerJobs" (type, "clusterId", "resourceUid") values (%s, %s, %s)'
        for values in (("late", "here", "gone"), ("fine", "here", "kept"), ("fine", "there", "gone")):
            sql(database_url, insert, *values)
        assert [job.type for job in await store.cancel_deleted("here")] == ["late"]
        assert await store.cancel_deleted("here") == []
    assert count_rows(database_url, "type = 'fine' and finished is null") == 2


# --- suspended resources, counts, history


def count_startable(url: str) -> int:
    return count_rows(url, "started is null and finished is null and due <= now()")


@in_loop
async def test_row_that_follows_while_its_resource_is_being_suspended_is_held_back(database_url: str) -> None:
    uids = [f"u-{number}" for number in range(30)]
    async with open_stores(database_url, 2) as (worker, operator):
        await worker.submit([resource_job(uid) for uid in uids])
        jobs = {job.resource_uid: job for job in await claim_all(worker)}
        retry = FollowUp(FollowUpKind.RETRY, await worker.now(), 2, None)
        for uid in uids:
            await asyncio.gather(
                worker.settle([settlement(jobs[uid], Outcome.failure("no paper"), retry)]),
                operator.suspend_resources("here", [uid]),
            )
        assert count_rows(database_url, "finished is null and \"heldDue\" is not null and due = 'infinity'") == 30
        assert count_startable(database_url) == 0
        await operator.resume_resources("here", dict.fromkeys(uids))
        assert count_startable(database_url) == 30


@in_loop
async def test_row_given_back_or_rescued_while_its_resource_is_suspended_is_held_back(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([resource_job("given back"), resource_job("rescued"), resource_job("other")])
        jobs = await claim_all(store)
        await store.suspend_resources("here", ["given back", "rescued"])
        await store.release([lease_of(jobs[0]), lease_of(jobs[2])])
        sql(database_url, """update "workerJobs" set "leaseDeadline" = now() - interval '1 hour' where id = 2""")
        await store.rescue("rescuer", timedelta(seconds=0.1), 10)
        assert count_rows(database_url, "finished is null and started is null") == 3
        assert [job.resource_uid for job in await claim_all(store)] == ["other"]


@in_loop
async def test_ends_are_counted_once_by_workers_that_settle_the_same_resources_in_another_order(
    database_url: str,
) -> None:
    uids = [f"u-{number}" for number in range(20)]
    async with open_stores(database_url, 3) as (first, second, operator):
        await operator.submit([resource_job(uid) for uid in uids])
        again = [resource_job(uid) for uid in uids]
        await operator.submit([dataclasses.replace(job, resource=rerun_of(job)) for job in again])
        jobs = await claim_all(first)
        one, two = jobs[:20], jobs[20:][::-1]
        assert {job.resource_uid for job in one} == {job.resource_uid for job in two}
        await asyncio.gather(
            first.settle([settlement(job) for job in one]),
            second.settle([settlement(job, Outcome.failure("no paper")) for job in two]),
            *(operator.states_of("here", uids) for _ in range(5)),
        )
        for _ in range(2):
            states = await operator.states_of("here", uids)
            assert {(each.counts.succeeded, each.counts.failed) for each in states.values()} == {(1, 1)}
            assert {each.run_keys for each in states.values()} == {frozenset({"initial", "again"})}
    assert sql(database_url, 'select count(*) from "workerJobEnds"') == [(0,)]


def rerun_of(job: NewJob) -> Any:
    assert job.resource is not None
    return dataclasses.replace(job.resource, run_key="again")


@in_loop
async def test_nothing_of_a_deleted_resource_is_run_again(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([resource_job("a")])
        await store.remove_resources("here", ["a"])
        job = resource_job("a")
        assert await store.submit([dataclasses.replace(job, resource=rerun_of(job))]) == []


@in_loop
async def test_state_tells_when_the_last_run_ended_and_which_ticks_to_come_are_used_up(database_url: str) -> None:
    once = resource_job("a")
    line = resource_job("b", due=LATER, cron_schedule="@yearly", cron_key="resource:here:b")
    async with open_store(database_url) as store:
        await store.submit([once, line])
        (first,) = await claim_all(store)
        await store.submit([dataclasses.replace(once, resource=rerun_of(once))])
        (second,) = await claim_all(store)
        # A rerun is over before the run that it was stored beside.
        for job in (second, first):
            await store.settle([settlement(job)])
        await store.cancel([job.id for job in (await store.rows_of("here", ["b"]))["b"]])
        states = await store.states_of("here", ["a", "b", "unknown"])
        assert states["a"].last_end == (await read(store, first)).finished
        assert states["b"].used_ticks == {LATER}
        assert (states["a"].used_ticks, states["unknown"].last_end) == (frozenset(), None)
