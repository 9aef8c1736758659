"""The table as the leading operator uses it: nothing is read or written by one that does not lead any more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from workerjobs.errors import LeadershipLostError
from workerjobs.ports.workers import Leadership
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.storage.queries import query


class FencedJobStore(PostgresJobStore):
    """Asks in each transaction whether its leadership is the latest, and holds that until the transaction ends.

    A process that was stopped for a while does not know what happened meanwhile; the database does. Who takes over
    writes its line first, and waits there for transactions of the one before that are under way. Nothing can be done
    with it before `lead`.

    Args:
        url: The database, migrated.
        application_name: As the server shows it.
        on_refused: Told when another one was found to lead.
    """

    def __init__(self, url: str, application_name: str, on_refused: Callable[[], None]) -> None:
        super().__init__(url, application_name)
        self._on_refused = on_refused
        self._leadership: Leadership | None = None

    async def lead(self, leadership: Leadership) -> Leadership:
        """Note a leadership; returns the latest that the database knows, which may be a later one of someone else."""
        async with super()._connected() as connection, connection.cursor() as cursor:
            values = {
                "lease": leadership.lease,
                "transitions": leadership.transitions,
                "holder": leadership.holder,
            }
            await cursor.execute(query("lead"), values)
            row = await cursor.fetchone()
        assert row is not None
        latest = Leadership(leadership.lease, row[0], row[1])
        self._leadership = latest if latest == leadership else None
        return latest

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with super()._connected() as connection, connection.transaction():
            await self._require_leadership(connection)
            yield connection

    async def _require_leadership(self, connection: psycopg.AsyncConnection[Any]) -> None:
        ours = self._leadership
        if ours is not None:
            values = {"lease": ours.lease, "transitions": ours.transitions, "holder": ours.holder}
            if (await connection.execute(query("leads"), values)).rowcount == 1:
                return
            self._on_refused()
        raise LeadershipLostError("Another operator leads by now: this one reads and writes nothing any more")
