"""Filters that are declared later and begin at an earlier block: they catch up, and others notice nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.support.anvil import ACCOUNTS, Anvil, anvil
from tests.support.chains import (
    SENT,
    active_effects,
    catch_up,
    events_of,
    late_copy,
    make_chain,
    make_user,
    watching,
)
from tests.support.contracts import Token, TokenFactory
from tests.support.loop import in_loop
from tests.support.rpc_proxy import Call, RpcProxy, span_of
from tests.support.table import sql
from workerjobs.domain.declared_filters import read_filter
from workerjobs.domain.events import DecodedLog
from workerjobs.jobs.chain_filters import ChainFilter, from_declaration
from workerjobs.jobs.token_filters import token_filters
from workerjobs.jobs.watch_chain import ChainWatch
from workerjobs.ports.chains import ChainTransaction

TRANSFER = "Transfer(address indexed from, address indexed to, uint256 value)"
NEW_TOKEN = (
    "ERC20NewToken(address indexed token,string name,string symbol,address indexed creator,uint256 initialSupply)"
)
SEND_TOKEN = next(each for each in token_filters(None) if each.query.name == "sendToken")


@pytest.fixture
def chain() -> Iterator[Anvil]:
    with anvil() as running:
        yield running


def counting(name: str, **document: Any) -> ChainFilter:
    """A declared filter that submits a job of its name for each transfer."""
    options = {"action": "enqueue", "options": {"type": name}}
    return from_declaration(read_filter({"name": name, "event": TRANSFER, **options, **document}))


def send(token: Token, *values: int) -> None:
    for value in values:
        token.transfer(ACCOUNTS[1], value)


def values_of(database_url: str, job_type: str) -> list[int]:
    """The values of the transfers that jobs of a type were made for, in the order of the jobs."""
    rows = sql(
        database_url,
        """select (data -> 'log' -> 'arguments' ->> 'value')::numeric from "workerJobs"
        where type = %s and (finished is null or success) order by id""",
        job_type,
    )
    return [int(value) for (value,) in rows]


def cursors(database_url: str) -> list[tuple[str, int]]:
    """How many blocks filters are behind their chain."""
    return [
        (name, behind)
        for name, behind in sql(
            database_url,
            """select cursor.filter, chain.number - cursor.number
            from "workerChainFilterCursors" as cursor join "workerChains" as chain using (chain) order by filter""",
        )
    ]


def narrow(watch: ChainWatch, blocks: int) -> None:
    """Read so many blocks at once."""
    watch.reader._endpoints[0].state.span = blocks  # type: ignore[attr-defined]


@in_loop
async def test_a_filter_declared_later_catches_up_and_then_moves_along(
    chain: Anvil, proxy: RpcProxy, database_url: str
) -> None:
    token = TokenFactory.deploy(chain).create(supply=100)
    first = chain.block_number + 1
    send(token, 1, 2, 3, 4, 5, 6)
    early = counting("early")
    async with watching(database_url, proxy.url, [early]) as watch:
        await catch_up(watch)
    proxy.calls.clear()
    # From the third transfer on; not from the block before, in which there is one too.
    late = counting("late", fromBlock=first + 2)
    async with watching(database_url, proxy.url, [early, late]) as watch:
        await catch_up(watch)
        assert watch.summary()["backfilled"] == 4
        asked = [int(call["params"][0]["fromBlock"], 16) for call in proxy.calls if span_of(call)]
        assert asked == [first + 2], "blocks were read again that nobody asked for"
        assert cursors(database_url) == [("late", 0)]
        send(token, 7, 8)
        await catch_up(watch)
        assert watch.summary()["backfilled"] == 4
    assert values_of(database_url, "early") == [100, 1, 2, 3, 4, 5, 6, 7, 8]
    assert values_of(database_url, "late") == [3, 4, 5, 6, 7, 8]


@in_loop
async def test_what_a_worker_without_the_filter_processed_is_caught_up_with(chain: Anvil, database_url: str) -> None:
    token = TokenFactory.deploy(chain).create(supply=100)
    early, late, later = counting("early"), counting("late", fromBlock=0), counting("later", fromBlock=4)
    async with (
        watching(database_url, chain.url, [early]) as older,
        watching(database_url, chain.url, [early, late, later]) as newer,
    ):
        for value in range(1, 9):
            send(token, value)
            # As in a rolling update: the one does not know what the other does.
            await catch_up(older if value % 3 else newer)
        assert cursors(database_url) == [("late", 2), ("later", 2)]
        await catch_up(newer)
    assert values_of(database_url, "early") == [100, 1, 2, 3, 4, 5, 6, 7, 8]
    assert values_of(database_url, "late") == [100, 1, 2, 3, 4, 5, 6, 7, 8]
    # The factory and the token are in the blocks 1 and 2.
    assert values_of(database_url, "later") == [2, 3, 4, 5, 6, 7, 8]


@in_loop
async def test_a_backfill_goes_on_where_it_ended_beside_the_head(
    chain: Anvil, proxy: RpcProxy, database_url: str
) -> None:
    token = TokenFactory.deploy(chain).create(supply=100)
    send(token, *range(1, 11))
    early, late = counting("early"), counting("late", fromBlock=0)
    async with watching(database_url, make_chain(proxy.url, from_block=chain.block_number + 1), [early, late]) as watch:
        narrow(watch, 4)
        assert await watch.step()
        send(token, 11)
        # The head comes first, and one range of the backfill after it.
        assert await watch.step()
        assert values_of(database_url, "early") == [11]
        assert 0 < len(values_of(database_url, "late")) < 10
    ((_, behind),) = cursors(database_url)
    proxy.calls.clear()
    async with watching(database_url, proxy.url, [early, late]) as watch:
        narrow(watch, 4)
        await catch_up(watch)
    asked = [int(call["params"][0]["fromBlock"], 16) for call in proxy.calls if span_of(call)]
    assert min(asked) == chain.block_number - behind + 1
    assert values_of(database_url, "early") == [11]
    assert values_of(database_url, "late") == [100, *range(1, 12)]


@in_loop
async def test_a_reorganisation_while_a_filter_catches_up_is_undone_for_it_too(chain: Anvil, database_url: str) -> None:
    await make_user(database_url)
    token = TokenFactory.deploy(chain).create()
    send(token, *range(1, 13))
    async with watching(database_url, chain.url) as watch:
        await catch_up(watch)
    late = late_copy()
    async with watching(database_url, chain.url, [SEND_TOKEN, late]) as watch:
        narrow(watch, 5)
        # First in the midst of what it did, then in what is before it.
        for steps, depth in ((2, 10), (1, 3)):
            for _ in range(steps):
                assert await watch.step()
            chain.reorg(depth)
            send(token, 100 + depth)
        await catch_up(watch)
        assert watch.counts.reorgs > 0
        assert cursors(database_url) == [("late", 0)]
        expected = events_of(chain, SENT)
        assert active_effects(database_url, "late") == active_effects(database_url, "sendToken") == expected
        # Level with the chain, it is undone with it.
        chain.reorg(2)
        await catch_up(watch)
    expected = events_of(chain, SENT)
    assert active_effects(database_url, "late") == active_effects(database_url, "sendToken") == expected


@in_loop
async def test_a_reorganisation_below_the_block_where_watching_began_is_undone(chain: Anvil, database_url: str) -> None:
    await make_user(database_url)
    token = TokenFactory.deploy(chain).create()
    send(token, *range(1, 9))
    begins = make_chain(chain.url, from_block=None)
    async with watching(database_url, begins, [SEND_TOKEN, late_copy()]) as watch:
        await catch_up(watch)
        assert active_effects(database_url, "late") == events_of(chain, SENT)
        chain.reorg(5)
        send(token, 100)
        await catch_up(watch)
        assert active_effects(database_url, "late") == events_of(chain, SENT)
    # Without such a filter nothing below was processed, and nothing stands still.
    sql(database_url, 'truncate "workerChains", "workerChainEffects", notifications cascade')
    async with watching(database_url, begins, [SEND_TOKEN]) as watch:
        await catch_up(watch)
        chain.reorg(4)
        send(token, 101)
        await catch_up(watch)
    assert sql(database_url, 'select number, condition from "workerChains"') == [(chain.block_number, None)]
    assert active_effects(database_url, "sendToken")[-1] == events_of(chain, SENT)[-1]


@in_loop
async def test_a_filter_that_asks_for_more_than_before_goes_through_its_blocks_again_and_does_nothing_twice(
    chain: Anvil, database_url: str
) -> None:
    factory = TokenFactory.deploy(chain)
    one, other = factory.create(supply=100), factory.create(supply=200)
    send(one, 1, 2)
    send(other, 3)
    only = counting("mine", fromBlock=chain.block_number, addresses=[one.address])
    both = counting("mine", fromBlock=0, addresses=[one.address, other.address])
    for mine, expected in ((only, []), (both, [100, 200, 1, 2, 3])):
        async with watching(database_url, chain.url, [mine]) as watch:
            await catch_up(watch)
        assert values_of(database_url, "mine") == expected
    made = {"addresses": [factory.address], "event": NEW_TOKEN, "parameter": "token"}
    async with watching(database_url, chain.url, [counting("mine", fromBlock=0, factory=made)]) as watch:
        third = factory.create(supply=300)
        send(third, 4)
        await catch_up(watch)
        assert values_of(database_url, "mine") == [100, 200, 1, 2, 3, 300, 4]
    assert cursors(database_url) == [("mine", 0)]


@in_loop
async def test_a_filter_whose_function_raises_while_it_catches_up_holds_up_nobody(
    chain: Anvil, database_url: str
) -> None:
    await make_user(database_url)
    token = TokenFactory.deploy(chain).create()
    send(token, 1, 2, 3)

    async def picky(logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
        if any(log.arguments["value"] == 2 for log in logs):
            raise RuntimeError("not this one")
        await SEND_TOKEN.handle(logs, transaction)

    early, late = counting("early"), ChainFilter(late_copy().query, picky)
    async with watching(database_url, chain.url, [early]) as watch:
        await catch_up(watch)
    async with watching(database_url, chain.url, [early, late]) as watch:
        await catch_up(watch)
        send(token, 4)
        await catch_up(watch)
    assert values_of(database_url, "early")[-1] == 4
    assert active_effects(database_url, "late") == []
    assert sql(database_url, 'select condition from "workerChains"') == [(None,)]
    ((message,),) = sql(database_url, 'select message from "workerChainFilterCursors"')
    assert "filter late failed for blocks 3 to 5, and is tried again for 60 s" in message
    sql(database_url, """update "workerChainFilterCursors" set "failingSince" = now() - interval '61 s'""")
    async with watching(database_url, chain.url, [early, late]) as watch:
        await catch_up(watch)
    expected = events_of(chain, SENT)
    assert active_effects(database_url, "late") == [expected[0], *expected[2:]]
    assert sql(database_url, 'select message from "workerChainFilterCursors"') == [(None,)]
    ((reason,),) = sql(database_url, 'select reason from "workerChainDeadLetters"')
    assert reason == "its handler failed: RuntimeError: not this one"


@in_loop
async def test_another_endpoint_goes_on_in_the_midst_of_a_backfill(
    chain: Anvil, proxy: RpcProxy, database_url: str
) -> None:
    token = TokenFactory.deploy(chain).create(supply=1_000)
    send(token, *range(1, 16))
    described = make_chain(proxy.url, chain.url)
    async with watching(database_url, described, [counting("early")]) as watch:
        await catch_up(watch)
    refused: list[Call] = []

    def refuse(call: Call) -> dict[str, Any] | None:
        if span_of(call) and int(call["params"][0]["fromBlock"], 16) > 6:
            refused.append(call)
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32603, "message": "Internal error"}}
        return None

    proxy.on_call = refuse
    async with watching(database_url, described, [counting("early"), counting("late", fromBlock=0)]) as watch:
        narrow(watch, 3)
        await catch_up(watch)
        failing, standing_in = watch.reader.health()
        assert failing.errors["rpc"] == len(refused) > 0
        assert standing_in.requests > 0
    assert values_of(database_url, "late") == [1_000, *range(1, 16)]
    assert values_of(database_url, "early") == [1_000, *range(1, 16)]
