"""Jobs about their own processes: who they are, what memory they take, how small they can be."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workerjobs import JobContext, job

MIB = 2**20
_calls = 0
_kept: list[bytearray] = []


def _facts() -> dict[str, Any]:
    global _calls
    _calls += 1
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "calls": _calls,
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
        "data_limit": resource.getrlimit(resource.RLIMIT_DATA)[0],
    }


@job("who")
def who(data: dict[str, Any]) -> dict[str, Any]:
    return _facts()


@job("whoFresh", isolation="fresh")
def who_fresh(data: dict[str, Any]) -> dict[str, Any]:
    return _facts()


@job("connectFresh", isolation="fresh")
def connect_fresh(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    (one,) = context.connection.execute("select 1").fetchone() or (0,)
    context.progress(one, 1)
    print("connected", end="")
    return _facts()


@job("dieWhileLogging")
def die_while_logging(data: dict[str, Any]) -> None:
    """Die with a message half sent: each one is more than a socket holds."""

    def shout() -> None:
        while True:
            logging.getLogger("shout").info("🚀" * 99_000)

    threading.Thread(target=shout, daemon=True).start()
    time.sleep(0.1)
    os._exit(7)


@job("holdApart", isolation="fresh")
def hold_apart(data: dict[str, Any], context: JobContext) -> None:
    """Leave the process group, and hold."""
    os.setsid()
    unfinished = Path(data["folder"]) / f"{context.job_id}-{context.fencing_token}.unfinished"
    unfinished.write_text(json.dumps({"pid": os.getpid()}))
    unfinished.rename(unfinished.with_suffix(".started"))
    try:
        time.sleep(600)
    finally:
        unfinished.with_suffix(".interrupted").write_text("{}")


def _grow(mib: int) -> None:
    """Take memory piece by piece, slowly enough to be seen, and hold it."""
    for _ in range(mib // 4):
        _kept.append(bytearray(os.urandom(64) * (4 * MIB // 64)))
        time.sleep(0.005)


TAKES: dict[str, Callable[[int], Any]] = {
    "slowly": _grow,
    "at once": lambda mib: _kept.append(bytearray(mib * MIB)),
    "in a program": lambda mib: subprocess.run(
        [sys.executable, "-c", f"import time; kept = bytearray(b'x') * ({mib} << 20); time.sleep(600)"], check=True
    ),
}


def _take(data: dict[str, Any]) -> dict[str, Any]:
    try:
        TAKES[data["how"]](data["mib"])
        time.sleep(data.get("seconds", 0))
    finally:
        if not data.get("keep"):
            _kept.clear()
    return _facts()


@job("take")
def take(data: dict[str, Any]) -> dict[str, Any]:
    return _take(data)


@job("takeLimited", memory_mib=128)
def take_limited(data: dict[str, Any]) -> dict[str, Any]:
    return _take(data)


@job("takeLimitedFresh", memory_mib=128, isolation="fresh")
def take_limited_fresh(data: dict[str, Any]) -> dict[str, Any]:
    return _take(data)


# --- tiny jobs

_connection: Any = None


def _note(context: JobContext, n: int) -> None:
    """Leave a trace that only one run of a job can leave."""
    global _connection
    if _connection is None:
        import psycopg

        assert context.database_url is not None
        _connection = psycopg.connect(context.database_url, autocommit=True)
    _connection.execute("insert into runs (n, pid) values (%s, %s)", [n, os.getpid()])


def _crash() -> None:
    ctypes.string_at(0)


ENDS: dict[str, Callable[[], Any]] = {
    "SIGSEGV": _crash,
    "exit code 7": lambda: os._exit(7),
    "memory": lambda: _grow(600),
    "hold": lambda: time.sleep(600),
}


@job("tiny", memory_mib=128)
def tiny(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Do next to nothing, once; or end as the data says."""
    _note(context, data["n"])
    if "how" in data:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ENDS[data["how"]]()
    return {"pid": os.getpid()}


@job("tinyPrint")
def tiny_print(data: dict[str, Any]) -> None:
    """Print, mostly without an end of line."""
    if data["n"] % 3 == 0:
        print(f"first of {data['n']}")
    sys.stdout.write("x" * data.get("bytes", 0))
    print(f"last of {data['n']}", end="")
