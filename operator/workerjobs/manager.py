"""`WorkerManager`: workers and submitting from a plain Python program, as in QuickDapp's worker system."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from workerjobs import app
from workerjobs.domain.data_schema import check_data
from workerjobs.domain.job import Job, NewJob
from workerjobs.domain.job_checks import check_job
from workerjobs.domain.parsing import as_new_job
from workerjobs.errors import NotFoundError, WorkerJobsError
from workerjobs.settings import COUNT_ACCEPTED, parse_worker_count, worker_settings
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.storage.submitting import taken_tick
from workerjobs.worker.supervisor import Supervisor

T = TypeVar("T")


class WorkerManager:
    """Runs a supervisor with its children in the background of this program, and submits jobs.

    Examples:
        >>> with WorkerManager(worker_count=2) as manager:
        ...     stored = manager.submit_job({"type": "removeOldWorkerJobs"})
        ...     print(manager.wait_for_job(stored.id).result)

    Settings come from the environment (DATABASE_URL, WORKER_COUNT, …; see docs/configuration.md); arguments win over
    it. Without a DATABASE_URL it starts the embedded Postgres.

    Args:
        database_url: As DATABASE_URL.
        database_direct_url: As DATABASE_DIRECT_URL, beside a ``database_url``.
        worker_count: As WORKER_COUNT: a number of children, "cpus" or "auto".
        job_modules: As WORKER_JOB_MODULES.

    Raises:
        WorkerJobsError: The settings are wrong, or the database can't be used.
    """

    def __init__(
        self,
        *,
        database_url: str | None = None,
        database_direct_url: str | None = None,
        worker_count: int | str | None = None,
        job_modules: list[str] | None = None,
    ) -> None:
        settings = worker_settings()
        changes: dict[str, Any] = {"health_port": None}
        if database_url is not None:
            # What the environment says of another database has nothing to do with this one.
            changes |= {"database_url": database_url, "database_direct_url": database_direct_url}
        if worker_count is not None:
            try:
                changes["worker_count"] = parse_worker_count(str(worker_count))
            except ValueError:
                raise ValueError(f"worker_count is {worker_count!r}: give {COUNT_ACCEPTED}") from None
        if job_modules is not None:
            changes["job_modules"] = tuple(job_modules)
        self._settings = dataclasses.replace(settings, **changes)
        self._resources = ExitStack()
        self._url = self._resources.enter_context(app.database(self._settings.database_url))
        self._loop = asyncio.new_event_loop()
        self._started: Future[Supervisor] = Future()
        self._store: PostgresJobStore | None = None
        self._supervisor: Supervisor | None = None
        # The thread is the parent of the nursery as long as the supervisor runs.
        self._thread = threading.Thread(target=self._run, name="workerjobs", daemon=True)
        self._thread.start()
        try:
            self._supervisor = self._started.result()
        except BaseException:
            self.shutdown()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    def submit_job(self, job: NewJob | Mapping[str, Any]) -> Job:
        """Store a job and return it as stored.

        Args:
            job: A `NewJob`, or a mapping with the seed's names: type, data, userId, due, tag, cronSchedule, …

        Raises:
            InvalidInputError: The job is not valid; with everything that is wrong. The data is checked as well where
                this program's children, or other live workers, know the type.
        """
        new = as_new_job(job)
        store = self._open()

        async def submit() -> Job:
            assert self._supervisor is not None
            check_job(new, now=datetime.now(UTC))
            types = await self._supervisor.known_types()
            if new.pool == self._settings.pool and new.type in types:
                check_data(new.data, [types[new.type].schema])
            else:
                await app.check_against_workers(store, new)
            stored = await store.submit([new])
            if not stored:
                raise taken_tick(new)
            return stored[0]

        return self._ask(submit())

    def submit_jobs(self, jobs: Iterable[NewJob | Mapping[str, Any]]) -> int:
        """Store very many jobs in one go, all or none; returns how many.

        Args:
            jobs: As in `submit_job`; 100,000 of them take about two seconds.

        Raises:
            InvalidInputError: Some are not valid; each is named by its index, from 0.
        """
        store = self._open()

        async def submit() -> int:
            assert self._supervisor is not None
            await self._supervisor.known_types()
            return await store.submit_bulk(jobs)

        return self._ask(submit())

    def get_job(self, job_id: int) -> Job:
        """Read a job.

        Raises:
            NotFoundError: There is none of this id.
        """
        job = self._ask(self._open().get(job_id))
        if job is None:
            raise NotFoundError(f"There is no job {job_id}")
        return job

    def wait_for_job(self, job_id: int, timeout: float | None = None) -> Job:
        """Wait until a job is finished and return it.

        Args:
            job_id: Which.
            timeout: Seconds; None waits as long as it takes.

        Raises:
            TimeoutError: It was not finished in time.
        """

        async def wait() -> Job:
            store = self._open()
            async with asyncio.timeout(timeout):
                while True:
                    job = await store.get(job_id)
                    if job is None:
                        raise NotFoundError(f"There is no job {job_id}")
                    if job.state.is_final:
                        return job
                    await asyncio.sleep(0.05)

        return self._ask(wait())

    def get_worker_count(self) -> int:
        """How many children run jobs."""
        return self._supervisor.child_count if self._supervisor is not None else 0

    def shutdown(self) -> None:
        """Stop: running jobs have the grace period, then they are given back. Safe to call again."""
        if self._thread.is_alive() and self._supervisor is not None:
            self._loop.call_soon_threadsafe(self._supervisor.stop)
        self._thread.join()
        self._supervisor = None
        self._resources.close()

    submitJob = submit_job  # noqa: N815  # the seed's names
    submitJobs = submit_jobs  # noqa: N815
    getWorkerCount = get_worker_count  # noqa: N815

    def _run(self) -> None:
        async def main() -> None:
            async with app.open_store(self._url, "workerjobs manager") as store:
                self._store = store
                await app.run_worker(self._settings, self._url, on_started=self._started.set_result)
                self._store = None

        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(main())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    def _open(self) -> PostgresJobStore:
        if self._store is None:
            raise WorkerJobsError("This WorkerManager was shut down")
        return self._store

    def _ask(self, question: Awaitable[T]) -> T:
        async def answer() -> T:
            return await question

        return asyncio.run_coroutine_threadsafe(answer(), self._loop).result()
