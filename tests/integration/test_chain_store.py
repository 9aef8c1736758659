"""The tables of watched chains: cursor, effects and announcements are one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from tests.support.chains import make_user, notifications
from tests.support.loop import in_loop
from tests.support.table import sql
from workerjobs.domain.blocks import BlockRef, Header
from workerjobs.domain.events import DecodedLog
from workerjobs.domain.job import NewJob
from workerjobs.ports.chains import ChainStep, ChainTransaction
from workerjobs.storage import chain as chain_module
from workerjobs.storage.chain import PostgresChainStore

GENESIS = Header(0, "a0", "", 1_700_000_000, "0x0")


def header(number: int, fork: str = "a") -> Header:
    return Header(number, f"{fork}{number}", f"{fork}{number - 1}", 1_700_000_000 + number, "0x0")


def log(number: int, fork: str = "a") -> DecodedLog:
    return DecodedLog("anvil", "f", "E", "0xc", number, f"{fork}{number}", 0, f"0xt{number}", 0, {})


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresChainStore]:
    store = await PostgresChainStore.open(url, "workerjobs test")
    try:
        await store.start("anvil", 31337, GENESIS, 0, GENESIS)
        yield store
    finally:
        await store.close()


async def process(store: PostgresChainStore, user_id: int, begins_at: BlockRef, *headers: Header) -> bool:
    """Commit blocks with a notification and a job for each."""

    async def handle(transaction: ChainTransaction) -> None:
        for each in headers:
            transaction.notify(log(each.number, each.hash[0]), user_id, {"n": each.number})
            transaction.enqueue(log(each.number, each.hash[0]), NewJob(type="report"))

    step = ChainStep("anvil", begins_at, headers, [], [], len(headers), 0, headers[-1])
    return await store.commit(step, handle)


@in_loop
async def test_what_a_reorganisation_took_and_gave_back_is_one_notification(database_url: str) -> None:
    user_id = await make_user(database_url)
    async with (
        opened(database_url) as store,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener,
    ):
        await listener.execute('listen "workerNotifications"')
        assert await process(store, user_id, GENESIS.ref, header(1), header(2))
        assert await store.rewind("anvil", header(2).ref, header(1).ref) == 2
        assert [each["n"] for each in notifications(database_url, revoked=True)] == [2]
        assert await process(store, user_id, header(1).ref, header(2))
        assert [each["n"] for each in notifications(database_url)] == [1, 2]
        said = [json.loads(each.payload) async for each in listener.notifies(timeout=10, stop_after=3)]
    (first,), (second,) = sql(database_url, "select id from notifications order by id")
    assert said == [
        {"kind": "created", "ids": [first, second]},
        {"kind": "revoked", "ids": [second]},
        {"kind": "restored", "ids": [second]},
    ]
    states = 'select success from "workerJobs" order by id'
    assert sql(database_url, states) == [(None,), (False,), (None,)]


@in_loop
async def test_a_step_that_began_elsewhere_does_nothing(database_url: str) -> None:
    user_id = await make_user(database_url)
    async with opened(database_url) as store:
        assert await process(store, user_id, GENESIS.ref, header(1))
        assert not await process(store, user_id, GENESIS.ref, header(1, "b"))
        assert await store.rewind("anvil", BlockRef(1, "b1"), GENESIS.ref) is None
        cursor = await store.cursor("anvil")
    assert cursor is not None
    assert cursor.ref == header(1).ref
    assert len(notifications(database_url)) == 1
    assert sql(database_url, "select value from settings") == [("1",)]


@in_loop
async def test_an_undoing_that_was_broken_off_goes_on_from_a_block_that_was_processed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_module, "UNDO_EFFECTS", 6)
    user_id = await make_user(database_url)
    async with opened(database_url) as store:
        assert await process(store, user_id, GENESIS.ref, *map(header, range(1, 11)))
        revoke, parts = PostgresChainStore._revoke, []

        async def once(self: PostgresChainStore, connection: Any, chain: str, to: BlockRef) -> int:
            parts.append(to)
            if len(parts) == 2:
                raise KeyboardInterrupt
            return await revoke(self, connection, chain, to)

        monkeypatch.setattr(PostgresChainStore, "_revoke", once)
        with pytest.raises(KeyboardInterrupt):
            await store.rewind("anvil", header(10).ref, header(1).ref)
        cursor = await store.cursor("anvil")
        assert cursor is not None
        assert cursor.ref == parts[0] == header(7).ref
        assert len(notifications(database_url)) == 7
        assert await store.rewind("anvil", cursor.ref, header(1).ref) == 12
        assert await store.blocks("anvil") == [header(1).ref, GENESIS.ref]
    assert [each["n"] for each in notifications(database_url)] == [1]


@in_loop
async def test_hashes_are_kept_down_to_the_newest_final_block(database_url: str) -> None:
    async with opened(database_url) as store:

        async def nothing(transaction: ChainTransaction) -> None:
            pass

        headers = [header(number) for number in range(1, 11)]
        step = ChainStep("anvil", GENESIS.ref, headers, [], [], 0, 6, headers[-1])
        assert await store.commit(step, nothing)
        assert [block.number for block in await store.blocks("anvil")] == [10, 9, 8, 7, 6]


@in_loop
async def test_watching_goes_on_where_quickdapp_ended(database_url: str) -> None:
    store = await PostgresChainStore.open(database_url, "workerjobs test")
    try:
        assert await store.earlier_cursor("base") is None
        sql(database_url, "insert into settings (key, value) values ('chain_last_processed_block_base', '41')")
        assert await store.earlier_cursor("base") == 41
    finally:
        await store.close()
