"""QuickDapp's server beside WorkerJobs' workers: its ORM, in a Node process, on the view worker_jobs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.loop import in_loop, until
from tests.support.quickdapp import QuickDappError, quickdapp
from tests.support.table import SUCCESS, claim_all, count_rows, open_store, read, settlement, sql
from tests.support.workers import Told, finished, worker, worker_process
from workerjobs.domain.job import Job, JobState
from workerjobs.domain.lifecycle import Outcome, settle
from workerjobs.jobs.prune import REMOVE_OLD_WORKER_JOBS
from workerjobs.ports.jobs import JobQuery
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.storage.quickdapp import install_quickdapp

CANCELLED = {"error": "Job cancelled due to new job being created"}
HOURLY = "0 0 * * * *"
LINE = 'select due, "cronKey", tick from "workerJobs" where started is null and finished is null order by id'
Node = tuple[str, dict[str, str]]


@pytest.fixture
def url(database_url: str) -> str:
    """A database with the view."""
    install_quickdapp(database_url)
    return database_url


BEGIN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def hour(number: int = 0) -> datetime:
    """The hour in which these tests began, or others from there; another one may begin in the middle of a test."""
    return BEGIN + timedelta(hours=number)


def hourly(due: datetime) -> dict[str, Any]:
    """An hourly job as the client schedules it."""
    return {"tag": "hourly", "type": "echo", "cronSchedule": HOURLY, "due": due}


async def settle_within_the_hour(store: PostgresJobStore, job: Job) -> None:
    """Settle a claimed job with the rows that follow it, as in the hour in which these tests began."""
    stored = await store.settle([settle(job, SUCCESS, now=hour() + timedelta(minutes=1))])
    assert stored.stored == {job.id}


# --- submitting


@in_loop
async def test_job_from_the_orm_runs_at_once_and_its_result_is_read_back(url: str, node_command: Node) -> None:
    async with worker(url) as running, quickdapp(node_command, url) as server:
        row = await server.schedule(tag="t1", type="echo", data={"z": 1, "a": [1, {"ü": None}]})
        assert row["id"] == 1
        assert (row["userId"], row["persistent"], row["removeDelay"], row["rescheduledFromJob"]) == (7, False, 0, None)
        done = await finished(running.store, row["id"])
        assert done.success
        # Long before a worker looks without having been told.
        assert done.started is not None
        assert done.started - done.created_at < timedelta(seconds=10)
        again = await server.call("job", id=row["id"])
        assert again["success"] is True
        # json keeps the order of keys, by which QuickDapp compares.
        assert list(again["data"]) == ["z", "a"]
        assert again["result"] == {"z": 1, "a": [1, {"ü": None}]}
        assert datetime.fromisoformat(again["removeAt"]) == datetime.fromisoformat(again["due"]) + timedelta(hours=1)
        assert await server.call("finishedOf", type="echo", userId=7) == [again]
        (insert,) = [line for line in await server.call("statements") if line.startswith("insert")]
        assert insert.startswith('insert into "worker_jobs" ("id", "tag", "type", "user_id", "data", "due", "started",')
        assert insert.count("default") == 10


@in_loop
async def test_job_due_in_a_moment_runs_then(url: str, node_command: Node) -> None:
    async with worker(url) as running, quickdapp(node_command, url) as server:
        due = datetime.now(UTC) + timedelta(seconds=1)
        row = await server.schedule(tag="later", type="echo", due=due)
        done = await finished(running.store, row["id"])
        assert done.started is not None
        # Not at the next look without having been told, half a minute later.
        waited = done.started - datetime.fromisoformat(row["due"])
        assert timedelta(0) <= waited < timedelta(seconds=10)


@in_loop
async def test_rows_are_read_updated_and_removed_as_the_server_does(url: str, node_command: Node) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        rows = [
            await server.schedule(tag=f"t{n}", type="echo", due=hour(n), removeDelay=1, persistent=n == -3)
            for n in (3, -3, 2, -2)
        ]
        assert [row["id"] for row in rows] == [1, 2, 3, 4]
        assert await server.call("countPending") == 4
        assert (await server.call("nextPending"))["id"] == 2
        assert (await server.call("markStarted", id=2))["started"] is not None
        assert await server.call("countPending") == 3
        assert (await server.call("markSucceeded", id=2, result={"sum": 3}))["result"] == {"sum": 3}
        assert await server.call("markStarted", id=4)
        assert (await server.call("markFailed", id=4, result={"error": "no paper"}))["success"] is False
        assert ((await read(store, 2)).state, (await read(store, 4)).state) == (JobState.SUCCEEDED, JobState.FAILED)
        assert (await read(store, 4)).error == "no paper"
        # Past their time are 2, which is persistent, and 4.
        await server.call("removeOld", exclude=[4])
        assert count_rows(url) == 4
        await server.call("removeOld", exclude=[])
        assert [row[0] for row in sql(url, 'select id from "workerJobs" order by id')] == [1, 2, 3]
        assert {row["id"] for row in await server.call("removeType", type="echo")} == {1, 2, 3}
        assert await server.call("job", id=1) is None


@in_loop
async def test_rows_that_only_other_programs_write_are_accepted(url: str, node_command: Node) -> None:
    now = datetime.now(UTC)
    row = {"tag": "t", "type": "echo", "userId": 0, "data": {}, "due": now, "removeAt": now}
    cancelled = {"started": now, "finished": now, "success": False, "result": CANCELLED}
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        for more in (
            cancelled,
            {"finished": now, "success": False},
            {"removeDelay": -60_000, "removeAt": now - timedelta(minutes=1)},
            {"started": now},
            {"rescheduledFromJob": 12},
        ):
            stored = await server.call("insertRow", row=row | more)
            assert {name: stored[name] for name in more} == {
                name: value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
                if isinstance(value, datetime)
                else value
                for name, value in more.items()
            }
        with pytest.raises(QuickDappError, match="workerJobs_success_when_finished"):
            await server.call("insertRow", row=row | {"success": True})
        # Without a lease, but not for half an hour: nobody takes it yet.
        assert (await store.rescue("a worker", timedelta(0), 10)).released == ()
        assert [job.id for job in await claim_all(store)] == [3, 5]


@in_loop
async def test_other_tables_serve_the_server(url: str, node_command: Node) -> None:
    async with quickdapp(node_command, url) as server:
        user = await server.call("createUser", wallet="0xabc")
        assert (user["id"], user["disabled"], user["settings"]) == (1, False, {"theme": "dark"})
        assert await server.call("userOfWallet", wallet="0xabc") == user
        with pytest.raises(QuickDappError) as refused:
            await server.call("createUser", wallet="0xabc")
        assert refused.value.code == "23505"
        sent = await server.call("notify", userId=1, data={"type": "token_created"})
        assert await server.call("notificationsOf", userId=1) == [[sent], 1]
        with pytest.raises(QuickDappError) as refused:
            await server.call("notify", userId=99, data={})
        assert refused.value.code == "23503"
        for value in ("41", "42"):
            await server.call("setSetting", key="chain_last_processed_block_anvil", value=value)
        assert await server.call("getSetting", key="chain_last_processed_block_anvil") == "42"


# --- ids


@in_loop
async def test_ids_begin_again_after_truncate_and_old_leases_stay_stale(url: str, node_command: Node) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        await server.schedule(tag="a", type="echo")
        (lost,) = await claim_all(store)
        sql(url, 'truncate "workerJobs" restart identity')
        assert (await server.schedule(tag="b", type="echo"))["id"] == lost.id == 1
        (current,) = await claim_all(store)
        assert current.fencing_token != lost.fencing_token
        assert (await store.settle([settlement(lost)])).stale == {1}
        assert (await store.settle([settlement(current)])).stored == {1}
        assert (await server.call("job", id=1))["tag"] == "b"


@in_loop
async def test_ids_that_do_not_fit_the_view_leave_the_engine_alone(url: str, node_command: Node) -> None:
    sql(url, "select setval(pg_get_serial_sequence('\"workerJobs\"', 'id'), 2147483646)")
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        rows = [await server.schedule(tag=f"t{n}", type="echo") for n in range(3)]
        assert [row["id"] for row in rows] == [2147483647, None, None]
        assert [job.id for job in await claim_all(store)] == [2147483647, 2147483648, 2147483649]


# --- cancelling by tag


@in_loop
async def test_scheduling_a_tag_anew_cancels_what_is_pending_and_only_that(
    url: str, node_command: Node, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker(url) as running, quickdapp(node_command, url) as server:
        at_work = await server.schedule(tag="t", type="hold", data=told.data())
        await told.run(at_work["id"])
        pending = await server.schedule(tag="t", type="echo")
        newest = await server.schedule(tag="t", type="echo")
        cancelled = await read(running.store, pending["id"])
        assert (cancelled.state, cancelled.result) == (JobState.CANCELLED, CANCELLED)
        told.go()
        for row in (at_work, newest):
            assert (await finished(running.store, row["id"])).success


@in_loop
async def test_job_at_work_for_longer_than_half_an_hour_is_not_taken_for_lost(
    url: str, node_command: Node, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker(url) as running, quickdapp(node_command, url) as server:
        at_work = await server.schedule(tag="t", type="hold", data=told.data())
        await told.run(at_work["id"])
        sql(url, "update \"workerJobs\" set started = now() - interval '31 minutes'")
        # To QuickDapp it is pending again.
        assert await server.call("countPending") == 1
        await server.call("cancel", tag="t")
        told.go()
        done = await finished(running.store, at_work["id"])
        assert done.success
        assert done.result["attempt"] == 1


@in_loop
async def test_job_whose_worker_is_gone_is_cancelled_by_its_tag_after_half_an_hour(
    url: str, node_command: Node
) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        await server.schedule(tag="t", type="echo")
        await store.claim("a lost worker", "default", 1, timedelta(0))
        sql(url, "update \"workerJobs\" set started = now() - interval '31 minutes'")
        await server.call("cancel", tag="t")
        job = await read(store, 1)
        assert (job.state, job.result, job.lease_deadline) == (JobState.CANCELLED, CANCELLED, None)


@in_loop
async def test_row_claimed_while_the_client_waits_for_it_is_not_cancelled(url: str, node_command: Node) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        await server.schedule(tag="t", type="echo")
        async with await psycopg.AsyncConnection.connect(url) as claiming:
            # As a claim does it, and not committed yet.
            await claiming.execute(
                """
                update "workerJobs" set started = now(), "leaseOwner" = 'a worker', "fencingToken" = 1,
                    "leaseDeadline" = now() + interval '15 seconds'
                """
            )
            cancelling = asyncio.create_task(server.call("cancel", tag="t"))
            waiting = """
                select count(*) from pg_stat_activity
                where wait_event_type = 'Lock' and query like %s and datname = current_database()
            """
            await until(lambda: sql(url, waiting, 'update "worker_jobs"%') == [(1,)])
            await claiming.commit()
            await cancelling
        assert (await read(store, 1)).state is JobState.RUNNING


# --- cron


@in_loop
async def test_cron_row_without_a_key_goes_on_as_the_line_of_its_tag_and_schedule(url: str, node_command: Node) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        row = await server.schedule(**hourly(hour()))
        for previous in (row["id"], row["id"] + 1):
            (job,) = await claim_all(store)
            assert job.id == previous
            await settle_within_the_hour(store, job)
            key = f"tag:hourly:{HOURLY}"
            assert sql(url, LINE) == [(hour(1), key, hour(1))]
            assert (await server.call("job", id=previous + 1))["rescheduledFromJob"] == previous
            # As if its tick had come.
            past = hour(-previous)
            sql(url, 'update "workerJobs" set due = %s, tick = %s where finished is null', past, past)


@in_loop
async def test_client_may_replace_a_tick_twice_in_one_transaction_and_again(url: str, node_command: Node) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        await server.schedule(**hourly(hour()))
        (job,) = await claim_all(store)
        await settle_within_the_hour(store, job)
        # The engine's row for the next tick, with the line's key, and then the client's own rows for it.
        for _ in range(2):
            await server.schedule_all(hourly(hour(1)), hourly(hour(1)))
        assert sql(url, LINE) == [(hour(1), None, None)]
        assert count_rows(url, f"due = '{hour(1).isoformat()}'") == 5
        states = [job.state for job in await store.list(JobQuery(limit=5))]
        assert states == [JobState.PENDING, *[JobState.CANCELLED] * 4]


@in_loop
async def test_tick_that_the_client_cancelled_is_not_taken(url: str, node_command: Node) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        await server.schedule(**hourly(hour()))
        (first,) = await claim_all(store)
        await settle_within_the_hour(store, first)
        assert sql(url, LINE) == [(hour(1), f"tag:hourly:{HOURLY}", hour(1))]
        # The client cancels that row and, its clock being behind, schedules the tick before.
        again = await server.schedule(**hourly(hour()))
        (second,) = await claim_all(store)
        assert second.id == again["id"]
        await settle_within_the_hour(store, second)
        assert sql(url, LINE) == [(hour(1), f"tag:hourly:{HOURLY}", hour(1))]


@in_loop
@pytest.mark.parametrize("schedule", [HOURLY, "0 30 * * * *"])
async def test_line_scheduled_anew_while_it_runs_goes_on_in_the_new_row_alone(
    url: str, node_command: Node, schedule: str
) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        await server.schedule(**hourly(hour()))
        (job,) = await claim_all(store)
        await server.schedule(**(hourly(hour(1)) | {"cronSchedule": schedule}))
        await settle_within_the_hour(store, job)
        assert sql(url, LINE) == [(hour(1), None, None)]


@in_loop
async def test_retry_and_next_tick_of_a_row_that_the_servers_own_worker_rescheduled(
    url: str, node_command: Node
) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        row = await server.schedule(**hourly(hour()), autoRescheduleOnFailure=True, autoRescheduleOnFailureDelay=5000)
        again = await server.call("reschedule", id=row["id"], due=hour())
        assert (again["rescheduledFromJob"], again["cronSchedule"]) == (row["id"], HOURLY)
        (job,) = await claim_all(store)
        assert job.id == again["id"]
        failure = settle(job, Outcome.failure("no paper"), now=await store.now())
        assert (await store.settle([failure])).stored == {job.id}
        rows = sql(
            url, 'select "cronSchedule", "rescheduledFromJob" from "workerJobs" where finished is null order by 1'
        )
        assert rows == [(HOURLY, job.id), (None, job.id)]


# --- the built-in job


@in_loop
async def test_built_in_row_that_the_client_deleted_or_cancelled_comes_back(url: str, node_command: Node) -> None:
    unfinished = "type = 'removeOldWorkerJobs' and finished is null"
    async with (
        worker(url, builtin_jobs=[REMOVE_OLD_WORKER_JOBS]) as running,
        quickdapp(node_command, url) as server,
    ):
        await until(lambda: count_rows(url, unfinished) == 1)
        assert len(await server.call("removeType", type="removeOldWorkerJobs")) == 1
        await running.supervisor._builtins.step()
        assert count_rows(url, unfinished) == 1
        await server.call("cancel", tag="cron:removeOldWorkerJobs")
        assert count_rows(url, unfinished) == 0
        await running.supervisor._builtins.step()
        assert count_rows(url, unfinished) == 1


@in_loop
async def test_the_servers_own_row_is_the_built_in_job(url: str, node_command: Node) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        own = {"tag": "cron:removeOldWorkerJobs", "type": "removeOldWorkerJobs", "userId": 0, "cronSchedule": HOURLY}
        (row,) = await server.schedule_all(own | {"due": hour()})
        assert await store.ensure_cron([REMOVE_OLD_WORKER_JOBS]) == []
        (job,) = await claim_all(store)
        assert await store.ensure_cron([REMOVE_OLD_WORKER_JOBS]) == []
        await settle_within_the_hour(store, job)
        assert job.id == row["id"]
        assert await store.ensure_cron([REMOVE_OLD_WORKER_JOBS]) == []
        # And the other way round: the server starts, and replaces the engine's row.
        await server.schedule_all(own | {"due": hour(1)})
        assert await store.ensure_cron([REMOVE_OLD_WORKER_JOBS]) == []
        assert count_rows(url, "finished is null") == 1


@in_loop
async def test_built_in_row_stays_deleted_where_it_is_switched_off(
    url: str, node_command: Node, tmp_path: Path
) -> None:
    async with open_store(url) as store, quickdapp(node_command, url) as server:
        await store.ensure_cron([REMOVE_OLD_WORKER_JOBS])
        await server.call("removeType", type="removeOldWorkerJobs")
        async with worker_process(url, tmp_path, WORKER_BUILTIN_JOBS="off"):
            row = await server.schedule(tag="t", type="echo")
            await finished(store, row["id"])
        assert count_rows(url, "type = 'removeOldWorkerJobs'") == 0
        async with worker_process(url, tmp_path, name="on", WORKER_BUILTIN_JOBS="on"):
            await until(lambda: count_rows(url, "type = 'removeOldWorkerJobs'") == 1)
