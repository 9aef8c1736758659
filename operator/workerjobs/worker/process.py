"""One child process, as its supervisor knows it: its state, what it was sent, and what it takes and gives."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Sequence
from enum import StrEnum

from workerjobs.domain.data_from import secret_fields
from workerjobs.domain.job import Job
from workerjobs.worker.channel import Channel
from workerjobs.worker.messages import Recall, Run, Task, frame
from workerjobs.worker.output import Output
from workerjobs.worker.results import Results
from workerjobs.worker.running import RunningJob, job_facts


class ChildState(StrEnum):
    """What a child is doing; also the label of its metric."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"


class Child:
    """One child, from the request to fork it until it is gone."""

    def __init__(self, number: int, permits: int, results: int) -> None:
        self.number = number
        self.state = ChildState.STARTING
        self.was_ready = False
        self.early_deaths = 0
        """So many before it, one after another in its place, died before they were ready."""
        self.pid: int | None = None
        self.queue: deque[RunningJob] = deque()
        """What it was sent and has not finished, in order: the first one runs."""
        self.head_since = 0.0
        """When the first one became the first, on the clock of `time.monotonic`, which is the loop's."""
        self.is_recalling = False
        """Jobs were recalled and it has not said yet that it forgot them; it gets no others before."""
        self.jobs_done = 0
        self.max_jobs = 0
        """After so many it is replaced; 0: never."""
        self.ready_bytes = 0
        """Memory that it had when it was ready."""
        self.replaces: Child | None = None
        """Whose place it takes, as soon as it is ready and that one has nothing left to do."""
        self.is_replaced = False
        """Another one is to take its place."""
        self.is_leaving = False
        """The other one is ready."""
        self.channel: Channel | None = None
        self.output: Output | None = None
        self.kill_timer: asyncio.TimerHandle | None = None
        self._permits = permits
        self.results = Results(results)

    @property
    def job(self) -> Job | None:
        """The job that it runs."""
        return self.queue[0].job if self.queue else None

    @property
    def can_take(self) -> bool:
        """Whether jobs may be sent to it."""
        return (
            self.state in (ChildState.IDLE, ChildState.BUSY)
            and not self.is_recalling
            and not self.is_leaving
            and self.channel is not None
        )

    def facts_of(self, job_id: int | None) -> dict[str, object]:
        """What log records about one of its jobs carry."""
        return job_facts(next((running.job for running in self.queue if running.job.id == job_id), None))

    def send(self, runs: Sequence[RunningJob], now: float) -> None:
        """Send jobs, to be run after those that it has."""
        assert self.channel is not None
        is_following = bool(self.queue)
        if not is_following:
            self.head_since = now
            if self.output is not None:
                self.output.begin(runs[0].job.id)
        self.state = ChildState.BUSY
        tasks = []
        for running in runs:
            job = running.job
            running.child = self
            tasks.append(
                Task(
                    job.id,
                    job.type,
                    job.data_json,
                    job.attempt,
                    job.user_id,
                    job.tag,
                    job.fencing_token or 0,
                    job.traceparent,
                    job.cron_schedule is not None,
                    [] if job.data_from_json is None else secret_fields(job.data_from_json),
                )
            )
        self.queue.extend(runs)
        # Before the jobs: a job without a permit means to the child that it was recalled.
        os.eventfd_write(self._permits, len(tasks))
        self.channel.write(frame(Run(tasks, is_following)))

    def hear(self, *, is_over: bool = False) -> None:
        """Take the results that it has not rung for yet; see `Channel.take_results`."""
        if self.channel is not None:
            self.channel.take_results(is_over=is_over)

    def recall(self) -> list[RunningJob]:
        """Take back the jobs that it has not begun, whatever it is doing; afterwards at most one is being run."""
        count = self._take_permits()
        recalled = [self.queue.pop() for _ in range(min(count, len(self.queue)))][::-1]
        for running in recalled:
            running.recall()
        if not self.queue and self.state is ChildState.BUSY:
            self.state = ChildState.IDLE
        if recalled and self.channel is not None:
            self.is_recalling = True
            self.channel.write(frame(Recall()))
        return recalled

    def close(self) -> None:
        """Let go of what belongs to it."""
        if self.kill_timer is not None:
            self.kill_timer.cancel()
        if self.channel is not None:
            self.channel.close()
        os.close(self._permits)
        self.results.close()

    def _take_permits(self) -> int:
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                count += os.eventfd_read(self._permits)
        return count
