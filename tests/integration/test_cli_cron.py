"""Cron jobs by hand: run now, paused, resumed; whatever writes rows meanwhile."""

from __future__ import annotations

import asyncio
import threading

import psycopg

from tests.support.cli import workerjobs, workerjobs_json
from tests.support.loop import in_loop, until
from tests.support.table import claim_all, open_store, sql, waiting_for_locks
from workerjobs import NewJob, schedule

PENDING = 'select id, due = \'infinity\', "heldDue" is not null from "workerJobs" where finished is null order by id'


def line(url: str, *more: str) -> str:
    """Make a cron job; returns its key."""
    key: str = workerjobs_json("submit", "report", "--cron", "0 0 1 1 *", "--tag", "yearly", *more, database_url=url)[
        "cronKey"
    ]
    return key


def next_row(connection: psycopg.Connection[tuple[object, ...]], key: str, year: int) -> None:
    """The row that follows a run of a line, as settling makes it."""
    connection.execute(
        """insert into "workerJobs" (type, "cronSchedule", "cronKey", tick, due)
        values ('report', '0 0 1 1 *', %s, make_timestamptz(%s, 1, 1, 0, 0, 0), make_timestamptz(%s, 1, 1, 0, 0, 0))""",
        [key, year, year],
    )


def test_paused_line_starts_nothing_and_goes_on_with_its_next_tick(database_url: str) -> None:
    key = line(database_url)
    assert workerjobs("cron", "pause", "yearly", "--reason", "why", database_url=database_url).returncode == 0
    assert sql(database_url, PENDING) == [(1, True, True)]
    # A run that went on meanwhile ends: its follow-up is held as well.
    ended = "started = now(), finished = now(), success = true, due = now(), tick = '2019-01-01'"
    sql(database_url, f'update "workerJobs" set {ended}')
    with psycopg.connect(database_url) as connection:
        next_row(connection, key, 2020)
    assert sql(database_url, PENDING) == [(2, True, True)]
    (paused,) = workerjobs_json("cron", "list", database_url=database_url)
    assert (paused["isSuspended"], paused["nextTicks"]) == (True, [])
    assert workerjobs("cron", "next", "yearly", database_url=database_url).returncode == 1
    sql(database_url, "insert into \"workerJobPauses\" (kind, name) values ('cron', 'gone')")
    assert workerjobs("cron", "resume", "gone", database_url=database_url).returncode == 0
    assert workerjobs("cron", "resume", key, database_url=database_url).returncode == 0
    # Its own tick has passed: it is missed, as the pause said.
    ((due, tick),) = sql(database_url, 'select due, tick from "workerJobs" where finished is null')
    assert due == tick
    assert due > sql(database_url, "select now()")[0][0]


def test_pausing_waits_for_a_row_that_is_being_stored(database_url: str) -> None:
    key = line(database_url)
    sql(database_url, 'update "workerJobs" set started = now()')
    with psycopg.connect(database_url) as connection:
        next_row(connection, key, 2040)
        ended: list[int] = []
        pausing = threading.Thread(
            target=lambda: ended.append(workerjobs("cron", "pause", key, database_url=database_url).returncode)
        )
        pausing.start()
        waiting = """select count(*) from pg_locks join pg_database on pg_database.oid = database
            where locktype = 'advisory' and not granted and datname = current_database()"""
        while sql(database_url, waiting) == [(0,)]:
            assert pausing.is_alive()
        connection.commit()
    pausing.join(60)
    assert ended == [0]
    assert (2, True, True) in sql(database_url, PENDING)


def test_trigger_runs_beside_the_line_and_cancels_nothing(database_url: str) -> None:
    line(database_url, "--data", '{"z": 1, "a": 2}', "--retries", "3", "--priority", "5")
    assert workerjobs("cron", "trigger", "yearly", database_url=database_url).stdout == "yearly runs now as job 2\n"
    newer, older = workerjobs_json("list", database_url=database_url)
    assert (older["state"], older["cronSchedule"]) == ("pending", "0 0 1 1 *")
    same = ("type", "data", "tag", "priority", "retryLimit", "pool")
    assert {name: newer[name] for name in same} == {name: older[name] for name in same}
    assert (newer["cronSchedule"], newer["cronKey"], newer["tick"]) == (None, None, None)
    assert list(newer["data"]) == ["z", "a"]
    workerjobs("cron", "pause", "yearly", database_url=database_url)
    assert workerjobs_json("cron", "trigger", "yearly", database_url=database_url)["isSuspended"] is False


def test_line_of_another_program_is_named_by_its_tag_and_schedule(database_url: str) -> None:
    sql(
        database_url,
        """insert into "workerJobs" (type, tag, "cronSchedule", due) values ('old', 'theirs', '@hourly', now())""",
    )
    (found,) = workerjobs_json("cron", "list", database_url=database_url)
    assert (found["key"], found["name"]) == ("tag:theirs:@hourly", "theirs")
    assert workerjobs("cron", "pause", "theirs", database_url=database_url).returncode == 0
    assert sql(database_url, PENDING) == [(1, True, True)]
    assert workerjobs("resume", "cron", "theirs", database_url=database_url).returncode == 0
    assert sql(database_url, PENDING) == [(1, False, False)]


def test_name_of_several_cron_jobs_has_to_be_said_exactly(database_url: str) -> None:
    for _ in range(2):
        workerjobs("submit", "report", "--cron", "@hourly", database_url=database_url)
    ended = workerjobs("cron", "trigger", "report", database_url=database_url)
    assert ended.returncode == 2
    assert "Several cron jobs are called report: give one of the keys line:" in ended.stderr
    assert workerjobs("cron", "trigger", "2", database_url=database_url).returncode == 0


@in_loop
async def test_line_that_its_tag_names_stays_paused_when_its_program_schedules_it_anew(database_url: str) -> None:
    """QuickDapp's server does so whenever it starts, and names no line: its new row ran in spite of the pause."""
    key = "tag:hourly:0 0 * * * *"
    insert = """insert into "workerJobs" (type, tag, "cronSchedule") values ('report', 'hourly', '0 0 * * * *')"""
    async with open_store(database_url) as store:
        sql(database_url, insert)
        await store.pause_cron(key)
        sql(database_url, 'update "workerJobs" set started = now(), finished = now(), success = false')
        sql(database_url, insert)
        assert await claim_all(store) == []
        assert await store.resume_cron(key)
        goes_on = 'select due > now() and isfinite(due) from "workerJobs" where finished is null'
        assert sql(database_url, goes_on) == [(True,)]


HOLD_NEW_ROWS = """
    create function hold() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock_shared(42); return new; end $$;
    create trigger hold before insert on "workerJobs" for each row execute function hold();
"""


@in_loop
async def test_line_that_is_paused_as_it_is_scheduled_anew_is_no_deadlock(database_url: str) -> None:
    async with (
        open_store(database_url) as store,
        await psycopg.AsyncConnection.connect(database_url) as gate,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as program,
    ):
        await schedule(program, NewJob(type="report", cron_schedule="@hourly"), key="k")
        sql(database_url, HOLD_NEW_ROWS)
        await gate.execute("select pg_advisory_xact_lock(42)")
        daily = NewJob(type="report", cron_schedule="@daily")
        scheduling = asyncio.ensure_future(schedule(program, daily, key="k"))
        await until(lambda: len(waiting_for_locks(database_url)) == 1)
        pausing = asyncio.create_task(store.pause_cron("k"))
        await until(lambda: len(waiting_for_locks(database_url)) == 2)
        await gate.rollback()
        await asyncio.gather(scheduling, pausing)
    assert sql(database_url, PENDING) == [(2, True, True)]
