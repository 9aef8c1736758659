"""Connecting to Postgres, with its errors in WorkerJobs' words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError, InvalidSettingsError, WorkerJobsError

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
    "permission denied",
)


def address_of(url: str) -> str:
    """Name a database without its password: ``user@host:port/name``."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise InvalidSettingsError(f"DATABASE_URL can't be read: {str(error).strip()}") from None
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    user = f"{parts['user']}@" if parts.get("user") else ""
    return f"{user}{host}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


def connect_error(url: str, error: psycopg.Error) -> WorkerJobsError:
    """Translate the failure of a connection attempt."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fatal = [line.rpartition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    reason = (fatal or lines or ["no answer"])[0].removeprefix("connection failed: ")
    if any(refusal in reason for refusal in _REFUSALS):
        return DatabaseRefusedError(f"The database {address_of(url)} refuses the connection: {reason}")
    return DatabaseUnavailableError(f"The database {address_of(url)} can't be reached: {reason}")


async def connect(url: str, application_name: str) -> psycopg.AsyncConnection[Any]:
    """Open an autocommit connection.

    Raises:
        DatabaseUnavailableError: No server answers there.
        DatabaseRefusedError: It answers and refuses the account, password or database.
    """
    address_of(url)
    try:
        return await psycopg.AsyncConnection.connect(
            url, autocommit=True, **(CONNECT_OPTIONS | {"application_name": application_name})
        )
    except psycopg.OperationalError as error:
        raise connect_error(url, error) from error


def is_lost(error: psycopg.Error) -> bool:
    """Whether an error means that the connection is gone, and not that a statement was wrong."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return False
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and (
        error.sqlstate is None or error.sqlstate[:2] in ("08", "57") or error.sqlstate == "25006"
    )


@contextmanager
def connection_errors(url: str) -> Iterator[None]:
    """Turn a lost connection into `DatabaseUnavailableError`; other errors pass."""
    try:
        yield
    except psycopg.Error as error:
        if is_lost(error):
            reason = (str(error).strip().splitlines() or ["connection lost"])[0]
            raise DatabaseUnavailableError(
                f"The connection to the database {address_of(url)} was lost: {reason}"
            ) from error
        raise
