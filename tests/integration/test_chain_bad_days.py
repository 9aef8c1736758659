"""What providers do on bad days, by a real proxy in front of a real chain: nothing is missed and nothing done twice."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.anvil import ACCOUNTS, Anvil, anvil
from tests.support.chains import (
    QUERIES,
    SENT,
    active_effects,
    aside,
    catch_up,
    events_of,
    make_chain,
    make_user,
    notifications,
    reader_of,
    watching,
)
from tests.support.contracts import Token, TokenFactory
from tests.support.loop import in_loop, until
from tests.support.rpc_proxy import (
    EMPTY_BLOOM,
    FULL_BLOOM,
    Call,
    Hang,
    Reply,
    Reset,
    RpcProxy,
    error,
    rpc_proxy,
    span_of,
    with_bloom,
)
from tests.support.table import sql
from workerjobs.app.chains import rewind_chain
from workerjobs.chain import endpoint
from workerjobs.chain.refusals import SAYINGS, Kind
from workerjobs.domain.blocks import BlockRef
from workerjobs.errors import ChainUnavailableError

TRANSFERS = 12


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    """A chain with a dozen transfers, one in every fourth block; tests that change it take one of their own."""
    with anvil() as running:
        token = TokenFactory.deploy(running).create()
        for value in range(1, TRANSFERS + 1):
            token.transfer(ACCOUNTS[1], value)
            running.mine(3)
        yield running


async def read_all(
    proxy: RpcProxy, *, seconds: float = 60.0, last: int | None = None, beside: Anvil | None = None, **settings: Any
) -> list[str]:
    """Read the chain through the proxy, or a second endpoint, range by range; returns the amounts that were sent."""
    urls = [proxy.url] if beside is None else [proxy.url, beside.url]
    reader = reader_of(make_chain(*urls, **settings), seconds)
    amounts: list[str] = []
    try:
        head = (await reader.heads()).latest.number if last is None else last
        parent: BlockRef | None = None
        while parent is None or parent.number < head:
            found = await reader.read(parent, head, QUERIES, {})
            assert found is not None
            amounts += [str(log.arguments["value"]) for log in found.logs if log.filter == "sendToken"]
            parent = found.headers[-1].ref
    finally:
        await reader.close()
    return amounts


def assert_ranges_shrink(proxy: RpcProxy) -> None:
    """See that from each block on, every further request was for fewer blocks than the one before."""
    by_first: dict[str, list[int]] = {}
    for call in proxy.calls:
        span = span_of(call)
        if span is not None:
            by_first.setdefault(call["params"][0]["fromBlock"], []).append(span)
    assert any(len(spans) > 1 for spans in by_first.values())
    for spans in by_first.values():
        assert spans == sorted(set(spans), reverse=True), "the same or a wider range was asked again"


ALL = [str(value) for value in range(1, TRANSFERS + 1)]
SMALLER = [saying for saying in SAYINGS if saying.kind in (Kind.RANGE, Kind.RESULTS)]


@pytest.mark.parametrize("saying", SMALLER, ids=lambda saying: saying.example[:60])
@in_loop
async def test_every_known_refusal_of_a_range_leads_to_smaller_ones(saying: Any, proxy: RpcProxy) -> None:
    proxy.on_call = lambda call: error(call, -32000, saying.example) if (span_of(call) or 0) > 3 else None
    # Transfers are in the blocks 3, 7, 11 and so on.
    assert await read_all(proxy, last=12) == ALL[:3]
    assert_ranges_shrink(proxy)


@in_loop
async def test_a_bare_limit_code_means_a_smaller_range(proxy: RpcProxy) -> None:
    proxy.on_call = lambda call: error(call, -32005, "limit exceeded") if (span_of(call) or 0) > 10 else None
    assert await read_all(proxy) == ALL


@in_loop
async def test_a_provider_that_suggests_the_very_range_it_refused_is_asked_for_less(proxy: RpcProxy) -> None:
    def refuse(call: Call) -> dict[str, Any] | None:
        if (span_of(call) or 0) <= 3:
            return None
        place = call["params"][0]
        suggested = f"this block range should work: [{place['fromBlock']}, {place['toBlock']}]"
        return error(call, -32602, f"Log response size exceeded. {suggested}")

    proxy.on_call = refuse
    assert await read_all(proxy) == ALL
    assert_ranges_shrink(proxy)


@in_loop
async def test_a_learned_range_is_not_exceeded_again(proxy: RpcProxy) -> None:
    refused: list[int] = []

    def refuse(call: Call) -> dict[str, Any] | None:
        span = span_of(call) or 0
        if span > 4:
            refused.append(span)
            return error(call, -32000, "eth_getLogs is limited to a 4 block range")
        return None

    proxy.on_call = refuse
    assert await read_all(proxy) == ALL
    assert len(refused) <= 2


@in_loop
async def test_retry_after_is_waited_for(proxy: RpcProxy) -> None:
    asked: list[float] = []

    def refuse_once(calls: list[Call]) -> Reply | None:
        asked.append(time.monotonic())
        return Reply(429, b"slow down", {"Retry-After": "1"}) if len(asked) == 2 else None

    proxy.on_request = refuse_once
    assert await read_all(proxy) == ALL
    assert asked[2] - asked[1] >= 1.0


@pytest.mark.parametrize(
    "reply",
    [
        Reply(429, b"Too Many Requests"),
        Reply(200, json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": 429, "message": "slow"}}).encode()),
        Reply(502, b"<html>Bad Gateway</html>"),
        Reply(200, b'{"jsonrpc":"2.0","id":1,"resu'),
        Reset(),
    ],
    ids=["429 without Retry-After", "429 in a 200", "502", "an answer that is cut off", "a connection reset"],
)
@in_loop
async def test_passing_trouble_is_waited_out(
    reply: Reply | Reset, proxy: RpcProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "RATE_PAUSE_SECONDS", 0.2)
    count = 0

    def sometimes(calls: list[Call]) -> Reply | Reset | None:
        nonlocal count
        count += 1
        return reply if count in (1, 3, 4) else None

    proxy.on_request = sometimes
    assert await read_all(proxy) == ALL
    assert count > 4


@in_loop
async def test_a_rate_limit_as_minus_32005_in_a_200_is_waited_out(
    proxy: RpcProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "RATE_PAUSE_SECONDS", 0.2)
    count = 0

    def sometimes(call: Call) -> dict[str, Any] | None:
        nonlocal count
        count += 1
        return error(call, -32005, "daily request count exceeded, request rate limited") if count == 5 else None

    proxy.on_call = sometimes
    assert await read_all(proxy) == ALL


@in_loop
async def test_an_endpoint_that_does_not_answer_in_time_is_asked_again(proxy: RpcProxy) -> None:
    count = 0

    def sometimes(calls: list[Call]) -> Hang | None:
        nonlocal count
        count += 1
        return Hang() if count == 3 else None

    proxy.on_request = sometimes
    assert await read_all(proxy, timeout_seconds=0.5) == ALL


@in_loop
async def test_batches_shrink_to_what_an_endpoint_takes(proxy: RpcProxy) -> None:
    def refuse(calls: list[Call]) -> Reply | None:
        if len(calls) <= 3:
            return None
        answer = error({"id": None}, 31, "Batch of more than 3 requests are not allowed on free tier")
        return Reply(500, json.dumps(answer).encode())

    proxy.on_request = refuse
    assert await read_all(proxy) == ALL


@pytest.mark.parametrize("kept", [0, 1, 5])
@in_loop
async def test_logs_that_an_answer_lacks_are_noticed(kept: int, proxy: RpcProxy) -> None:
    proxy.on_answer = lambda call, result: result[:kept] if (span_of(call) or 0) > 8 else result
    assert await read_all(proxy) == ALL


@in_loop
async def test_an_endpoint_on_another_chain_is_not_used(chain: Anvil, proxy: RpcProxy) -> None:
    proxy.on_answer = lambda call, result: "0x1" if call["method"] == "eth_chainId" else result
    reader = reader_of(make_chain(proxy.url, chain.url))
    try:
        assert (await reader.heads()).latest.number == chain.block_number
    finally:
        await reader.close()
    assert proxy.methods() == ["eth_chainId"]
    alone = reader_of(make_chain(proxy.url), seconds=0.5)
    try:
        with pytest.raises(ChainUnavailableError, match="serves chain 1, and anvil is 31337"):
            await alone.heads()
    finally:
        await alone.close()


@in_loop
async def test_the_next_endpoint_is_used_while_one_is_down(
    chain: Anvil, proxy: RpcProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "FIRST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(endpoint, "MAX_PAUSE_SECONDS", 60.0)
    proxy.on_request = lambda calls: Reset()
    reader = reader_of(make_chain(proxy.url, chain.url))
    try:
        assert (await reader.heads()).latest.number == chain.block_number
        down, up = reader.health()
        assert down.errors == {"connection": 1}
        assert down.trouble is not None
        assert up.errors == {}
    finally:
        await reader.close()


def of_another_block(call: Call, result: Any) -> Any:
    """Say of logs that they are of a block that is not the one in their place."""
    if call["method"] == "eth_getLogs":
        return [log | {"blockHash": "0x" + "ab" * 32} for log in result]
    return result


def of_another_range(call: Call, result: Any) -> Any:
    """Answer logs of blocks that were not asked for."""
    return [log | {"blockNumber": "0xffff"} for log in result] if call["method"] == "eth_getLogs" else result


def of_another_number(call: Call, result: Any) -> Any:
    """Answer another block than was asked for."""
    if call["method"] == "eth_getBlockByNumber" and result is not None and call["params"][0].startswith("0x"):
        return result | {"number": hex(int(result["number"], 16) + 1)}
    return result


@pytest.mark.parametrize("lie", [of_another_block, of_another_range, of_another_number])
@in_loop
async def test_an_endpoint_that_contradicts_itself_is_left_for_another(lie: Any, chain: Anvil, proxy: RpcProxy) -> None:
    proxy.on_answer = lie
    assert await read_all(proxy, beside=chain) == ALL
    with pytest.raises(
        ChainUnavailableError, match=r"another block than it shows|not asked for|where block 0 was asked for"
    ):
        await read_all(proxy, seconds=0.3)


@pytest.mark.parametrize("bloom", [EMPTY_BLOOM, FULL_BLOOM, "0x"], ids=["empty", "full", "none"])
@in_loop
async def test_a_bloom_filter_that_says_nothing_true_loses_no_log(
    bloom: str, proxy: RpcProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a filter says that an empty block has logs, that it has none is believed after a while.
    monkeypatch.setattr(endpoint, "LACKING_SECONDS", 0.0)
    proxy.on_answer = with_bloom(bloom)
    assert await read_all(proxy) == ALL


@in_loop
async def test_no_error_shows_the_key_in_an_endpoints_url(proxy: RpcProxy) -> None:
    proxy.on_request = lambda calls: Reset()
    reader = reader_of(make_chain(f"{proxy.url}/v3/top-secret"), seconds=0.3)
    try:
        with pytest.raises(ChainUnavailableError) as caught:
            await reader.heads()
    finally:
        await reader.close()
    assert "top-secret" not in str(caught.value)


@in_loop
async def test_requests_keep_to_a_rate(proxy: RpcProxy) -> None:
    began = time.monotonic()
    assert await read_all(proxy, requests_per_second=40) == ALL
    calls = len(proxy.calls)
    assert calls / (time.monotonic() - began + 1.0) <= 40


@in_loop
async def test_a_lagging_endpoint_behind_a_balancer_is_no_reorganisation(database_url: str) -> None:
    await make_user(database_url)
    with anvil() as chain, rpc_proxy(chain.url) as proxy:
        token = TokenFactory.deploy(chain).create()
        lagging_at = chain.block_number

        def lag(call: Call, result: Any) -> Any:
            """Know nothing above a block: its head is that one, later ones are null, and logs end there."""
            if call["params"][:1] == ["latest"]:
                with aside(chain) as own:
                    return own.block(lagging_at)
            is_block = call["method"].startswith("eth_getBlockBy") and result is not None
            if is_block and int(result["number"], 16) > lagging_at:
                return None
            if call["method"] == "eth_getLogs":
                return [log for log in result if int(log["blockNumber"], 16) <= lagging_at]
            return result

        async with watching(database_url, make_chain(proxy.url)) as watch:
            for value in range(1, 5):
                token.transfer(ACCOUNTS[1], value)
            await catch_up(watch)
            proxy.on_answer = lag
            assert not await watch.step()
            token.transfer(ACCOUNTS[1], 5)
            # The head comes from one that is up to date, and the rest from the one that lags.
            proxy.on_answer = lambda call, result: result if call["params"][:1] == ["latest"] else lag(call, result)
            assert not await watch.step()
            proxy.behave()
            await catch_up(watch)
            assert watch.counts.reorgs == 0
        assert active_effects(database_url, "sendToken") == events_of(chain, SENT)


@in_loop
async def test_a_reorganisation_between_two_calls_of_one_pass_is_noticed(database_url: str) -> None:
    await make_user(database_url)
    with anvil() as chain, rpc_proxy(chain.url) as proxy:
        token = TokenFactory.deploy(chain).create()
        async with watching(database_url, make_chain(proxy.url)) as watch:
            await catch_up(watch)
            for method in ("eth_getBlockByNumber", "eth_getLogs"):
                for value in range(1, 5):
                    token.transfer(ACCOUNTS[1], value)
                done: list[str] = []

                def reorganise(calls: list[Call], method: str = method, done: list[str] = done) -> None:
                    # After the head was read, just before the blocks or the logs are.
                    if not done and calls[0]["method"] == method and calls[0]["params"][0] != "latest":
                        done.append(method)
                        with aside(chain) as own:
                            own.reorg(3)

                async def is_equal() -> bool:
                    # Not at once: an endpoint that changed its mind is left alone for a while.
                    await catch_up(watch)
                    return active_effects(database_url, "sendToken") == events_of(chain, SENT)

                proxy.on_request = reorganise
                await until(is_equal)
                assert done == [method]


@in_loop
async def test_two_workers_on_one_chain_do_nothing_twice(database_url: str) -> None:
    await make_user(database_url)
    with anvil() as chain:
        token = TokenFactory.deploy(chain).create()
        described = make_chain(chain.url)
        async with watching(database_url, described) as one, watching(database_url, described) as other:
            for value in range(1, 11):
                token.transfer(ACCOUNTS[1], value, times=3)
                await asyncio.gather(one.step(), other.step())
            await asyncio.gather(catch_up(one), catch_up(other))
        assert len(notifications(database_url)) == 31
        assert active_effects(database_url, "sendToken") == events_of(chain, SENT)


@in_loop
async def test_a_reorganisation_beyond_finality_stops_everything_and_loses_nothing(database_url: str) -> None:
    from workerjobs.errors import ChainError

    await make_user(database_url)
    with anvil("--slots-in-an-epoch", "1", "--chain-id", "777") as chain:
        token: Token = TokenFactory.deploy(chain).create()
        async with watching(database_url, make_chain(chain.url, chain_id=777)) as watch:
            for value in range(1, 9):
                token.transfer(ACCOUNTS[1], value)
            await catch_up(watch)
            chain.reorg(6)
            with pytest.raises(ChainError, match=r"dropped block .* which it had called final"):
                await watch.step()
            ((condition, message),) = sql(database_url, 'select condition, message from "workerChains"')
            assert condition == "ReorgBeyondFinality"
            assert "workerjobs chain rewind anvil BLOCK" in message
            assert len(notifications(database_url)) == 9
            # What the message says, and nothing is missing, nor there twice.
            assert await rewind_chain(database_url, watch.chain, chain.block_number - 6) == 6
            await catch_up(watch)
            assert sql(database_url, 'select condition from "workerChains"') == [(None,)]
        assert active_effects(database_url, "sendToken") == events_of(chain, SENT)


@in_loop
async def test_a_development_chain_that_began_anew_is_followed(database_url: str) -> None:
    await make_user(database_url)
    with anvil() as chain:
        TokenFactory.deploy(chain).create("Old")
        chain.mine(100)
        async with watching(database_url, make_chain(chain.url)) as watch:
            await catch_up(watch)
    with anvil() as chain:
        TokenFactory.deploy(chain).create("New")
        async with watching(database_url, make_chain(chain.url)) as watch:
            await catch_up(watch)
    assert [each["tokenName"] for each in notifications(database_url)] == ["New"]
    assert [each["tokenName"] for each in notifications(database_url, revoked=True)] == ["Old"]


@in_loop
async def test_an_endpoint_that_lags_is_left_for_one_that_does_not(
    chain: Anvil, proxy: RpcProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "BEHIND_SECONDS", 60.0)

    def lag(call: Call, result: Any) -> Any:
        if call["params"][:1] == ["latest"]:
            with aside(chain) as own:
                return own.block(3)
        return result

    proxy.on_answer = lag
    reader = reader_of(make_chain(proxy.url, chain.url))
    height = chain.block_number
    try:
        assert (await reader.heads(height)).latest.number == height
        asked = len(proxy.calls)
        found = await reader.read(None, height, QUERIES, {})
        assert found is not None
        assert found.headers[-1].number == height
        assert len(proxy.calls) == asked
    finally:
        await reader.close()
