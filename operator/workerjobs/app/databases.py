"""Databases: the one that was given or an embedded one, its tables, and what is asked of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from workerjobs.domain.data_schema import check_data
from workerjobs.errors import DatabaseUnavailableError, SchemaError, WorkerJobsError
from workerjobs.settings.workers import LEASE_SECONDS
from workerjobs.storage.connection import address_of
from workerjobs.storage.migrate import migrate_url
from workerjobs.storage.postgres import PostgresJobStore

if TYPE_CHECKING:
    # Imported where they are used, as most commands use none of them.
    from workerjobs.domain.doctor_facts import Facts
    from workerjobs.domain.job import NewJob
    from workerjobs.storage.listen import PostgresListener
    from workerjobs.storage.quickdapp import Adoption

log = logging.getLogger(__name__)

T = TypeVar("T")

_WAIT_SECONDS = 1.0


@contextmanager
def database(url: str | None) -> Iterator[str]:
    """Give the database's URL, starting (or joining) the embedded Postgres where there is none.

    The embedded one is migrated on the way: nobody else would do it.
    """
    if url is not None:
        yield url
        return
    from workerjobs.storage.embedded import EmbeddedPostgres

    with EmbeddedPostgres() as server:
        migrate_url(server.url)
        yield server.url


@contextmanager
def throwaway_database() -> Iterator[str]:
    """Give the URL of a migrated database that is gone afterwards."""
    from workerjobs.storage.embedded import EmbeddedPostgres

    with EmbeddedPostgres.ephemeral() as server:
        migrate_url(server.url)
        yield server.url


def name_of(url: str) -> str:
    """Name a database for people, without its password."""
    return address_of(url)


@asynccontextmanager
async def open_store(url: str, application_name: str = "workerjobs") -> AsyncIterator[PostgresJobStore]:
    """Open the table of jobs and close it at the end."""
    store = await PostgresJobStore.open(url, application_name)
    try:
        yield store
    finally:
        await store.close()


async def gather_facts(url: str, direct_url: str | None) -> Facts:
    """Ask the database what `workerjobs doctor` judges."""
    from workerjobs.storage.doctor import gather

    return await gather(url, direct_url)


async def check_against_workers(store: PostgresJobStore, job: NewJob) -> None:
    """Refuse a job's data where live workers know its type, and none of them would accept it.

    Args:
        store: The table.
        job: Otherwise valid (`workerjobs.domain.job_checks.check_job`).

    Raises:
        InvalidDataError: With everything that is wrong.
    """
    check_data(job.data, await store.schemas_of(job.pool, job.type, timedelta(seconds=LEASE_SECONDS)))


async def wait_for_store(
    url: str, application_name: str, wait_seconds: float, namespaces: Sequence[str] = ()
) -> PostgresJobStore:
    """Open the table of jobs, waiting a while for a database that is not up, or not migrated, yet."""
    missing = (DatabaseUnavailableError, SchemaError)
    return await _wait_for(lambda: PostgresJobStore.open(url, application_name, namespaces), missing, wait_seconds)


async def wait_to_migrate(url: str, wait_seconds: float) -> list[str]:
    """Migrate, waiting a while for a database that is not up yet."""
    return await _wait_for(lambda: asyncio.to_thread(migrate_url, url), (DatabaseUnavailableError,), wait_seconds)


async def _wait_for(
    attempt: Callable[[], Awaitable[T]], missing: tuple[type[WorkerJobsError], ...], wait_seconds: float
) -> T:
    """Try again every second while something is missing; what that is, is said when it begins or changes."""
    deadline = time.monotonic() + wait_seconds
    said = ""
    while True:
        try:
            return await attempt()
        except missing as error:
            if time.monotonic() >= deadline:
                raise
            if str(error) != said:
                log.warning("Waiting: %s", error)
                said = str(error)
            await asyncio.sleep(_WAIT_SECONDS)


def listener(
    url: str,
    direct_url: str | None,
    application_name: str = "workerjobs listener",
    *,
    poll_seconds: float | None = None,
    channel: str | None = None,
) -> PostgresListener:
    """Listen past the pooler where there is a way; by default to what is said of jobs."""
    from workerjobs.storage.listen import JOBS, POLL_SECONDS, PostgresListener

    return PostgresListener(
        direct_url or url,
        application_name,
        is_direct=direct_url is not None,
        poll_seconds=POLL_SECONDS if poll_seconds is None else poll_seconds,
        channel=channel or JOBS,
    )


def install_quickdapp(url: str) -> list[str]:
    """Make the view worker_jobs and QuickDapp's other tables; returns what was made."""
    from workerjobs.storage import quickdapp

    return quickdapp.install_quickdapp(url)


def adopt(url: str, *, dry_run: bool) -> Adoption:
    """Take over QuickDapp's table worker_jobs."""
    from workerjobs.storage import quickdapp

    return quickdapp.adopt(url, dry_run=dry_run)
