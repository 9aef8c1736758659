"""Events and blocks a second from a node into committed notifications, beside the simple way and viem.

``python -m tests.bench.chain`` starts a chain and a Postgres of its own (fsync and synchronous_commit on) and prints a
table. All ways read the same chain, over HTTP on this machine. viem only fetches and decodes: it commits nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from tests.bench.report import table
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


@dataclass(frozen=True, slots=True)
class Way:
    """What one way managed in each run, a second."""

    name: str
    unit: str
    rates: Sequence[float]


def section(ways: Sequence[Way], delays: Sequence[float], events: int, load: tuple[float, float]) -> str:
    """Write the page's section.

    Args:
        ways: In the order of the table.
        delays: Seconds from blocks to their notifications.
        events: On the chain.
        load: Of the machine, before and after.
    """
    rows = [
        [way.name, f"{statistics.median(way.rates):,.0f} {way.unit} ({min(way.rates):,.0f} – {max(way.rates):,.0f})"]
        for way in ways
    ]
    parts = [
        "### Chains",
        f"Written by `python -m tests.bench.chain --output docs` on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} "
        f"cores, shared with anvil, Postgres and other programs, load {load[0]:.1f} at the start and {load[1]:.1f} at "
        f"the end; {events:,} events in blocks of {EVENTS_A_BLOCK}, medians of {len(ways[0].rates)} runs that take "
        "turns. All ways read the same chain.",
        table(["", "a second"], rows),
    ]
    if delays:
        ordered = sorted(delays)
        parts.append(
            f"From a block to its notification, heard over LISTEN, with a block each second: median "
            f"{statistics.median(ordered):.3f} s, 95 % within {ordered[math.ceil(0.95 * len(ordered)) - 1]:.3f} s, "
            f"at most {ordered[-1]:.3f} s, of {len(ordered)} blocks."
        )
    return "\n\n".join(parts)


def put_into(page: str, text: str) -> str:
    """Put the section into the page of benchmarks, in place of an earlier one; else after the results."""
    begin = page.find("### Chains\n")
    end = page.index("\n## What was compared") if begin < 0 else page.index("\n## ", begin)
    return page[: end if begin < 0 else begin].rstrip() + f"\n\n{text}\n" + page[end:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    # anvil takes the longer for a block, the more there are: 2,000 take 5 s, and 20,000 many minutes.
    parser.add_argument("--blocks", type=int, default=3_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--follow", type=int, default=60, help="blocks, one a second, for the delay of notifications")
    parser.add_argument("--output", type=Path, help="the folder of benchmarks.md, to put the section into")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    events: int = given.events
    empty_blocks: int = given.blocks
    delays: list[float] = []
    with anvil() as chain, anvil() as empty, EmbeddedPostgres.ephemeral() as server:
        token = make_events(chain, events)
        last_event = chain.block_number
        for _ in range(empty_blocks // 1000):
            empty.mine(1000)

        @contextmanager
        def database() -> Iterator[str]:
            name = f"bench_{next(numbers)}"
            with psycopg.connect(server.url, autocommit=True) as admin:
                admin.execute(f'create database "{name}"'.encode())
            url = server.url_for("127.0.0.1", name)
            migrate_url(url)
            asyncio.run(make_user(url))
            yield url

        def checked() -> float:
            with database() as url:
                seconds = ours(chain, url, RANGE_LOGS // EVENTS_A_BLOCK)
                assert len(notifications(url)) == events + 1
            return events / seconds

        def simple() -> float:
            # Of these so many that it does not take minutes.
            some = min(last_event, 2 + SIMPLE_EVENTS // EVENTS_A_BLOCK)
            with database() as url:
                return (some - 2) * EVENTS_A_BLOCK / simple_way(chain, url, 0, some)

        def blocks() -> float:
            with database() as url:
                return empty_blocks / ours(empty, url, MAX_SPAN)

        numbers = itertools.count()
        measures: dict[tuple[str, str], Callable[[], float]] = {
            ("watchChain: fetch, check, decode, commit", "events"): checked,
            ("viem `getLogs` + `parseEventLogs`, nothing committed", "events"): lambda: (
                events / viem(chain, 0, last_event)
            ),
            (f"web3 `get_logs` + `process_log`, one insert each, of {SIMPLE_EVENTS:,}", "events"): simple,
            (f"watchChain: blocks without events, {empty_blocks:,} of them", "blocks"): blocks,
        }
        rates: dict[tuple[str, str], list[float]] = {way: [] for way in measures}
        for run in range(given.runs):
            for way, measure in measures.items():
                rates[way].append(measure())
                print(f"run {run + 1}: {way[0]}: {rates[way][-1]:,.0f} {way[1]}/s", flush=True)
        if given.follow:
            with database() as url:
                delays = notified_after(chain, url, token, given.follow)
    text = section([Way(*way, found) for way, found in rates.items()], delays, events, (load, os.getloadavg()[0]))
    print(text)
    if given.output is not None:
        (given.output / "benchmarks" / "chains.md").write_text(text + "\n", encoding="utf-8")
        page = given.output / "benchmarks.md"
        page.write_text(put_into(page.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
