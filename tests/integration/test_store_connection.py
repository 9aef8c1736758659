"""Connecting, and connections that break."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from tests.support.loop import in_loop
from tests.support.table import claim_one, lease_of, open_store, read, settlement, sql, submit_one
from workerjobs.domain.job import JobState, NewJob
from workerjobs.errors import (
    DatabaseRefusedError,
    DatabaseUnavailableError,
    InvalidSettingsError,
    WorkerJobsError,
)
from workerjobs.storage.connection import address_of
from workerjobs.storage.migrate import migrate_url
from workerjobs.storage.postgres import PostgresJobStore

SECRET = "secret-word"


def with_parts(url: str, *, password: str | None = None, name: str | None = None, user: str | None = None) -> str:
    parts = urlsplit(url)
    account = f"{user or parts.username}:{password or parts.password}"
    return f"postgresql://{account}@{parts.hostname}:{parts.port}/{name or parts.path[1:]}"


def failure(url: str) -> WorkerJobsError:
    """The error of opening a store, which has to be that of migrating too."""

    @in_loop
    async def open_it() -> None:
        async with open_store(url):
            pass

    errors = []
    for use in (open_it, lambda: migrate_url(url)):
        with pytest.raises(WorkerJobsError) as raised:
            use()
        errors.append(raised.value)
    assert type(errors[0]) is type(errors[1])
    for error in errors:
        assert SECRET not in str(error)
        assert "\n" not in str(error)
    return errors[0]


def test_no_server_is_unavailable() -> None:
    # Bound without listening, so that nobody else can be there.
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        error = failure(f"postgresql://ada:{SECRET}@127.0.0.1:{port}/jobs")
    assert isinstance(error, DatabaseUnavailableError)
    assert f"The database ada@127.0.0.1:{port}/jobs can't be reached" in str(error)
    assert "Connection refused" in str(error)


def test_unknown_host_is_unavailable() -> None:
    error = failure(f"postgresql://ada:{SECRET}@no-such-host.invalid/jobs")
    assert isinstance(error, DatabaseUnavailableError)
    assert "ada@no-such-host.invalid:5432/jobs can't be reached" in str(error)


def test_wrong_password_is_refused(database_url: str) -> None:
    error = failure(with_parts(database_url, password=SECRET))
    assert isinstance(error, DatabaseRefusedError)
    assert "refuses the connection: password authentication failed" in str(error)


def test_unknown_account_is_refused(database_url: str) -> None:
    error = failure(with_parts(database_url, user="nobody-here", password=SECRET))
    assert isinstance(error, DatabaseRefusedError)


def test_unknown_database_is_refused(database_url: str) -> None:
    error = failure(with_parts(database_url, name="no_such_database"))
    assert isinstance(error, DatabaseRefusedError)
    assert 'database "no_such_database" does not exist' in str(error)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ada:{SECRET}%zz@localhost/jobs",
        f"postgresql://ada:{SECRET}/x@localhost:5432/jobs",
        f"postgresql://ada:12/{SECRET}@localhost:5432/jobs",
        f"postgresql://ada:{SECRET}@localhost:5432/jobs?colour=red",
        f"postgresql://ada:{SECRET}@localhost:x/jobs",
        f"postgresql://ada:{SECRET}@[localhost/jobs",
    ],
)
def test_url_that_can_not_be_read_is_refused_without_repeating_the_password(url: str) -> None:
    error = failure(url)
    assert isinstance(error, InvalidSettingsError)
    assert "DATABASE_URL can't be read" in str(error)


def test_address_names_no_password() -> None:
    assert address_of(f"postgresql://ada:{SECRET}@db.local:6000/jobs") == "ada@db.local:6000/jobs"
    assert address_of(f"postgresql:///jobs?host=/run/pg&password={SECRET}") == "/run/pg:5432/jobs"


# --- connections that break

TERMINATE = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""


@in_loop
async def test_store_connects_anew_after_its_connection_was_terminated(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await claim_one(store)
        for _ in range(2):
            sql(database_url, TERMINATE)
            with pytest.raises(DatabaseUnavailableError, match="was lost: terminating connection"):
                await store.now()
            assert (await read(store, job)).state is JobState.RUNNING
        sql(database_url, TERMINATE)
        with pytest.raises(DatabaseUnavailableError):
            await store.submit([NewJob(type="report")])
        await submit_one(store)
        # Its lease outlives its connection.
        assert (await store.renew([lease_of(job)], timedelta(seconds=5))).held == {job.id}
        assert (await store.settle([settlement(job)])).stored == {job.id}


@in_loop
async def test_calls_of_many_tasks_take_turns_on_one_connection(database_url: str) -> None:
    async with open_store(database_url) as store:
        jobs = await asyncio.gather(*(submit_one(store, NewJob(type="x", data={"n": n})) for n in range(50)))
        assert [job.data["n"] for job in jobs] == list(range(50))
        count = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        assert sql(database_url, count) == [(1,)]


@in_loop
async def test_call_that_was_given_up_does_not_disturb_the_next_one(database_url: str) -> None:
    async with open_store(database_url) as store:
        job = await submit_one(store)
        async with open_store(database_url) as other, other._transaction() as blocker:
            await blocker.execute('lock table "workerJobs"')
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.get(job.id), 0.1)
        assert (await read(store, job)).id == job.id


@in_loop
async def test_closed_store_has_no_connection_left(database_url: str) -> None:
    store = await PostgresJobStore.open(database_url, "test")
    await store.close()
    await store.close()
    with pytest.raises(WorkerJobsError):
        async with open_store(database_url + "-gone"):
            pass
