"""Resolving: claimed jobs with ``dataFrom`` get their values before a child gets them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from workerjobs.domain.job import Job
from workerjobs.errors import ClusterError, ClusterUnavailableError, InvalidInputError
from workerjobs.ports.for_jobs import JobData
from workerjobs.worker.running import RunningJob, job_facts

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0)
"""An API server that is away for about a minute fails no job."""


class NoJobData:
    """A `workerjobs.ports.for_jobs.JobData` of workers that have no cluster around them."""

    async def resolve(self, job: Job) -> str:
        """Refuse."""
        raise ClusterError("there is no Kubernetes cluster around this worker, which would have its values")


class Resolving:
    """Holds jobs while their values are read; their leases go on meanwhile.

    Args:
        source: Gives the values.
        on_ready: Takes a job whose data is complete.
        on_failed: Takes a job that can't have its values, with a sentence.
    """

    def __init__(
        self,
        source: JobData,
        *,
        on_ready: Callable[[RunningJob], None],
        on_failed: Callable[[RunningJob, str], None],
    ) -> None:
        self._source = source
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._tasks: dict[RunningJob, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, running: RunningJob) -> None:
        """Take a claimed job."""
        self._tasks[running] = asyncio.get_running_loop().create_task(self._resolve(running))

    def remove(self, running: RunningJob) -> bool:
        """Let go of a job; False where it is not here."""
        task = self._tasks.pop(running, None)
        if task is None:
            return False
        task.cancel()
        return True

    def take_all(self) -> Sequence[RunningJob]:
        """Let go of all jobs."""
        return [running for running in list(self._tasks) if self.remove(running)]

    async def _resolve(self, running: RunningJob) -> None:
        try:
            data_json = await self._read(running.job)
        except (InvalidInputError, ClusterError) as error:
            self._tasks.pop(running)
            self._on_failed(running, f"dataFrom can't be resolved: {error}")
        except Exception as error:
            log.exception("dataFrom can't be resolved", extra=job_facts(running.job))
            self._tasks.pop(running)
            self._on_failed(running, f"dataFrom can't be resolved: {type(error).__name__}")
        else:
            self._tasks.pop(running)
            # In memory alone: what is settled and copied is the row.
            running.job = msgspec.structs.replace(running.job, data_json=data_json)
            self._on_ready(running)

    async def _read(self, job: Job) -> str:
        for seconds in RETRY_SECONDS:
            try:
                return await self._source.resolve(job)
            except ClusterUnavailableError as error:
                log.warning("%s", error, extra=job_facts(job))
                await asyncio.sleep(seconds)
        return await self._source.resolve(job)
