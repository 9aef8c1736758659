"""The heartbeat: renews the leases of all running jobs in one statement, and learns which jobs to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from workerjobs.ports.jobs import JobStore
from workerjobs.worker.duty import Duty
from workerjobs.worker.metrics import WorkerMetrics
from workerjobs.worker.running import RunningJob, RunningJobs, StopReason, job_facts

log = logging.getLogger(__name__)


class Heartbeat(Duty):
    """Renews leases every few seconds.

    Args:
        store: The table.
        running: The jobs whose leases these are.
        lease: How long each renewal holds.
        every: How often to renew.
        stop_job: Ends a job's run.
        metrics: Counts renewals.
    """

    def __init__(
        self,
        store: JobStore,
        running: RunningJobs,
        *,
        lease: timedelta,
        every: timedelta,
        stop_job: Callable[[RunningJob, StopReason], None],
        metrics: WorkerMetrics,
    ) -> None:
        super().__init__()
        self._store = store
        self._running = running
        self._lease = lease
        self._every = every
        self._stop_job = stop_job
        self._metrics = metrics

    async def step(self) -> float | None:
        """Renew once. A job whose lease is refused belongs to someone else now and is stopped at once."""
        leases = [running.lease for running in self._running]
        if leases:
            renewal = await self._store.renew(leases, self._lease)
            lost = 0
            for lease in leases:
                running = self._running.get(lease.job_id)
                if running is None or running.lease != lease or running.outcome is not None:
                    continue
                if lease.job_id not in renewal.held:
                    lost += 1
                    log.error("The lease of a running job was lost; it is stopped here", extra=job_facts(running.job))
                    self._stop_job(running, StopReason.LEASE_LOST)
                elif lease.job_id in renewal.cancel_requested:
                    self._stop_job(running, StopReason.CANCELLED)
            self._metrics.renewed(len(renewal.held), lost)
        return self._every.total_seconds()
