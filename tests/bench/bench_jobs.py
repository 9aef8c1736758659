"""Jobs that the benchmarks run."""

from __future__ import annotations

import time
from typing import Any

from workerjobs import job


@job("stamp")
def stamp(_data: dict[str, Any]) -> dict[str, float]:
    """Say when it was called, in seconds since the epoch."""
    return {"started": time.time()}


@job("noop")
def noop(data: dict[str, Any]) -> dict[str, Any]:
    """Do nothing, but show that it was called."""
    return data


@job("noopAgain")
def noop_again(data: dict[str, Any]) -> dict[str, Any]:
    """The same under another name, to be told from rows that are there."""
    return data


@job("noopFresh", isolation="fresh")
def noop_fresh(data: dict[str, Any]) -> dict[str, Any]:
    """The same in a process of its own."""
    return data
