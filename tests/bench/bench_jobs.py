"""Jobs that the benchmarks run, in ours; the peers' are in ``peers/``."""

from __future__ import annotations

import os
import time
from itertools import count
from typing import Any

from workerjobs import job

_calls = count()
"""How often a function that counts was called in this process."""


def _proof(data: dict[str, Any]) -> dict[str, Any]:
    return {"pid": os.getpid(), "call": next(_calls), **data}


@job("stamp")
def stamp(data: dict[str, Any]) -> dict[str, float]:
    """Say when it was called: in the result in seconds since the epoch, and to the harness if there is one."""
    moment = time.monotonic_ns()
    if pipe := os.environ.get("BENCH_PIPE"):
        descriptor = os.open(pipe, os.O_WRONLY)
        os.write(descriptor, b"%d %d\n" % (data["number"], moment))
        os.close(descriptor)
    return {"started": time.time()}


@job("noop")
def noop(data: dict[str, Any]) -> dict[str, Any]:
    """Do nothing, but show that it was called."""
    return _proof(data)


@job("noopAgain")
def noop_again(data: dict[str, Any]) -> dict[str, Any]:
    """The same under another name, to be told from rows that are there."""
    return _proof(data)


@job("noopFresh", isolation="fresh")
def noop_fresh(data: dict[str, Any]) -> dict[str, Any]:
    """The same in a process of its own."""
    return _proof(data)


@job("cpu")
def cpu(data: dict[str, Any]) -> dict[str, Any]:
    """Keep a core busy, as ``peers/python/protocol.py`` does for the peers in Python."""
    value = data["number"]
    for _ in range(300_000):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    return _proof(data)
