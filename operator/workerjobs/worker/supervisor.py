"""The supervisor: claims jobs for its children, watches over their runs, and settles them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome
from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError
from workerjobs.jobs.registry import JobDescription
from workerjobs.ports.for_jobs import JobData
from workerjobs.ports.jobs import JobStore
from workerjobs.ports.notices import (
    CancelNotice,
    DueNotice,
    LimitedNotice,
    NoticeSource,
    PlanNotice,
    Reconnected,
    SettingsNotice,
    WorkerNotice,
)
from workerjobs.ports.workers import DrainReason, WorkerOrders
from workerjobs.worker.builtin_jobs import BuiltinJobs
from workerjobs.worker.children import KILL_SECONDS, Children
from workerjobs.worker.clock import DatabaseClock
from workerjobs.worker.configuration import Configuration
from workerjobs.worker.dispatch import Dispatch
from workerjobs.worker.duty import Duty
from workerjobs.worker.error_hook import HOOK_SECONDS
from workerjobs.worker.heartbeat import Heartbeat
from workerjobs.worker.keeping import LogKeeping
from workerjobs.worker.memory import memory_failure
from workerjobs.worker.memory_watch import MemoryWatch, Recycling
from workerjobs.worker.messages import Described, Finished, Ready, Reported
from workerjobs.worker.metrics import WorkerMetrics
from workerjobs.worker.options import SupervisorOptions
from workerjobs.worker.pickup import Pickup
from workerjobs.worker.planning import Planning
from workerjobs.worker.presence import KnownTypes, Presence, UnknownTypes
from workerjobs.worker.process import Child, ChildState
from workerjobs.worker.releasing import Releasing
from workerjobs.worker.rescue import RescueDuty
from workerjobs.worker.resolving import NoJobData, Resolving
from workerjobs.worker.running import RunningJob, RunningJobs, StopReason, job_facts
from workerjobs.worker.settling import Reporting, Settling
from workerjobs.worker.sizing import Sizing

log = logging.getLogger(__name__)

FIRST_CHILD_SECONDS = 10.0
"""How long whoever submits waits for the first child, which tells its job types, and until other workers see them."""
LIFE_SECONDS = 1.0
"""How often the loop shows that it lives."""


class Supervisor:
    """One worker: a few children, one lease owner.

    ``run`` returns when `stop` was called and everything is settled or given back.
    """

    def __init__(
        self,
        store: JobStore,
        notices: NoticeSource,
        configuration: Configuration,
        options: SupervisorOptions,
        job_data: JobData | None = None,
    ) -> None:
        place = f"{socket.gethostname()}:{os.getpid()}" if options.pod is None else options.pod.uid
        self.owner = f"{place}:{secrets.token_hex(4)}"
        self.metrics = WorkerMetrics()
        self.started = asyncio.Event()
        self._store = store
        self._notices = notices
        self._options = options
        self._stopping = asyncio.Event()
        self._stopping_now = asyncio.Event()
        self._was_told_to_stop = False
        self._is_revoked = False
        self._is_asked_to_drain = False
        self._last_life = time.monotonic()
        self._running = RunningJobs()
        self._clock = DatabaseClock()
        self._known = KnownTypes()
        self._releasing = Releasing(store, self._running, self.metrics, is_stopping=self._stopping.is_set)
        self._default_memory_mib = configuration.memory_mib
        self._children = Children(
            options.fewest_children or options.children, configuration, self, options.child_max_jobs
        )
        self._dispatch = Dispatch(self._children, on_begin=self._begun, on_surplus=self._releasing.add)
        self._resolving = Resolving(job_data or NoJobData(), on_ready=self._resolved, on_failed=self._not_resolved)
        self._memory = MemoryWatch(self._children, limit_of=self._memory_limit_of, on_exceeded=self._stop_too_large)
        self._recycling = Recycling(self._children, options.child_max_mib)
        self._sizing = None if options.fewest_children is None else Sizing(self._children, options.children)
        self._settling = Settling(
            store, self._running, self._clock, self.metrics, is_awaited=lambda job: self._pickup.is_limited(job)
        )
        self._reporting = Reporting(store, self._running)
        self._heartbeat = Heartbeat(
            store,
            self._running,
            lease=options.lease,
            every=options.renew_every,
            stop_job=self._stop_job,
            metrics=self.metrics,
        )
        self._pickup = Pickup(
            store,
            owner=self.owner,
            pool=options.pool,
            lease=options.lease,
            takers=self._dispatch,
            types=lambda: self._presence.claimable_types,
            asked=lambda: self._rescue.asked(),
            leases=lambda: [running.lease for running in self._running],
            run=self._run_jobs,
            on_paused=self._paused,
            on_claimed=self.metrics.claim_took,
        )
        self._presence = Presence(
            store,
            owner=self.owner,
            pool=options.pool,
            children=options.children,
            pod=options.pod,
            known=self._known,
            only=options.types,
            every=options.renew_every,
            is_stopping=self._stopping.is_set,
            is_draining=lambda: self._is_draining,
            on_declared=lambda: self._pickup.limits_changed(),
            on_orders=self._obey,
        )
        # Under another name than what is claimed to be run: pickup gives back what it does not know of.
        taker = f"{self.owner}:taken"
        self._unknown = UnknownTypes(
            store,
            owner=taker,
            pool=options.pool,
            lease=options.lease,
            known=self._known,
            is_draining=lambda: self._is_draining,
            asked=lambda: self._rescue.asked(),
            settle=self._settle_taken,
        )
        self._rescue = RescueDuty(
            store,
            owner=taker,
            lease=options.lease,
            every=options.rescue_every,
            clock=self._clock,
            metrics=self.metrics,
            settle=self._settle_taken,
        )
        self._builtins = BuiltinJobs(
            store,
            options.builtin_jobs,
            options.placed_jobs,
            options.jobs_at_start,
            lease=options.lease,
            is_shown=self._presence.types_shown.is_set,
        )
        self._planning = Planning(store)
        for state in ChildState:
            self.metrics.watch_children(state, lambda state=state: self._children.count_of(state))  # type: ignore[misc]
        self.metrics.watch_running(lambda: len(self._running))
        self.metrics.watch_database(lambda: not self._rescue.is_troubled)
        self.metrics.watch_listening(lambda: notices.is_listening)
        self.metrics.watch_unstored(lambda: self._settling.waiting)

    # --- for those who start and watch it

    @property
    def child_count(self) -> int:
        """How many children there are to be now."""
        return self._children.count

    @property
    def child_pids(self) -> list[int]:
        """Process ids of the children that live now."""
        return self._children.pids

    async def known_types(self, wait_seconds: float = FIRST_CHILD_SECONDS) -> Mapping[str, JobDescription]:
        """The job types that the children know, by name.

        Args:
            wait_seconds: How long to wait for the first child, which imports the users' modules, and until other
                workers can see what it knows: they fail jobs of types that nobody shows.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await self._known.first_is_over.wait()
                if self._known.is_ready:
                    await self._presence.types_shown.wait()
        return self._known.descriptions

    @property
    def seconds_since_life(self) -> float:
        """How long ago the loop last showed that it lives; may be asked from any thread."""
        return time.monotonic() - self._last_life

    def stop(self) -> None:
        """Begin to stop: no new jobs; running ones have the grace period. A second call ends them now."""
        if self._was_told_to_stop:
            self._stopping_now.set()
        self._was_told_to_stop = True
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop` is called, then drain."""
        life = asyncio.create_task(self._live(), name="life")
        listening = asyncio.create_task(self._listen(), name="listening")
        duties: list[Duty] = [
            self._builtins,
            self._planning,
            self._presence,
            *([self._unknown] if self._options.is_judge else []),
            self._rescue,
            self._heartbeat,
            self._reporting,
            self._settling,
            self._memory,
            self._recycling,
            LogKeeping(self._store, self._options.log_lines, lambda job_id: self._running.get(job_id) is not None),
            *([self._sizing] if self._sizing is not None else []),
        ]
        try:
            await self._clock.synchronise(self._store)
            await self._children.start()
            for duty in (*duties, self._pickup):
                duty.start()
            self.started.set()
            most, fewest = self._options.children, self._options.fewest_children
            children = str(most) if fewest is None else f"{fewest} to {most}"
            log.info("Worker %s runs %s children for pool %s", self.owner, children, self._options.pool)
            await self._stopping.wait()
            await (self._stop_revoked() if self._is_revoked else self._drain())
        finally:
            listening.cancel()
            for duty in (self._pickup, *duties):
                await duty.stop()
            self._dispatch.close()
            await self._children.close()
            with contextlib.suppress(DatabaseUnavailableError, DatabaseRefusedError):
                await self._store.remove_worker(self.owner)
            life.cancel()
            await asyncio.wait({life, listening})

    # --- starting and stopping jobs

    def _run_jobs(self, jobs: Sequence[Job]) -> None:
        self.metrics.claimed(jobs)
        runs = []
        for job in jobs:
            running = self._hold(job)
            if job.cancel_requested:
                # Given back by a worker that did so before it heard of the cancel.
                self._settle(running, Outcome.failure("Job cancelled"))
            elif job.data_from_json is not None:
                self._dispatch.preparing += 1
                self._resolving.add(running)
            else:
                runs.append(running)
        self._dispatch.add(runs)

    def _resolved(self, running: RunningJob) -> None:
        """A job's data is complete."""
        self._dispatch.preparing -= 1
        self._dispatch.add([running])

    def _not_resolved(self, running: RunningJob, error: str) -> None:
        """A job can't have what its data needs."""
        self._dispatch.preparing -= 1
        log.error("%s", error, extra=job_facts(running.job))
        self._settle(running, Outcome.failure(error))
        self._pickup.wake()

    def _hold(self, job: Job) -> RunningJob:
        """Note a lease. A run under an earlier one of the row, which ran out unnoticed, ends here."""
        if (earlier := self._running.get(job.id)) is not None:
            self._stop_job(earlier, StopReason.LEASE_LOST)
        return self._running.add(self._known.with_defaults(job))

    def _begun(self, running: RunningJob) -> None:
        """It is a job's turn: it has as long as its timeout says, and as much memory as its limit says."""
        running.began = time.monotonic()
        self._watch_time(running)
        self._memory.begin(running.job)

    def _watch_time(self, running: RunningJob) -> None:
        if running.job.timeout_ms is not None:
            running.timer = asyncio.get_running_loop().call_later(
                running.job.timeout_ms / 1000, self._stop_job, running, StopReason.TIMED_OUT
            )

    def _memory_limit_of(self, job: Job) -> int | None:
        return self._known.memory_mib_of(job.type) or self._default_memory_mib

    def _stop_too_large(self, running: RunningJob) -> None:
        if running.stop_reason is None:
            self._stop_job(running, StopReason.OUT_OF_MEMORY)
        elif running.child is not None:
            # While it was cleaning up.
            self._children.stop(running.child, at_once=True)

    def _stop_job(self, running: RunningJob, reason: StopReason) -> None:
        if running.child is not None:
            running.child.hear()
        if running.outcome is not None:
            return
        child = running.child
        if running.stop_reason is not None:
            if reason is StopReason.LEASE_LOST and child is not None and child.queue and child.queue[0] is running:
                # Others may run it while it cleans up.
                running.stop_reason = reason
                self._children.stop(child, at_once=True)
            return
        if child is not None:
            # Only what it runs is to end; what waits behind goes to others.
            self._dispatch.recall(child)
        running.stop_reason = reason
        self.metrics.stopped(reason)
        log.info("Stopping: %s", reason, extra=job_facts(running.job))
        if running.child is None and self._dispatch.remove(running):
            # It was never begun.
            self._stopped(running)
        elif self._resolving.remove(running):
            self._dispatch.preparing -= 1
            self._stopped(running)
            self._pickup.wake()
        elif child is not None and child.queue and child.queue[-1] is running:
            self._children.stop(child, at_once=reason in (StopReason.LEASE_LOST, StopReason.OUT_OF_MEMORY))
        # Else it has just ended: its result is on the way.
        self._dispatch.assign()

    def _stopped(self, running: RunningJob) -> None:
        """A job that was stopped is over."""
        job = running.job
        match running.stop_reason:
            case StopReason.CANCELLED:
                self._fail(running, "Job cancelled")
            case StopReason.TIMED_OUT:
                log.error("Timed out", extra=job_facts(job))
                self._fail(running, f"Job timed out after {(job.timeout_ms or 0) / 1000:g} s")
            case StopReason.OUT_OF_MEMORY:
                error = memory_failure(self._memory_limit_of(job) or 0, running.peak_mib)
                log.error("%s", error, extra=job_facts(job))
                self._fail(running, error)
            case StopReason.LEASE_LOST:
                self._running.remove(running)
            case _:
                self._releasing.add([running])

    # --- what children say (`workerjobs.worker.children.Listener`)

    def child_ready(self, child: Child, ready: Ready) -> None:
        """A child may be sent jobs."""
        if self._known.learn(ready):
            self._presence.wake()
            self._unknown.wake()
            self._pickup.limits_changed()

    def child_failed(self) -> None:
        """A child ended before it was ready."""
        self._known.first_is_over.set()

    def type_described(self, described: Described) -> None:
        """A child has imported what a type needs."""
        if self._known.learn_type(described.description):
            self._presence.wake()
            for running in self._running:
                if running.job.type == described.description.type and running.outcome is None:
                    # Claimed before it was known how its type is run.
                    running.job = self._known.with_defaults(running.job)
                    if running.began is not None and running.timer is None:
                        self._watch_time(running)
            for child in self._children:
                if child.job is not None:
                    self._memory.begin(child.job)

    def child_free(self, child: Child) -> None:
        """A child has nothing left to do."""
        self._dispatch.assign()
        self._pickup.place_freed()

    def job_reported(self, report: Reported) -> None:
        """A running job's progress."""
        running = self._running.get(report.job_id)
        if running is not None:
            running.unsaved_progress = report.progress_json
            self._reporting.wake()

    def job_failing(self, running: RunningJob, finished: Finished) -> None:
        """A job failed, and its child tells the error hook: its own time is over, the hook's begins."""
        running.failing = finished
        if running.timer is not None:
            running.timer.cancel()
        if running.child is not None:
            # The child itself waits for less, where the hook lets it.
            seconds = HOOK_SECONDS + KILL_SECONDS
            stop = partial(self._children.stop, running.child, at_once=True)
            running.timer = asyncio.get_running_loop().call_later(seconds, stop)

    def jobs_finished(self, child: Child, ended: Sequence[tuple[RunningJob, Finished]]) -> None:
        """The functions of jobs came to their ends; for tiny jobs this is called with many."""
        self._dispatch.ran([finished.finished - finished.started for _, finished in ended])
        epoch = self._clock.epoch
        says_more = log.isEnabledFor(logging.INFO)
        for running, finished in ended:
            started, moment = finished.started + epoch, finished.finished + epoch
            if finished.success:
                if says_more:
                    log.info("Succeeded", extra=job_facts(running.job))
                self._settle(running, Outcome(True, finished.result_json, started, moment))
            else:
                self._failed(running, running.failing or finished)
        if child.queue:
            self._begun(child.queue[0])
            if self._dispatch.wants_more(child):
                self._pickup.wake()

    def job_lost(self, running: RunningJob, how: str) -> None:
        """A child ended with a job unfinished."""
        if self._running.get(running.job.id) is not running:
            return
        if running.failing is not None and running.stop_reason is not StopReason.LEASE_LOST:
            # Whatever ended its process: the job had come to its end.
            log.error("The error hook did not come to its end: %s", how, extra=job_facts(running.job))
            self._failed(running, running.failing)
            return
        if running.stop_reason is not None:
            self._stopped(running)
            return
        self.metrics.child_lost()
        log.error("%s", how, extra=job_facts(running.job))
        self._fail(running, how)

    def jobs_returned(self, runs: list[RunningJob]) -> None:
        """A child ended before it began these."""
        if self._stopping.is_set():
            self._releasing.add(runs)
        else:
            self._dispatch.put_back(runs)

    def _failed(self, running: RunningJob, finished: Finished) -> None:
        """Settle a job whose function failed."""
        trace = f"\n{finished.traceback}" if finished.traceback else ""
        log.error("Failed: %s%s", finished.error, trace, extra=job_facts(running.job))
        epoch = self._clock.epoch
        self._settle(running, Outcome.failure(finished.error, finished.started + epoch, finished.finished + epoch))

    def _fail(self, running: RunningJob, error: str) -> None:
        """Settle a job that could not tell how it ended."""
        started = None if running.began is None else running.began + self._clock.epoch
        self._settle(running, Outcome.failure(error, started))

    def _settle(self, running: RunningJob, outcome: Outcome) -> None:
        if self._running.get(running.job.id) is not running:
            return
        if running.stop_reason is StopReason.LEASE_LOST:
            self._running.remove(running)
            return
        if running.timer is not None:
            running.timer.cancel()
        self._settling.add(running, outcome)

    def _settle_taken(self, job: Job, outcome: Outcome) -> None:
        self._settle(self._hold(job), outcome)

    # --- what the table asks of this worker

    @property
    def _is_draining(self) -> bool:
        return self._stopping.is_set() or self._pickup.is_paused

    def _obey(self, orders: WorkerOrders) -> None:
        if orders.is_revoked and not self._is_revoked:
            self._is_revoked = True
            log.error("This worker's pod is gone from its cluster: its jobs are stopped, as others get them")
            self._stopping_now.set()
            self._stopping.set()
        if DrainReason.POD_GOING in orders.drain_reasons and not self._stopping.is_set():
            log.info("This worker's pod is being deleted")
            self._stopping.set()
        if bool(orders.drain_reasons) is self._is_asked_to_drain:
            return
        self._is_asked_to_drain = not self._is_asked_to_drain
        if self._is_asked_to_drain:
            reasons = ", ".join(orders.drain_reasons)
            log.info("Draining (%s): %s jobs are running, no more are taken", reasons, len(self._running))
            self._pickup.pause()
        else:
            log.info("Taking jobs again")
            self._pickup.resume()

    def _paused(self) -> None:
        """Nothing more is claimed; what was not begun goes to others."""
        self._releasing.add(self._dispatch.take_waiting())
        self._presence.wake()

    async def _stop_revoked(self) -> None:
        """Stop all jobs at once, without a word to the table, which others have them from; then say that it is done."""
        await self._pickup.stop()
        for running in self._dispatch.take_waiting():
            self._running.remove(running)
        for running in self._running:
            self._stop_job(running, StopReason.LEASE_LOST)
        await self._running.wait_until_empty(timedelta(seconds=KILL_SECONDS))
        with contextlib.suppress(DatabaseUnavailableError, DatabaseRefusedError):
            await self._store.acknowledge_revocation(self.owner)

    # --- stopping the worker

    async def _drain(self) -> None:
        log.info("Stopping: %s jobs are running, grace period %s s", len(self._running), self._options.grace.seconds)
        await self._pickup.stop()
        self._presence.wake()
        self._releasing.add([*self._dispatch.take_waiting(), *self._resolving.take_all()])
        hurry = asyncio.create_task(self._stopping_now.wait())
        finished = asyncio.create_task(self._running.wait_until_empty(self._options.grace))
        await asyncio.wait({hurry, finished}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        finished.cancel()
        if self._is_revoked:
            # The operator gives the jobs to others, and says why.
            await self._stop_revoked()
            return
        self._settling.stop_postponing()
        for running in self._running:
            self._stop_job(running, StopReason.SHUTDOWN)
        # The children get SIGTERM, then SIGKILL; their jobs come back through job_lost and are given back there.
        if not await self._running.wait_until_empty(timedelta(seconds=KILL_SECONDS + 5)):
            log.error(
                "%s jobs could not be settled or given back; their leases run out by themselves", len(self._running)
            )

    # --- loops beside the duties

    async def _listen(self) -> None:
        async for notice in self._notices.notices():
            match notice:
                case DueNotice():
                    self._pickup.notice(notice)
                    self._unknown.notice(notice)
                case LimitedNotice(pool=pool):
                    if pool == self._options.pool:
                        self._pickup.limits_changed()
                case SettingsNotice():
                    self._pickup.limits_changed()
                    self._unknown.wake()
                case PlanNotice():
                    self._planning.wake()
                case WorkerNotice(owner=self.owner):
                    self._presence.wake()
                case CancelNotice(job_id=job_id):
                    if (running := self._running.get(job_id)) is not None:
                        self._stop_job(running, StopReason.CANCELLED)
                case Reconnected():
                    self._pickup.limits_changed()
                    self._unknown.wake()
                    self._planning.wake()
                    self._presence.wake()
                    self._heartbeat.wake()

    async def _live(self) -> None:
        while True:
            self._last_life = time.monotonic()
            await asyncio.sleep(LIFE_SECONDS)
