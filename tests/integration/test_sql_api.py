"""The functions of the schema ``workerjobs``, as programs in any language call them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql as composed
from psycopg.rows import dict_row

from tests.support.loop import in_loop, until
from tests.support.table import (
    claim_all,
    count_rows,
    open_store,
    open_stores,
    read,
    settlement,
    sql,
    waiting_for_locks,
)
from workerjobs.domain.job import JobState, NewJob, RetryPolicy
from workerjobs.domain.lifecycle import Outcome, settle
from workerjobs.domain.schedule import MACROS
from workerjobs.errors import NotFoundError

REPLACED = {"error": "Job cancelled due to new job being created"}
PENDING = 'select id from "workerJobs" where started is null and finished is null order by id'


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A program's own connection; like psql's, each statement is a transaction."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def call(connection: psycopg.Connection[Any], expression: str, *values: Any) -> Any:
    """The value of a SQL expression."""
    row = connection.execute(f"select {expression}".encode(), values).fetchone()
    assert row is not None
    return row[0]


def row_of(connection: psycopg.Connection[Any], job_id: int) -> dict[str, Any]:
    cursor = connection.cursor(row_factory=dict_row)
    row = cursor.execute('select * from "workerJobs" where id = %s', [job_id]).fetchone()
    assert row is not None
    return row


def result_of(connection: psycopg.Connection[Any], job_id: int) -> Any:
    return call(connection, 'result from "workerJobs" where id = %s', job_id)


def states(connection: psycopg.Connection[Any]) -> list[tuple[int, bool | None]]:
    return connection.execute('select id, success from "workerJobs" order by id').fetchall()


# --- submit


@in_loop
async def test_submitted_job_is_the_one_that_python_stores(database_url: str) -> None:
    from_python = NewJob(
        type="report",
        data={"z": 1, "a": None},
        user_id=7,
        tag="python",
        persistent=True,
        priority=-3,
        pool="heavy",
        timeout_ms=1500,
        remove_delay_ms=60_000,
        auto_reschedule_on_failure=True,
        auto_reschedule_on_failure_delay_ms=10,
        retry=RetryPolicy(limit=2, jitter=0.5),
        traceparent="00-ab",
    )
    by_hand = """
        select workerjobs.submit(
            'report', '{"z":1,"a":null}', user_id => 7, tag => 'sql', persistent => true, priority => -3,
            pool => 'heavy', timeout_ms => 1500, remove_delay_ms => 60000, auto_reschedule_on_failure => true,
            auto_reschedule_on_failure_delay_ms => 10, retry_limit => 2, retry_jitter => 0.5,
            traceparent => '00-ab'
        )
    """
    async with open_store(database_url) as store:
        (expected,) = await store.submit([from_python])
        stored = (await read(store, sql(database_url, by_hand)[0][0])).to_dict()
        plain = (await read(store, sql(database_url, "select workerjobs.submit('x')")[0][0])).to_dict()
        (plain_expected,) = await store.submit([NewJob(type="x")])
    moments = {"due", "createdAt", "updatedAt", "removeAt", "id"}
    for given, wanted in ((stored, expected.to_dict() | {"tag": "sql"}), (plain, plain_expected.to_dict())):
        assert {name: given[name] for name in given.keys() - moments} == {
            name: wanted[name] for name in wanted.keys() - moments
        }
        assert given["due"] == given["createdAt"]
    assert datetime.fromisoformat(stored["removeAt"]) - datetime.fromisoformat(stored["due"]) == timedelta(minutes=1)


def test_data_keeps_its_text(connection: psycopg.Connection[Any]) -> None:
    text = '{"z": 1.50, "a" : "\\u00e9\\\\u0000\\n", "ü": [ ], "z": 2}'
    job_id = call(connection, "workerjobs.submit('x', %s)", text)
    assert call(connection, 'data::text from "workerJobs" where id = %s', job_id) == text


def test_limits_of_a_key_are_stored(connection: psycopg.Connection[Any]) -> None:
    limits = "concurrency_key => 'k', concurrency_limit => 2, rate_limit => 10, rate_period_ms => 1000"
    row = row_of(connection, call(connection, f"workerjobs.submit('x', {limits})"))
    assert (row["concurrencyKey"], row["concurrencyLimit"], row["rateLimit"], row["ratePeriod"]) == ("k", 2, 10, 1000)


def test_due_is_given_as_a_moment_or_as_a_delay(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        delayed = call(connection, "workerjobs.submit('x', delay => '90 minutes')")
        later = call(connection, "workerjobs.submit('x', due => '2040-01-01 12:00+05:45')")
        never = call(connection, "workerjobs.submit('x', due => 'infinity')")
        assert call(connection, 'due - now() from "workerJobs" where id = %s', delayed) == timedelta(minutes=90)
        assert row_of(connection, later)["due"] == datetime.fromisoformat("2040-01-01T06:15:00+00:00")
        assert call(connection, 'due::text from "workerJobs" where id = %s', never) == "infinity"


def test_null_means_not_given(connection: psycopg.Connection[Any]) -> None:
    names = call(connection, "proargnames[2:] from pg_proc where oid = 'workerjobs.submit'::regproc")
    assert len(names) > 15
    given = call(connection, f"workerjobs.submit('x', {', '.join(f'{name} => null' for name in names)})")
    short = call(connection, "workerjobs.submit('x')")
    own = {"id", "due", "createdAt", "updatedAt", "removeAt"}
    first, second = row_of(connection, given), row_of(connection, short)
    assert {name: first[name] for name in first.keys() - own} == {name: second[name] for name in second.keys() - own}


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        ("null", "type is missing", "Give the job's type"),
        ("' '", "type is empty", "not empty"),
        ("E'a\\nb'", "type has control characters", "not accepted"),
        ("repeat('x', 251)", "type has 251 characters", "At most 250"),
        ("'x', '[1]'", "data is of type array", "Give a JSON object"),
        ("'x', '\"{}\"'", "data is of type string", "Give a JSON object"),
        ("""'x', '{"a": "\\u0000"}'""", "data can't be stored: unsupported Unicode escape", "jsonb"),
        ("""'x', '{"\\u0000": 1}'""", "data can't be stored: unsupported Unicode escape", "jsonb"),
        ("'x', json_build_object('a', repeat('x', 1048576))", "data has 1048586 bytes of JSON", "1 MiB"),
        ("'x', (repeat('{\"a\":', 101) || '1' || repeat('}', 101))::json", "data is nested deeper than 100", "flatter"),
        ("'x', ('{\"a\":' || repeat('[', 100) || repeat(']', 100) || '}')::json", "data is nested deeper", "flatter"),
        ("'x', delay => '-1 second'", "delay is -00:00:01", "zero or more"),
        ("'x', delay => '1 second', due => now()", "due and delay exclude each other", "one of them"),
        ("'x', tag => ''", "tag is empty", "not empty"),
        ("'x', pool => E'a\\tb'", "pool has control characters", "not accepted"),
        ("'x', priority => 32768", "priority is 32768", "-32768 to 32767"),
        ("'x', user_id => -1", "user_id is -1", "0 to"),
        ("'x', timeout_ms => 0", "timeout_ms is 0", "1 to"),
        ("'x', remove_delay_ms => -1", "remove_delay_ms is -1", "0 to"),
        ("'x', auto_reschedule_on_failure_delay_ms => -1", "auto_reschedule_on_failure_delay_ms is -1", "0 to"),
        ("'x', retry_limit => -1", "retry_limit is -1", "0 to 1000000"),
        ("'x', retry_limit => 1, retry_factor => 'NaN'", "retry_factor is NaN", "1 to 1000"),
        ("'x', retry_limit => 1, retry_jitter => 1.5", "retry_jitter is 1.5", "0 to 1"),
        ("'x', retry_limit => 1, retry_jitter => 'NaN'", "retry_jitter is NaN", "0 to 1"),
        ("'x', retry_jitter => 0.5", "retry_limit is missing", "beside"),
        ("'x', retry_initial_delay_ms => 5", "retry_limit is missing", "beside"),
        ("'x', concurrency_limit => 5", "concurrency_key is missing", "key"),
        ("'x', concurrency_key => 'k', concurrency_limit => 0", "concurrency_limit is 0", "1 to"),
        ("'x', concurrency_key => 'k', rate_limit => 5", "rate_limit and rate_period_ms go together", "both"),
    ],
)
def test_bad_input_is_refused_with_what_is_accepted(
    connection: psycopg.Connection[Any], arguments: str, problem: str, hint: str
) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as raised:
        call(connection, f"workerjobs.submit({arguments})")
    assert (raised.value.diag.message_primary or "").startswith(problem)
    assert hint in (raised.value.diag.message_hint or "")
    assert states(connection) == []


def test_deepest_data_that_python_takes_is_taken(connection: psycopg.Connection[Any]) -> None:
    deepest = '{"a":' * 99 + "[]" + "}" * 99
    call(connection, "workerjobs.submit('x', %s)", deepest)
    call(connection, "workerjobs.submit('x', %s)", json.dumps({"a": "[{" * 500}))
    assert len(states(connection)) == 2


def test_tag_cancels_what_is_pending_and_not_what_runs(connection: psycopg.Connection[Any]) -> None:
    running = call(connection, "workerjobs.submit('x', tag => 'nightly')")
    connection.execute('update "workerJobs" set started = now()')
    pending = call(connection, "workerjobs.submit('x', tag => 'nightly', delay => '1 day')")
    other = call(connection, "workerjobs.submit('x', tag => 'daily')")
    newest = call(connection, "workerjobs.submit('x', tag => 'nightly')")
    assert states(connection) == [(running, None), (pending, False), (other, None), (newest, None)]
    assert result_of(connection, pending) == REPLACED


# --- in the caller's transaction


def test_rolled_back_job_never_existed_and_its_tag_cancelled_nothing(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    first = call(connection, "workerjobs.submit('x', tag => 'nightly', delay => '1 day')")
    with connection.transaction(force_rollback=True):
        call(connection, "workerjobs.submit('x', tag => 'nightly')")
        call(connection, "workerjobs.cancel(%s)", first)
    assert states(connection) == [(first, None)]
    # Nor does it hold the tag's lock.
    mine = "database = (select oid from pg_database where datname = current_database())"
    assert sql(database_url, f"select count(*) from pg_locks where locktype = 'advisory' and {mine}") == [(0,)]


def test_rolled_back_savepoint_takes_its_jobs_with_it(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        kept = call(connection, "workerjobs.submit('kept', tag => 'a')")
        with connection.transaction(force_rollback=True):
            call(connection, "workerjobs.submit('lost', tag => 'a')")
            with pytest.raises(psycopg.errors.InvalidParameterValue):
                call(connection, "workerjobs.submit('')")
        also = call(connection, "workerjobs.submit('also', tag => 'b')")
    assert states(connection) == [(kept, None), (also, None)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_transactions_that_can_not_see_others_jobs_store_plain_jobs_and_are_told_about_tags(
    connection: psycopg.Connection[Any], level: str
) -> None:
    connection.execute(f"begin isolation level {level}".encode())
    call(connection, "workerjobs.submit('x')")
    call(connection, "workerjobs.schedule('x', '@hourly')")
    connection.execute("commit")
    for statement, hint in (
        ("workerjobs.submit('x', tag => 'a')", "leave the tag out"),
        ("workerjobs.schedule('x', '@hourly', key => 'a')", "leave the key out"),
    ):
        connection.execute(f"begin isolation level {level}".encode())
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=level.upper()) as raised:
            call(connection, statement)
        assert "Use READ COMMITTED" in (raised.value.diag.message_hint or "")
        assert hint in (raised.value.diag.message_hint or "")
        connection.execute("rollback")
    assert len(states(connection)) == 2


def test_users_own_functions_and_triggers_submit(connection: psycopg.Connection[Any]) -> None:
    connection.execute("""
        create table orders (id serial primary key, customer text not null);
        create function remind(customer text) returns bigint language sql
            return workerjobs.submit('remind', json_build_object('customer', customer), tag => 'remind:' || customer);
        create function on_order() returns trigger language plpgsql as $$
        begin
            perform remind(new.customer);
            return new;
        end $$;
        create trigger on_order after insert on orders for each row execute function on_order();
    """)
    connection.execute("insert into orders (customer) values ('ada'), ('grace'), ('ada')")
    rows = connection.execute("""select data ->> 'customer', success from "workerJobs" order by id""").fetchall()
    assert rows == [("ada", False), ("grace", None), ("ada", None)]


def test_callers_search_path_does_not_matter(database_url: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute("""create schema shop; set search_path = shop; create table shop."workerJobs" (id int)""")
    done = call(connection, "workerjobs.submit('x', tag => 'a')")
    call(connection, "workerjobs.schedule('x', '@daily', key => 'k')")
    assert call(connection, "workerjobs.cancel(%s)", done) == 1
    assert call(connection, "workerjobs.retry(%s)", done) > done
    assert call(connection, "workerjobs.cancel(tag => 'a')") == 1
    assert call(connection, "workerjobs.unschedule('k')") == 1
    assert count_rows(database_url, "finished is not null") == 3


def test_account_with_the_documented_rights_submits(database_url: str, connection: psycopg.Connection[Any]) -> None:
    account = f"shop_{uuid4().hex[:12]}"
    role = composed.Identifier(account)
    connection.execute(composed.SQL("create role {}").format(role))
    try:
        grants = ("usage on schema workerjobs", 'select, insert, update on "workerJobs", "workerJobResources"')
        for grant in grants:
            connection.execute(composed.SQL("grant " + grant + " to {}").format(role))
        connection.execute(composed.SQL("set role {}").format(role))
        done = call(connection, "workerjobs.submit('x', tag => 'a')")
        call(connection, "workerjobs.schedule('x', '@daily', key => 'k')")
        assert call(connection, "workerjobs.cancel(%s)", done) == 1
        call(connection, "workerjobs.retry(%s)", done)
    finally:
        connection.execute("reset role")
        connection.execute(composed.SQL("drop owned by {}").format(role))
        connection.execute(composed.SQL("drop role {}").format(role))


# --- schedule


def test_scheduled_job_waits_for_a_worker_to_plan_it(connection: psycopg.Connection[Any]) -> None:
    expression = "workerjobs.schedule('x', '0 8 * * MON-FRI', '{\"a\": 1}', time_zone => 'Europe/Berlin', tag => 't')"
    job_id = call(connection, expression)
    row = connection.execute(
        'select due::text, tick, "cronSchedule", "timeZone", tag, data, "cronKey" from "workerJobs" where id = %s',
        [job_id],
    ).fetchone()
    assert row is not None
    assert row[:6] == ("infinity", None, "0 8 * * MON-FRI", "Europe/Berlin", "t", {"a": 1})
    assert row[6].startswith("line:")


def test_key_names_one_cron_job_and_the_same_again_changes_nothing(connection: psycopg.Connection[Any]) -> None:
    first = call(connection, "workerjobs.schedule('x', '@hourly', key => 'k', priority => 3)")
    assert call(connection, "workerjobs.schedule('x', '@hourly', key => 'k', priority => 3)") == first
    second = call(connection, "workerjobs.schedule('x', '@daily', key => 'k', priority => 3)")
    assert call(connection, "workerjobs.schedule('x', '@daily', key => 'other', priority => 3)") not in (first, second)
    assert [success for _, success in states(connection)] == [False, None, None]
    assert result_of(connection, first) == REPLACED
    third = call(connection, "workerjobs.schedule('x', '@daily', '{\"a\": 1}', key => 'k', priority => 3)")
    assert result_of(connection, second) == REPLACED
    assert call(connection, "workerjobs.unschedule('k')") == 1
    assert result_of(connection, third) == {"error": "Job cancelled"}
    assert call(connection, "workerjobs.unschedule('k')") == 0


def test_policies_of_a_cron_job_are_stored_and_a_changed_one_replaces_it(connection: psycopg.Connection[Any]) -> None:
    columns = '"catchUp", "concurrencyPolicy", "retryJitter" from "workerJobs" where id = %s'
    given = "'x', '@daily', key => 'k', catch_up => 'latest', concurrency_policy => 'Allow'"
    first = call(connection, f"workerjobs.schedule({given})")
    assert connection.execute(f"select {columns}".encode(), [first]).fetchone() == ("latest", "Allow", None)
    assert call(connection, f"workerjobs.schedule({given})") == first
    second = call(connection, f"workerjobs.schedule({given}, retry_limit => 1, retry_jitter => 0.5)")
    assert connection.execute(f"select {columns}".encode(), [second]).fetchone() == ("latest", "Allow", 0.5)
    third = call(connection, "workerjobs.schedule('x', '@daily', key => 'k')")
    assert connection.execute(f"select {columns}".encode(), [third]).fetchone() == ("none", "Forbid", None)
    usual = "'x', '@daily', key => 'k', catch_up => 'none', concurrency_policy => 'Forbid'"
    assert call(connection, f"workerjobs.schedule({usual})") == third
    assert [success for _, success in states(connection)] == [False, False, None]


def test_schedules_that_python_knows_are_taken(connection: psycopg.Connection[Any]) -> None:
    for cron in (*MACROS, "@Hourly", " 0 8 * * * ", "*/5 1-7,9 L * FRI#2", "0 H/3 H(1-5) ? JAN-mar 7"):
        call(connection, "workerjobs.schedule('x', %s)", cron)


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        ("'x', null", "cron is missing", "Give a schedule"),
        ("'x', ' '", "cron is missing", "Give a schedule"),
        ("'x', '* * *'", "cron '* * *' has 3 field(s)", "second first"),
        ("'x', '@fortnightly'", "cron '@fortnightly' is unknown", "@hourly"),
        ("'x', '@hourly 5'", "cron '@hourly 5' is unknown", "@hourly"),
        ("'x', 'TZ=UTC * * * * *'", "cron 'TZ=UTC * * * * *', field 'TZ=UTC' can't be read", "a-b"),
        ("'x', '* * * * $'", "cron '* * * * $', field '$' can't be read", "a-b"),
        ("'x', repeat('*', 201)", "cron has 201 characters", "200"),
        ("'x', '@daily', time_zone => 'Mars/Phobos'", "time zone 'Mars/Phobos' is unknown", "IANA"),
        ("'x', '@daily', key => ''", "key is empty", "not empty"),
        ("'x', '@daily', catch_up => 'some'", "catch_up is 'some'", "none, latest and all"),
        ("'x', '@daily', concurrency_policy => 'allow'", "concurrency_policy is 'allow'", "Allow, Forbid and Replace"),
        ("'', '@daily'", "type is empty", "not empty"),
        ("'x', '@daily', '[]'", "data is of type array", "object"),
    ],
)
def test_bad_schedule_is_refused_with_what_is_accepted(
    connection: psycopg.Connection[Any], arguments: str, problem: str, hint: str
) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as raised:
        call(connection, f"workerjobs.schedule({arguments})")
    assert raised.value.diag.message_primary == problem
    assert hint in (raised.value.diag.message_hint or "")
    assert states(connection) == []


@in_loop
async def test_running_row_of_a_line_that_was_scheduled_anew_has_no_next_tick(database_url: str) -> None:
    async with open_store(database_url) as store:
        line = NewJob(type="x", cron_schedule="* * * * * *", cron_key="k", due=datetime(2026, 1, 1).astimezone())
        await store.submit([line])
        (running,) = await claim_all(store)
        (newer,) = sql(database_url, "select workerjobs.schedule('x', '@yearly', key => 'k')")[0]
        settled = settle(running, Outcome(True, "1"), now=await store.now())
        assert len(settled.follow_ups) == 1
        assert (await store.settle([settled])).stored == {running.id}
        assert (await read(store, running)).state is JobState.SUCCEEDED
        assert sql(database_url, 'select id from "workerJobs" where finished is null') == [(newer,)]


# --- cancel and retry


@in_loop
async def test_cancel_ends_pending_jobs_and_asks_running_ones_to_stop(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.submit([NewJob(type="x", tag="t")])
        (running,) = await claim_all(store)
        pending, other = await store.submit([NewJob(type="x", tag="t"), NewJob(type="x")])
        assert sql(database_url, "select workerjobs.cancel(tag => 't', reason => 'Not today')") == [(2,)]
        assert (await read(store, pending)).result == {"error": "Not today"}
        stopping = await read(store, running)
        assert (stopping.state, stopping.cancel_requested) == (JobState.RUNNING, True)
        assert sql(database_url, "select workerjobs.cancel(%s)", other.id) == [(1,)]
        assert sql(database_url, "select workerjobs.cancel(%s::text::bigint)", str(other.id)) == [(0,)]
        assert sql(database_url, "select workerjobs.cancel('4711')") == [(0,)]


@pytest.mark.parametrize("arguments", ["", "1, 'a'", "id => null"])
def test_cancel_wants_an_id_or_a_tag(connection: psycopg.Connection[Any], arguments: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="cancel needs an id or a tag"):
        call(connection, f"workerjobs.cancel({arguments})")


@in_loop
async def test_retried_job_is_a_new_row_outside_its_cron_line(database_url: str) -> None:
    line = NewJob(
        type="report",
        data={"z": 1, "a": 2},
        tag="nightly",
        user_id=3,
        priority=4,
        persistent=True,
        timeout_ms=5,
        retry=RetryPolicy(2),
        cron_schedule="@hourly",
        cron_key="line",
        due=datetime(2026, 1, 1).astimezone(),
    )
    async with open_store(database_url) as store:
        await store.submit([line])
        (job,) = await claim_all(store)
        sql(database_url, """update "workerJobs" set attempt = 3, rescues = 1, "concurrencyKey" = 'k'""")
        await store.settle([settlement(job, Outcome.failure("no paper"))])
        waiting = (await store.submit([NewJob(type="newer", tag="nightly")]))[0]
        (new_id,) = sql(database_url, "select workerjobs.retry(%s)", job.id)[0]
        again = await read(store, new_id)
        assert again.rescheduled_from_job == job.id
        assert again.state is JobState.PENDING
        assert (again.cron_schedule, again.cron_key, again.tick, again.time_zone) == (None,) * 4
        assert (again.attempt, again.rescues) == (1, 0)
        for name in ("type", "data_json", "tag", "user_id", "priority", "persistent", "timeout_ms", "retry_limit"):
            assert getattr(again, name) == getattr(job, name), name
        assert sql(database_url, 'select "concurrencyKey" from "workerJobs" where id = %s', new_id) == [("k",)]
        assert again.due == again.created_at
        # As after any submit, the tag has one pending job.
        assert (await read(store, waiting)).result == REPLACED
        assert (await read(store, job)).state is JobState.FAILED


@in_loop
async def test_cron_job_goes_on_beside_a_run_that_is_run_again_by_hand(database_url: str) -> None:
    """The line's next row has the run's tag: running the last one again cancelled it, and that was the line's end."""
    line = NewJob(type="report", tag="nightly", cron_schedule="@hourly", due=datetime(2026, 1, 1).astimezone())
    async with open_store(database_url) as store:
        await store.submit([line])
        (job,) = await claim_all(store)
        await store.settle([settle(job, Outcome.failure("no paper"), now=await store.now())])
        ((next_row,),) = sql(database_url, PENDING)
        for _ in range(2):
            # Of the runs by hand the last one stays.
            (again,) = await store.retry([job.id])
            assert sql(database_url, PENDING) == [(next_row,), (again.id,)]


@in_loop
async def test_job_that_is_removed_while_its_tag_is_waited_for_is_not_left_out_in_silence(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    async with open_stores(database_url, 2) as (store, other):
        for tag in ("t", None):
            await store.submit([NewJob(type="report", tag=tag)])
        await store.settle([settlement(job) for job in await claim_all(store)])
        sql(database_url, """update "workerJobs" set "removeAt" = now() - interval '1 day' where tag is null""")
        with connection.transaction():
            connection.execute("select workerjobs.submit('report', tag => 't')")
            retrying = asyncio.create_task(store.retry([1, 2]))
            await until(lambda: waiting_for_locks(database_url))
            assert await other.prune(10) == 1
        with pytest.raises(NotFoundError, match="There is no job 2"):
            await retrying
    assert sql(database_url, PENDING) == [(3,)]


def test_only_finished_jobs_that_are_there_are_retried(connection: psycopg.Connection[Any]) -> None:
    job_id = call(connection, "workerjobs.submit('x')")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"not finished: job {job_id}"):
        call(connection, "workerjobs.retry(%s)", job_id)
    with pytest.raises(psycopg.errors.NoDataFound, match="there is no job 4711"):
        call(connection, "workerjobs.retry(4711)")
    connection.execute("""
        insert into "workerJobs" (type, finished, success, "clusterId", "resourceUid")
        values ('x', now(), true, 'c', 'u');
        insert into "workerJobResources" ("clusterId", "resourceUid", "runKey", namespace, name, "deletedAt")
        values ('c', 'u', 'initial', 'n', 'n', now())
    """)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"the WorkerJob of job {job_id + 1} was deleted"):
        call(connection, "workerjobs.retry(%s)", job_id + 1)
