"""`workerjobs migrate --quickdapp` and `workerjobs adopt`."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support.cli import environment, workerjobs, workerjobs_json
from tests.support.loop import in_loop, until
from tests.support.quickdapp import quickdapp
from tests.support.table import claim_one, count_rows, open_store, read, settlement, sql, submit_one
from tests.support.workers import finished, worker
from workerjobs.domain.job import JobState
from workerjobs.domain.lifecycle import Outcome
from workerjobs.domain.planning import plan
from workerjobs.errors import DatabaseUnavailableError, SchemaError
from workerjobs.jobs.prune import REMOVE_OLD_WORKER_JOBS
from workerjobs.ports.jobs import JobQuery, LogLine
from workerjobs.storage import quickdapp as storage
from workerjobs.storage.migrate import migrate_url
from workerjobs.storage.quickdapp import OTHER_TABLES, WORKER_JOBS, adopt, install_quickdapp

THEIR_TABLE = (Path(__file__).parents[1] / "support" / "quickdapp_table.sql").read_text()

# (id, tag, data, due, started, finished, success, result, cron_schedule, rescheduled_from_job, persistent): moments in
# minutes from now.
ROWS: list[tuple[Any, ...]] = [
    (3, "pending", '{"b": 1, "a": 2}', 60, None, None, None, None, None, None, False),
    (4, "due", "{}", -1, None, None, None, None, None, None, True),
    (5, "succeeded", "{}", -30, -29, -28, True, '{"sum": 3}', None, None, False),
    (6, "failed", "{}", -30, -29, -28, False, '{"error": "no paper"}', None, None, False),
    (7, "cancelled", "{}", -30, -28, -28, False, '{"error": "Job cancelled …"}', None, None, False),
    (8, "running", "{}", -3, -2, None, None, None, None, None, False),
    (9, "lost", "{}", -50, -45, None, None, None, None, None, False),
    (10, "cron:watchChain", "{}", -1, -1, -1, True, None, "*/3 * * * * *", 2, False),
    (12, "cron:watchChain", "{}", 1, None, None, None, None, "*/3 * * * * *", 10, False),
    (13, "odd", '{"text": "\\u0000"}', -30, -29, -28, True, '{"text": "a\\u0000b"}', None, None, False),
]
STATES = {"cancelled": 1, "failed": 1, "pending": 3, "running": 2, "succeeded": 3}
ALL_ROWS = "select * from worker_jobs order by id"


@pytest.fixture
def url(empty_database_url: str) -> str:
    """A database with QuickDapp's table, filled; ids went to 20."""
    fill(empty_database_url)
    return empty_database_url


def fill(url: str) -> None:
    sql(url, THEIR_TABLE)
    minutes = "now() + make_interval(mins => %s)"
    insert = f"""
        insert into worker_jobs (
            id, tag, data, due, started, finished, success, result, cron_schedule, rescheduled_from_job, persistent,
            type, user_id, remove_at, auto_reschedule_on_failure, auto_reschedule_on_failure_delay, remove_delay
        )
        values (
            %s, %s, %s, {minutes}, {minutes}, {minutes}, %s, %s, %s, %s, %s, 'echo', 7, now() + interval '1 hour', true,
            5000, -1
        )
    """
    for row in ROWS:
        sql(url, insert, *row)
    sql(url, "select setval('worker_jobs_id_seq', 20)")


def columns(url: str, table: str) -> list[tuple[Any, ...]]:
    statement = """
        select column_name, data_type, is_nullable, column_default from information_schema.columns
        where table_name = %s and table_schema = 'public' order by ordinal_position
    """
    return sql(url, statement, table)


def schema(url: str) -> list[tuple[Any, ...]]:
    """What is in the database, to see that nothing changed."""
    in_public = "from pg_class where relnamespace = 'public'::regnamespace order by 1"
    return sql(url, f"select relname, relkind::text, relacl::text {in_public}")


# --- migrate --quickdapp


def test_migrate_makes_the_view_and_the_tables_once(empty_database_url: str) -> None:
    done = workerjobs("migrate", "--quickdapp", database_url=empty_database_url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-5:] == [
        "Created notifications",
        "Created settings",
        "Created user_auth",
        "Created users",
        "Created worker_jobs",
    ]
    again = workerjobs("migrate", "--quickdapp", database_url=empty_database_url)
    assert again.stdout == "The database is up to date.\n"
    assert [(name, kind) for name, kind, _, _ in columns(empty_database_url, "worker_jobs")] == [
        (name, {"result": "jsonb", "data": "json", "rescheduled_from_job": "bigint"}.get(name, types[0]))
        for name, types in WORKER_JOBS.items()
    ]
    moments = [(name, "timestamp with time zone", "NO", "now()") for name in ("created_at", "updated_at")]
    assert columns(empty_database_url, "user_auth") == [
        ("id", "integer", "NO", "nextval('user_auth_id_seq'::regclass)"),
        ("user_id", "integer", "NO", None),
        ("auth_type", "text", "NO", None),
        ("auth_identifier", "text", "NO", None),
        *moments,
    ]
    sql(empty_database_url, "insert into users default values")
    sql(empty_database_url, "insert into user_auth (user_id, auth_type, auth_identifier) values (1, 'EMAIL', 'ada@x')")
    sql(empty_database_url, "delete from users")
    assert sql(empty_database_url, "select * from user_auth") == []


def test_plain_migrate_makes_none_of_it(database_url: str) -> None:
    assert not [
        name for name, *_ in schema(database_url) if name in {"worker_jobs", "workerJobs_shortId", *OTHER_TABLES}
    ]


def test_view_answers_by_its_index(database_url: str) -> None:
    install_quickdapp(database_url)
    sql(database_url, "insert into worker_jobs (tag, type) select 't', 'echo' from generate_series(1, 2000)")
    sql(database_url, 'analyze "workerJobs"')
    plan = "\n".join(line for (line,) in sql(database_url, "explain select * from worker_jobs where id = 7"))
    assert '"workerJobs_shortId"' in plan


@in_loop
async def test_job_that_fails_as_it_begins_is_not_taken_for_one_that_the_client_cancelled(database_url: str) -> None:
    """Cancelling is setting both moments to one, and so did a settlement by a clock that is ahead: it was refused, and
    the job run again. What had no first tick was cancelled, and not failed."""
    install_quickdapp(database_url)
    async with open_store(database_url) as store:
        job = await claim_one(store)
        ahead = time.time() + 60
        outcome = Outcome.failure("no paper", ahead, ahead + 0.001)
        assert (await store.settle([settlement(job, outcome)])).stored == {job.id}
        assert (await read(store, job)).state is JobState.FAILED
        ((never,),) = sql(database_url, "select workerjobs.schedule('report', '0 0 30 2 *')")
        await store.plan([plan(run) for run in await store.unplanned(10)])
        assert (await read(store, never)).state is JobState.FAILED


def test_tables_of_a_quickdapp_database_are_used_as_they_are(empty_database_url: str) -> None:
    sql(
        empty_database_url,
        """create table users (id serial primary key, disabled bool not null, settings json, name text,
        created_at timestamptz, updated_at timestamptz)""",
    )
    migrate_url(empty_database_url)
    before = columns(empty_database_url, "users")
    assert install_quickdapp(empty_database_url) == ["notifications", "settings", "user_auth", "worker_jobs"]
    assert columns(empty_database_url, "users") == before


def test_tables_of_another_shape_are_refused(empty_database_url: str) -> None:
    sql(empty_database_url, "create table users (id uuid, name text); create table settings (key text, value jsonb)")
    done = workerjobs("migrate", "--quickdapp", database_url=empty_database_url)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The database ")
    for problem in (
        "can't serve QuickDapp as it is: settings has no column id (integer)",
        "settings.value is jsonb instead of text or character varying",
        "users.id is uuid instead of integer or bigint",
        "users has no column disabled (boolean)",
    ):
        assert problem in done.stderr
    assert "worker_jobs" not in [name for name, *_ in schema(empty_database_url)]


def test_migrate_leaves_an_existing_table_to_adopt(url: str) -> None:
    done = workerjobs("migrate", "--quickdapp", database_url=url)
    assert done.returncode == 1
    assert "has a table worker_jobs: take it over with `workerjobs adopt`" in done.stderr
    assert sql(url, "select count(*) from worker_jobs") == [(len(ROWS),)]


# --- adopt


def test_adopt_takes_every_row_over_with_its_id(url: str) -> None:
    before = sql(url, ALL_ROWS)
    done = workerjobs("adopt", database_url=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Adopted worker_jobs with 10 rows (1 cancelled, 1 failed, 3 pending, 2 running, 3 succeeded)",
        "Created notifications",
        "Created settings",
        "Created user_auth",
        "Created users",
    ]
    after = sql(url, ALL_ROWS)
    result = list(WORKER_JOBS).index("result")
    assert after[:-1] == before[:-1]
    # What json holds and jsonb refuses has become a string.
    assert after[-1][result] == '{"text": "a\\u0000b"}'
    assert [*after[-1][:result], None, *after[-1][result + 1 :]] == [
        *before[-1][:result],
        None,
        *before[-1][result + 1 :],
    ]
    # json and its order of keys.
    assert sql(url, "select data::text from worker_jobs where id = 3") == [('{"b": 1, "a": 2}',)]
    assert sql(url, "insert into worker_jobs (tag, type) values ('t', 'echo') returning id") == [(21,)]


@in_loop
async def test_adopted_rows_go_on_where_they_were(url: str) -> None:
    adopt(url)
    async with open_store(url) as store:
        states = {job.tag: job.state for job in await store.list(JobQuery(limit=100)) if job.id != 12}
        assert states == {
            "pending": JobState.PENDING,
            "due": JobState.PENDING,
            "succeeded": JobState.SUCCEEDED,
            "failed": JobState.FAILED,
            "cancelled": JobState.CANCELLED,
            "running": JobState.RUNNING,
            "lost": JobState.RUNNING,
            "cron:watchChain": JobState.SUCCEEDED,
            "odd": JobState.SUCCEEDED,
        }
        # Half an hour after their start, as QuickDapp itself has it.
        assert [job.id for job in (await store.rescue("a worker", timedelta(milliseconds=1), 10)).released] == [9]
        # The line of the cron row is known by its tag and schedule.
        sql(url, "update worker_jobs set due = now() - interval '3 seconds' where id = 12")
        async with worker(url) as running:
            for job_id in (4, 9, 12):
                assert (await finished(running.store, job_id)).success
            await until(lambda: count_rows(url, '"rescheduledFromJob" = 12') == 1)
        key = 'select "cronKey", "cronSchedule" from "workerJobs" where "rescheduledFromJob" = 12'
        assert sql(url, key) == [("tag:cron:watchChain:*/3 * * * * *", "*/3 * * * * *")]


def test_adopt_again_changes_nothing(url: str) -> None:
    adopt(url)
    before = sql(url, ALL_ROWS), schema(url)
    done = workerjobs("adopt", database_url=url)
    assert (done.returncode, done.stdout) == (0, "worker_jobs was adopted already.\n")
    assert install_quickdapp(url) == []
    assert (sql(url, ALL_ROWS), schema(url)) == before


def test_adopt_again_makes_tables_that_were_dropped(url: str) -> None:
    adopt(url)
    sql(url, "drop table notifications")
    assert adopt(url).created == ["notifications"]


def test_dry_run_says_what_would_be_and_changes_nothing(url: str) -> None:
    before = sql(url, ALL_ROWS), schema(url)
    with psycopg.connect(url) as reader:
        # Needs no lock that a reader would keep it from.
        reader.execute("select * from worker_jobs")
        said = workerjobs_json("adopt", "--dry-run", database_url=url)
    assert said == {
        "rows": STATES,
        "renumbered": [],
        "created": list(OTHER_TABLES),
        "was_done": False,
        "dry_run": True,
    }
    assert (sql(url, ALL_ROWS), schema(url)) == before
    assert workerjobs("adopt", "--dry-run", database_url=url).stdout.startswith(
        "Would adopt worker_jobs with 10 rows ("
    )


@in_loop
async def test_rows_that_were_there_first_make_room(url: str) -> None:
    migrate_url(url)
    async with open_store(url) as store:
        sql(url, "select setval(pg_get_serial_sequence('\"workerJobs\"', 'id'), 2)")
        finished_job = await claim_one(store)
        await store.settle([settlement(finished_job)])
        await store.ensure_cron([REMOVE_OLD_WORKER_JOBS])
        sql(url, 'update "workerJobs" set "rescheduledFromJob" = 3 where id = 4')
        await store.save_logs([LogLine(finished_job.id, await store.now(), "info", "so it goes")])
        sql(
            url,
            """insert into "workerChainEffects"
            (chain, "blockNumber", "blockHash", "logIndex", filter, "transactionHash", "jobId")
            values ('anvil', 1, '0x', 0, 'sendToken', '0x', 3)""",
        )
        sql(url, "select setval(pg_get_serial_sequence('\"workerJobs\"', 'id'), 500)")
        apart = await submit_one(store)
        done = workerjobs("adopt", database_url=url)
        assert "Gave new ids to 2 rows of WorkerJobs that had the same" in done.stdout.splitlines(), done.stderr
        theirs = {row[0] for row in ROWS}
        assert {row[0] for row in sql(url, 'select id from "workerJobs"')} == theirs | {apart.id, 504, 505}
        assert (await read(store, 504)).state is JobState.SUCCEEDED
        moved = await read(store, 505)
        assert (moved.type, moved.rescheduled_from_job) == ("removeOldWorkerJobs", 504)
        # A job of theirs neither shows what another one logged, nor is it cancelled when a block is undone.
        assert sql(url, 'select "jobId" from "workerJobLogs"') == [(504,)]
        assert sql(url, 'select "jobId" from "workerChainEffects"') == [(504,)]
        assert (await submit_one(store)).id == 506


@in_loop
async def test_job_that_runs_under_an_id_of_the_table_is_not_renumbered(url: str) -> None:
    migrate_url(url)
    sql(url, "select setval(pg_get_serial_sequence('\"workerJobs\"', 'id'), 2)")
    async with open_store(url) as store:
        await claim_one(store)
        with pytest.raises(
            SchemaError, match="job 3 is running under an id of worker_jobs; stop the workers and adopt"
        ):
            adopt(url)
        (job,) = await store.list(JobQuery(limit=10))
        assert (job.id, job.state) == (3, JobState.RUNNING)
    assert count_rows(url) == 1
    assert sql(url, "select count(*) from worker_jobs") == [(len(ROWS),)]


def test_without_a_table_adopt_says_what_to_do(empty_database_url: str) -> None:
    done = workerjobs("adopt", database_url=empty_database_url)
    assert done.returncode == 1
    assert "has no table worker_jobs to adopt: `workerjobs migrate --quickdapp` makes the view" in done.stderr
    assert schema(empty_database_url) == []


CHANGES = {
    "alter table worker_jobs drop column tag": "worker_jobs has no column tag (text)",
    "alter table worker_jobs alter due type timestamp": "worker_jobs.due is timestamp without time zone instead of "
    "timestamp with time zone",
    "alter table worker_jobs alter id drop default, alter id type uuid using gen_random_uuid()": "worker_jobs.id is "
    "uuid instead of integer or bigint",
    "alter table worker_jobs add column note text": "worker_jobs has a column note, which would be lost",
    "create table audits (job int references worker_jobs)": "the foreign key audits_job_fkey of audits depends on "
    "worker_jobs",
    "create view late as select * from worker_jobs": "the view late depends on worker_jobs",
    "create trigger notify after insert on worker_jobs execute function suppress_redundant_updates_trigger()": "the "
    "trigger notify depends on worker_jobs",
    "create policy own on worker_jobs": "the policy own depends on worker_jobs",
    "create table settings (id int)": "settings has no column key (text)",
    "drop table worker_jobs; create view worker_jobs as select 1 as id": "worker_jobs is neither a table nor the view "
    "that WorkerJobs makes",
    "drop table worker_jobs; create materialized view worker_jobs as select 1 as id": "worker_jobs is neither a table "
    "nor the view that WorkerJobs makes",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_adopt_would_break_is_refused_and_left_alone(url: str, change: str) -> None:
    sql(url, change)
    before = schema(url)
    for dry_run in (True, False):
        with pytest.raises(SchemaError) as refused:
            adopt(url, dry_run=dry_run)
        assert CHANGES[change] in str(refused.value)
    assert schema(url) == before


def test_all_problems_are_said_at_once(url: str) -> None:
    sql(url, "alter table worker_jobs drop column tag, add column a int, add column b int, alter success type text")
    done = workerjobs("adopt", database_url=url)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "worker_jobs has no column tag (text); worker_jobs.success is text instead of boolean; "
        "worker_jobs has a column a, which would be lost; worker_jobs has a column b, which would be lost\n"
    )


def test_row_that_cannot_be_taken_over_leaves_everything(url: str) -> None:
    sql(url, "alter table worker_jobs alter type drop not null; update worker_jobs set type = null where id = 8")
    before = sql(url, ALL_ROWS)
    with pytest.raises(SchemaError, match=r"A row of worker_jobs in .* can't be taken over: null value in column"):
        adopt(url)
    assert sql(url, ALL_ROWS) == before
    assert count_rows(url) == 0


def test_table_in_use_is_not_waited_for_without_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LOCK_SECONDS", 0.2)
    with psycopg.connect(url) as user:
        user.execute("select * from worker_jobs")
        with pytest.raises(DatabaseUnavailableError, match="are in use: stop QuickDapp's server and the workers"):
            adopt(url)
    assert adopt(url).rows == STATES


@in_loop
async def test_killed_in_the_middle_it_has_done_nothing(url: str) -> None:
    migrate_url(url)
    before = sql(url, ALL_ROWS), schema(url)
    # The copy stops at one of its rows, with others written.
    sql(
        url,
        """
        create function stop_at_8() returns trigger language plpgsql as $$
        begin
            perform pg_advisory_xact_lock(8);
            return new;
        end $$
        """,
    )
    sql(
        url,
        'create trigger stop before insert on "workerJobs" for each row when (new.id = 8) execute function stop_at_8()',
    )
    with psycopg.connect(url) as blocker:
        blocker.execute("select pg_advisory_xact_lock(8)")
        command = [sys.executable, "-m", "workerjobs", "adopt"]
        adopting = subprocess.Popen(command, env=environment(url))  # noqa: ASYNC220  # over within a millisecond
        waiting = """
            select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = 8
                and database = (select oid from pg_database where datname = current_database())
        """
        await until(lambda: sql(url, waiting) == [(1,)])
        adopting.kill()
        adopting.wait()
    connected = """
        select from pg_stat_activity where application_name = 'workerjobs quickdapp' and datname = current_database()
    """
    await until(lambda: not sql(url, connected))
    sql(url, 'drop trigger stop on "workerJobs"')
    sql(url, "drop function stop_at_8")
    assert (sql(url, ALL_ROWS), schema(url)) == before
    assert count_rows(url) == 0
    assert adopt(url).rows == STATES


def test_four_that_adopt_at_once_do_it_once(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = sorted(adoption.was_done for adoption in pool.map(lambda _: adopt(url), range(4)))
    assert done == [False, True, True, True]
    assert count_rows(url) == len(ROWS)


def test_table_in_another_schema_stays_there(empty_database_url: str) -> None:
    sql(empty_database_url, "create schema jobs")
    fill(empty_database_url)
    url = f"{empty_database_url}?options=-csearch_path%3Djobs,public"
    migrate_url(url)
    assert adopt(url).rows == STATES
    assert adopt(url).was_done
    places = (
        "select relname, relnamespace::regnamespace::text from pg_class where relname in ('workerJobs', 'worker_jobs')"
    )
    assert dict(sql(url, places)) == {"workerJobs": "jobs", "worker_jobs": "public"}
    assert sql(url, "select count(*) from public.worker_jobs") == [(len(ROWS),)]


@pytest.fixture
def role(postgres_server: Any) -> Iterator[str]:
    """An account that may log in and nothing else."""
    name = f"quickdapp_{uuid.uuid4().hex[:12]}"
    postgres_server.admin.execute(f"create role {name} login password 'secret'")
    yield name
    postgres_server.drop_used()
    postgres_server.admin.execute(f"drop role {name}")


def test_accounts_may_do_with_the_view_what_they_could_do_with_the_table(url: str, role: str) -> None:
    sql(url, f"grant select, insert on worker_jobs to {role}")
    theirs = urlsplit(url)._replace(netloc=f"{role}:secret@{urlsplit(url).netloc.rpartition('@')[2]}").geturl()
    try:
        adopt(url)
        assert sql(theirs, "select count(*) from worker_jobs") == [(len(ROWS),)]
        assert sql(theirs, "insert into worker_jobs (tag, type) values ('t', 'echo') returning id") == [(21,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sql(theirs, "delete from worker_jobs")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sql(theirs, 'select * from "workerJobs"')
        sql(url, "drop table notifications")
        with pytest.raises(SchemaError, match="The account may not do this in"):
            install_quickdapp(theirs)
    finally:
        sql(url, f"drop owned by {role}")


@in_loop
async def test_server_that_stays_connected_goes_on(url: str, node_command: tuple[str, dict[str, str]]) -> None:
    async with quickdapp(node_command, url) as server:
        before = await server.call("job", id=3)
        await server.schedule(tag="before", type="echo")
        adopt(url)
        assert await server.call("job", id=3) == before
        row = await server.schedule(tag="pending", type="echo")
        assert row["id"] == 22
        assert sql(url, "select success from worker_jobs where id in (3, 21) order by id") == [(False,), (None,)]
        async with worker(url) as running:
            for job_id in (21, 22):
                assert (await finished(running.store, job_id)).success
