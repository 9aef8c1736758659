"""Jobs for tests; workers load this file by its path. It needs nothing but WorkerJobs and, for one job, psycopg."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import ctypes
import itertools
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workerjobs import JobContext, job


def say(folder: str, context: JobContext, word: str, **facts: Any) -> None:
    """Write a file that tells the test about this run, complete as soon as it is there."""
    file = Path(folder) / f"{context.job_id}-{context.fencing_token}.{word}"
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"pid": os.getpid(), "attempt": context.attempt, **facts}))
    unfinished.rename(file)


def wait_for(folder: str, word: str) -> None:
    """Wait until the test writes a file."""
    while not (Path(folder) / word).exists():
        time.sleep(0.005)


@job("echo")
def echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


@job("context")
def show_context(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    names = ("job_id", "job_type", "attempt", "user_id", "tag", "fencing_token", "database_url")
    return {name: getattr(context, name) for name in names} | {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "pgid": os.getpgid(0),
        "sid": os.getsid(0),
        "keys": list(data),
        "stdin": sys.stdin.read(),
    }


@job("hold")
def hold(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Run until the test says go; tell of the start and of an interruption."""
    say(data["folder"], context, "started")
    try:
        wait_for(data["folder"], data.get("until", "go"))
    except BaseException as error:
        say(data["folder"], context, "interrupted", error=type(error).__name__)
        raise
    say(data["folder"], context, "ended")
    return {"pid": os.getpid(), "attempt": context.attempt}


@job("tell")
def tell(data: dict[str, Any], context: JobContext) -> None:
    """Only tell that it ran."""
    say(data["folder"], context, "ran")


@job("holdAsync")
async def hold_async(data: dict[str, Any], context: JobContext) -> None:
    """The same, waiting in tasks of an event loop."""
    say(data["folder"], context, "started")
    try:
        await asyncio.gather(*(asyncio.sleep(600) for _ in range(3)))
    finally:
        say(data["folder"], context, "interrupted")


@job("busyAsync")
async def busy_async(data: dict[str, Any], context: JobContext) -> None:
    """Wait while other tasks keep the event loop busy."""

    async def spin() -> None:
        while True:
            sum(range(1000))
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(spin()) for _ in range(3)]
    say(data["folder"], context, "started")
    try:
        await asyncio.sleep(600)
    finally:
        say(data["folder"], context, "interrupted", tasks=len(tasks))


@job("blockingAsync")
async def blocking_async(data: dict[str, Any], context: JobContext) -> None:
    """What an ``async`` function should not do."""
    say(data["folder"], context, "started")
    try:
        time.sleep(600)  # noqa: ASYNC251  # that is what it is about
    finally:
        say(data["folder"], context, "interrupted")


@job("slowCleanup")
async def slow_cleanup(data: dict[str, Any], context: JobContext) -> None:
    """Take longer to clean up than a blocked event loop is given."""
    say(data["folder"], context, "started")
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(1.5)
        say(data["folder"], context, "interrupted")


@job("failingCleanup")
def failing_cleanup(data: dict[str, Any], context: JobContext) -> None:
    say(data["folder"], context, "started")
    try:
        time.sleep(600)
    finally:
        say(data["folder"], context, "interrupted")
        raise RuntimeError("the cleaning up failed")


@job("family")
def family(data: dict[str, Any], context: JobContext) -> str:
    """Hold, with processes of its own: one in its group, one in a session of its own, and a daemon."""
    plain = subprocess.Popen(["sleep", "600"])
    session = subprocess.Popen(["sleep", "600"], start_new_session=True)
    command = ["sh", "-c", "sleep 600 > /dev/null 2>&1 & echo $!"]
    daemon = subprocess.run(command, start_new_session=True, stdout=subprocess.PIPE, check=True)
    grandchildren = [plain.pid, session.pid, int(daemon.stdout)]
    say(data["folder"], context, "started", grandchildren=grandchildren)
    wait_for(data["folder"], "go")
    for pid in grandchildren:
        os.kill(pid, signal.SIGKILL)
    return "done"


_connection: Any = None


@job("insert")
def insert(data: dict[str, Any], context: JobContext) -> int:
    """Leave a trace that only one run of a job can leave."""
    global _connection
    if _connection is None:
        import psycopg

        assert context.database_url is not None
        _connection = psycopg.connect(context.database_url, autocommit=True)
    _connection.execute("insert into runs (n, pid) values (%s, %s)", [data["n"], os.getpid()])
    return os.getpid()


# --- results


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _holding_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


RESULTS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "text": lambda: "Zürich 🚀 \\u0000",
    "tuple": lambda: (1, 2.5, True),
    "largest": lambda: "x" * (2**20 - 2),
    "deepest": lambda: _nested(99),
    "too large": lambda: "x" * (2**20 - 1),
    "too large in bytes": lambda: "ä" * 2**19,
    "too deep": lambda: _nested(100),
    "much too deep": lambda: _nested(100_000),
    "holding itself": _holding_itself,
    "NaN": lambda: {"a": float("nan")},
    "infinity": lambda: float("inf"),
    "NUL": lambda: "a\x00b",
    "NUL in a key": lambda: {"a": [{"\x00": 1}]},
    "surrogate": lambda: ["\ud800"],
    "object": object,
    "set": lambda: {1},
    "bytes": lambda: b"x",
    "tuple as key": lambda: {(1, 2): 3},
    "huge number": lambda: 10**5000,
}


@job("return")
def give_back(data: dict[str, Any]) -> Any:
    return RESULTS[data["what"]]()


# --- errors


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("this error can't say what it is")


class WrongError(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


def _recurse() -> None:
    _recurse()


ERRORS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: RuntimeError("no paper"),
    "without text": ValueError,
    "silent": SilentError,
    "wrong": WrongError,
    "long": lambda: ValueError("x" * 20_000_000),
    "unstorable": lambda: ValueError("a\x00b\ud800c"),
    "exit": lambda: SystemExit(3),
    "exit with text": lambda: SystemExit("stopping here"),
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "group": lambda: ExceptionGroup("several", [ValueError("first"), TypeError("second")]),
    "memory": MemoryError,
}


@job("raise")
def fail(data: dict[str, Any]) -> None:
    if data["what"] == "recursion":
        _recurse()
    raise ERRORS[data["what"]]()


@job("raiseAsync")
async def fail_async(data: dict[str, Any]) -> None:
    await asyncio.sleep(0)
    raise ERRORS[data["what"]]()


@job("failUntil")
def fail_until(data: dict[str, Any], context: JobContext) -> int:
    if context.attempt < data["attempt"]:
        raise RuntimeError(f"attempt {context.attempt} fails")
    return context.attempt


@job("readFile")
def read_file(data: dict[str, Any]) -> str:
    """What a file holds, or why it can't be read; also by a program of the job's own."""
    program = subprocess.run(["cat", data["path"]], capture_output=True, text=True, check=False)
    try:
        return program.stdout + Path(data["path"]).read_text()
    except OSError as error:
        return program.stdout + type(error).__name__


@job("noArguments")
def no_arguments() -> None:
    pass


# --- ends of the process


def _close_descriptors() -> None:
    os.closerange(0, 1000)


ENDS: dict[str, Callable[[], Any]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "its group": lambda: os.killpg(0, signal.SIGKILL),
    "SIGSEGV": lambda: ctypes.string_at(0),
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "exit code 0": lambda: os._exit(0),
    "exit code 7": lambda: os._exit(7),
    "closed descriptors": _close_descriptors,
    "its nursery": lambda: os.kill(os.getppid(), signal.SIGKILL),
}


@job("end")
def end(data: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ENDS[data["how"]]()
    time.sleep(600)


@job("fork")
def fork(data: dict[str, Any]) -> str:
    """A program that forks and forgets to end its copy."""
    os.fork()
    return "done"


@job("closeOutput")
def close_output(data: dict[str, Any]) -> str:
    for stream in (sys.stdout, sys.stderr):
        stream.close()
    return "done"


@job("replaceOutput")
def replace_output(data: dict[str, Any]) -> str:
    sys.stdout = sys.stderr = None
    return "done"


# --- jobs that do not return


def _ignore_and_sleep() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def _swallow() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def _wait_in_thread() -> None:
    thread = threading.Thread(target=time.sleep, args=[600])
    thread.start()
    thread.join()


ENDLESS: dict[str, Callable[[], Any]] = {
    "sleep": lambda: time.sleep(600),
    "lock": lambda: threading.Semaphore(0).acquire(),
    "thread": _wait_in_thread,
    "asyncio": lambda: asyncio.run(asyncio.sleep(600)),
    "asyncio thread": lambda: asyncio.run(asyncio.to_thread(time.sleep, 600)),
    "program": lambda: subprocess.run(["sleep", "600"], check=False),
    "ignores SIGTERM": _ignore_and_sleep,
    "swallows": _swallow,
    "sum": lambda: sum(range(10**12)),
    "pow": lambda: pow(3, 10**9),
    "iterator": lambda: sum(1 for _ in itertools.repeat(0)),
    "regular expression": lambda: re.match(r"(a+)+$", "a" * 64 + "b"),
}


@job("never")
def never(data: dict[str, Any], context: JobContext) -> None:
    say(data["folder"], context, "started")
    ENDLESS[data["how"]]()


# --- output, logs and progress


@job("print")
def print_lines(data: dict[str, Any]) -> int:
    """Print a line again and again, until a number of bytes is reached."""
    line = data["line"]
    count: int = data["bytes"] // (len(line) + 1)
    text = f"{line}\n" * 1000
    for _ in range(count // 1000):
        sys.stdout.write(text)
    for _ in range(count % 1000):
        print(line)
    return count


@job("printBinary")
def print_binary(data: dict[str, Any]) -> None:
    os.write(1, b"\xff\xfe no text\n")
    print("\ud800 half a pair", "a\x00b", "\x1b[31mred", file=sys.stderr)
    os.write(1, b"without an end")


@job("log")
def log_things(data: dict[str, Any], context: JobContext) -> None:
    context.log.info("from the context: %s", 1)
    logging.getLogger("shop.orders").warning("from a library")
    logging.getLogger("shop.orders").debug("hidden at info")
    try:
        raise ValueError("caught")
    except ValueError:
        context.log.exception("with a traceback")
    print("printed")


@job("logMuch")
def log_much(data: dict[str, Any], context: JobContext) -> str:
    context.log.info("x" * data["bytes"])
    return "done"


@job("steps")
async def steps(data: dict[str, Any], context: JobContext) -> str:
    """Report progress quickly, so that most of it is left out, but not the last."""
    for step in range(1, data["steps"] + 1):
        context.progress(step, data["steps"], f"step {step}")
        await asyncio.sleep(0)
    return "done"


@job("stepsAndFail")
def steps_and_fail(data: dict[str, Any], context: JobContext) -> None:
    context.progress(1, 3)
    context.progress(2, 3, "the last")
    raise RuntimeError("no paper")


@job("progress")
def show_progress(data: dict[str, Any], context: JobContext) -> str:
    context.progress(*data["arguments"])
    if "folder" in data:
        wait_for(data["folder"], "go")
    return "done"


@job("badProgress")
def bad_progress(data: dict[str, Any], context: JobContext) -> None:
    """Progress with values that no JSON has: each argument is a Python literal."""
    context.progress(*map(ast.literal_eval, data["arguments"]))
