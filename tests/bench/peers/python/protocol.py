"""How a benchmarked queue's program talks to the harness; the Node and Go peers have the same in their language.

`program client` reads one JSON command a line and answers each with the moments at which it began and ended:

    {"do": "setup"}                                          make the schema
    {"do": "insert", "kind": "noop", "first": 0, "count": 9} bulk insert jobs first..first+count-1 in one transaction
    {"do": "submit", "kind": "stamp", "first": 7}            add one job, as an application does

`program worker PROFILE` works until SIGTERM and says {"ready": true} before. `program bare COUNT` does the work of the
cpu jobs with no queue. Moments are nanoseconds of CLOCK_MONOTONIC, which all languages can read.

Environment: BENCH_URL; BENCH_TALLY, a folder where each process leaves how often the job function was called;
BENCH_PIPE, where the stamp job writes when it was called. This file runs in the peers' own virtual environments.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

URL = os.environ.get("BENCH_URL", "")
SPIN = 300_000
"""Rounds of the cpu job's loop: about 20 ms."""


class Calls:
    """Proof of the work: how often this process called the job function, and the sum of the jobs' numbers."""

    count = 0
    total = 0

    @classmethod
    def save(cls) -> None:
        """Append to this process's file; the harness adds up all lines of all files."""
        with open(os.path.join(os.environ["BENCH_TALLY"], str(os.getpid())), "a") as file:  # noqa: PTH118, PTH123
            file.write(f"{cls.count} {cls.total}\n")
        cls.count = cls.total = 0


@functools.cache
def _pipe() -> int:
    return os.open(os.environ["BENCH_PIPE"], os.O_WRONLY)


def noop(number: int) -> None:
    """Do nothing, but count."""
    Calls.count += 1
    Calls.total += number


def stamp(number: int) -> None:
    """Say when it was called."""
    os.write(_pipe(), b"%d %d\n" % (number, time.monotonic_ns()))


def cpu(number: int) -> None:
    """Keep a core busy."""
    value = number
    for _ in range(SPIN):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    noop(number)


JOBS: dict[str, Callable[[int], None]] = {"noop": noop, "stamp": stamp, "cpu": cpu}


class Peer(Protocol):
    """One queue, driven as its documentation recommends."""

    async def setup(self) -> None:
        """Make the schema in an empty database."""

    async def open(self) -> None:
        """Connect as a producer."""

    async def insert(self, kind: str, numbers: range) -> None:
        """Add jobs with the fastest documented call, all in one transaction."""

    async def submit(self, kind: str, number: int) -> None:
        """Add one job with the usual call."""

    async def work(self, profile: str, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run a worker until ``stop``, with the settings that are best for ``profile``: drain, pickup or cpu."""


def say(**message: Any) -> None:
    """Send one line to the harness."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def _serve(peer: Peer) -> None:
    loop = asyncio.get_running_loop()
    is_open = False
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if command["do"] != "setup" and not is_open:
            await peer.open()
            is_open = True
        began = time.monotonic_ns()
        if command["do"] == "setup":
            await peer.setup()
        elif command["do"] == "insert":
            await peer.insert(command["kind"], range(command["first"], command["first"] + command["count"]))
        else:
            await peer.submit(command["kind"], command["first"])
        say(began=began, ended=time.monotonic_ns())


async def _work(peer: Peer, profile: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await peer.work(profile, lambda: say(ready=True), stop)
    Calls.save()


def bare(count: int) -> None:
    """Do the cpu jobs' work with no queue."""
    cpu(0)
    began = time.monotonic_ns()
    for number in range(count):
        cpu(number)
    say(began=began, ended=time.monotonic_ns())


def main(peer: Callable[[], Peer], run: Callable[[Any], Any] = asyncio.run) -> None:
    """Do what the command line says; ``run`` is the event loop that the peer recommends."""
    match sys.argv[1:]:
        case ["client"]:
            run(_serve(peer()))
            # A pool's threads or a listener may be left: the harness has its answers.
            os._exit(0)
        case ["worker", profile]:
            run(_work(peer(), profile))
            os._exit(0)
        case ["bare", count]:
            bare(int(count))
        case other:
            sys.exit(f"usage: client | worker PROFILE | bare COUNT, not {other}")
