"""Settling: outcomes are stored in batches, with the rows that follow them, and kept until the database took them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome, Settlement, settle
from workerjobs.errors import DatabaseUnavailableError
from workerjobs.ports.jobs import JobStore, Progress
from workerjobs.worker.clock import DatabaseClock
from workerjobs.worker.duty import Duty
from workerjobs.worker.metrics import Refused, WorkerMetrics
from workerjobs.worker.running import RunningJob, RunningJobs, StopReason, job_facts

log = logging.getLogger(__name__)

BATCH = 2000
"""Settlements a statement, at most."""
BATCH_CHARACTERS = 4_000_000
"""Of results, in one statement; a single one may have more."""
APART_SECONDS = 0.05
"""From one settlement of a busy worker to the next."""
ENOUGH = 200
"""So many outcomes do not wait for others."""
AGAIN_SECONDS = 0.05
"""To the next try, where a transaction that is open decides about a retry."""


class Settling(Duty):
    """Stores how runs ended; everything that waits goes in one statement.

    While a worker is busy its settlements are some milliseconds apart, as each costs about one, whatever it brings.
    What came since the last one waits for that; but not where others wait for it, nor where nothing else would come.

    Args:
        store: The table.
        running: The jobs whose leases are held.
        clock: The database's.
        metrics: Told what was settled.
        is_awaited: Whether a job's settlement lets others start.
    """

    def __init__(
        self,
        store: JobStore,
        running: RunningJobs,
        clock: DatabaseClock,
        metrics: WorkerMetrics,
        is_awaited: Callable[[Job], bool] = lambda _: False,
    ) -> None:
        super().__init__()
        self._store = store
        self._running = running
        self._clock = clock
        self._metrics = metrics
        self._is_awaited = is_awaited
        self._waiting: list[RunningJob] = []
        self._is_one_awaited = False
        """One that waits lets others start."""
        self._postponed: list[RunningJob] = []
        """Tried in vain, as a transaction that is open decides about their retry."""
        self._postpones = True
        self._last = -math.inf

    @property
    def waiting(self) -> int:
        """How many runs have ended that are not settled."""
        return len(self._waiting) + len(self._postponed)

    def stop_postponing(self) -> None:
        """Settle what waits for others' transactions before this worker ends: it would be run again otherwise."""
        self._postpones = False
        self.wake()

    def add(self, running: RunningJob, outcome: Outcome) -> None:
        """Take a run that ended."""
        running.outcome = outcome
        self._waiting.append(running)
        self._is_one_awaited = self._is_one_awaited or self._is_awaited(running.job)
        # Those between the first and the last do not change how long all of them wait.
        if len(self._waiting) == 1 or self._is_enough:
            self.wake()

    @property
    def _is_enough(self) -> bool:
        """Whether what waits does not wait for more. Where nothing else runs, nothing would come."""
        runs = len(self._running) - len(self._postponed)
        return self._is_stopping or self._is_one_awaited or len(self._waiting) >= min(ENOUGH, runs)

    @property
    def _seconds_to_wait(self) -> float:
        """How long what waits can wait for more; 0 or less: not at all."""
        return 0.0 if self._is_enough else self._last + APART_SECONDS - time.monotonic()

    async def step(self) -> float | None:
        """Settle what waits; what the database could not take because it was away stays."""
        self._waiting += self._postponed
        self._postponed = []
        while self._waiting:
            if (seconds := self._seconds_to_wait) > 0:
                return seconds
            self._last = time.monotonic()
            self._is_one_awaited = False
            batch = self._next_batch()
            await _save_progress(self._store, batch)
            now = self._clock.now()
            settlements = [_decide(running, now) for running in batch]
            began = time.monotonic()
            settled = await self._store.settle(settlements, postpones=self._postpones)
            self._metrics.settle_took(time.monotonic() - began)
            del self._waiting[: len(batch)]
            for running in batch:
                job_id = running.job.id
                if job_id in settled.postponed:
                    self._postponed.append(running)
                elif job_id in settled.stored:
                    is_cancelled = running.stop_reason is StopReason.CANCELLED or running.job.cancel_requested
                    self._metrics.settled(running.job, _outcome_of(running), is_cancelled=is_cancelled)
                    self._running.remove(running)
                else:
                    self._not_stored(running, settled.refused.get(job_id))
                if reason := settled.without_follow_up.get(job_id):
                    self._metrics.refused(Refused.FOLLOW_UP)
                    log.error(
                        "The row that should follow this job was refused: %s", reason, extra=job_facts(running.job)
                    )
        return AGAIN_SECONDS if self._postponed else None

    def _next_batch(self) -> list[RunningJob]:
        batch = self._waiting[:BATCH]
        characters = 0
        for number, running in enumerate(batch):
            characters += len(_outcome_of(running).result_json)
            if characters > BATCH_CHARACTERS and number:
                return batch[:number]
        return batch

    def _not_stored(self, running: RunningJob, refusal: str | None) -> None:
        job = running.job
        if refusal is not None and _outcome_of(running).success:
            self._metrics.refused(Refused.RESULT)
            # Again, as a failure: its error is plain text, which Postgres takes.
            log.error("The job's result was refused by the database: %s", refusal, extra=job_facts(job))
            self.add(running, Outcome.failure(f"The job's result can't be stored: {refusal}"))
            return
        if refusal is not None:
            self._metrics.refused(Refused.ROW)
            # Not the text but the row itself is refused, by a trigger or a constraint of someone else's. Trying again
            # at once would not end; the lease runs out, and a rescuer tries.
            log.error("The job can't be settled, the database refuses: %s", refusal, extra=job_facts(job))
        else:
            self._metrics.refused(Refused.LEASE)
            # Either the lease was lost, or an earlier try to settle took effect although its answer was lost.
            log.warning(
                "This run's outcome was not stored: the row is settled or leased to another", extra=job_facts(job)
            )
        self._running.remove(running)


class Reporting(Duty):
    """Writes the progress of running jobs to their rows, at most twice a second, only where it changed."""

    EVERY_SECONDS = 0.5

    def __init__(self, store: JobStore, running: RunningJobs) -> None:
        super().__init__()
        self._store = store
        self._running = running
        self._last = -math.inf

    async def step(self) -> float | None:
        """Save what changed; sleeps until woken when nothing did, and not less than its time whoever wakes it."""
        if (seconds := self._last + self.EVERY_SECONDS - time.monotonic()) > 0:
            return seconds
        if not await _save_progress(self._store, self._running):
            return None
        self._last = time.monotonic()
        return self.EVERY_SECONDS


async def _save_progress(store: JobStore, runs: Iterable[RunningJob]) -> bool:
    """Write the progress of runs to their rows; returns whether any had changed."""
    reports = []
    for running in runs:
        if (progress := running.unsaved_progress) is not None:
            reports.append((running, Progress(running.job.id, running.job.fencing_token or 0, progress)))
            running.unsaved_progress = None
    if reports:
        try:
            await store.save_progress([report for _, report in reports])
        except DatabaseUnavailableError:
            # A run may say nothing more for long.
            for running, report in reports:
                running.unsaved_progress = running.unsaved_progress or report.progress_json
            raise
    return bool(reports)


def _decide(running: RunningJob, now: datetime) -> Settlement:
    job, outcome = running.job, _outcome_of(running)
    try:
        settlement = settle(job, outcome, now=now)
    except Exception:
        # A row written past every check must not hold up the others.
        log.exception("No row can follow this job", extra=job_facts(job))
        return Settlement(job.id, job.fencing_token or 0, outcome)
    if settlement.problem:
        log.error("%s", settlement.problem, extra=job_facts(job))
    return settlement


def _outcome_of(running: RunningJob) -> Outcome:
    assert running.outcome is not None
    return running.outcome
