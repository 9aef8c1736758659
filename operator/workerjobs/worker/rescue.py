"""The rescue: takes jobs from workers that died without a word, and settles those that keep killing them.

Whoever judges others by their leases has to know that these could be renewed. So a worker rescues only after it had the
database's answers for a whole lease without a gap in which a lease could have run out. The age of its connection would
not tell: a pooler keeps connections through an outage, and so does the network through a short one.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome, lost_too_often
from workerjobs.ports.jobs import JobStore
from workerjobs.worker.clock import DatabaseClock
from workerjobs.worker.duty import Duty
from workerjobs.worker.metrics import WorkerMetrics
from workerjobs.worker.running import job_facts

log = logging.getLogger(__name__)

BATCH = 500
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class RescueDuty(Duty):
    """Looks for expired leases every few seconds.

    Args:
        store: The table.
        owner: Who rescues.
        lease: How long leases hold.
        every: How often to look; up to a fifth is taken off at random, so that workers do not look in step.
        clock: Corrected on the way.
        metrics: Counts what was rescued.
        settle: Takes jobs that end here.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        owner: str,
        lease: timedelta,
        every: timedelta,
        clock: DatabaseClock,
        metrics: WorkerMetrics,
        settle: Callable[[Job, Outcome], None],
    ) -> None:
        super().__init__()
        self._store = store
        self._owner = owner
        self._lease = lease
        self._every = every
        self._clock = clock
        self._metrics = metrics
        self._settle = settle
        self.is_steady = False
        """Whether the database's answers have come steadily for a whole lease."""
        self._answered: datetime | None = None
        self._steady_since: datetime | None = None

    def asked(self) -> datetime:
        """Now, for statements that judge other workers by their leases; long ago while this worker may not."""
        return self._clock.now() if self.is_steady and not self.is_troubled else LONG_AGO

    async def step(self) -> float | None:
        """Rescue once; the rows given back announce themselves to all workers."""
        await self._clock.synchronise(self._store, samples=1)
        now = self._clock.now()
        self._note_answer(now)
        if not self.is_steady:
            return self._every.total_seconds()
        rescue = await self._store.rescue(self._owner, self._lease, BATCH, asked=now)
        for job in rescue.released:
            self._metrics.rescued(job)
            log.warning(
                "Rescued a job from a lost worker (%s times so far)",
                job.rescues,
                extra=job_facts(job),
            )
        for job in rescue.taken:
            self._metrics.rescued(job)
            self._settle(job, Outcome.failure("Job cancelled" if job.cancel_requested else lost_too_often(job)))
        return self._every.total_seconds() * random.uniform(0.8, 1.0)  # noqa: S311  # spreading load, no secret

    def _note_answer(self, now: datetime) -> None:
        # On the database's clock, as the deadlines are: it tells of a machine that slept, and of a clock that was set,
        # too. Owners renew every third of a lease, so this gap leaves them a moment to renew before their deadline.
        if self._answered is None or not timedelta(0) <= now - self._answered <= self._every + self._lease / 4:
            self._steady_since = now
        self._answered = now
        self.is_steady = self._steady_since is not None and now - self._steady_since > self._lease
