"""The table of jobs as tests use it: stores of their own, and plain SQL for what no store offers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import psycopg

from workerjobs.domain.job import Job, NewJob
from workerjobs.domain.lifecycle import FollowUp, Outcome, Settlement
from workerjobs.ports.jobs import Lease
from workerjobs.storage.postgres import PostgresJobStore

LEASE = timedelta(seconds=15)
SUCCESS = Outcome(success=True, result_json='"done"')
FAILURE = Outcome.failure("no paper")


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[PostgresJobStore]:
    """Open a store and close it at the end."""
    async with open_stores(url, 1) as (store,):
        yield store


@asynccontextmanager
async def open_stores(url: str, count: int) -> AsyncIterator[list[PostgresJobStore]]:
    """Open stores with a connection each, as many workers have them."""
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(count):
            stores.append(await PostgresJobStore.open(url, "workerjobs test"))
            stack.push_async_callback(stores[-1].close)
        yield stores


def sql(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement in a connection of its own; returns its rows, if it gives any."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def waiting_for_locks(url: str) -> list[int]:
    """Pids of those in this database that wait for a lock; tests beside this one have databases of their own."""
    waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return [pid for (pid,) in sql(url, waiting)]


def allow_connections(url: str, allowed: bool) -> None:
    """Let the database go away, or come back."""
    name = url.rpartition("/")[2]
    server = url.removesuffix(name) + "postgres"
    sql(server, f'alter database "{name}" allow_connections {allowed}')
    if not allowed:
        sql(server, "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", name)


async def submit_one(store: PostgresJobStore, job: NewJob | None = None) -> Job:
    """Submit one job."""
    (stored,) = await store.submit([job or NewJob(type="report")])
    return stored


async def claim_all(store: PostgresJobStore, *, owner: str = "a worker", limit: int = 1000) -> list[Job]:
    """Claim whatever is due."""
    return await store.claim(owner, "default", limit, LEASE)


async def claim_one(store: PostgresJobStore, job: NewJob | None = None) -> Job:
    """Submit one job and claim it."""
    submitted = await submit_one(store, job)
    (claimed,) = await claim_all(store)
    assert claimed.id == submitted.id
    return claimed


def lease_of(job: Job) -> Lease:
    """The lease of a claimed job."""
    assert job.fencing_token is not None
    return Lease(job.id, job.fencing_token)


def settlement(job: Job, outcome: Outcome = SUCCESS, *follow_ups: FollowUp) -> Settlement:
    """A claimed job's end."""
    return Settlement(job.id, lease_of(job).fencing_token, outcome, follow_ups)


async def read(store: PostgresJobStore, job: Job | int) -> Job:
    """Read a job that is there."""
    found = await store.get(job if isinstance(job, int) else job.id)
    assert found is not None
    return found


def ids(jobs: Iterable[Job]) -> list[int]:
    """The jobs' ids."""
    return [job.id for job in jobs]


def count_rows(url: str, where: str = "true") -> int:
    """Count rows of the table."""
    return cast(int, sql(url, f'select count(*) from "workerJobs" where {where}')[0][0])


async def follower_of(store: PostgresJobStore, url: str, job: Job) -> Job | None:
    """The row that follows a job, if there is one."""
    rows = sql(url, 'select id from "workerJobs" where "rescheduledFromJob" = %s', job.id)
    assert len(rows) <= 1
    return await read(store, rows[0][0]) if rows else None
