"""What processes take of the machine's memory, and the limit that a job's process sets itself."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from workerjobs.errors import WorkerJobsError

MIB = 2**20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MARGIN_MIB = 64
"""Beside a quarter of the limit: what is asked for and never used (stacks of threads, arenas) counts for the kernel."""


class MemoryLimitError(WorkerJobsError):
    """A job asked for more memory than it may take."""


def memory_failure(limit_mib: int, peak_mib: int | None) -> str:
    """The error of a job that took too much.

    Args:
        limit_mib: What it may take.
        peak_mib: The most it was seen to take, where that is known.

    Examples:
        >>> memory_failure(256, 301)
        'The job exceeded 256 MiB of memory (peak 301 MiB)'
        >>> memory_failure(256, 40)
        'The job exceeded 256 MiB of memory (peak 40 MiB, it asked for more at once)'
    """
    sentence = f"The job exceeded {limit_mib} MiB of memory"
    if peak_mib is None:
        return sentence
    return f"{sentence} (peak {peak_mib} MiB{', it asked for more at once' if peak_mib <= limit_mib else ''})"


@contextlib.contextmanager
def limited(limit_mib: int) -> Iterator[None]:
    """Let this process ask for no more than some memory, beside what it has; afterwards as before.

    A hard stop for what grows faster than it is watched (`workerjobs.worker.memory_watch`). Addresses can't be limited
    instead (RLIMIT_AS): numpy and others reserve many more than they use.

    Args:
        limit_mib: How much.

    Raises:
        MemoryLimitError: In place of an error that says that memory was refused.
    """
    with contextlib.suppress(OSError):
        # The peak of this job, not of one before it. Kernels without that file's support keep the highest of all.
        Path("/proc/self/clear_refs").write_text("5")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = data_bytes() + (limit_mib + limit_mib // 4 + MARGIN_MIB) * MIB
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        raise MemoryLimitError(memory_failure(limit_mib, peak_mib())) from error
    finally:
        # A job that lowered the hard limit as well has made its process one that can't be as before.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def data_bytes() -> int:
    """What RLIMIT_DATA counts of this process: private memory it may write to, used or not."""
    return int(Path("/proc/self/statm").read_bytes().split()[5]) * PAGE_BYTES


def peak_mib() -> int | None:
    """The most memory this process had resident; None where the kernel does not say."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return None


def resident_bytes(pid: int) -> int:
    """Memory of one process that is in RAM, with what it shares; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


def proportional_bytes(pid: int) -> int:
    """The same, but of what several processes share each has its part. Slower: the kernel looks at every page."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resident_bytes(pid)


def members_of_groups(groups: set[int]) -> dict[int, list[int]]:
    """The processes of process groups, by group; one look at all processes of the machine or container."""
    found: dict[int, list[int]] = {group: [] for group in groups}
    for name in os.listdir("/proc"):  # noqa: PTH208  # ten times a second: names are enough
        if name.isdigit():
            pid = int(name)
            with contextlib.suppress(OSError):
                group = os.getpgid(pid)
                if group in found:
                    found[group].append(pid)
    return found
