"""watchChain on a real development chain: what its logs lead to, and what reorganisations undo."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.anvil import ACCOUNTS, Anvil, anvil
from tests.support.chains import (
    SENT,
    active_effects,
    catch_up,
    events_of,
    make_chain,
    make_user,
    notifications,
    watching,
)
from tests.support.contracts import TokenFactory
from tests.support.loop import in_loop, until
from tests.support.table import sql
from workerjobs.chain import new_heads
from workerjobs.chain import reader as reader_module
from workerjobs.chain.decoding import topic_of
from workerjobs.jobs.token_filters import NEW_TOKEN, token_filters


@pytest.fixture
def chain() -> Iterator[Anvil]:
    with anvil("--slots-in-an-epoch", "16") as running:
        yield running


@in_loop
async def test_tokens_that_users_create_and_send_are_notified_as_quickdapp_does(
    chain: Anvil, database_url: str
) -> None:
    user_id = await make_user(database_url)
    token = TokenFactory.deploy(chain).create("Gold \x00 Coin", "GLD", decimals=6, supply=10**12)
    transfer = token.transfer(ACCOUNTS[1], 12_345_678)
    async with watching(database_url, chain.url) as watch:
        await catch_up(watch)
    created, sent = notifications(database_url)
    assert sql(database_url, "select distinct user_id, read from notifications") == [(user_id, False)]
    assert {key: created[key] for key in ("type", "tokenAddress", "tokenSymbol", "tokenName", "initialSupply")} == {
        "type": "token_created",
        "tokenAddress": token.address,
        "tokenSymbol": "GLD",
        "tokenName": "Gold \ufffd Coin",
        "initialSupply": str(10**12),
    }
    assert created["creator"].lower() == ACCOUNTS[0]
    assert created["message"].lower() == f"created new token gld (gold \ufffd coin) at {token.address}"
    assert sent == {
        "type": "token_transfer",
        "message": "Sent 12.35 GLD (Gold \ufffd Coin) to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "transactionHash": transfer,
        "tokenAddress": token.address,
        "from": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "to": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "amount": "12345678",
        "tokenSymbol": "GLD",
        "tokenName": "Gold \ufffd Coin",
    }
    number = str(chain.block_number)
    assert sql(database_url, "select key, value from settings") == [("chain_last_processed_block_anvil", number)]


@in_loop
async def test_a_reorganisation_is_undone_and_its_blocks_are_processed(chain: Anvil, database_url: str) -> None:
    await make_user(database_url)
    token = TokenFactory.deploy(chain).create("Gold", "GLD", decimals=18, supply=10**24)
    async with watching(database_url, chain.url) as watch:
        for value in range(1, 6):
            token.transfer(ACCOUNTS[1], value)
        await catch_up(watch)
        assert len(active_effects(database_url, "sendToken")) == 5
        # The same height, as anvil keeps it: only the hash tells.
        chain.reorg(3)
        await catch_up(watch)
        assert watch.counts.reorgs == 1
        assert active_effects(database_url, "sendToken") == events_of(chain, SENT)
        assert len(notifications(database_url, revoked=True)) == 3
        token.transfer(ACCOUNTS[1], 99)
        await catch_up(watch)
    assert active_effects(database_url, "sendToken") == events_of(chain, SENT)
    assert [each.get("amount") for each in notifications(database_url)] == [None, "1", "2", "99"]


@in_loop
async def test_a_chain_that_was_never_watched_begins_at_its_current_block(chain: Anvil, database_url: str) -> None:
    await make_user(database_url)
    token = TokenFactory.deploy(chain).create("Gold", "GLD", decimals=18, supply=10**24)
    token.transfer(ACCOUNTS[1], 1)
    async with watching(database_url, make_chain(chain.url, from_block=None)) as watch:
        await catch_up(watch)
        token.transfer(ACCOUNTS[1], 2)
        await catch_up(watch)
    assert [each["amount"] for each in notifications(database_url)] == ["1", "2"]


@in_loop
async def test_new_tokens_of_other_factories_are_left_out(chain: Anvil, database_url: str) -> None:
    await make_user(database_url)
    factory, other = TokenFactory.deploy(chain), TokenFactory.deploy(chain)
    factory.create("Gold", "GLD", decimals=18, supply=1)
    other.create("Tin", "TIN", decimals=18, supply=1)
    async with watching(database_url, chain.url, token_filters(factory.address)) as watch:
        await catch_up(watch)
    assert [each["tokenSymbol"] for each in notifications(database_url)] == ["GLD"]
    assert active_effects(database_url, "createToken") == events_of(chain, topic_of(NEW_TOKEN))[:1]


def has_notifications(database_url: str, count: int) -> bool:
    return len(notifications(database_url)) == count


@in_loop
async def test_an_endpoint_of_websocket_tells_of_blocks_that_nobody_asks_for(
    chain: Anvil, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_user(database_url)
    token = TokenFactory.deploy(chain).create("Gold", "GLD", decimals=18, supply=10**24)
    # Asking alone would find nothing in time.
    monkeypatch.setattr(reader_module, "LISTENING_POLL_SECONDS", 60.0)
    urls = ("ws://127.0.0.1:1/", chain.ws_url)
    monkeypatch.setattr(new_heads, "RETRY_SECONDS", 0.01)
    async with watching(database_url, make_chain(chain.url, head_urls=urls)) as watch:
        await catch_up(watch)
        listener = watch.reader._listener  # type: ignore[attr-defined]
        await until(lambda: listener.is_listening)
        follows = asyncio.create_task(watch.follow(time.monotonic() + 60))
        try:
            for value in (1, 2):
                await asyncio.to_thread(token.transfer, ACCOUNTS[1], value)
                await until(partial(has_notifications, database_url, 1 + value))
        finally:
            follows.cancel()
            await asyncio.gather(follows, return_exceptions=True)
