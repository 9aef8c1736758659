"""The duty that sees to it that a database has its built-in jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from workerjobs.domain.job import NewJob
from workerjobs.ports.jobs import JobStore
from workerjobs.worker.duty import Duty
from workerjobs.worker.running import job_facts

log = logging.getLogger(__name__)

ENSURE_SECONDS = 60.0
"""How often built-in cron jobs that went missing are made again."""
UNSHOWN_SECONDS = 1.0
"""Likewise, until other workers can see what this one runs."""


class BuiltinJobs(Duty):
    """Makes built-in cron jobs that the database does not have, or no longer has; others once, at the start.

    A row is made in the pool of the worker that is first. Where no worker serves that any more, it follows to a pool
    that one does serve: whichever worker looks first moves it.

    Args:
        store: The table.
        jobs: Cron jobs that every database has.
        placed: Those whose pool was chosen: their waiting rows are moved there in any case.
        once: Jobs that every database gets once, by their resources.
        lease: How long a worker counts as alive that does not show itself.
        is_shown: Whether other workers can see what this one runs.
    """

    def __init__(
        self,
        store: JobStore,
        jobs: Sequence[NewJob],
        placed: Sequence[NewJob],
        once: Sequence[NewJob],
        *,
        lease: timedelta,
        is_shown: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._store = store
        self._jobs = jobs
        self._placed = placed
        self._following = [job for job in (*jobs, *once) if job not in placed]
        self._once = once
        self._lease = lease
        self._is_shown = is_shown

    async def step(self) -> float | None:
        """Make what is missing, and move what waits where nobody runs it."""
        is_shown = self._is_shown()
        for job in await self._store.submit(self._once):
            log.info("Submitted the built-in job", extra=job_facts(job))
        self._once = ()
        for job in await self._store.ensure_cron(self._jobs):
            log.info("Scheduled the built-in job, due %s", job.due, extra=job_facts(job))
        moved = await self._store.place(self._placed) if self._placed else 0
        if self._following and is_shown:
            moved += await self._store.place(self._following, self._lease)
        if moved:
            log.info("Moved %s rows of built-in jobs to this pool", moved)
        if not self._jobs:
            return None
        return ENSURE_SECONDS if is_shown else UNSHOWN_SECONDS
