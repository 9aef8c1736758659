"""Fixtures with a real Postgres: one server and one migrated template per run, one database per test.

The server is the embedded one, shared by all xdist workers and gone with the last of them (also when the run is
killed), with ``WORKERJOBS_TEST_POSTGRES=14`` of the oldest version that is supported; or the one of
``WORKERJOBS_TEST_DATABASE_URL``, whose account has to be allowed to create databases.

A test's database costs about 30 ms (two idle cores, 8 MB template in memory): CREATE DATABASE 20 ms, DROP 10 ms.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from tests.bench.environments import postgres_14
from workerjobs.storage.embedded import EmbeddedPostgres

SETTINGS = {
    # Nothing here outlives the run.
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
}
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 << 30
"""Free memory from which on the data are kept there: making a database takes 20 ms there, on a busy disk 150 ms."""


@dataclass
class PostgresServer:
    """A server on which this process makes databases."""

    url: str
    """Of the database from which others are made and dropped."""
    admin: psycopg.Connection[Any]
    """Autocommit connection to it, kept open for the run."""
    used: list[str] = field(default_factory=list)
    """Databases to drop at the next occasion."""

    def url_for(self, database: str) -> str:
        return urlsplit(self.url)._replace(path=f"/{database}").geturl()

    def create(self, database: str, template: str) -> str:
        # Copying files (the only way before 15) beats writing 8 MB of pages to the log by a third without fsync.
        strategy = "STRATEGY file_copy" if self.admin.info.server_version >= 150_000 else ""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} " + strategy)
        self.admin.execute(statement.format(sql.Identifier(database), sql.Identifier(template)))
        return self.url_for(database)

    def drop(self, database: str) -> None:
        self.admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def drop_later(self, database: str) -> None:
        # Postgres looks again after 100 ms when a session of the database still ends, as those just closed do. After
        # the next test they have ended.
        self.drop_used()
        self.used.append(database)

    def drop_used(self) -> None:
        while self.used:
            self.drop(self.used.pop())


@pytest.fixture(scope="session")
def postgres_server(testrun_uid: str) -> Iterator[PostgresServer]:
    """The run's Postgres server."""
    if url := os.environ.get("WORKERJOBS_TEST_DATABASE_URL"):
        yield from _connected(url)
        return
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    # Not below pytest's folder: its mode 0700 keeps out the account that Postgres runs as in a run by root.
    folder = (MEMORY if in_memory else Path(tempfile.gettempdir())) / f"workerjobs-test-{testrun_uid}"
    programs = postgres_14() if os.environ.get("WORKERJOBS_TEST_POSTGRES") == "14" else None
    with EmbeddedPostgres(folder, settings=SETTINGS, temporary=True, programs=programs) as server:
        yield from _connected(server.url_for("127.0.0.1", "postgres"))
    if not (folder / "data").exists():  # The last one; the locks are left.
        shutil.rmtree(folder, ignore_errors=True)


def _connected(url: str) -> Iterator[PostgresServer]:
    with psycopg.connect(url, autocommit=True) as admin:
        server = PostgresServer(url, admin)
        yield server
        server.drop_used()


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer, testrun_uid: str) -> Iterator[str]:
    """Name of a migrated database to copy; nobody can connect to it."""
    name = f"workerjobs_template_{testrun_uid[:16]}"
    admin = postgres_server.admin
    # Exclusive to whoever makes or drops the template, shared by its users; a killed process gives up its part. Nobody
    # waits for the exclusive one: its users hold the shared one to their end.
    while True:
        admin.execute("SELECT pg_advisory_lock_shared(hashtext(%s))", [name])
        if _is_template_finished(admin, name):
            break
        admin.execute("SELECT pg_advisory_unlock_shared(hashtext(%s))", [name])
        if _try_lock(admin, name):
            if not _is_template_finished(admin, name):
                _make_template(postgres_server, name)
            admin.execute("SELECT pg_advisory_unlock(hashtext(%s))", [name])
        else:
            time.sleep(0.01)
    yield name
    admin.execute("SELECT pg_advisory_unlock_shared(hashtext(%s))", [name])
    if _try_lock(admin, name):
        postgres_server.drop(name)


def _try_lock(admin: psycopg.Connection[Any], name: str) -> bool:
    return admin.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [name]).fetchone() == (True,)


def _is_template_finished(admin: psycopg.Connection[Any], name: str) -> bool:
    row = admin.execute("SELECT NOT datallowconn FROM pg_database WHERE datname = %s", [name]).fetchone()
    return row == (True,)


def _make_template(server: PostgresServer, name: str) -> None:
    from workerjobs.storage.migrate import migrate_url

    server.drop(name)  # Half-made, by a process that was killed.
    migrate_url(server.create(name, "template0"))
    # Also keeps autovacuum out, which would make copying wait.
    server.admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a database of this test's own, with nothing in it."""
    yield from _database(postgres_server, "template0")


@pytest.fixture
def database_url(postgres_server: PostgresServer, template_database: str) -> Iterator[str]:
    """URL of a database of this test's own, migrated."""
    yield from _database(postgres_server, template_database)


@pytest.fixture
def other_database_url(postgres_server: PostgresServer, template_database: str) -> Iterator[str]:
    """URL of another one."""
    yield from _database(postgres_server, template_database)


def _database(server: PostgresServer, template: str) -> Iterator[str]:
    name = f"workerjobs_test_{uuid.uuid4().hex[:16]}"
    yield server.create(name, template)
    server.drop_later(name)
