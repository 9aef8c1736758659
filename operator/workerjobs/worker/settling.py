"""Settling: outcomes are stored in batches, with the rows that follow them, and kept until the database took them."""

from __future__ import annotations

import logging
from datetime import datetime

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome, Settlement, settle
from workerjobs.ports import JobStore, Progress
from workerjobs.worker.clock import DatabaseClock
from workerjobs.worker.duty import Duty
from workerjobs.worker.metrics import WorkerMetrics
from workerjobs.worker.running import RunningJobs, job_facts

log = logging.getLogger(__name__)

BATCH = 2000
"""Settlements a statement, at most."""
BATCH_CHARACTERS = 4_000_000
"""Of results, in one statement; a single one may have more."""


class Settling(Duty):
    """Stores how runs ended; everything that waits goes in one statement."""

    def __init__(self, store: JobStore, running: RunningJobs, clock: DatabaseClock, metrics: WorkerMetrics) -> None:
        super().__init__()
        self._store = store
        self._running = running
        self._clock = clock
        self._metrics = metrics
        self._waiting: list[tuple[Job, Outcome]] = []

    def add(self, job: Job, outcome: Outcome) -> None:
        """Take a run that ended."""
        self._waiting.append((job, outcome))
        self.wake()

    async def step(self) -> float | None:
        """Settle what waits; what the database could not take because it was away stays."""
        while self._waiting:
            batch = self._next_batch()
            await self._save_last_progress([job for job, _ in batch])
            now = self._clock.now()
            settlements = [_decide(job, outcome, now) for job, outcome in batch]
            for (job, _), settlement in zip(batch, settlements, strict=True):
                if settlement.problem:
                    log.error("%s", settlement.problem, extra=job_facts(job))
            settled = await self._store.settle(settlements)
            del self._waiting[: len(batch)]
            for job, outcome in batch:
                self._finish(job, outcome, settled.refused.get(job.id), job.id in settled.stale)
                if reason := settled.without_follow_up.get(job.id):
                    log.error("The row that should follow this job was refused: %s", reason, extra=job_facts(job))
        return None

    def _next_batch(self) -> list[tuple[Job, Outcome]]:
        batch = self._waiting[:BATCH]
        characters = 0
        for number, (_, outcome) in enumerate(batch):
            characters += len(outcome.result_json)
            if characters > BATCH_CHARACTERS and number:
                return batch[:number]
        return batch

    def _finish(self, job: Job, outcome: Outcome, refusal: str | None, is_stale: bool) -> None:
        if refusal is not None and outcome.success:
            # Again, as a failure: its error is plain text, which Postgres takes.
            log.error("The job's result was refused by the database: %s", refusal, extra=job_facts(job))
            self.add(job, Outcome.failure(f"The job's result can't be stored: {refusal}"))
            return
        if refusal is not None:
            # Not the text but the row itself is refused, by a trigger or a constraint of someone else's. Trying again
            # at once would not end; the lease runs out, and a rescuer tries.
            log.error("The job can't be settled, the database refuses: %s", refusal, extra=job_facts(job))
        elif is_stale:
            # Either the lease was lost, or an earlier try to settle took effect although its answer was lost.
            log.warning(
                "This run's outcome was not stored: the row is settled or leased to another", extra=job_facts(job)
            )
        else:
            self._metrics.settled(job, outcome.success, outcome.seconds)
        self._running.remove(job.id, job.fencing_token or 0)

    async def _save_last_progress(self, jobs: list[Job]) -> None:
        reports = []
        for job in jobs:
            running = self._running.get(job.id)
            if running is not None and running.unsaved_progress is not None:
                reports.append(Progress(job.id, job.fencing_token or 0, running.unsaved_progress))
                running.unsaved_progress = None
        if reports:
            await self._store.save_progress(reports)


class Reporting(Duty):
    """Writes the progress of running jobs to their rows, twice a second, only where it changed."""

    EVERY_SECONDS = 0.5

    def __init__(self, store: JobStore, running: RunningJobs) -> None:
        super().__init__()
        self._store = store
        self._running = running

    async def step(self) -> float | None:
        """Save what changed; sleeps until woken when nothing did."""
        changed = [running for running in self._running if running.unsaved_progress is not None]
        if not changed:
            return None
        reports = []
        for running in changed:
            assert running.unsaved_progress is not None
            reports.append(Progress(*_lease(running.job), running.unsaved_progress))
            running.unsaved_progress = None
        await self._store.save_progress(reports)
        return self.EVERY_SECONDS


def _decide(job: Job, outcome: Outcome, now: datetime) -> Settlement:
    try:
        return settle(job, outcome, now=now)
    except Exception as error:
        # A row written past every check must not hold up the others.
        log.exception("No row can follow this job", extra=job_facts(job))
        return Settlement(job.id, job.fencing_token or 0, outcome, problem=f"{type(error).__name__}: {error}")


def _lease(job: Job) -> tuple[int, int]:
    return job.id, job.fencing_token or 0
