"""Gathering what `workerjobs doctor` judges: catalogs, statistics, and a few looks at the tables."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.rows import BaseRowFactory, class_row, dict_row, scalar_row

from workerjobs.domain.doctor_facts import (
    LATE,
    SETTINGS,
    SILENCE,
    Connections,
    CronLine,
    Facts,
    Index,
    Leases,
    Pool,
    Privileges,
    Schema,
    Server,
    Table,
    Tables,
    Transaction,
    UnknownType,
    Way,
)
from workerjobs.errors import WorkerJobsError
from workerjobs.storage.connection import connect, connection_errors, is_pooled
from workerjobs.storage.migrate import SCHEMA_VERSION
from workerjobs.storage.queries import query

Row = TypeVar("Row")

NAME = "workerjobs doctor"
ANNOUNCEMENT_SECONDS = 3.0
STATEMENT_MS = 60_000
"""How long a look at the tables may take."""


async def gather(url: str, direct_url: str | None) -> Facts:
    """Ask a database all that the checks need.

    Args:
        url: As DATABASE_URL.
        direct_url: As DATABASE_DIRECT_URL.

    Raises:
        DatabaseUnavailableError: The database can't be reached, or can't answer now.
        DatabaseRefusedError: It refuses the account.
    """
    connection = await connect(url, NAME)
    try:
        with connection_errors(url):
            way = await _try_way(connection, direct_url or url, has_direct_url=direct_url is not None)
            async with connection.transaction():
                return await _gather(connection, way)
    finally:
        await connection.close()


async def _gather(connection: psycopg.AsyncConnection[Any], way: Way) -> Facts:
    async def rows(name: str, factory: BaseRowFactory[Row], **values: Any) -> list[Row]:
        async with connection.cursor(row_factory=factory) as cursor:
            await cursor.execute(query(name), values)
            return await cursor.fetchall()

    asked = datetime.now(UTC)
    (server,) = await rows("doctor_server", class_row(Server))
    answered = datetime.now(UTC)
    settings = {row["name"]: row["setting"] for row in await rows("doctor_settings", dict_row, names=[*SETTINGS])}
    await connection.execute("select set_config('statement_timeout', %s, true)", [str(STATEMENT_MS)])
    schema = await _read_schema(connection)
    privileges = await rows("doctor_privileges", class_row(Privileges))
    is_current = schema.version is not None and schema.version >= SCHEMA_VERSION
    tables = None
    if is_current and not any("select" in each.missing for each in privileges):
        (table,) = await rows("doctor_table", class_row(Table))
        (leases,) = await rows("doctor_leases", class_row(Leases))
        tables = Tables(
            table=table,
            indexes=await rows("doctor_indexes", class_row(Index)),
            disabled_triggers=await rows("doctor_triggers", scalar_row),
            leases=leases,
            pools=await rows("doctor_pools", class_row(Pool), late=LATE, silence=SILENCE),
            cron_lines=await rows("doctor_cron", class_row(CronLine)),
            workers=(await rows("doctor_workers", scalar_row, silence=SILENCE))[0],
            unknown_types=await rows("doctor_types", class_row(UnknownType), silence=SILENCE),
        )
    return Facts(
        server=server,
        settings=settings,
        clock_difference=server.now - (asked + (answered - asked) / 2),
        connections=await rows("doctor_connections", class_row(Connections)),
        transactions=await rows("doctor_transactions", class_row(Transaction)),
        way=way,
        schema=schema,
        privileges=privileges,
        tables=tables,
    )


async def _read_schema(connection: psycopg.AsyncConnection[Any]) -> Schema:
    version = compatible_from = None
    try:
        async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query("schema_version"))
            row = await cursor.fetchone()
            if row is not None:
                version, compatible_from = row["version"], row["compatible_from"]
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        pass
    return Schema(version=version, compatible_from=compatible_from, release=SCHEMA_VERSION)


async def _try_way(connection: psycopg.AsyncConnection[Any], listen_url: str, *, has_direct_url: bool) -> Way:
    """Announce something on one connection and hear it on the other, as a submit and a worker do."""
    pooled = await is_pooled(connection)
    if pooled and not has_direct_url:
        return Way(is_pooled=True, has_direct_url=False)
    try:
        listening = await connect(listen_url, NAME)
    except WorkerJobsError as error:
        return Way(is_pooled=pooled, has_direct_url=has_direct_url, problem=str(error))
    try:
        # A channel of its own: nobody else should wake.
        await listening.execute('listen "workerJobsDoctor"')
        said = f"doctor {connection.info.backend_pid} {datetime.now(UTC).isoformat()}"
        began = asyncio.get_running_loop().time()
        await connection.execute("select pg_notify('workerJobsDoctor', %s)", [said])
        announced_after = None
        async for notification in listening.notifies(timeout=ANNOUNCEMENT_SECONDS):
            if notification.payload == said:
                announced_after = timedelta(seconds=asyncio.get_running_loop().time() - began)
                break
        return Way(is_pooled=pooled, has_direct_url=has_direct_url, announced_after=announced_after)
    finally:
        await listening.close()
