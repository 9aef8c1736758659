"""Gives leases back: jobs that this worker claimed and does not finish go to others at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError
from workerjobs.ports.jobs import JobStore
from workerjobs.worker.metrics import WorkerMetrics
from workerjobs.worker.running import RunningJob, RunningJobs, job_facts

log = logging.getLogger(__name__)


class Releasing:
    """Releases jobs beside whatever else is done; those whose release fails wait until their leases run out.

    Args:
        store: The table.
        running: Where the jobs are taken from once they are released.
        metrics: What counts them.
        is_stopping: Whether the worker stops: what it gives back then is worth a warning.
    """

    def __init__(
        self, store: JobStore, running: RunningJobs, metrics: WorkerMetrics, *, is_stopping: Callable[[], bool]
    ) -> None:
        self._store = store
        self._running = running
        self._metrics = metrics
        self._is_stopping = is_stopping
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, runs: Sequence[RunningJob]) -> None:
        """Release jobs unfinished, for others to claim at once."""
        if not runs:
            return
        task = asyncio.get_running_loop().create_task(self._release(runs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release(self, runs: Sequence[RunningJob]) -> None:
        try:
            begun = [running.lease for running in runs if running.began is not None]
            unbegun = [running.lease for running in runs if running.began is None]
            await self._store.release(begun, unbegun)
            for running in runs:
                self._metrics.released(running.job)
                how = "before it began" if running.began is None else "unfinished"
                level = logging.WARNING if self._is_stopping() else logging.DEBUG
                log.log(level, "Given back %s", how, extra=job_facts(running.job))
        except (DatabaseUnavailableError, DatabaseRefusedError) as error:
            log.error("%s jobs were not given back, their leases have to run out: %s", len(runs), error)
        finally:
            for running in runs:
                self._running.remove(running)
