"""What a running job is given beside its data."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workerjobs.domain.json_text import encode_json

if TYPE_CHECKING:
    from workerjobs.ports.chains import ChainStore, SignedTransaction
    from workerjobs.ports.for_jobs import StorageForJobs
    from workerjobs.ports.jobs import JobStore

PROGRESS_TEXT_LIMIT = 1000
"""Characters of a progress report's message that are kept."""


class JobConnections:
    """A run's own connections to its database: opened when they are first asked for, closed at the run's end.

    Args:
        url: The database; None where the job runs without one.
        load_storage: Imports what opens connections; a job that needs none never loads the driver.
    """

    def __init__(self, url: str | None = None, load_storage: Callable[[], StorageForJobs] | None = None) -> None:
        self._url = url
        self._load_storage = load_storage
        self._connection: Any = None
        self._async_connection: Any = None

    def connection(self) -> Any:
        """The connection for plain functions."""
        if self._connection is None:
            self._connection = self._storage().connect_for_job(self._given_url())
        return self._connection

    async def async_connection(self) -> Any:
        """The connection for ``async`` functions."""
        if self._async_connection is None:
            self._async_connection = await self._storage().connect_async_for_job(self._given_url())
        return self._async_connection

    async def open_store(self) -> JobStore:
        """Open the table of jobs."""
        return await self._storage().open_store(self._given_url())

    async def open_chain_store(self) -> ChainStore:
        """Open the tables of watched chains."""
        return await self._storage().open_chain_store(self._given_url())

    def remember_payment(self, chain_id: int, payment: SignedTransaction, instead_of: str | None) -> SignedTransaction:
        """Note a payment on a chain before it is sent; see `StorageForJobs.remember_payment`."""
        return self._storage().remember_payment(self.connection(), chain_id, payment, instead_of)

    def close(self) -> None:
        """Close what was opened. Transactions left open are rolled back."""
        for connection in (self._connection, self._async_connection):
            if connection is not None:
                self._storage().close_for_job(connection)
        self._connection = self._async_connection = None

    def _given_url(self) -> str:
        if self._url is None:
            raise RuntimeError("this job runs without a database")
        return self._url

    def _storage(self) -> StorageForJobs:
        if self._load_storage is None:
            raise RuntimeError("this job runs without a database")
        return self._load_storage()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """The job at hand, as its function sees it."""

    job_id: int
    job_type: str
    attempt: int = 1
    """1 for the first run, 2 for the first retry, …"""
    user_id: int = 0
    """0 is the system."""
    tag: str | None = None
    fencing_token: int = 0
    """Grows with every run. A run whose worker was lost may still be going while the job runs again elsewhere: effects
    that must not happen twice can remember the highest token they saw and refuse lower ones."""
    traceparent: str | None = None
    """The W3C trace context to hand on, such as in a header of that name of an HTTP request, and in jobs that it
    submits: the run's own span where the worker traces, otherwise what the job was submitted with."""
    database_url: str | None = None
    """The database that the job came from, for jobs that work on it."""
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("workerjobs.job"))
    """Its records carry the job's id, type and attempt."""
    report_progress: Callable[[str], None] = lambda progress_json: None
    """Takes progress reports, as JSON."""
    is_cancelled: Callable[[], bool] = lambda: False
    connections: JobConnections = field(default_factory=JobConnections)

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop: cancelled, timed out, or its worker is being shut down.

        The function is interrupted as well; this is for threads, and for cleaning up in haste.
        """
        return self.is_cancelled()

    @property
    def connection(self) -> Any:
        """A `psycopg.Connection` to the job's database, in autocommit mode; made at the first use, closed at the end.

        Several statements in one transaction: ``with context.connection.transaction(): …``

        Raises:
            DatabaseUnavailableError: No connection can be made.
        """
        return self.connections.connection()

    async def async_connection(self) -> Any:
        """The same for ``async`` functions: a `psycopg.AsyncConnection`."""
        return await self.connections.async_connection()

    async def open_store(self) -> JobStore:
        """Open the table of jobs, for jobs that maintain it; the caller closes it."""
        return await self.connections.open_store()

    async def open_chain_store(self) -> ChainStore:
        """Open the tables of watched chains, for the job that watches them; the caller closes it."""
        return await self.connections.open_chain_store()

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the job is; what people see is at most half a second old.

        Args:
            current: Done so far, in any unit.
            total: All there is, in the same unit; None where that is unknown.
            message: What is being done, a few words.

        Raises:
            TypeError: A number is none.
            ValueError: It can't be stored as JSON.
        """
        for name, number in (("current", current), ("total", total)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
                raise TypeError(f"progress: {name} is {number!r}, give a number")
        if isinstance(message, str):
            message = message[:PROGRESS_TEXT_LIMIT]
        self.report_progress(encode_json({"current": current, "total": total, "message": message}))
