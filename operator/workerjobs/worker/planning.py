"""Planning: cron jobs that were scheduled in SQL get their first tick, from whichever worker is first."""

from __future__ import annotations

import logging

from workerjobs.domain.planning import plan
from workerjobs.ports.jobs import JobStore
from workerjobs.worker.duty import Duty
from workerjobs.worker.running import job_facts

log = logging.getLogger(__name__)

BATCH = 100
POLL_SECONDS = 30.0
"""A look that does not depend on announcements."""
AGAIN_SECONDS = 0.1
"""How soon to look again after rows that could not all be planned, as others plan them now."""


class Planning(Duty):
    """Plans what waits for its first tick."""

    def __init__(self, store: JobStore) -> None:
        super().__init__()
        self._store = store

    async def step(self) -> float | None:
        """Plan once; what other workers plan at the same moment is left to them."""
        runs = await self._store.unplanned(BATCH)
        if not runs:
            return POLL_SECONDS
        for job in await self._store.plan([plan(run) for run in runs]):
            if job.error is not None:
                log.error("Can't be scheduled: %s", job.error, extra=job_facts(job))
            else:
                log.debug("Scheduled, due %s", job.due, extra=job_facts(job))
        return AGAIN_SECONDS
