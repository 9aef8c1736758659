"""Connecting to Postgres, with its errors in WorkerJobs' words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError, InvalidSettingsError, WorkerJobsError
from workerjobs.storage.queries import query

CONNECT_OPTIONS: dict[str, Any] = {
    "connect_timeout": 10,
    # A server that vanished without a word (node lost, cable pulled) is noticed within a lease.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

# psycopg (3.3) gives errors of the connection attempt no SQLSTATE, only the server's English text.
_REFUSALS = (
    "authentication failed",
    "does not exist",
    "no pg_hba.conf entry",
    "no password supplied",
    # As pgbouncer says it.
    "no such database",
    "no such user",
    "permission denied",
)


_ENCODE = "special characters in the password have to be percent-encoded, such as %2F for /"


def address_of(url: str) -> str:
    """Name a database without its password: ``user@host:port/name``.

    Raises:
        InvalidSettingsError: The URL can't be read; what may be part of its password is not repeated.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # What follows is a piece of the URL.
        reason = str(error).strip().partition(': "')[0]
        raise InvalidSettingsError(f"DATABASE_URL can't be read: {reason}; {_ENCODE}") from None
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    user = f"{parts['user']}@" if parts.get("user") else ""
    port, name = str(parts.get("port") or 5432), str(parts.get("dbname") or "")
    # A / in the password ends the host there: what should be the password is taken for the port.
    if not port.replace(",", "").isdecimal() or (not user and "@" in name):
        raise InvalidSettingsError(f"DATABASE_URL can't be read: the port is no number; {_ENCODE}")
    return f"{user}{host}:{port}/{name}"


def connect_error(url: str, error: psycopg.Error) -> WorkerJobsError:
    """Translate the failure of a connection attempt."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fatal = [line.rpartition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    reason = (fatal or lines or ["no answer"])[0].removeprefix("connection failed: ")
    if any(refusal in reason for refusal in _REFUSALS):
        return DatabaseRefusedError(f"The database {address_of(url)} refuses the connection: {reason}")
    return DatabaseUnavailableError(f"The database {address_of(url)} can't be reached: {reason}")


async def connect(url: str, application_name: str) -> psycopg.AsyncConnection[Any]:
    """Open an autocommit connection, whose transactions are READ COMMITTED whatever the server's default is.

    Behind a pooler it prepares no statements: there they belong to a session of the pooler, which the next transaction
    may not get, and pgbouncer before 1.21 knows nothing of them.

    Raises:
        DatabaseUnavailableError: No server answers there.
        DatabaseRefusedError: It answers and refuses the account, password or database.
    """
    address_of(url)
    try:
        connection = await psycopg.AsyncConnection.connect(
            url, autocommit=True, **(CONNECT_OPTIONS | {"application_name": application_name})
        )
        try:
            if await is_pooled(connection):
                connection.prepare_threshold = None
            else:
                await connection.execute(query("plan_by_index"))
        except BaseException:
            await connection.close()
            raise
    except psycopg.OperationalError as error:
        raise connect_error(url, error) from error
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    return connection


async def is_pooled(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether a pooler such as pgbouncer stands between, so that the session may change from statement to statement.

    A pooler gives its clients a process id of its own making, with which they ask it to cancel a statement.
    """
    row = await (await connection.execute(query("backend_pid"))).fetchone()
    return row != (connection.info.backend_pid,)


def connect_blocking(url: str, application_name: str) -> psycopg.Connection[Any]:
    """Open a connection for a program that does one thing after the other; used in ``with``, it is one transaction.

    Raises:
        DatabaseUnavailableError: No server answers there.
        DatabaseRefusedError: It answers and refuses the account, password or database.
    """
    address_of(url)
    try:
        # It prepares nothing: a pooler would hand what is left of that to its next client.
        return psycopg.connect(
            url, prepare_threshold=None, **(CONNECT_OPTIONS | {"application_name": application_name})
        )
    except psycopg.OperationalError as error:
        raise connect_error(url, error) from error


def is_lost(error: psycopg.Error) -> bool:
    """Whether an error means that the connection is gone, and not that a statement was wrong."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return False
    if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):
        return True  # this process was held up within a transaction, and the server ended the session
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and (
        error.sqlstate is None or error.sqlstate[:2] in ("08", "57") or error.sqlstate == "25006"
    )


def is_passing(error: psycopg.Error) -> bool:
    """Whether the same statement may work later: deadlocks, full disks, lock and statement timeouts, I/O errors."""
    return error.sqlstate is not None and error.sqlstate[:2] in ("40", "53", "55", "57", "58")


def is_refusal(error: psycopg.Error) -> bool:
    """Whether the database (or the driver, which gives no SQLSTATE) can't take the values of a statement.

    Invalid data, constraints, limits such as the depth of JSON, and what triggers raise.
    """
    if error.sqlstate is None:
        return isinstance(error, psycopg.DataError)
    return error.sqlstate[:2] in ("21", "22", "23", "54", "P0")


@contextmanager
def connection_errors(url: str) -> Iterator[None]:
    """Turn errors that say nothing about a statement's values into WorkerJobs' own; others pass through.

    Raises:
        DatabaseUnavailableError: The connection was lost, or the server has passing trouble.
        DatabaseRefusedError: The account lacks a privilege.
    """
    try:
        yield
    except psycopg.Error as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        if is_lost(error):
            raise DatabaseUnavailableError(
                f"The connection to the database {address_of(url)} was lost: {reason}"
            ) from error
        if is_passing(error):
            raise DatabaseUnavailableError(f"The database {address_of(url)} can't do that now: {reason}") from error
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            raise DatabaseRefusedError(f"The database {address_of(url)} refuses that: {reason}") from error
        raise


class OneConnection:
    """What a store works over: one connection, which is opened when it is needed, and anew after it was lost.

    Calls from several tasks take turns.

    Args:
        url: The database.
        application_name: What the server is told of who connects.
    """

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._application_name = application_name
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Hold the connection; each statement is its own transaction, without BEGIN."""
        async with self._turn:
            if self._connection is None or self._connection.closed or self._connection.broken:
                self._connection = await connect(self._url, self._application_name)
            with connection_errors(self._url):
                yield self._connection
