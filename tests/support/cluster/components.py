"""The processes that a test cluster consists of."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

START_SECONDS = 60.0
# Nothing in the cluster is worth a long goodbye: what has not ended by then is killed.
STOP_SECONDS = 5
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 20


class ControlPlaneError(Exception):
    """The cluster did not start or did not stop."""


class Components:
    """The processes of one cluster, stopped in the reverse order of their start when the context ends.

    Args:
        directory: Gets their logs and process ids.
        start_seconds: How long all of them together may take to start.
        environment: For them, added to this process's.
    """

    def __init__(
        self, directory: Path, start_seconds: float = START_SECONDS, environment: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._start_seconds = start_seconds
        self._environment = {**os.environ, **(environment or {})}
        self._deadline = time.monotonic() + start_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name, process in reversed(self.processes.items()):
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._pid_file(name).unlink()

    def start(self, program: Path, **flags: object) -> None:
        """Start one component; underscores in flags are dashes."""
        name = program.name
        with self.log(name).open("w") as log:
            self.processes[name] = subprocess.Popen(
                [program, *(f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items())],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,  # the runner has one thread, so this is safe
            )
        self._pid_file(name).write_text(f"{self.processes[name].pid}\n")

    def wait(self, name: str, wish: str, is_fulfilled: Callable[[], bool]) -> None:
        """Wait until the named component has done what is wished from it.

        Raises:
            ControlPlaneError: It ended, or the time to start is over; the message holds the end of its log.
        """
        while not is_fulfilled():
            if (code := self.processes[name].poll()) is not None:
                problem = f"{name} ended with exit code {code}"
            elif time.monotonic() > self._deadline:
                problem = f"{name} did not {wish} within {self._start_seconds:g} s"
            else:
                time.sleep(0.05)
                continue
            tail = self.log(name).read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            raise ControlPlaneError("\n".join([f"{problem}; the end of its log:", *tail]))

    def log(self, name: str) -> Path:
        """Where a component writes."""
        return self.directory / "log" / f"{name}.log"

    def _pid_file(self, name: str) -> Path:
        return self.directory / f"{name}.pid"


def end_with_parent() -> None:
    """Be killed when the parent ends, however it does; for ``preexec_fn``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
