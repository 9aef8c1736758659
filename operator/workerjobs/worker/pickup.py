"""Claiming: due jobs go to free children, at once when there are some, and exactly when they become due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from workerjobs.domain.job import Job
from workerjobs.ports import DueNotice, JobStore
from workerjobs.worker.duty import Duty

POLL_SECONDS = 30.0
"""A look at the table that does not depend on announcements, for rows that were written past the triggers."""

LOCKED_SECONDS = (0.001, 1.0)
"""How soon to look again at due rows that others hold locked: first, and at most."""


class Pickup(Duty):
    """Claims as many jobs as there are free children.

    Args:
        store: The table.
        owner: Whom the leases belong to.
        pool: Whose jobs.
        lease: How long a claim holds without a renewal.
        count_free: How many jobs could run now.
        run: Starts a claimed job.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        owner: str,
        pool: str,
        lease: timedelta,
        count_free: Callable[[], int],
        run: Callable[[Job], None],
    ) -> None:
        super().__init__()
        self._store = store
        self._owner = owner
        self._pool = pool
        self._lease = lease
        self._count_free = count_free
        self._run_job = run
        self._locked_seconds = LOCKED_SECONDS[0]

    async def step(self) -> float | None:
        """Claim until no child is free or no job is due; returns how long to sleep."""
        while (free := self._count_free()) > 0 and not self._is_stopping:
            jobs = await self._store.claim(self._owner, self._pool, free, self._lease)
            for job in jobs:
                self._run_job(job)
            if jobs:
                self._locked_seconds = LOCKED_SECONDS[0]
            if len(jobs) < free:
                due_in = await self._store.next_due(self._pool)
                if due_in is None:
                    return POLL_SECONDS
                if due_in.total_seconds() > 0:
                    return min(POLL_SECONDS, due_in.total_seconds())
                # Due, and yet not to be had: someone holds the row locked, for a moment or for long.
                self._locked_seconds = min(LOCKED_SECONDS[1], 2 * self._locked_seconds)
                return self._locked_seconds
        # No child is free: the next one that is wakes this.
        return None

    def notice(self, notice: DueNotice) -> None:
        """Something is or becomes due."""
        if notice.pool != self._pool:
            return
        if notice.seconds <= 0:
            self.wake()
        elif notice.seconds < POLL_SECONDS:
            asyncio.get_running_loop().call_later(notice.seconds, self.wake)
