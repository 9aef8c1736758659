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
