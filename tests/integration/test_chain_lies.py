"""Endpoints that answer, and not what is: nothing is missed, nothing is done twice, and the next endpoint is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.support.anvil import ACCOUNTS, Anvil, anvil
from tests.support.chains import (
    QUERIES,
    SENT,
    active_effects,
    catch_up,
    events_of,
    late_copy,
    make_chain,
    make_user,
    notifications,
    reader_of,
    watching,
)
from tests.support.contracts import TokenFactory
from tests.support.loop import in_loop, until
from tests.support.rpc_proxy import (
    EMPTY_BLOOM,
    FULL_BLOOM,
    Call,
    Reply,
    RpcProxy,
    error,
    rpc_proxy,
    span_of,
    with_bloom,
)
from tests.support.table import sql
from workerjobs.chain import endpoint
from workerjobs.domain.blocks import BlockRef
from workerjobs.errors import ChainUnavailableError
from workerjobs.jobs.token_filters import token_filters

ALL = [str(value) for value in range(1, 7)]
LAST = 8
"""The chain's last block."""
LIE_SECONDS = 0.3
"""So long a single endpoint that lies is asked."""


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    """A chain with six transfers in the last six blocks; no test changes it."""
    with anvil() as running:
        token = TokenFactory.deploy(running).create()
        for value in ALL:
            token.transfer(ACCOUNTS[1], int(value))
        assert running.block_number == LAST
        yield running


async def amounts(*urls: str, seconds: float = 60.0) -> list[str]:
    """Read the chain; returns the amounts that were sent."""
    return (await amounts_and_errors(*urls, seconds=seconds))[0]


async def amounts_and_errors(*urls: str, seconds: float = 60.0) -> tuple[list[str], list[Mapping[str, int]]]:
    """Read the chain; returns the amounts that were sent, and the errors of each endpoint by class."""
    reader = reader_of(make_chain(*urls), seconds)
    found: list[str] = []
    try:
        head = (await reader.heads()).latest.number
        parent: BlockRef | None = None
        while parent is None or parent.number < head:
            part = await reader.read(parent, head, QUERIES, {})
            if part is not None:
                found += [str(log.arguments["value"]) for log in part.logs if log.filter == "sendToken"]
                parent = part.headers[-1].ref
        return found, [each.errors for each in reader.health()]
    finally:
        await reader.close()


def lied_of_logs(lie: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Call, Any], Any]:
    """Change answers to eth_getLogs alone."""
    return lambda call, result: lie(result) if call["method"] == "eth_getLogs" else result


@in_loop
async def test_logs_that_come_twice_and_out_of_order_count_once(chain: Anvil, proxy: RpcProxy) -> None:
    proxy.on_answer = lied_of_logs(lambda logs: [*reversed(logs), *logs])
    assert await amounts(proxy.url) == ALL


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (
            lambda logs: [*logs, *(log | {"transactionHash": "0x" + "ab" * 32} for log in logs)],
            "two logs with one index",
        ),
        (lambda logs: [log | {"removed": True} for log in logs], "or removed"),
        (lambda logs: [log | {"logIndex": "first"} for log in logs], "no numbers"),
        (lambda logs: [log | {"blockHash": None, "blockNumber": None} for log in logs], "something else than logs"),
    ],
    ids=["two logs with one index", "removed logs of a block that is there", "an index that is none", "pending logs"],
)
@in_loop
async def test_an_endpoint_with_logs_that_cannot_be_is_left_for_another(
    lie: Any, said: str, chain: Anvil, proxy: RpcProxy
) -> None:
    proxy.on_answer = lied_of_logs(lie)
    assert await amounts(proxy.url, chain.url) == ALL
    with pytest.raises(ChainUnavailableError, match=said):
        await amounts(proxy.url, seconds=LIE_SECONDS)


def as_of(number: int, call: Call, result: Any) -> Any:
    """What a node that is at a block answers: it knows no later ones, nor their logs."""
    if call["method"] == "eth_getLogs":
        return [log for log in result if int(log["blockNumber"], 16) <= number]
    is_later = isinstance(result, dict) and "logsBloom" in result and int(result["number"], 16) > number
    return None if is_later else result


@pytest.mark.parametrize("has_bloom", [True, False], ids=["with bloom filters", "on a chain without bloom filters"])
@in_loop
async def test_a_range_whose_logs_come_from_a_node_that_lags_is_asked_for_again(
    has_bloom: bool, proxy: RpcProxy
) -> None:
    lagging: set[int] = set()

    def on_request(calls: list[Call]) -> None:
        if not lagging and any(span_of(call) for call in calls):
            lagging.update(call["id"] for call in calls)

    def on_answer(call: Call, result: Any) -> Any:
        if not has_bloom:
            result = with_bloom(EMPTY_BLOOM)(call, result)
        return as_of(LAST - 3, call, result) if call["id"] in lagging else result

    proxy.on_request, proxy.on_answer = on_request, on_answer
    assert await amounts(proxy.url) == ALL
    assert lagging


def asks_for_all_logs(call: Call) -> bool:
    """Whether a call asks for a block's logs of whatever event."""
    return call["method"] == "eth_getLogs" and "topics" not in call["params"][0]


@pytest.mark.parametrize("says_so", [False, True], ids=["silently", "one says so"])
@pytest.mark.parametrize("blocks", [1, 3], ids=["one block", "a range"])
@in_loop
async def test_new_blocks_whose_logs_are_not_there_yet_are_waited_for(
    blocks: int, says_so: bool, database_url: str
) -> None:
    await make_user(database_url)
    with anvil() as chain, rpc_proxy(chain.url) as proxy:
        token = TokenFactory.deploy(chain).create()
        async with watching(database_url, make_chain(proxy.url)) as watch:
            await catch_up(watch)
            height = chain.block_number
            # Each call may go to another node, and those for logs go to one that lags.
            proxy.on_answer = lambda call, result: (
                as_of(height, call, result) if call["method"] == "eth_getLogs" else result
            )
            if says_so:
                # Another node may still be one that answers without logs.
                proxy.on_call = lambda call: error(call, -32000, "unknown block") if asks_for_all_logs(call) else None
            for value in range(blocks):
                token.transfer(ACCOUNTS[1], value + 1)
            assert not await watch.step()
            assert sql(database_url, 'select number from "workerChains"') == [(height,)]
            proxy.behave()
            await catch_up(watch)
            assert watch.counts.reorgs == 0
        assert active_effects(database_url, "sendToken") == events_of(chain, SENT)


@in_loop
async def test_bloom_filters_that_are_mistaken_cost_a_call_for_each_block_and_no_wait(database_url: str) -> None:
    with anvil() as chain, rpc_proxy(chain.url) as proxy:
        token = TokenFactory.deploy(chain).create()
        # The blocks have logs, but none of those that are asked for.
        created = [each for each in token_filters(None) if each.query.name == "createToken"]
        async with watching(database_url, make_chain(proxy.url), created) as watch:
            await catch_up(watch)
            proxy.on_answer = with_bloom(FULL_BLOOM)
            for blocks in (1, 3):
                for _ in range(blocks):
                    token.transfer(ACCOUNTS[1], 1)
                proxy.calls.clear()
                assert await watch.step()
                assert sql(database_url, 'select number from "workerChains"') == [(chain.block_number,)]
                assert sum(map(asks_for_all_logs, proxy.calls)) == blocks
                # And the logs that are wanted: of the block; of the range, and again of each of its blocks.
                assert proxy.methods().count("eth_getLogs") == (2 if blocks == 1 else 1 + 2 * blocks)


@in_loop
async def test_bloom_filters_that_say_nothing_hold_up_neither_the_chain_nor_filters_that_catch_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "LACKING_SECONDS", 0.5)
    with anvil() as chain, rpc_proxy(chain.url) as proxy:
        chain.mine(5)
        async with watching(database_url, make_chain(proxy.url)) as watch:
            await catch_up(watch)
        # From now on each block, and none has logs, looks as if it had some: the chain and the filter wait for two.
        proxy.on_answer = with_bloom(FULL_BLOOM)
        chain.mine()
        filters = [*token_filters(None), late_copy()]
        async with watching(database_url, make_chain(proxy.url), filters) as watch:
            level = """
                select true from "workerChains" join "workerChainFilterCursors" using (chain, number) where number = %s
                """

            async def is_level() -> bool:
                await watch.step()
                return sql(database_url, level, chain.block_number) == [(True,)]

            await until(is_level, seconds=60)


@in_loop
async def test_times_of_blocks_may_go_backwards_and_be_no_dates(database_url: str) -> None:
    await make_user(database_url)
    with anvil() as chain, rpc_proxy(chain.url) as proxy:

        def timed(call: Call, result: Any) -> Any:
            if not isinstance(result, dict) or "logsBloom" not in result:
                return result
            number = int(result["number"], 16)
            return result | {"timestamp": hex(2**63 - number if number % 2 else 1_000 - number)}

        proxy.on_answer = timed
        token = TokenFactory.deploy(chain).create()
        async with watching(database_url, make_chain(proxy.url)) as watch:
            for value in range(1, 5):
                token.transfer(ACCOUNTS[1], value)
                # Ends after a step, and notes how far the chain is.
                await watch.follow(0.0)
                (state,) = await watch.store.chains()
                assert state["number"] == chain.block_number
                assert state["block_time"].year == (9999 if chain.block_number % 2 else 1970)
        assert active_effects(database_url, "sendToken") == events_of(chain, SENT)


@in_loop
async def test_a_chain_that_became_shorter_is_undone_as_soon_as_another_block_shows_it(database_url: str) -> None:
    await make_user(database_url)
    with anvil() as chain:
        token = TokenFactory.deploy(chain).create()
        async with watching(database_url, make_chain(chain.url)) as watch:
            for value in range(1, 7):
                token.transfer(ACCOUNTS[1], value)
            await catch_up(watch)
            chain.rollback(3)
            # So far it is as if the endpoint lagged.
            assert not await watch.step()
            assert watch.counts.reorgs == 0
            token.transfer(ACCOUNTS[1], 99)
            await catch_up(watch)
            assert (watch.counts.reorgs, watch.counts.revoked) == (1, 3)
        assert active_effects(database_url, "sendToken") == events_of(chain, SENT)
        assert [each.get("amount") for each in notifications(database_url)][1:] == ["1", "2", "3", "99"]


@in_loop
async def test_an_endpoint_that_says_to_wait_no_time_is_not_asked_without_end(proxy: RpcProxy) -> None:
    proxy.on_request = lambda calls: Reply(429, b"", {"Retry-After": "0"})
    with pytest.raises(ChainUnavailableError, match="it answers 429: too many requests"):
        await amounts(proxy.url, seconds=LIE_SECONDS)
    assert len(proxy.calls) < 10


@in_loop
async def test_a_range_that_is_refused_for_the_whole_request_makes_ranges_smaller_and_not_batches(
    proxy: RpcProxy,
) -> None:
    def refuse(calls: list[Call]) -> Reply | None:
        if all((span_of(call) or 0) <= 2 for call in calls):
            return None
        whole = {"jsonrpc": "2.0", "id": None, "error": {"code": -32005, "message": "limit exceeded"}}
        return Reply(200, json.dumps(whole).encode())

    proxy.on_request = refuse
    found, (errors,) = await amounts_and_errors(proxy.url)
    assert found == ALL
    assert set(errors) == {"results"}
