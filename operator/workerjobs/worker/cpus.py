"""How many CPUs this process may use: what ``WORKER_COUNT=cpus`` means without a cluster."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = _CGROUP) -> int:
    """Count the CPUs: the scheduler's affinity, cut to the container's quota, rounded up; at least 1.

    Args:
        cgroup: Where cgroups are mounted; version 2 (``cpu.max``) and version 1 (``cpu/cpu.cfs_quota_us``) are read.
    """
    cpus: float = len(os.sched_getaffinity(0))
    for quota in (_quota_v2(cgroup), _quota_v1(cgroup)):
        if quota is not None:
            cpus = min(cpus, quota)
    return max(1, math.ceil(cpus))


def _quota_v2(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(cgroup: Path) -> float | None:
    try:
        quota = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return None if quota <= 0 else quota / period
