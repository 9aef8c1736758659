"""What the sources of programs have in common: how they report, how they fail, where the cache is."""

import os
import sys
from collections.abc import Callable
from pathlib import Path


class SourceError(Exception):
    """One source cannot provide a program; the next one is tried."""


Report = Callable[[str], None]


def report_to_stderr(line: str) -> None:
    """Tell a person who waits what is going on."""
    print(f"test cluster: {line}", file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Return the folder that keeps what is costly to get."""
    return Path(os.environ.get("WORKERJOBS_CACHE") or Path.home() / ".cache" / "workerjobs").absolute()
