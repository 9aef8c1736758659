"""What the stores of one connection run their statements with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.rows import BaseRowFactory

from workerjobs.storage.connection import OneConnection
from workerjobs.storage.queries import query

Row = TypeVar("Row")


class Statements(OneConnection):
    """Statements of ``sql/``, by name, each by itself or in a transaction."""

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Hold the connection for one transaction."""
        async with self._connected() as connection, connection.transaction():
            yield connection

    async def _rows(
        self, name: str, values: Mapping[str, Any], row_factory: BaseRowFactory[Row], *, binary: bool = False
    ) -> list[Row]:
        """Run one statement by itself."""
        async with self._connected() as connection:
            cursor = connection.cursor(row_factory=row_factory, binary=binary)
            await cursor.execute(query(name), values)
        # All that the server sent is here. Whoever waits for the connection goes first, so that the server works while
        # these rows are read: claims and settlements of tiny jobs keep both busy.
        await asyncio.sleep(0)
        return await cursor.fetchall()

    async def _execute(self, name: str, values: Mapping[str, Any]) -> None:
        """Run one statement that returns nothing."""
        async with self._connected() as connection:
            await connection.execute(query(name), values)


async def fetch(
    connection: psycopg.AsyncConnection[Any], name: str, values: Mapping[str, Any], row_factory: BaseRowFactory[Row]
) -> list[Row]:
    """Run one statement in whatever transaction its connection is."""
    async with connection.cursor(row_factory=row_factory) as cursor:
        await cursor.execute(query(name), values)
        return await cursor.fetchall()
