"""Migrations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.loop import in_loop
from tests.support.table import open_store, sql, submit_one
from workerjobs.errors import DatabaseUnavailableError, SchemaError
from workerjobs.storage import migrate
from workerjobs.storage.migrate import SCHEMA_VERSION, migrate_url, migrations

TABLES = """
    select schemaname || '.' || tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')
    order by 1
"""
IN_PUBLIC = [
    "public.workerApiAnswers",
    "public.workerApiTokens",
    "public.workerAudit",
    "public.workerBroadcasts",
    "public.workerChainAddresses",
    "public.workerChainBlocks",
    "public.workerChainDeadLetters",
    "public.workerChainEffects",
    "public.workerChainEndpoints",
    "public.workerChainFilterCursors",
    "public.workerChainFilters",
    "public.workerChainPayments",
    "public.workerChains",
    "public.workerJobEnds",
    "public.workerJobLeaders",
    "public.workerJobLimits",
    "public.workerJobLogs",
    "public.workerJobPauses",
    "public.workerJobResourceStates",
    "public.workerJobResources",
    "public.workerJobWorkers",
    "public.workerJobs",
    "public.workerJobsMigrations",
    "public.workerPools",
]


def tables(url: str) -> list[str]:
    return [row[0] for row in sql(url, TABLES)]


def newer_schema(url: str, version: int, compatible_from: int) -> None:
    insert = 'insert into "workerJobsMigrations" (version, name, "compatibleFrom") values (%s, %s, %s)'
    sql(url, insert, version, "of_a_newer_release", compatible_from)


def test_second_migration_changes_nothing(empty_database_url: str) -> None:
    assert migrate_url(empty_database_url) == [name for _, name, _ in migrations()]
    before = sql(empty_database_url, 'select * from "workerJobsMigrations"')
    assert migrate_url(empty_database_url) == []
    assert sql(empty_database_url, 'select * from "workerJobsMigrations"') == before
    assert before[-1][0] == SCHEMA_VERSION


def test_eight_concurrent_migrators_apply_each_migration_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        applied = list(pool.map(lambda _: migrate_url(empty_database_url), range(8)))
    assert sorted(applied) == [[]] * 7 + [[name for _, name, _ in migrations()]]


def test_tables_are_in_public_although_account_and_functions_schema_have_one_name(empty_database_url: str) -> None:
    # The default search path begins with a schema of the account's name, and the first migration creates `workerjobs`.
    if sql(empty_database_url, "select current_user") != [("workerjobs",)]:
        pytest.skip("the test server's account has another name")
    migrate_url(empty_database_url)
    assert sql(empty_database_url, "select current_schema()") == [("workerjobs",)]
    assert tables(empty_database_url) == IN_PUBLIC
    assert migrate_url(empty_database_url) == []
    assert tables(empty_database_url) == IN_PUBLIC


def test_tables_are_made_where_the_search_path_says(empty_database_url: str) -> None:
    sql(empty_database_url, "create schema jobs")
    url = f"{empty_database_url}?options=-csearch_path%3Djobs,public"

    @in_loop
    async def submit() -> None:
        async with open_store(url) as store:
            assert (await submit_one(store)).id == 1

    migrate_url(url)
    assert tables(empty_database_url) == [name.replace("public", "jobs") for name in IN_PUBLIC]
    assert migrate_url(url) == []
    submit()


def test_failed_migration_leaves_nothing_behind(empty_database_url: str) -> None:
    # Somebody's own table has one of the names.
    sql(empty_database_url, 'create table "workerJobResources" (id int)')
    with pytest.raises(psycopg.errors.DuplicateTable):
        migrate_url(empty_database_url)
    assert tables(empty_database_url) == ["public.workerJobResources"]
    sql(empty_database_url, 'drop table "workerJobResources"')
    assert migrate_url(empty_database_url) != []


def test_newer_schema_is_refused_with_what_to_do(database_url: str) -> None:
    newer_schema(database_url, 99, compatible_from=98)

    @in_loop
    async def open_it() -> None:
        async with open_store(database_url):
            pass

    for use in (open_it, lambda: migrate_url(database_url)):
        with pytest.raises(SchemaError) as raised:
            use()
        assert "schema version 99, which works with releases of schema version 98 or newer" in str(raised.value)
        assert str(raised.value).endswith("upgrade WorkerJobs")


def test_newer_schema_that_says_it_is_compatible_is_used(database_url: str) -> None:
    newer_schema(database_url, 99, compatible_from=SCHEMA_VERSION)

    @in_loop
    async def submit() -> None:
        async with open_store(database_url) as store:
            await submit_one(store)

    submit()
    assert migrate_url(database_url) == []


def test_missing_schema_asks_for_the_migration(empty_database_url: str) -> None:
    @in_loop
    async def open_it() -> None:
        with pytest.raises(SchemaError, match=r"has no WorkerJobs tables.*run `workerjobs migrate`"):
            async with open_store(empty_database_url):
                pass

    open_it()
    migrate_url(empty_database_url)
    sql(empty_database_url, 'delete from "workerJobsMigrations"')
    open_it()


def test_migration_does_not_hold_up_others_while_a_table_is_locked(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate_url(empty_database_url)
    # As of an older release, whose newest migration is to be applied while somebody reads the table at length.
    alter = 'alter table "workerJobs" add column "newer" int'
    monkeypatch.setattr(migrate, "migrations", lambda: [*migrations(), (99, "0099_newer", alter)])
    monkeypatch.setitem(migrate.COMPATIBLE_FROM, 99, SCHEMA_VERSION)
    monkeypatch.setattr(migrate, "LOCK_WAIT_MS", 100)
    monkeypatch.setattr(migrate, "LOCK_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(migrate, "LOCKED_SECONDS", 0.5)
    with ThreadPoolExecutor() as pool, psycopg.connect(empty_database_url) as reader:
        reader.execute('select * from "workerJobs"')
        with pytest.raises(DatabaseUnavailableError, match=r"other transactions have held them for 0\.5 s"):
            migrate_url(empty_database_url)
        monkeypatch.setattr(migrate, "LOCKED_SECONDS", 60)
        migrating = pool.submit(migrate_url, empty_database_url)
        waiting = """
            select count(*) from pg_locks where not granted and relation = '"workerJobs"'::regclass
                and database = (select oid from pg_database where datname = current_database())
        """
        for _ in range(2):
            # It waits for the table, and lets others have it now and then.
            while sql(empty_database_url, waiting) == [(0,)]:
                assert not migrating.done()
            while sql(empty_database_url, waiting) == [(1,)]:
                pass
            assert sql(empty_database_url, 'select count(*) from "workerJobs"') == [(0,)]
        reader.rollback()
        assert migrating.result(30) == ["0099_newer"]


def test_account_that_may_not_create_tables_is_told_so(empty_database_url: str) -> None:
    url = f"{empty_database_url}?options=-crole%3Dpg_monitor"
    with pytest.raises(SchemaError, match=r"The account may not create WorkerJobs' tables in .*: permission denied"):
        migrate_url(url)
    assert tables(empty_database_url) == []
