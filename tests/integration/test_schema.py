"""What the migrations make of a database."""

from __future__ import annotations

import psycopg

from tests.support.schema import SCHEMA, dump_schema
from tests.support.table import sql
from workerjobs.storage.migrate import migrate_url

OPTIONS = {
    "fillfactor": "50",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_cost_limit": "2000",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_analyze_threshold": "1000",
    "vacuum_index_cleanup": "on",
    "vacuum_truncate": "off",
}


def test_schema_file_is_what_the_migrations_make(empty_database_url: str, database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        # Functions come before the tables that they read.
        connection.execute("set check_function_bodies = off")
        connection.execute(SCHEMA.read_text().encode())
    assert dump_schema(empty_database_url) == dump_schema(database_url), "write storage/schema.sql anew: `make schema`"


def test_schema_dump_tells_differences(database_url: str) -> None:
    before = dump_schema(database_url)
    changes = [
        'alter table "workerJobs" alter column priority set default 1',
        'alter table "workerJobs" set (fillfactor = 33)',
        'drop index "workerJobs_running"',
        'alter table "workerJobs" disable trigger "announceCancel"',
        "alter function workerjobs.remove_at volatile",
        'alter table "workerJobs" drop constraint "workerJobs_success_when_finished"',
        "alter sequence workerjobs.fencing_token cache 5",
    ]
    for change in changes:
        sql(database_url, change)
        after = dump_schema(database_url)
        assert after != before, change
        before = after


def test_table_is_stored_and_vacuumed_as_a_queue_needs_it(database_url: str) -> None:
    options = sql(database_url, """select unnest(reloptions) from pg_class where oid = '"workerJobs"'::regclass""")
    assert dict(option[0].split("=") for option in options) == OPTIONS


def test_second_migration_leaves_the_schema_alone(database_url: str) -> None:
    before = dump_schema(database_url)
    migrate_url(database_url)
    assert dump_schema(database_url) == before
