"""On a bad day as a whole: what is notified in the end is exactly what the chain holds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.support.anvil import ACCOUNTS, anvil
from tests.support.chains import (
    active_effects,
    catch_up,
    events_of,
    late_copy,
    make_chain,
    make_user,
    notifications,
    watching,
)
from tests.support.contracts import TokenFactory
from tests.support.loop import in_loop_for, until
from tests.support.rpc_proxy import Call, Reply, Reset, RpcProxy, error, rpc_proxy, span_of
from tests.support.table import sql
from workerjobs.chain.decoding import topic_of
from workerjobs.jobs.token_filters import TOKEN_TRANSFERRED, token_filters

BLOCKS, EVENTS = 2_000, 10_000
DEEPEST = 20


def misbehave(proxy: RpcProxy, chance: random.Random) -> None:
    """Refuse, cut off, say twice, slow down and reset now and then."""

    def on_request(calls: list[Call]) -> Reply | Reset | None:
        dice = chance.random()
        if dice < 0.01:
            return Reset()
        if dice < 0.02:
            return Reply(429, b"", {"Retry-After": "0"})
        if dice < 0.03:
            return Reply(502, b"Bad Gateway")
        return None

    def on_call(call: Call) -> dict[str, object] | None:
        if (span_of(call) or 0) > 40:
            return error(call, -32005, "query returned more than 10000 results")
        return None

    def on_answer(call: Call, result: object) -> object:
        if (span_of(call) or 0) > 1 and isinstance(result, list):
            dice = chance.random()
            if dice < 0.05:
                return result[: len(result) // 2]
            if dice < 0.1:
                return [*reversed(result), *result]
        return result

    proxy.on_request, proxy.on_call, proxy.on_answer = on_request, on_call, on_answer


@contextmanager
def watchers_that_are_killed(database_url: str, url: str, chance: random.Random) -> Iterator[Counter[str]]:
    """Two processes that watch at once; one after the other is killed at any moment and started anew."""
    counts: Counter[str] = Counter()
    ended = threading.Event()

    def live(pause: random.Random) -> None:
        while not ended.is_set():
            # Every other one knows a filter that the rest do not.
            late = ["late"] if counts["started"] % 2 else []
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.watch_process", database_url, url, *late], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            process.stdout.readline()
            counts["started"] += 1
            ended.wait(pause.uniform(0.1, 3.0))
            process.kill()
            process.wait()
            process.stdout.close()

    threads = [threading.Thread(target=live, args=(random.Random(chance.random()),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def is_level(database_url: str, head: str) -> bool:
    """Whether the watchers have come to a block, of which the hash is given."""
    return sql(database_url, 'select hash = %s from "workerChains"', head) == [(True,)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@in_loop_for(580)
async def test_active_notifications_are_exactly_the_events_of_the_chain(database_url: str) -> None:
    chance = random.Random(20251125)
    await make_user(database_url)
    # All states in memory: else anvil, after a thousand blocks, may go back to one without the code of contracts.
    with anvil("--prune-history", "100000") as chain, rpc_proxy(chain.url) as proxy:
        token = TokenFactory.deploy(chain).create()
        misbehave(proxy, random.Random(1))
        # Each depth once, in any order, and then any again. (Anvil may make an empty block again just as it was: then
        # a little less is undone.)
        depths = chance.sample(range(1, DEEPEST + 1), DEEPEST)
        reorgs: list[int] = []
        with watchers_that_are_killed(database_url, proxy.url, chance) as counts:
            while chain.block_number < BLOCKS or depths:
                if chance.random() < 0.012 and chain.block_number > DEEPEST + 5:
                    # At the head, so that each of the blocks that are taken was processed, and is undone.
                    head = chain.call("eth_getBlockByNumber", "latest", False)["hash"]
                    await until(partial(is_level, database_url, head), seconds=60)
                    reorgs.append(depths.pop() if depths else chance.randint(1, DEEPEST))
                    chain.reorg(reorgs[-1])
                elif chance.random() < 0.1:
                    chain.mine()
                else:
                    token.transfer(ACCOUNTS[1], chance.randint(1, 10**6), times=chance.randint(5, 10))
            counted = counts["started"]
            before = sql(database_url, 'select number, reorgs, revoked from "workerChains"')
        proxy.behave()
        async with watching(database_url, make_chain(proxy.url), [*token_filters(None), late_copy()]) as watch:
            await catch_up(watch)
        expected = events_of(chain, topic_of(TOKEN_TRANSFERRED))
        assert len(expected) >= EVENTS
        assert active_effects(database_url, "sendToken") == expected
        assert active_effects(database_url, "late") == expected
        # One notification for each of both, and none beside.
        texts = Counter(each["transactionHash"] for each in notifications(database_url) if "amount" in each)
        assert texts == Counter(transaction for transaction, _ in [*expected, *expected])
        rows = sql(database_url, 'select reorgs, revoked, "deepestReorg" from "workerChains"')
        print(
            json.dumps(
                {"events": len(expected), "reorgs": len(reorgs), "watchers": counted, "rows": rows, "before": before}
            )
        )
        assert rows[0][0] > 0
        assert rows[0][1] > 0
        assert counted > 10
