"""Notifications and broadcasts, as those read them who pass them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

from workerjobs.ports.messages import Message, Messages
from workerjobs.storage.chain import PostgresChainStore
from workerjobs.storage.connection import OneConnection
from workerjobs.storage.queries import query

LIMIT = 500
"""Messages that are read at once, notifications and broadcasts each."""


class PostgresMessageStore(OneConnection):
    """`MessageStore` in one Postgres database."""

    @classmethod
    async def open(cls, url: str, application_name: str) -> PostgresMessageStore:
        """Connect, and make QuickDapp's tables where they are missing.

        Raises:
            DatabaseUnavailableError: No server answers at the URL.
            SchemaError: The tables are missing and can't be made.
        """
        await (await PostgresChainStore.open(url, application_name)).close()
        return cls(url, application_name)

    async def since(self, mark: int | None, user_ids: Sequence[int]) -> Messages:
        """See `MessageStore.since`."""
        values = {"mark": mark, "user_ids": list(user_ids), "limit": LIMIT}
        async with self._connected() as connection, connection.transaction():
            # One snapshot for both: a message that the reading misses is not below the mark.
            await connection.execute("set transaction isolation level repeatable read, read only")
            async with connection.cursor(row_factory=dict_row) as rows:
                now = await (await rows.execute(query("notification_mark"))).fetchone()
            assert now is not None
            if mark is None:
                return Messages((), now["mark"], True)
            if mark > now["newest"]:
                return Messages((), now["mark"], False)
            found = await _messages(connection, "notifications_since", values)
        of_users = sum(message.user_id is not None for message in found)
        is_complete = max(of_users, len(found) - of_users) < LIMIT
        return Messages(sorted(found, key=lambda each: (each.mark, each.id)), now["mark"], is_complete)

    async def by_id(self, ids: Sequence[int], user_ids: Sequence[int]) -> list[Message]:
        """See `MessageStore.by_id`."""
        async with self._connected() as connection:
            return await _messages(connection, "notifications_by_id", {"ids": list(ids), "user_ids": list(user_ids)})

    async def broadcasts_by_id(self, ids: Sequence[int]) -> list[Message]:
        """See `MessageStore.broadcasts_by_id`."""
        async with self._connected() as connection:
            return await _messages(connection, "broadcasts_by_id", {"ids": list(ids)})

    async def announce_mark(self) -> None:
        """See `MessageStore.announce_mark`."""
        async with self._connected() as connection:
            await connection.execute(query("announce_mark"))


async def _messages(connection: psycopg.AsyncConnection[Any], name: str, values: Mapping[str, Any]) -> list[Message]:
    async with connection.cursor(row_factory=class_row(Message)) as rows:
        return await (await rows.execute(query(name), values)).fetchall()
