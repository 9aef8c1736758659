"""Watching over memory: jobs that take more than they may are ended, and children that grew too much are replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from workerjobs.domain.job import Job
from workerjobs.worker.children import Children
from workerjobs.worker.duty import Duty
from workerjobs.worker.memory import MIB, members_of_groups, proportional_bytes, resident_bytes
from workerjobs.worker.process import Child
from workerjobs.worker.running import RunningJob

JOBS_EVERY_SECONDS = 0.1
CHILDREN_EVERY_SECONDS = 5.0
GROWTH = 1.25
"""A child is not replaced before it grew by this much: where the job modules alone take what a child may, that would
not end."""


class MemoryWatch(Duty):
    """Looks at what limited jobs take, with the processes of their groups; sleeps while none runs.

    Args:
        children: Who runs jobs.
        limit_of: How many MiB a job may take; None: as much as there is.
        on_exceeded: Told of a job that takes more, with its ``peak_mib`` set.
    """

    def __init__(
        self,
        children: Iterable[Child],
        *,
        limit_of: Callable[[Job], int | None],
        on_exceeded: Callable[[RunningJob], None],
    ) -> None:
        super().__init__()
        self._children = children
        self._limit_of = limit_of
        self._on_exceeded = on_exceeded
        self._is_watching = False

    def begin(self, job: Job) -> None:
        """A job begins, or its type's limit became known."""
        if not self._is_watching and self._limit_of(job) is not None:
            self.wake()

    async def step(self) -> float | None:
        """Look once."""
        now = asyncio.get_running_loop().time()
        limits: dict[int, tuple[RunningJob, int]] = {}
        self._is_watching = False
        for child in self._children:
            if not child.queue or child.pid is None:
                continue
            running = child.queue[0]
            limit = self._limit_of(running.job)
            if limit is not None:
                self._is_watching = True
                # One that began just now is left to the limit that its process set itself.
                if now - child.head_since >= JOBS_EVERY_SECONDS:
                    limits[child.pid] = running, limit
        if limits:
            for group, pids in members_of_groups(set(limits)).items():
                running, limit = limits[group]
                taken = _taken_bytes(pids, limit * MIB)
                if taken > limit * MIB:
                    running.peak_mib = -(-taken // MIB)
                    self._on_exceeded(running)
        return JOBS_EVERY_SECONDS if self._is_watching else None


def _taken_bytes(pids: Iterable[int], limit: int) -> int:
    """What processes take together. What they share counts once, but that is found out only where it matters."""
    pids = list(pids)
    taken = sum(map(resident_bytes, pids))
    return taken if taken <= limit else sum(map(proportional_bytes, pids))


class Recycling(Duty):
    """Replaces children that keep more memory than they should, whatever job left it there.

    Args:
        children: Who they are.
        max_mib: What one may have resident between its jobs; 0: any.
    """

    def __init__(self, children: Children, max_mib: int) -> None:
        super().__init__()
        self._children = children
        self._max_mib = max_mib

    async def step(self) -> float | None:
        """Look once."""
        if not self._max_mib:
            return None
        for child in list(self._children):
            if child.pid is not None and child.can_take:
                taken = resident_bytes(child.pid)
                if taken > max(self._max_mib * MIB, GROWTH * child.ready_bytes):
                    self._children.replace(child, f"it has {taken // MIB} MiB of memory")
        return CHILDREN_EVERY_SECONDS
