"""Numbered migrations: applied in order, each in one transaction, by one process at a time."""

from __future__ import annotations

import logging
import re
import time
from importlib import resources
from typing import Any

import psycopg
from psycopg.rows import scalar_row, tuple_row

from workerjobs.errors import DatabaseUnavailableError, SchemaError
from workerjobs.storage.connection import address_of, connect_blocking
from workerjobs.storage.queries import query

log = logging.getLogger(__name__)

COMPATIBLE_FROM = {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1, 10: 1, 11: 1}
"""For each migration, the oldest release (by its newest migration) that still works once it was applied."""


def migrations() -> list[tuple[int, str, str]]:
    """List this release's migrations as (version, name, SQL), oldest first."""
    return sorted(
        (int(match[1]), file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for file in resources.files("workerjobs.storage").joinpath("migrations").iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name))
    )


LOCK_WAIT_MS = 2_000
"""How long a migration waits for a table: whoever comes after it, such as workers that renew leases, waits as long."""
LOCK_PAUSE_SECONDS = 1.0
"""How long it then lets the others work."""
LOCKED_SECONDS = 120.0
"""When it gives up."""

SCHEMA_VERSION = max(COMPATIBLE_FROM)
"""The newest migration that this release knows."""


def check_version(version: int | None, compatible_from: int | None, url: str) -> None:
    """See that this release can work with a database's schema.

    Raises:
        SchemaError: The schema is missing, older than this release needs, or too new for it.
    """
    if version is None or version < SCHEMA_VERSION:
        has = "no WorkerJobs tables" if version is None else f"schema version {version}"
        raise SchemaError(
            f"The database {address_of(url)} has {has}, and this release needs version {SCHEMA_VERSION}: "
            "run `workerjobs migrate`"
        )
    if compatible_from is not None and compatible_from > SCHEMA_VERSION:
        raise SchemaError(
            f"The database {address_of(url)} has schema version {version}, which works with releases of schema version "
            f"{compatible_from} or newer, and this one has {SCHEMA_VERSION}: upgrade WorkerJobs"
        )


def migrate_url(url: str) -> list[str]:
    """Bring a database to this release's schema; safe to run from many processes at once.

    Returns:
        Names of the migrations applied now, oldest first; empty where it was current.

    Raises:
        SchemaError: A newer release migrated the database and this one can't work with it.
        DatabaseUnavailableError: No server answers at the URL, or other transactions keep the tables locked.
        DatabaseRefusedError: The server refuses the account, or the account may not create tables.
    """
    deadline = time.monotonic() + LOCKED_SECONDS
    with connect_blocking(url, "workerjobs migrate") as connection:
        while True:
            try:
                with connection.transaction():
                    return _migrate(connection, url)
            except psycopg.errors.InsufficientPrivilege as error:
                raise SchemaError(
                    f"The account may not create WorkerJobs' tables in {address_of(url)}: {str(error).splitlines()[0]}"
                ) from error
            except psycopg.errors.LockNotAvailable as error:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailableError(
                        f"The tables in {address_of(url)} can't be migrated: other transactions have held them for "
                        f"{LOCKED_SECONDS:g} s (`workerjobs doctor` names open ones)"
                    ) from error
                log.info("Waiting for the tables: %s", str(error).splitlines()[0])
                time.sleep(LOCK_PAUSE_SECONDS)


def _migrate(connection: psycopg.Connection[Any], url: str) -> list[str]:
    """Apply what is missing, in the caller's transaction."""
    applied_now = []
    with connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(query("lock_migrations"))
        cursor.execute(query("pin_schema"))
        cursor.execute(query("limit_lock_waits"), {"milliseconds": str(LOCK_WAIT_MS)})
        cursor.execute(query("create_migrations"))
        applied = set(cursor.execute(query("applied_migrations")).fetchall())
        if applied:
            with connection.cursor(row_factory=tuple_row) as versions:
                row = versions.execute(query("schema_version")).fetchone()
                assert row is not None
                check_version(max(row[0], SCHEMA_VERSION), row[1], url)
        for version, name, sql in migrations():
            if version not in applied:
                cursor.execute(sql.encode())
                values = {"version": version, "name": name, "compatible_from": COMPATIBLE_FROM[version]}
                cursor.execute(query("record_migration"), values)
                applied_now.append(name)
    return applied_now
