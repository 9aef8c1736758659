"""Submitting from Python, on the caller's own psycopg connection and inside the caller's own transaction.

Every function takes a ``psycopg.Connection``; or a ``psycopg.AsyncConnection``, and then has to be awaited. What it
stores belongs to the transaction that the connection is in: rolled back, it never existed; committed, workers hear of
it at once. Nothing here commits. Only where a connection is in autocommit mode and outside a transaction, each call is
one by itself.

Errors that all of them raise, beside what psycopg raises when a connection is lost:

- `InvalidInputError`: what was given can't be stored. Where Postgres said so and not this module, the transaction has
  failed, as after any failed statement.
- `SchemaError`: the database has no WorkerJobs tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, overload

from workerjobs.domain.job import Job, NewJob
from workerjobs.domain.parsing import as_new_job
from workerjobs.errors import InvalidInputError
from workerjobs.storage.steps import AsyncConnection, SyncConnection, perform
from workerjobs.storage.submitting import (
    broadcasting,
    cancelling,
    cancelling_tag,
    notifying,
    retrying,
    scheduling,
    submitting_bulk,
    submitting_one,
    unscheduling,
)

AnyJob: TypeAlias = NewJob | Mapping[str, Any]
"""A `NewJob`, or a mapping with the table's names: type, data, userId, due, tag, cronSchedule, …"""


@overload
def submit(connection: SyncConnection, job: AnyJob) -> Job: ...
@overload
def submit(connection: AsyncConnection, job: AnyJob) -> Awaitable[Job]: ...
def submit(connection: Any, job: AnyJob) -> Any:
    """Store a job and return it as stored; pending jobs of its tag are cancelled."""
    new = as_new_job(job)
    # One of a cron line may be refused after what has its tag was cancelled.
    return perform(connection, submitting_one(new), atomically=new.cron_schedule is not None)


@overload
def submit_many(connection: SyncConnection, jobs: Iterable[AnyJob]) -> int: ...
@overload
def submit_many(connection: AsyncConnection, jobs: Iterable[AnyJob]) -> Awaitable[int]: ...
def submit_many(connection: Any, jobs: Iterable[AnyJob]) -> Any:
    """Store any number of jobs by one COPY, all or none; returns how many.

    Pending jobs of their tags are cancelled; of jobs with one tag, the last one stays pending. Their ids are not read
    back: `submit` is for jobs whose id matters.

    Raises:
        InvalidInputError: Some can't be stored; each is named by its index, from 0, and the transaction goes on as if
            nothing had been asked of it.
    """
    return perform(connection, submitting_bulk(jobs), atomically=True)


@overload
def schedule(connection: SyncConnection, job: AnyJob, *, key: str | None = ...) -> Job: ...
@overload
def schedule(connection: AsyncConnection, job: AnyJob, *, key: str | None = ...) -> Awaitable[Job]: ...
def schedule(connection: Any, job: AnyJob, *, key: str | None = None) -> Any:
    """Store a cron job and return its first row.

    Args:
        connection: Whose transaction it belongs to.
        job: With a cron schedule.
        key: The cron job's identity: it takes the place of the one that has the key now, and where that says the same,
            nothing changes. So a program can schedule its jobs at every start. None: another cron job each time.
    """
    return perform(connection, scheduling(job, key), atomically=True)


@overload
def unschedule(connection: SyncConnection, key: str) -> int: ...
@overload
def unschedule(connection: AsyncConnection, key: str) -> Awaitable[int]: ...
def unschedule(connection: Any, key: str) -> Any:
    """End the cron job of a key; a run that goes on is the last one. Returns how many pending rows were cancelled."""
    return perform(connection, unscheduling(key))


@overload
def cancel(
    connection: SyncConnection, job_ids: int | Sequence[int] | None = ..., *, tag: str | None = ..., reason: str = ...
) -> list[Job]: ...
@overload
def cancel(
    connection: AsyncConnection, job_ids: int | Sequence[int] | None = ..., *, tag: str | None = ..., reason: str = ...
) -> Awaitable[list[Job]]: ...
def cancel(
    connection: Any,
    job_ids: int | Sequence[int] | None = None,
    *,
    tag: str | None = None,
    reason: str = "Job cancelled",
) -> Any:
    """Cancel pending jobs and ask running ones to stop; returns those that were not finished.

    Args:
        connection: Whose transaction it belongs to.
        job_ids: Which; or
        tag: all unfinished ones of this tag.
        reason: What pending ones get as their error.
    """
    if tag is not None and job_ids is None:
        return perform(connection, cancelling_tag(tag, reason))
    if tag is not None or job_ids is None:
        raise InvalidInputError("Name the jobs to cancel by their ids, or by a tag")
    return perform(connection, cancelling([job_ids] if isinstance(job_ids, int) else job_ids, reason))


@overload
def retry(connection: SyncConnection, job_ids: int | Sequence[int]) -> list[Job]: ...
@overload
def retry(connection: AsyncConnection, job_ids: int | Sequence[int]) -> Awaitable[list[Job]]: ...
def retry(connection: Any, job_ids: int | Sequence[int]) -> Any:
    """Run finished jobs again, now, each as a new row that names the old one; returns the new ones, all or none.

    Raises:
        NotFoundError: There is no such job (any more).
        InvalidInputError: Some are not finished.
    """
    return perform(connection, retrying([job_ids] if isinstance(job_ids, int) else job_ids))


@overload
def notify(connection: SyncConnection, user_id: int, data: Mapping[str, Any]) -> int: ...
@overload
def notify(connection: AsyncConnection, user_id: int, data: Mapping[str, Any]) -> Awaitable[int]: ...
def notify(connection: Any, user_id: int, data: Mapping[str, Any]) -> Any:
    """Write a notification to a user; returns its id. Browsers that listen get it when the transaction commits.

    Raises:
        NotFoundError: There is no such user.
        InvalidInputError: The data is no JSON object.
    """
    return perform(connection, notifying(user_id, data))


@overload
def broadcast(connection: SyncConnection, data: Mapping[str, Any]) -> int: ...
@overload
def broadcast(connection: AsyncConnection, data: Mapping[str, Any]) -> Awaitable[int]: ...
def broadcast(connection: Any, data: Mapping[str, Any]) -> Any:
    """Tell everybody who listens; returns the broadcast's id. It is kept for a day, for those who come back.

    Raises:
        InvalidInputError: The data is no JSON object.
    """
    return perform(connection, broadcasting(data))
