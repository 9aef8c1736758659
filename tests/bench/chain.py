"""Events and blocks a second from a node into committed notifications, beside the simple way and viem.

``python -m tests.bench.chain`` starts a chain and a Postgres of its own (fsync and synchronous_commit on) and prints a
table. All ways read the same chain, over HTTP on this machine. viem only fetches and decodes: it commits nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from tests.support.anvil import ACCOUNTS, Anvil, anvil
from tests.support.chains import catch_up, make_chain, make_user, notifications, watching
from tests.support.contracts import Token, TokenFactory, abi
from tests.support.node import node
from workerjobs.chain.endpoint import MAX_SPAN, RANGE_LOGS
from workerjobs.jobs.token_filters import amount_text
from workerjobs.storage.embedded import EmbeddedPostgres
from workerjobs.storage.migrate import migrate_url

VIEM = Path(__file__).parent / "viem"
EVENTS_A_BLOCK = 100
SIMPLE_EVENTS = 3_000
RANGE = 50
"""Blocks that the other ways ask for at once; with more, anvil's answers grow to many megabytes."""


def make_events(chain: Anvil, events: int) -> Token:
    """Put events onto the chain, a hundred in each block."""
    token = TokenFactory.deploy(chain).create()
    for number in range(events // EVENTS_A_BLOCK):
        token.transfer(ACCOUNTS[1], 1_000 + number, times=EVENTS_A_BLOCK)
    return token


def ours(chain: Anvil, url: str, span: int) -> float:
    """Fetch, decode and commit with watchChain; returns seconds."""

    async def run() -> float:
        async with watching(url, make_chain(chain.url)) as watch:
            # As an endpoint's ranges are after a while, for blocks with so many events.
            watch.reader._endpoints[0].state.span = span  # type: ignore[attr-defined]
            began = time.monotonic()
            await catch_up(watch)
            return time.monotonic() - began

    return asyncio.run(run())


def simple_way(chain: Anvil, url: str, first: int, last: int) -> float:
    """Fetch and decode with web3's get_logs and process_log, and insert one notification after the other."""
    from web3 import Web3

    web3 = Web3(Web3.HTTPProvider(chain.url))
    event = web3.eth.contract(abi=abi("SampleToken")).events.TokenTransferred()
    topic = web3.keccak(text="TokenTransferred(address,address,uint256,string,string,uint8)")
    with psycopg.connect(url) as connection:
        began = time.monotonic()
        for begin in range(first, last + 1, RANGE):
            logs = web3.eth.get_logs({"fromBlock": begin, "toBlock": min(last, begin + RANGE - 1), "topics": [topic]})
            for log in logs:
                values = event.process_log(log)["args"]
                user = connection.execute(
                    "select user_id from user_auth where auth_identifier = %s", [values["from"].lower()]
                ).fetchone()
                amount = amount_text(values["value"], values["decimals"])
                data = {
                    "type": "token_transfer",
                    "message": f"Sent {amount} {values['symbol']} ({values['name']}) to {values['to']}",
                    "transactionHash": log["transactionHash"].hex(),
                    "tokenAddress": log["address"].lower(),
                    "from": values["from"],
                    "to": values["to"],
                    "amount": str(values["value"]),
                    "tokenSymbol": values["symbol"],
                    "tokenName": values["name"],
                }
                assert user is not None
                connection.execute(
                    "insert into notifications (user_id, data) values (%s, %s)", [user[0], json.dumps(data)]
                )
            connection.commit()
        return time.monotonic() - began


def viem(chain: Anvil, first: int, last: int) -> float:
    """Fetch and decode with viem's getLogs and parseEventLogs."""
    program, environment = node(VIEM)
    done = subprocess.run(
        [program, str(VIEM / "get_logs.cjs"), chain.url, str(first), str(last), str(RANGE)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return float(answer["seconds"])


def notified_after(chain: Anvil, url: str, token: Token, blocks: int) -> list[float]:
    """Seconds from a block to its notification, with a block each second and a watcher that follows."""
    seconds: list[float] = []

    async def run() -> None:
        async with (
            watching(url, make_chain(chain.url)) as watch,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as listener,
        ):
            await catch_up(watch)
            await listener.execute('listen "workerNotifications"')
            follows = asyncio.create_task(watch.follow(time.monotonic() + blocks + 5))
            for value in range(blocks):
                await asyncio.to_thread(token.transfer, ACCOUNTS[1], value + 1)
                mined = time.monotonic()
                found = [_ async for _ in listener.notifies(timeout=10, stop_after=1)]
                assert found
                seconds.append(time.monotonic() - mined)
                await asyncio.sleep(max(0.0, mined + 1 - time.monotonic()))
            follows.cancel()
            await asyncio.gather(follows, return_exceptions=True)

    asyncio.run(run())
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    # anvil takes the longer for a block, the more there are: 2,000 take 5 s, and 20,000 many minutes.
    parser.add_argument("--blocks", type=int, default=3_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--follow", type=int, default=15, help="blocks, one a second, for the delay of notifications")
    given = parser.parse_args()
    with anvil() as chain, EmbeddedPostgres.ephemeral() as server:
        token = make_events(chain, given.events)
        last_event = chain.block_number
        print(f"{given.events} events in {last_event} blocks; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")

        def measure(way: Callable[[str], float], name: str) -> float:
            """The median of runs, each in a database of its own."""
            found = []
            for run in range(given.runs):
                database = f"bench_{name}_{run}"
                with psycopg.connect(server.url, autocommit=True) as admin:
                    admin.execute(f'create database "{database}"'.encode())
                url = server.url_for("127.0.0.1", database)
                migrate_url(url)
                asyncio.run(make_user(url))
                found.append(way(url))
            return statistics.median(found)

        def checked(url: str) -> float:
            seconds = ours(chain, url, RANGE_LOGS // EVENTS_A_BLOCK)
            assert len(notifications(url)) == given.events + 1
            return seconds

        def show(name: str, rate: float, unit: str) -> None:
            print(f"{name:<50} {rate:>10,.0f} {unit}", flush=True)

        show("workerjobs: fetch, check, decode, commit", given.events / measure(checked, "ours"), "events/s")
        # Of these so many that it does not take minutes.
        some = min(last_event, 2 + SIMPLE_EVENTS // EVENTS_A_BLOCK)
        simple = measure(lambda url: simple_way(chain, url, 0, some), "simple")
        some_events = (some - 2) * EVENTS_A_BLOCK
        show(f"web3 get_logs + process_log, one insert each, of {some_events}", some_events / simple, "events/s")
        viems = statistics.median([viem(chain, 0, last_event) for _ in range(given.runs)])
        show("viem getLogs + parseEventLogs, nothing committed", given.events / viems, "events/s")
        with anvil() as empty:
            for _ in range(given.blocks // 1000):
                empty.mine(1000)
            blocks = measure(lambda url: ours(empty, url, MAX_SPAN), "blocks")
        show("workerjobs: blocks without events", given.blocks / blocks, "blocks/s")
        if given.follow:
            with psycopg.connect(server.url, autocommit=True) as admin:
                admin.execute("create database bench_follow")
            url = server.url_for("127.0.0.1", "bench_follow")
            migrate_url(url)
            asyncio.run(make_user(url))
            delays = sorted(notified_after(chain, url, token, given.follow))
            print(f"block to notification: median {statistics.median(delays):.3f} s, longest {delays[-1]:.3f} s")
        print(f"load at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
