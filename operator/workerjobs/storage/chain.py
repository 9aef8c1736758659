"""The tables of watched chains in Postgres: `ChainStore` over one connection."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from msgspec import Struct
from psycopg.rows import class_row, dict_row

from workerjobs.domain.blocks import BlockRef, Header
from workerjobs.domain.declared_filters import DeclaredFilter
from workerjobs.domain.events import DecodedLog, LogQuery, UndecodableLog
from workerjobs.domain.job import NewJob, check_job
from workerjobs.errors import SchemaError
from workerjobs.ports.chains import ChainCursor, ChainStep, ChainTransaction, EndpointHealth, FilterCursor
from workerjobs.storage.arrays import number_array, text_array
from workerjobs.storage.connection import OneConnection, address_of
from workerjobs.storage.queries import query
from workerjobs.storage.steps import perform
from workerjobs.storage.submitting import cancelling, submitting

UNDO_EFFECTS = 5_000
"""Effects that one transaction undoes."""
REVOKED_REASON = "Job cancelled: the log that led to it is no part of the chain any more"
_SETTING = "chain_last_processed_block_{chain}"


class PostgresChainStore(OneConnection):
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
                if not await _fetch(connection, "missing_tables", {}):
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
        async with self._connected() as connection, connection.transaction():
            rows = await _fetch(connection, "lock_cursor", {"chain": chain})
            is_expected = [(row["number"], row["hash"]) for row in rows] == [(begins_at.number, begins_at.hash)]
            yield connection if is_expected else None

    @asynccontextmanager
    async def _holding_filters(self, step: ChainStep) -> AsyncIterator[tuple[psycopg.AsyncConnection[Any], int] | None]:
        """Begin a transaction for filters behind the cursor; gives its final block too, or None: the step is not kept.

        The chain's cursor is locked, though it stays: nobody undoes blocks, or moves the filters, meanwhile.
        """
        last = step.headers[-1]
        async with self._connected() as connection, connection.transaction():
            rows = await _fetch(connection, "lock_cursor", {"chain": step.chain})
            # Only blocks that may still be undone are remembered. The step's are a chain, so that its last one tells.
            known = await _fetch(connection, "block", {"chain": step.chain, "number": last.number})
            if (
                not rows
                or rows[0]["number"] < last.number
                or any(row["hash"] != last.hash for row in known)
                or not await _are_at(connection, step)
            ):
                yield None
            else:
                yield connection, rows[0]["final_number"]

    # --- reading

    async def cursor(self, chain: str) -> ChainCursor | None:
        """See `ChainStore.cursor`."""
        async with self._connected() as connection, connection.cursor(row_factory=class_row(ChainCursor)) as rows:
            return await (await rows.execute(query("chain/cursor"), {"chain": chain})).fetchone()

    async def earlier_cursor(self, chain: str) -> int | None:
        """See `ChainStore.earlier_cursor`."""
        async with self._connected() as connection:
            rows = await _fetch(connection, "setting", {"key": _SETTING.format(chain=chain)})
        value = rows[0]["value"] if rows else ""
        return int(value) if value.isascii() and value.isdigit() else None

    async def blocks(self, chain: str) -> list[BlockRef]:
        """See `ChainStore.blocks`."""
        async with self._connected() as connection:
            rows = await _fetch(connection, "blocks", {"chain": chain})
        return [BlockRef(row["number"], row["hash"]) for row in rows]

    async def addresses(self, chain: str) -> dict[str, list[str]]:
        """See `ChainStore.addresses`."""
        async with self._connected() as connection:
            rows = await _fetch(connection, "addresses", {"chain": chain})
        return {row["filter"]: row["addresses"] for row in rows}

    async def chains(self) -> list[Mapping[str, Any]]:
        """See `ChainStore.chains`."""
        async with self._connected() as connection:
            return [*await _fetch(connection, "chains", {})]

    async def endpoints(self) -> list[Mapping[str, Any]]:
        """See `ChainStore.endpoints`."""
        async with self._connected() as connection:
            return [*await _fetch(connection, "endpoints", {})]

    async def dead_letters(self, chain: str, limit: int) -> list[Mapping[str, Any]]:
        """See `ChainStore.dead_letters`."""
        async with self._connected() as connection:
            return [*await _fetch(connection, "dead_letters", {"chain": chain, "limit": limit})]

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
        async with self._connected() as connection, connection.transaction():
            await connection.execute(query("chain/start"), values)
            # Read under its lock: another worker may have begun elsewhere.
            (row,) = await _fetch(connection, "lock_cursor", {"chain": chain})
            if (row["number"], row["hash"]) == (block.number, block.hash):
                await connection.execute(query("chain/save_blocks"), _blocks(chain, [block]))
                await _save_setting(connection, chain, block.number)

    async def commit(self, step: ChainStep, handle: Callable[[ChainTransaction], Awaitable[None]]) -> bool:
        """See `ChainStore.commit`."""
        last = step.headers[-1]
        final = min(step.final_number, last.number)
        async with self._holding_cursor(step.chain, step.begins_at) as connection:
            if connection is None or not await _are_at(connection, step):
                return False
            undecodable = await _process(connection, step, handle)
            # The newest final block stays, as the place that an undoing may never pass.
            await _save_blocks(connection, step, final)
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
            await _save_setting(connection, step.chain, last.number)
        return True

    # --- filters with a start block

    async def filter_cursors(self, chain: str | None = None) -> list[FilterCursor]:
        """See `ChainStore.filter_cursors`."""
        async with self._connected() as connection, connection.cursor(row_factory=class_row(FilterCursor)) as rows:
            return await (await rows.execute(query("chain/filter_cursors"), {"chain": chain})).fetchall()

    async def begin_filters(self, chain: str, queries: Sequence[LogQuery]) -> None:
        """See `ChainStore.begin_filters`."""
        values = {
            "chain": chain,
            "filters": text_array(each.name for each in queries),
            "queries": text_array(each.text for each in queries),
            "from_blocks": number_array(each.from_block for each in queries),
        }
        async with self._connected() as connection, connection.transaction():
            await _fetch(connection, "lock_cursor", {"chain": chain})
            await connection.execute(query("chain/begin_filters"), values)

    async def backfill(self, step: ChainStep, handle: Callable[[ChainTransaction], Awaitable[None]]) -> bool:
        """See `ChainStore.backfill`."""
        async with self._holding_filters(step) as held:
            if held is None:
                return False
            connection, final = held
            undecodable = await _process(connection, step, handle)
            # Also those from before the chain was watched: as long as they are not final, an undoing has to find them.
            await _save_blocks(connection, step, final)
            counts = {"chain": step.chain, "logs": step.logs, "undecodable": undecodable}
            await connection.execute(query("chain/count_backfill"), counts)
        return True

    async def fail_filters(self, chain: str, filters: Sequence[str], message: str) -> None:
        """See `ChainStore.fail_filters`."""
        await self._execute("fail_filters", {"chain": chain, "filters": text_array(filters), "message": message})

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
                number = (await _fetch(connection, "undo_place", values))[0]["number"]
                part = to
                if number > to.number:
                    stored = {
                        row["number"]: row["hash"] for row in await _fetch(connection, "blocks", {"chain": chain})
                    }
                    # Those of the block itself are undone by the next part.
                    part = BlockRef(number, stored[number]) if number in stored and number < place.number else to
                revoked += await self._revoke(connection, chain, part)
                place = part
        return revoked

    async def _revoke(self, connection: psycopg.AsyncConnection[Any], chain: str, to: BlockRef) -> int:
        values: dict[str, Any] = {"chain": chain, "number": to.number, "hash": to.hash}
        (row,) = await _fetch(connection, "revoke", values)
        if row["job_ids"]:
            await perform(connection, cancelling(row["job_ids"], REVOKED_REASON))
        await connection.execute(query("chain/forget_above"), values)
        await connection.execute(query("chain/drop_blocks_above"), values)
        await connection.execute(query("chain/rewind_cursor"), values | {"revoked": row["revoked"]})
        await connection.execute(query("chain/rewind_filters"), values)
        await connection.execute(query("chain/save_blocks"), _blocks(chain, [to]))
        await _save_setting(connection, chain, to.number)
        count: int = row["revoked"]
        return count

    async def count_reorg(self, chain: str, depth: int) -> None:
        """See `ChainStore.count_reorg`."""
        await self._execute("count_reorg", {"chain": chain, "depth": depth})

    async def set_condition(self, chain: str, condition: str, message: str) -> None:
        """See `ChainStore.set_condition`."""
        await self._execute("set_condition", {"chain": chain, "condition": condition, "message": message})

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
        async with self._connected() as connection, connection.cursor(row_factory=class_row(DeclaredFilter)) as rows:
            return await (await rows.execute(query("chain/filters"))).fetchall()

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
        await self._execute("declare_filter", values)

    async def remove_filter(self, name: str) -> bool:
        """See `ChainStore.remove_filter`."""
        async with self._connected() as connection:
            return bool(await _fetch(connection, "remove_filter", {"name": name}))

    async def _execute(self, name: str, values: Mapping[str, Any]) -> None:
        async with self._connected() as connection:
            await connection.execute(query(f"chain/{name}"), values)


class _Effect(Struct, frozen=True, gc=False):
    """What one log led to."""

    log: DecodedLog
    place: int
    """Which one it is of those that its handler did for the log."""
    user_id: int | None = None
    data_json: str | None = None
    job: NewJob | None = None

    @property
    def key(self) -> tuple[str, int, str, int]:
        """Which one it is in its chain."""
        return (self.log.block_hash, self.log.log_index, self.log.filter, self.place)


class _Transaction:
    """Collects what handlers do for logs; see `ChainTransaction`."""

    def __init__(self, chain: str, connection: psycopg.AsyncConnection[Any]) -> None:
        self._chain = chain
        self._connection = connection
        self._effects: list[_Effect] = []
        self._saved = 0
        """So many of them are stored."""
        self._places: Counter[tuple[str, int, str]] = Counter()
        self.given_up: list[UndecodableLog] = []

    @property
    def connection(self) -> psycopg.AsyncConnection[Any]:
        """See `ChainTransaction.connection`."""
        return self._connection

    @asynccontextmanager
    async def part(self) -> AsyncIterator[None]:
        """See `ChainTransaction.part`."""
        effects, given_up = len(self._effects), len(self.given_up)
        try:
            async with self._connection.transaction():
                yield
                await self.save()
        except BaseException:
            for effect in self._effects[effects:]:
                self._places[effect.key[:3]] -= 1
            del self._effects[effects:], self.given_up[given_up:]
            self._saved = min(self._saved, effects)
            raise

    async def users_of_wallets(self, wallets: Iterable[str]) -> dict[str, int]:
        """See `ChainTransaction.users_of_wallets`."""
        values = {"wallets": text_array({wallet.lower() for wallet in wallets})}
        rows = await _fetch(self._connection, "users_of_wallets", values)
        return {row["wallet"]: row["user_id"] for row in rows}

    def notify(self, log: DecodedLog, user_id: int, data: Mapping[str, Any]) -> None:
        """See `ChainTransaction.notify`."""
        # Postgres can't read NUL in JSON, and whoever deploys a contract may put it into a name.
        text = _json(data).replace("\\u0000", "\\ufffd")
        self._effects.append(_Effect(log, self._place(log), user_id, text))

    def enqueue(self, log: DecodedLog, job: NewJob) -> None:
        """See `ChainTransaction.enqueue`."""
        check_job(job, now=datetime.now(UTC))
        self._effects.append(_Effect(log, self._place(log), job=job))

    def give_up(self, log: DecodedLog, reason: str) -> None:
        """See `ChainTransaction.give_up`."""
        self.given_up.append(
            UndecodableLog(
                log.filter,
                log.address,
                log.block_number,
                log.block_hash,
                log.transaction_hash,
                log.log_index,
                log.topics,
                log.data,
                reason,
            )
        )

    def _place(self, log: DecodedLog) -> int:
        key = (log.block_hash, log.log_index, log.filter)
        place = self._places[key]
        self._places[key] = place + 1
        return place

    async def save(self) -> None:
        """Store the effects that are not stored yet, and submit their jobs."""
        # In the order of the chain, whatever the order of the handlers: so are the ids of notifications.
        effects = sorted(
            self._effects[self._saved :], key=lambda effect: (effect.log.block_number, effect.log.log_index)
        )
        if not effects:
            return
        values = {
            "chain": self._chain,
            "first": effects[0].log.block_number,
            "last": effects[-1].log.block_number,
            "filters": text_array({effect.log.filter for effect in effects}),
        }
        known = {
            (row["block_hash"], row["log_index"], row["filter"], row["place"]): row["holds"]
            for row in await _fetch(self._connection, "known_effects", values)
        }
        if known:
            await self._store("restore_effects", [effect for effect in effects if known.get(effect.key) is False])
            effects = [effect for effect in effects if effect.key not in known]
        await self._store("save_effects", effects)
        self._saved = len(self._effects)

    async def _store(self, statement: str, effects: Sequence[_Effect]) -> None:
        if not effects:
            return
        jobs = [effect.job for effect in effects if effect.job is not None]
        stored = iter(await perform(self._connection, submitting(jobs)) if jobs else [])
        logs = [effect.log for effect in effects]
        values = {
            "chain": self._chain,
            "block_numbers": number_array([log.block_number for log in logs]),
            "block_hashes": text_array([log.block_hash for log in logs]),
            "log_indexes": number_array([log.log_index for log in logs]),
            "filters": text_array([log.filter for log in logs]),
            "places": number_array([effect.place for effect in effects]),
            "transaction_hashes": text_array([log.transaction_hash for log in logs]),
            "user_ids": number_array([effect.user_id for effect in effects]),
            "data": text_array([effect.data_json for effect in effects]),
            "job_ids": number_array([None if effect.job is None else next(stored).id for effect in effects]),
        }
        await _fetch(self._connection, statement, values)


def _json(data: Mapping[str, Any]) -> str:
    try:
        return msgspec.json.encode(data).decode()
    except OverflowError:
        # msgspec (0.22) writes no numbers of more than 64 bits, and those of chains have 256.
        return json.dumps(data, ensure_ascii=False)


async def _fetch(
    connection: psycopg.AsyncConnection[Any], name: str, values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        return await (await cursor.execute(query(f"chain/{name}"), values)).fetchall()


async def _are_at(connection: psycopg.AsyncConnection[Any], step: ChainStep) -> bool:
    """Whether the filters of a step that have cursors are where it begins; the chain's cursor has to be locked."""
    if not step.filters:
        return True
    values = {
        "chain": step.chain,
        "filters": text_array(step.filters),
        "number": step.begins_at.number,
        "hash": step.begins_at.hash,
    }
    return len(await _fetch(connection, "filters_at", values)) == len(step.filters)


async def _process(
    connection: psycopg.AsyncConnection[Any], step: ChainStep, handle: Callable[[ChainTransaction], Awaitable[None]]
) -> int:
    """Do what a step's logs ask for, and move the filters along; returns how many logs went to the dead letters."""
    transaction = _Transaction(step.chain, connection)
    if step.logs:
        await handle(transaction)
        await transaction.save()
    letters = [*step.undecodable, *transaction.given_up]
    await _save_dead_letters(connection, step.chain, letters)
    if step.addresses:
        found = {
            "chain": step.chain,
            "filters": text_array(each[0] for each in step.addresses),
            "addresses": text_array(each[1] for each in step.addresses),
            "block_numbers": number_array(each[2] for each in step.addresses),
        }
        await connection.execute(query("chain/save_addresses"), found)
    if step.filters:
        last = step.headers[-1]
        place = {
            "chain": step.chain,
            "filters": text_array(step.filters),
            "number": last.number,
            "hash": last.hash,
        }
        await connection.execute(query("chain/move_filters"), place)
    return len(letters)


async def _save_blocks(connection: psycopg.AsyncConnection[Any], step: ChainStep, final: int) -> None:
    """Remember the hashes of blocks that may still be undone."""
    kept = [header for header in step.headers if header.number >= final]
    await connection.execute(query("chain/save_blocks"), _blocks(step.chain, kept))


async def _save_setting(connection: psycopg.AsyncConnection[Any], chain: str, number: int) -> None:
    """Keep the key that QuickDapp's own server reads."""
    values = {"key": _SETTING.format(chain=chain), "value": str(number)}
    await connection.execute(query("chain/save_setting"), values)


async def _save_dead_letters(
    connection: psycopg.AsyncConnection[Any], chain: str, letters: Sequence[UndecodableLog]
) -> None:
    if letters:
        values = {
            "chain": chain,
            "filters": text_array(each.filter for each in letters),
            "block_numbers": number_array(each.block_number for each in letters),
            "block_hashes": text_array(each.block_hash for each in letters),
            "transaction_hashes": text_array(each.transaction_hash for each in letters),
            "log_indexes": number_array(each.log_index for each in letters),
            "addresses": text_array(each.address for each in letters),
            "topics": text_array(",".join(each.topics) for each in letters),
            "data": text_array(each.data for each in letters),
            "reasons": text_array(each.reason.replace("\x00", "\ufffd") for each in letters),
        }
        await connection.execute(query("chain/save_dead_letters"), values)


def _blocks(chain: str, headers: Sequence[Header | BlockRef]) -> dict[str, Any]:
    return {
        "chain": chain,
        "numbers": number_array(header.number for header in headers),
        "hashes": text_array(header.hash for header in headers),
    }
