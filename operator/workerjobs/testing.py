"""For tests of jobs: runs one inline, in the test's own process, without a worker and, mostly, without a database.

The data is parsed as in a worker, and what the function returns has to be storable. Other than there: no timeout,
no memory limit, no retry, and the process is not the job's own.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from workerjobs import app
from workerjobs.domain.job import NewJob
from workerjobs.domain.job_checks import check_job
from workerjobs.domain.json_text import encode_json
from workerjobs.domain.lifecycle import encode_result
from workerjobs.jobs.context import JobConnections, JobContext
from workerjobs.jobs.registry import JobFunction, JobType, Registry
from workerjobs.ports.for_jobs import StorageForJobs

__all__ = ["JobRun", "ProgressReport", "database", "run_job"]


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """One call of `workerjobs.JobContext.progress`."""

    current: float
    total: float | None = None
    message: str | None = None


@dataclass(slots=True)
class JobRun:
    """A run that succeeded."""

    result: Any = None
    """What the function returned, as it comes back from the job's row: a tuple is a list, a key is text."""
    progress: list[ProgressReport] = field(default_factory=list)
    """Every report, oldest first; a worker writes two a second at most."""
    logs: list[logging.LogRecord] = field(default_factory=list)
    """What was logged meanwhile by any logger, from level info on."""

    @property
    def messages(self) -> list[str]:
        """The texts of `logs`."""
        return [record.getMessage() for record in self.logs]


def run_job(
    job: str | JobFunction,
    data: Mapping[str, Any] | None = None,
    *,
    modules: Sequence[str] = (),
    database_url: str | None = None,
    attempt: int = 1,
    user_id: int = 0,
    tag: str | None = None,
    cancelled: bool = False,
) -> JobRun:
    """Run a job and wait for its end. In an ``async`` test: ``await asyncio.to_thread(run_job, …)``.

    Args:
        job: A function that ``@job`` made one, or the type's name; its module has to be imported, or named in
            ``modules``.
        data: As it would be submitted.
        modules: Where to look for the type, as WORKER_JOB_MODULES.
        database_url: The database behind the context's connection; `database` gives one for a test.
        attempt: 1 for the first run, 2 for the first retry, …
        user_id: As submitted.
        tag: As submitted.
        cancelled: What ``context.cancelled`` says.

    Raises:
        InvalidInputError: The data is not accepted (`InvalidDataError`), or can't be stored.
        UnknownJobTypeError: There is no such type.
        ResultRefusedError: What the function returned can't be stored.
        Exception: Whatever the function raises, as it is.
    """
    job_type = _find(job, modules)
    data = {} if data is None else data
    check_job(NewJob(type=job_type.name, data=data, user_id=user_id, tag=tag), now=datetime.now(UTC))
    parsed = job_type.arguments.parse(encode_json(data))
    run = JobRun()
    connections = JobConnections(database_url, _load_storage)
    context = JobContext(
        job_id=1,
        job_type=job_type.name,
        attempt=attempt,
        user_id=user_id,
        tag=tag,
        fencing_token=1,
        database_url=database_url,
        report_progress=lambda text: run.progress.append(ProgressReport(**json.loads(text))),
        is_cancelled=lambda: cancelled,
        connections=connections,
    )
    arguments = (parsed, context) if job_type.arguments.takes_context else (parsed,)
    with _logging_to(run.logs), closing(connections):
        returned = job_type.function(*arguments)
        result = asyncio.run(_wait_for(returned)) if inspect.isawaitable(returned) else returned
    run.result = json.loads(encode_result(result))
    return run


def database() -> AbstractContextManager[str]:
    """Give the URL of an embedded Postgres with WorkerJobs' tables, which is gone afterwards; takes a second or two."""
    return app.throwaway_database()


def _find(job: str | JobFunction, modules: Sequence[str]) -> JobType:
    registry = Registry(modules)
    registry.import_modules()
    for error in registry.failures.values():
        raise error
    return registry.find(job) if isinstance(job, str) else registry.type_of(job)


@contextmanager
def _logging_to(records: list[logging.LogRecord]) -> Iterator[None]:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    root, handler = logging.getLogger(), Handler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO) if level else level)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _load_storage() -> StorageForJobs:
    return cast("StorageForJobs", importlib.import_module(app.STORAGE_FOR_JOBS))
