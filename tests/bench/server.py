"""The throw-away Postgres that all are measured on, one after another, each in a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.bench import usage
from workerjobs.storage.embedded import EmbeddedPostgres

SETTINGS = {
    # Full durability, said here because a figure without it would be none.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_connections": "200",
    # No checkpoint falls into a measurement by chance: each measurement begins with one.
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
}


class Server:
    """A running server and what it has used."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._postgres = postgres
        self._admin = psycopg.connect(postgres.url_for("127.0.0.1", "postgres"), autocommit=True)

    @property
    def version(self) -> str:
        return self._postgres.version

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Give the URL of a new, empty database."""
        identifier = sql.Identifier(name)
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        self._admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(identifier))
        yield urlsplit(self._postgres.url)._replace(path=f"/{name}").geturl()
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))

    def checkpoint(self) -> None:
        """Write everything now, so that the next measurement does not pay for the last one."""
        self._admin.execute("CHECKPOINT")

    def wal_bytes(self) -> int:
        """Where the log is, in bytes since the server was made."""
        return self._number("SELECT pg_current_wal_insert_lsn() - '0/0'")

    def transactions(self, database: str) -> int:
        """How many transactions a database has had; sessions report theirs within a second."""
        return self._number("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", database)

    def cpu_seconds(self) -> float:
        """CPU time of all of the server's processes, ended ones included."""
        return usage.cpu_seconds([self._postgres.pid])

    def settings(self) -> dict[str, str]:
        """What `SETTINGS` came out as."""
        return {name: str(self._value(f"SHOW {name}")) for name in SETTINGS}

    def _number(self, query: str, *values: object) -> int:
        return int(self._value(query, *values))

    def _value(self, query: str, *values: object) -> Any:
        row = self._admin.execute(query.encode(), values or None).fetchone()
        assert row is not None
        return row[0]

    def close(self) -> None:
        self._admin.close()


@contextmanager
def running(programs: Path | None = None) -> Iterator[Server]:
    """Run a server: the embedded one, or other ``programs`` (the folder that initdb and postgres are in)."""
    with EmbeddedPostgres.ephemeral(settings=SETTINGS, programs=programs) as postgres:
        server = Server(postgres)
        try:
            yield server
        finally:
            server.close()
