"""The tables of watched chains in Postgres: `ChainStore` over one connection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

from workerjobs.domain.blocks import BlockRef, Header
from workerjobs.domain.declared_filters import DeclaredFilter
from workerjobs.domain.events import LogQuery
from workerjobs.errors import SchemaError
from workerjobs.ports.chains import ChainCursor, ChainStep, ChainTransaction, EndpointHealth, FilterCursor
from workerjobs.storage.arrays import number_array, text_array
from workerjobs.storage.chain_steps import SETTING, are_at, block_values, process, save_blocks, save_setting
from workerjobs.storage.connection import address_of
from workerjobs.storage.queries import query
from workerjobs.storage.statements import Statements, fetch
from workerjobs.storage.steps import perform
from workerjobs.storage.submitting import cancelling

UNDO_EFFECTS = 5_000
"""Effects that one transaction undoes."""
REVOKED_REASON = "Job cancelled: the log that led to it is no part of the chain any more"


class PostgresChainStore(Statements):
    """Watched chains in one Postgres database."""

    @classmethod
    async def open(cls, url: str, application_name: str) -> PostgresChainStore:
        """Connect, and make those of QuickDapp's tables that are used here and are not there.

        Raises:
            DatabaseUnavailableError: No server answers at the URL.
            SchemaError: The tables are missing and can't be made.
        """
        store = cls(url, application_name)
        try:
            await store._ensure_tables()
        except BaseException:
            await store.close()
            raise
        return store

    async def _ensure_tables(self) -> None:
        try:
            async with self._connected() as connection:
                if not await fetch(connection, "chain/missing_tables", {}, dict_row):
                    return
                async with connection.transaction():
                    await connection.execute(query("lock_migrations"))
                    await connection.execute(query("pin_schema"))
                    await connection.execute(query("quickdapp/create_tables"))
        except psycopg.errors.InsufficientPrivilege as error:
            raise SchemaError(
                f"The database {address_of(self._url)} has no table notifications, settings, users or user_auth, and "
                "this account may not make it: run `workerjobs migrate --quickdapp`"
            ) from error

    @asynccontextmanager
    async def _holding_cursor(
        self, chain: str, begins_at: BlockRef
    ) -> AsyncIterator[psycopg.AsyncConnection[Any] | None]:
        """Begin a transaction that holds a chain's cursor; None where the cursor is not the expected one."""
        async with self._transaction() as connection:
            rows = await fetch(connection, "chain/lock_cursor", {"chain": chain}, dict_row)
            is_expected = [(row["number"], row["hash"]) for row in rows] == [(begins_at.number, begins_at.hash)]
            yield connection if is_expected else None

    @asynccontextmanager
    async def _holding_filters(self, step: ChainStep) -> AsyncIterator[tuple[psycopg.AsyncConnection[Any], int] | None]:
        """Begin a transaction for filters behind the cursor; gives its final block too, or None: the step is not kept.

        The chain's cursor is locked, though it stays: nobody undoes blocks, or moves the filters, meanwhile.
        """
        last = step.headers[-1]
        async with self._transaction() as connection:
            rows = await fetch(connection, "chain/lock_cursor", {"chain": step.chain}, dict_row)
            # Only blocks that may still be undone are remembered. The step's are a chain, so that its last one tells.
            known = await fetch(connection, "chain/block", {"chain": step.chain, "number": last.number}, dict_row)
            if (
                not rows
                or rows[0]["number"] < last.number
                or any(row["hash"] != last.hash for row in known)
                or not await are_at(connection, step)
            ):
                yield None
            else:
                yield connection, rows[0]["final_number"]

    # --- reading

    async def cursor(self, chain: str) -> ChainCursor | None:
        """See `ChainStore.cursor`."""
        return next(iter(await self._rows("chain/cursor", {"chain": chain}, class_row(ChainCursor))), None)

    async def earlier_cursor(self, chain: str) -> int | None:
        """See `ChainStore.earlier_cursor`."""
        rows = await self._rows("chain/setting", {"key": SETTING.format(chain=chain)}, dict_row)
        value = rows[0]["value"] if rows else ""
        return int(value) if value.isascii() and value.isdigit() else None

    async def blocks(self, chain: str) -> list[BlockRef]:
        """See `ChainStore.blocks`."""
        rows = await self._rows("chain/blocks", {"chain": chain}, dict_row)
        return [BlockRef(row["number"], row["hash"]) for row in rows]

    async def addresses(self, chain: str) -> dict[str, list[str]]:
        """See `ChainStore.addresses`."""
        rows = await self._rows("chain/addresses", {"chain": chain}, dict_row)
        return {row["filter"]: row["addresses"] for row in rows}

    async def chains(self) -> list[Mapping[str, Any]]:
        """See `ChainStore.chains`."""
        return [*await self._rows("chain/chains", {}, dict_row)]

    async def endpoints(self) -> list[Mapping[str, Any]]:
        """See `ChainStore.endpoints`."""
        return [*await self._rows("chain/endpoints", {}, dict_row)]

    async def dead_letters(self, chain: str, limit: int) -> list[Mapping[str, Any]]:
        """See `ChainStore.dead_letters`."""
        return [*await self._rows("chain/dead_letters", {"chain": chain, "limit": limit}, dict_row)]

    # --- processing

    async def start(self, chain: str, chain_id: int, block: Header, final_number: int, head: Header) -> None:
        """See `ChainStore.start`."""
        values = {
            "chain": chain,
            "chain_id": chain_id,
            "number": block.number,
            "hash": block.hash,
            "block_time": block.timestamp,
            "final_number": min(block.number, final_number),
            "start_number": block.number + 1,
            "head_number": head.number,
            "head_time": head.timestamp,
        }
        async with self._transaction() as connection:
            await connection.execute(query("chain/start"), values)
            # Read under its lock: another worker may have begun elsewhere.
            (row,) = await fetch(connection, "chain/lock_cursor", {"chain": chain}, dict_row)
            if (row["number"], row["hash"]) == (block.number, block.hash):
                await connection.execute(query("chain/save_blocks"), block_values(chain, [block]))
                await save_setting(connection, chain, block.number)

    async def commit(self, step: ChainStep, handle: Callable[[ChainTransaction], Awaitable[None]]) -> bool:
        """See `ChainStore.commit`."""
        last = step.headers[-1]
        final = min(step.final_number, last.number)
        async with self._holding_cursor(step.chain, step.begins_at) as connection:
            if connection is None or not await are_at(connection, step):
                return False
            undecodable = await process(connection, step, handle)
            # The newest final block stays, as the place that an undoing may never pass.
            await save_blocks(connection, step, final)
            values: dict[str, Any] = {"chain": step.chain, "final_number": final}
            await connection.execute(query("chain/drop_final_blocks"), values)
            values |= {
                "number": last.number,
                "hash": last.hash,
                "block_time": last.timestamp,
                "head_number": max(step.head.number, last.number),
                "head_time": step.head.timestamp,
                "blocks": len(step.headers),
                "logs": step.logs,
                "undecodable": undecodable,
            }
            await connection.execute(query("chain/move_cursor"), values)
            await save_setting(connection, step.chain, last.number)
        return True

    # --- filters with a start block

    async def filter_cursors(self, chain: str | None = None) -> list[FilterCursor]:
        """See `ChainStore.filter_cursors`."""
        return await self._rows("chain/filter_cursors", {"chain": chain}, class_row(FilterCursor))

    async def begin_filters(self, chain: str, queries: Sequence[LogQuery]) -> None:
        """See `ChainStore.begin_filters`."""
        values = {
            "chain": chain,
            "filters": text_array(each.name for each in queries),
            "queries": text_array(each.text for each in queries),
            "from_blocks": number_array(each.from_block for each in queries),
        }
        async with self._transaction() as connection:
            await fetch(connection, "chain/lock_cursor", {"chain": chain}, dict_row)
            await connection.execute(query("chain/begin_filters"), values)

    async def backfill(self, step: ChainStep, handle: Callable[[ChainTransaction], Awaitable[None]]) -> bool:
        """See `ChainStore.backfill`."""
        async with self._holding_filters(step) as held:
            if held is None:
                return False
            connection, final = held
            undecodable = await process(connection, step, handle)
            # Also those from before the chain was watched: as long as they are not final, an undoing has to find them.
            await save_blocks(connection, step, final)
            counts = {"chain": step.chain, "logs": step.logs, "undecodable": undecodable}
            await connection.execute(query("chain/count_backfill"), counts)
        return True

    async def fail_filters(self, chain: str, filters: Sequence[str], message: str) -> None:
        """See `ChainStore.fail_filters`."""
        await self._execute("chain/fail_filters", {"chain": chain, "filters": text_array(filters), "message": message})

    # --- undoing

    async def rewind(self, chain: str, begins_at: BlockRef, to: BlockRef) -> int | None:
        """See `ChainStore.rewind`.

        Many effects are undone part by part, from the newest on. Each part moves the cursor to a block that was
        processed, so that whoever goes on after a crash finds the same reorganisation again.
        """
        revoked, place = 0, begins_at
        while place != to:
            async with self._holding_cursor(chain, place) as connection:
                if connection is None:
                    return None
                values = {"chain": chain, "number": to.number, "limit": UNDO_EFFECTS}
                number = (await fetch(connection, "chain/undo_place", values, dict_row))[0]["number"]
                part = to
                if number > to.number:
                    rows = await fetch(connection, "chain/blocks", {"chain": chain}, dict_row)
                    stored = {row["number"]: row["hash"] for row in rows}
                    # Those of the block itself are undone by the next part.
                    part = BlockRef(number, stored[number]) if number in stored and number < place.number else to
                revoked += await self._revoke(connection, chain, part)
                place = part
        return revoked

    async def _revoke(self, connection: psycopg.AsyncConnection[Any], chain: str, to: BlockRef) -> int:
        values: dict[str, Any] = {"chain": chain, "number": to.number, "hash": to.hash}
        (row,) = await fetch(connection, "chain/revoke", values, dict_row)
        if row["job_ids"]:
            await perform(connection, cancelling(row["job_ids"], REVOKED_REASON))
        await connection.execute(query("chain/forget_above"), values)
        await connection.execute(query("chain/drop_blocks_above"), values)
        await connection.execute(query("chain/rewind_cursor"), values | {"revoked": row["revoked"]})
        await connection.execute(query("chain/rewind_filters"), values)
        await connection.execute(query("chain/save_blocks"), block_values(chain, [to]))
        await save_setting(connection, chain, to.number)
        count: int = row["revoked"]
        return count

    async def count_reorg(self, chain: str, depth: int) -> None:
        """See `ChainStore.count_reorg`."""
        await self._execute("chain/count_reorg", {"chain": chain, "depth": depth})

    async def set_condition(self, chain: str, condition: str, message: str) -> None:
        """See `ChainStore.set_condition`."""
        await self._execute("chain/set_condition", {"chain": chain, "condition": condition, "message": message})

    async def show(self, chain: str, head: Header | None, endpoints: Sequence[EndpointHealth]) -> None:
        """See `ChainStore.show`."""
        async with self._connected() as connection:
            if head is not None:
                values = {"chain": chain, "head_number": head.number, "head_time": head.timestamp}
                await connection.execute(query("chain/show_head"), values)
            for endpoint in endpoints:
                await connection.execute(
                    query("chain/show_endpoint"),
                    {
                        "chain": chain,
                        "endpoint": endpoint.name,
                        "head_number": endpoint.head,
                        "latency_ms": endpoint.latency_ms,
                        "range_limit": endpoint.range_limit,
                        "requests": endpoint.requests,
                        "errors": json.dumps(endpoint.errors),
                        "trouble": endpoint.trouble,
                    },
                )

    # --- filters

    async def filters(self) -> list[DeclaredFilter]:
        """See `ChainStore.filters`."""
        return await self._rows("chain/filters", {}, class_row(DeclaredFilter))

    async def declare_filter(self, declared: DeclaredFilter) -> None:
        """See `ChainStore.declare_filter`."""
        values = {
            "name": declared.name,
            "chain": declared.chain,
            "event": declared.event,
            "addresses": None if declared.addresses is None else [each.lower() for each in declared.addresses],
            "factory": None if declared.factory is None else json.dumps(declared.factory),
            "from_block": declared.from_block,
            "action": declared.action,
            "options": json.dumps(declared.options),
            "enabled": declared.enabled,
        }
        await self._execute("chain/declare_filter", values)

    async def remove_filter(self, name: str) -> bool:
        """See `ChainStore.remove_filter`."""
        return bool(await self._rows("chain/remove_filter", {"name": name}, dict_row))
