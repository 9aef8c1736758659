"""Processes of a node's cluster, as this machine sees them, for tests that stop and kill them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg


def pod_process(uid: str) -> int:
    """Find process 1 of a pod's container of ours.

    Raises:
        LookupError: None runs.
    """

    def is_it(process: Path) -> bool:
        namespaces = (process / "status").read_text().partition("NSpid:")[2].splitlines()[0].split()
        return namespaces[-1] == "1" and f"POD_UID={uid}".encode() in (process / "environ").read_bytes()

    return _find(is_it, f"container of the pod {uid}")


def component_process(directory: Path, name: str) -> int:
    """Find a component of the cluster of a folder, as ``kube-apiserver``.

    Raises:
        LookupError: It does not run.
    """

    def is_it(process: Path) -> bool:
        program, *arguments = (process / "cmdline").read_bytes().split(b"\0")
        return Path(os.fsdecode(program)).name == name and any(os.fsencode(directory) in each for each in arguments)

    return _find(is_it, f"{name} of {directory}")


def postgres_processes(url: str) -> list[int]:
    """Find all processes of a Postgres on this machine, the one that starts the others first."""
    with psycopg.connect(url) as connection:
        row = connection.execute("show data_directory").fetchone()
    assert row is not None
    first = int(Path(row[0], "postmaster.pid").read_text().splitlines()[0])
    return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]


@contextlib.contextmanager
def stopped(*processes: int) -> Iterator[None]:
    """Processes do nothing, and keep their connections, as on a machine that hangs."""
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            # It may have been killed meanwhile.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def _find(is_it: Callable[[Path], bool], what: str) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # Those that end meanwhile are not it; those of the kernel have no command line.
            with contextlib.suppress(OSError, IndexError):
                if is_it(entry):
                    return int(entry.name)
    raise LookupError(f"no {what} runs")
