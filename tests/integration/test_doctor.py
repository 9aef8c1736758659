"""`workerjobs doctor` on real databases, healthy and not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.support.cli import workerjobs
from tests.support.operators import eventually
from tests.support.pgbouncer import pgbouncer
from tests.support.server import own_server
from tests.support.table import sql


def doctor(url: str, *, exit_code: int = 0, **variables: str) -> dict[str, dict[str, str]]:
    """The checks of a run, by name; the test server's own settings are left out of the judgement."""
    ended = workerjobs("doctor", "-o", "json", database_url=url, variables=variables)
    assert ended.stderr == ""
    report = json.loads(ended.stdout)
    checks: dict[str, dict[str, str]] = {check["name"]: check for check in report["checks"]}
    # The test server runs without fsync, and says so.
    durability = checks.pop("durability")
    assert (durability["status"], "set fsync" in durability["advice"]) == ("fail", True)
    assert ended.returncode == 1
    failed = {name for name, check in checks.items() if check["status"] == "fail"}
    assert bool(failed) == bool(exit_code), checks
    return checks


def status(checks: dict[str, dict[str, str]], name: str) -> tuple[str, str]:
    return checks[name]["status"], checks[name]["seen"]


@contextmanager
def session(url: str, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """A session with something done in it, and rolled back at the end."""
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
        connection.rollback()


@pytest.mark.slow
def test_a_healthy_database_is_fine_and_one_without_fsync_is_not() -> None:
    with own_server() as server:
        ended = workerjobs("doctor", database_url=server.url)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "fail" not in ended.stdout
        assert "warn" not in ended.stdout
        assert "heard after" in ended.stdout
        report = json.loads(workerjobs("doctor", "-o", "json", database_url=server.url).stdout)
        assert report["status"] == "ok"
        assert {check["status"] for check in report["checks"]} == {"ok"}
        name = server.url.rpartition("/")[2]
        sql(server.url, f'alter database "{name}" set synchronous_commit = off')
        warned = workerjobs("doctor", "-o", "json", database_url=server.url)
        # A warning is no failure.
        assert (warned.returncode, json.loads(warned.stdout)["status"]) == (0, "warn")


def test_new_database_is_fine_but_for_the_test_servers_own_settings(database_url: str) -> None:
    checks = doctor(database_url)
    assert {check["status"] for check in checks.values()} == {"ok"}
    assert checks["cron"]["seen"] == "0 lines, each with its next row"


def test_no_tables(empty_database_url: str) -> None:
    checks = doctor(empty_database_url, exit_code=1)
    assert status(checks, "schema") == ("fail", "no WorkerJobs tables")
    assert "cron" not in checks


def test_no_server_is_an_error_in_one_sentence() -> None:
    ended = workerjobs("doctor", "-o", "json", database_url="postgresql://ada:secret@127.0.0.1:1/jobs")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: The database ada@127.0.0.1:1/jobs can't be reached")
    assert ended.stderr.count("\n") == 1


def test_stuck_and_late_rows(database_url: str) -> None:
    rows = """
        insert into "workerJobs" (type, pool, due, started, "leaseOwner", "leaseDeadline", "fencingToken")
        values
            ('lost', 'default', now(), now(), 'gone', now() - interval '31 seconds', 1),
            ('young', 'default', now(), now(), 'gone', now(), 2),
            ('foreign', 'default', now(), now() - interval '40 minutes', null, null, null),
            ('late', 'busy', now() - interval '2 hours', null, null, null, null),
            ('late', 'nobodys', '-infinity', null, null, null, null),
            ('late', 'nobodys', now() - interval '10 minutes', null, null, null, null),
            ('late', 'paused', now() - interval '3 hours', null, null, null, null),
            ('off', 'busy', now() - interval '3 hours', null, null, null, null),
            ('soon', 'fresh', now(), null, null, null, null)
    """
    sql(database_url, rows)
    sql(database_url, """insert into "workerJobPauses" (kind, name) values ('pool', 'paused'), ('type', 'off')""")
    show_worker(database_url, "busy", "late")
    checks = doctor(database_url, exit_code=1)
    assert status(checks, "leases") == ("fail", "1 running rows whose lease ran out are not rescued")
    assert checks["foreign rows"]["status"] == "warn"
    assert checks["foreign rows"]["seen"].startswith("1 rows")
    assert checks["due rows"]["status"] == "fail"
    assert "pool nobodys: 2, for up to" in checks["due rows"]["seen"]
    assert "pool busy: 1, for up to 2 h" in checks["due rows"]["seen"]
    assert "fresh" not in checks["due rows"]["seen"]
    assert "WORKER_POOL=nobodys" in checks["due rows"]["advice"]
    assert "paused" not in checks["due rows"]["seen"]
    sql(database_url, """delete from "workerJobs" where pool = 'nobodys' or type <> 'late'""")
    checks = doctor(database_url)
    assert checks["due rows"]["status"] == "warn"


def show_worker(url: str, pool: str, *types: str, seen: str = "1 hour") -> None:
    """Let a worker live until in a while, or until some time ago."""
    worker = """
        insert into "workerJobWorkers" (owner, pool, host, pid, version, children, types, "seenAt")
        values (gen_random_uuid()::text, %s, 'here', 1, '1', 1, %s, now() + %s::interval)
    """
    sql(url, worker, pool, list(types), seen)


def test_types_that_no_live_worker_knows(database_url: str) -> None:
    assert status(doctor(database_url), "types") == ("ok", "no live worker, and nothing is pending")
    sql(database_url, """insert into "workerJobs" (type, pool) values ('mail', 'a'), ('mail', 'b'), ('print', 'b')""")
    assert doctor(database_url)["types"]["status"] == "warn"
    show_worker(database_url, "b", "mail")
    show_worker(database_url, "b", "print", seen="-1 minute")
    checks = doctor(database_url, exit_code=1)
    assert status(checks, "types") == (
        "fail",
        "1 live workers; none knows mail (pool a, 1 rows), print (pool b, 1 rows)",
    )
    show_worker(database_url, "b", "print")
    show_worker(database_url, "a", "mail")
    assert status(doctor(database_url), "types") == ("ok", "3 live workers know all pending types")


CRON = """
    insert into "workerJobs" (type, "cronSchedule", "cronKey", tick, due, started, finished, success, result)
    values
        -- Goes on: its last run, and its next.
        ('well', '@hourly', 'line:well', now() - interval '1 hour', now() - interval '1 hour', now(), now(), true, '1'),
        ('well', '@hourly', 'line:well', now() + interval '1 hour', now() + interval '1 hour', null, null, null, null),
        -- Ended by whoever cancelled its next run.
        ('ended', '@hourly', 'line:ended', now() - interval '1 hour', now(), now(), now() - interval '1 h', true, '1'),
        ('ended', '@hourly', 'line:ended', now(), now(), null, now() - interval '1 hour', false, '{}'),
        -- Not only of this release: a row written through the view has no line.
        ('foreign', '*/5 * * * * *', null, null, now(), null, null, null, null)
"""
MISSING = """
    insert into "workerJobs" (type, "cronSchedule", "cronKey", tick, due, started, finished, success, result)
    values ('missing', '@daily', 'line:missing', now() - interval '1 hour', now(), now(), now() - interval '1 hour',
        false, '{}')
"""


def test_cron_lines(database_url: str) -> None:
    sql(database_url, CRON)
    assert status(doctor(database_url), "cron") == ("ok", "2 lines, each with its next row")
    sql(database_url, """update "workerJobs" set due = now() - interval '3 hours' where type = 'foreign'""")
    assert "late: foreign (*/5 * * * * *, job 5) by 3 h" in doctor(database_url, exit_code=1)["cron"]["seen"]
    sql(database_url, MISSING)
    checks = doctor(database_url, exit_code=1)
    assert status(checks, "cron") == ("fail", "lines without a next row: missing (@daily, job 6)")
    sql(database_url, """update "workerJobs" set "cronSchedule" = '0 0 30 2 *' where type = 'well'""")
    checks = doctor(database_url, exit_code=1)
    assert checks["cron"]["seen"] == "unreadable schedules: well (0 0 30 2 *, job 2)"


def test_line_of_a_deleted_resource_is_not_missed(database_url: str) -> None:
    sql(database_url, MISSING)
    sql(database_url, """update "workerJobs" set "clusterId" = 'here', "resourceUid" = 'u1'""")
    resource = """
        insert into "workerJobResources" ("clusterId", "resourceUid", "runKey", namespace, name, "deletedAt")
        values ('here', 'u1', 'initial', 'shop', 'x', %s)
    """
    sql(database_url, resource, None)
    assert doctor(database_url, exit_code=1)["cron"]["status"] == "fail"
    sql(database_url, """update "workerJobResources" set "deletedAt" = now()""")
    assert doctor(database_url)["cron"]["status"] == "ok"


def test_broken_objects(database_url: str) -> None:
    sql(database_url, 'alter table "workerJobs" disable trigger "announceInserted"')
    assert status(doctor(database_url, exit_code=1), "objects") == ("fail", "disabled triggers: announceInserted")
    sql(database_url, 'alter table "workerJobs" enable trigger "announceInserted"')
    # As a CREATE INDEX CONCURRENTLY leaves it that fails.
    sql(database_url, """insert into "workerJobs" (type, tag) values ('a', 'same'), ('b', 'same')""")
    with pytest.raises(psycopg.errors.UniqueViolation):
        sql(database_url, 'create unique index concurrently half on "workerJobs" (tag)')
    assert status(doctor(database_url, exit_code=1), "objects") == ("fail", "invalid indexes: half")


def test_vacuum_and_bloat(database_url: str) -> None:
    sql(database_url, 'alter table "workerJobs" set (autovacuum_enabled = false)')
    assert "off for the table; 0 rows" in doctor(database_url, exit_code=1)["vacuum"]["seen"]
    sql(database_url, 'alter table "workerJobs" reset (autovacuum_enabled)')
    with session(database_url, "set transaction isolation level repeatable read", 'select * from "workerJobs"'):
        # Its snapshot keeps autovacuum from being quicker than the test.
        sql(database_url, """insert into "workerJobs" (type) select 'x' from generate_series(1, 30000)""")
        sql(database_url, 'delete from "workerJobs" where id <= 20000')
        # Up to version 14 the counts are those of half a second ago.
        eventually(lambda: "20,000 dead" in doctor(database_url)["vacuum"]["seen"])
        assert doctor(database_url)["vacuum"]["status"] == "warn"
    sql(database_url, 'vacuum "workerJobs"')
    eventually(lambda: "10,000 rows, 0 dead, vacuumed" in doctor(database_url)["vacuum"]["seen"])
    assert doctor(database_url)["vacuum"]["status"] == "ok"


def test_account_that_may_only_read(database_url: str) -> None:
    url = f"{database_url}?options=-crole%3Dpg_read_all_data"
    checks = doctor(url, exit_code=1)
    tables = sql(
        database_url, "select count(*) from pg_tables where tablename ~ '^worker' and tablename !~ 'Migrations'"
    )
    expected = f"insert, update, delete on workerJobs, workerJobResources, workerJobWorkers and {tables[0][0] - 3} more"
    assert expected in checks["privileges"]["seen"]
    assert checks["due rows"]["status"] == "ok"
    # And one that may nothing at all.
    nothing = doctor(f"{database_url}?options=-crole%3Dpg_signal_backend", exit_code=1)
    assert nothing["privileges"]["status"] == "fail"
    assert "due rows" not in nothing


def test_settings_of_the_account(database_url: str) -> None:
    options = "-cidle_session_timeout=60000 -cstatement_timeout=4s -cdefault_transaction_isolation=serializable"
    url = f"{database_url}?options={options.replace(' ', '%20').replace('=', '%3D')}"
    checks = doctor(url)
    assert checks["timeouts"]["status"] == "warn"
    assert "statement_timeout of 4000 ms" in checks["timeouts"]["seen"]
    assert checks["writing"]["seen"] == "transactions are serializable by default"
    read_only = doctor(f"{database_url}?options=-cdefault_transaction_read_only%3Don", exit_code=1)
    assert read_only["writing"]["status"] == "fail"


def test_connections_of_a_limited_database(database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    sql(database_url, f'alter database "{name}" connection limit 2')
    # The doctor takes two itself: one listens while the other announces; a superuser is not refused.
    with session(database_url), session(database_url):
        checks = doctor(database_url, exit_code=1)
    assert checks["connections"]["status"] == "fail"
    assert "of 2 that the database allows" in checks["connections"]["seen"]


def test_through_a_pooler(database_url: str) -> None:
    with pgbouncer(database_url) as pooler:
        url = pooler.url_for(database_url)
        checks = doctor(url)
        assert status(checks, "pooler")[0] == "warn"
        assert status(checks, "announcements") == ("warn", "not tried, as a pooler keeps them back")
        checks = doctor(url, DATABASE_DIRECT_URL=database_url)
        assert status(checks, "pooler") == ("ok", "DATABASE_URL leads through a pooler, DATABASE_DIRECT_URL is set")
        assert "heard after" in checks["announcements"]["seen"]
        # A direct URL that leads elsewhere, and one that leads nowhere.
        elsewhere = f"{database_url.rpartition('/')[0]}/postgres"
        checks = doctor(url, exit_code=1, DATABASE_DIRECT_URL=elsewhere)
        assert status(checks, "announcements") == ("fail", "what was announced was not heard")
        checks = doctor(url, exit_code=1, DATABASE_DIRECT_URL="postgresql://ada:secret@127.0.0.1:1/jobs")
        assert "ada@127.0.0.1:1/jobs can't be reached" in checks["pooler"]["seen"]
        assert "secret" not in json.dumps(checks)


def test_direct_url_alone_is_refused() -> None:
    ended = workerjobs("doctor", database_url=None, variables={"DATABASE_DIRECT_URL": "postgresql://h/d"})
    assert ended.returncode == 2
    assert "DATABASE_DIRECT_URL needs DATABASE_URL" in ended.stderr
