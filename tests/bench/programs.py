"""Runs the programs of a benchmarked queue and speaks their protocol (``peers/python/protocol.py``)."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.bench import usage
from tests.bench.adapters import Adapter, Profile

ROOT = Path(__file__).parents[2]
ANSWER_SECONDS = 300.0
READY_SECONDS = 60.0
STOP_SECONDS = 40.0


class BrokenPeerError(Exception):
    """A program ended, was silent for too long, or did not do what it had to."""


@dataclass(frozen=True, slots=True)
class Span:
    """When something began and ended, in nanoseconds of CLOCK_MONOTONIC."""

    began: int
    ended: int

    @property
    def seconds(self) -> float:
        return (self.ended - self.began) / 1e9


class Program:
    """One process whose lines on standard output are JSON."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        self._name = command[0]
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the harness, which then stops them.
            )
        self._rest = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, do: str, kind: str = "", first: int = 0, count: int = 0) -> Span:
        """Send a command and wait for its answer."""
        assert self.process.stdin is not None
        line = json.dumps({"do": do, "kind": kind, "first": first, "count": count}) + "\n"
        try:
            self.process.stdin.write(line.encode())
        except BrokenPipeError as error:
            raise self._broken("ended") from error
        answer = self.read(ANSWER_SECONDS)
        return Span(answer["began"], answer["ended"])

    def read(self, seconds: float) -> dict[str, Any]:
        """Wait for the next line."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise self._broken(f"said nothing for {seconds:g} s")
                chunk = os.read(self.process.stdout.fileno(), 65536)
                if not chunk:
                    raise self._broken("ended")
                self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End it in an orderly way, or at last by force with all that it started."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise self._broken(f"did not stop within {STOP_SECONDS:g} s") from error
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()

    def _broken(self, what: str) -> BrokenPeerError:
        return BrokenPeerError(f"{Path(self._name).name} {what}: {log_tail(self._log)}")


class Session:
    """The programs of one queue on one database."""

    def __init__(self, adapter: Adapter, url: str, folder: Path) -> None:
        self.adapter = adapter
        self._tally = folder / "tally"
        self._tally.mkdir()
        self._log = folder / "errors.log"
        self._log.touch()
        pipe = folder / "pipe"
        os.mkfifo(pipe)
        # Read and write: opening does not wait for the other side, and reading never finds the end.
        self._pipe = os.open(pipe, os.O_RDWR)
        self._environment = dict(adapter.environment) | {
            "BENCH_URL": url,
            "DATABASE_URL": url,
            "BENCH_TALLY": str(self._tally),
            "BENCH_PIPE": str(pipe),
        }
        self._stack = ExitStack()
        self._stack.callback(os.close, self._pipe)
        self._workers: list[Program] = []
        self.client = self._start(adapter.client())
        self.client.ask("setup")

    def _start(self, command: Sequence[str]) -> Program:
        program = Program(command, self._environment, self._log)
        self._stack.callback(program.stop)
        return program

    def start_workers(self, profile: Profile) -> None:
        """Start the worker's processes; those that say when they are ready are waited for."""
        self._workers = [Program(command, self._environment, self._log) for command in self.adapter.workers(profile)]
        for program in self._workers:
            self._stack.callback(program.stop)
        if self.adapter.workers(profile)[0][-2] == "worker":
            for program in self._workers:
                program.read(READY_SECONDS)

    @property
    def worker_pids(self) -> list[int]:
        return [program.pid for program in self._workers]

    def worker_cpu_seconds(self) -> float:
        return usage.cpu_seconds(self.worker_pids)

    @contextmanager
    def held_workers(self) -> Iterator[None]:
        """Hold the worker's processes still, all at once as far as one can."""
        held = list(usage.trees(self.worker_pids))
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            # Children first: none is asked before it can answer.
            for pid in reversed(held):
                os.kill(pid, signal.SIGCONT)

    def stop_workers(self) -> tuple[int, int]:
        """Stop the workers; returns how often they called the counting jobs, and the sum of those jobs' numbers."""
        for program in self._workers:
            program.process.terminate()
        for program in self._workers:
            program.process.wait(STOP_SECONDS)
        lines = [line.split() for file in self._tally.iterdir() for line in file.read_text().splitlines()]
        return sum(int(line[0]) for line in lines), sum(int(line[1]) for line in lines)

    def stamp(self, seconds: float) -> tuple[int, int]:
        """Wait for the next stamp job to run; returns its number and the moment at which it was called."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise BrokenPeerError(
                    f"{self.adapter.name}: a job did not start within {seconds:g} s; {self.log_tail()}"
                )
        number, moment = os.read(self._pipe, 4096).split()[:2]
        return int(number), int(moment)

    def log_tail(self) -> str:
        """The end of what the programs said on standard error."""
        return log_tail(self._log)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def session(adapter: Adapter, url: str) -> Iterator[Session]:
    """Set up a queue in an empty database and end all its programs afterwards."""
    with tempfile.TemporaryDirectory(prefix="workerjobs-bench-") as folder, Session(adapter, url, Path(folder)) as it:
        yield it


def log_tail(log: Path) -> str:
    """Give the last lines of a log in one, without Node's and Python's rulers and brackets."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return " | ".join([line for line in lines if len(line.strip("^~{}| ")) > 3][-8:])


def run_together(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> list[Span]:
    """Run programs at the same time, each of which says one span."""
    with tempfile.TemporaryDirectory(prefix="workerjobs-bench-") as folder, ExitStack() as stack:
        log = Path(folder, "errors.log")
        programs = [Program(command, environment, log) for command in commands]
        for program in programs:
            stack.callback(program.stop)
        answers = [program.read(ANSWER_SECONDS) for program in programs]
        return [Span(answer["began"], answer["ended"]) for answer in answers]


def wait_until(condition: Callable[[], bool], what: str, seconds: float, pause_seconds: float = 0.01) -> None:
    """Poll until something is so.

    Raises:
        BrokenPeerError: It was not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BrokenPeerError(f"{what} took longer than {seconds:g} s")
        time.sleep(pause_seconds)
