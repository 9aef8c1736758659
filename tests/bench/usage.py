"""What processes use, read from /proc: CPU time and memory of whole process trees. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(roots: Iterable[int]) -> float:
    """Sum the CPU time of these processes and all below them, those that ended and were waited for included."""
    return sum(sum(map(int, _stat(pid)[11:15])) for pid in trees(roots)) / _TICKS


def memory_bytes(roots: Iterable[int]) -> int:
    """Sum the proportional set size of these processes and all below them: shared pages count once in all."""
    total = 0
    for pid in trees(roots):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def trees(roots: Iterable[int]) -> Iterator[int]:
    """Give the ids of these processes and all below them that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if _stat(pid):
            yield pid
        waiting += children.get(pid, [])


def _stat(pid: int) -> list[str]:
    """Read the fields of /proc/<pid>/stat from the third on, the state; empty when the process is gone.

    Source:
        proc_pid_stat(5): ppid is field 4; utime, stime, cutime and cstime are fields 14 to 17.
    """
    try:
        # The command, in parentheses, may hold spaces.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
