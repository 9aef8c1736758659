"""What a job's own process is given: its data, and connections to its database."""

from __future__ import annotations

from typing import Any, Protocol

from workerjobs.domain.job import Job
from workerjobs.ports.chains import ChainStore, SignedTransaction
from workerjobs.ports.jobs import JobStore


class JobData(Protocol):
    """Gives jobs the fields of their data that are in Secrets and ConfigMaps."""

    async def resolve(self, job: Job) -> str:
        """The data of a job, as JSON, with what its ``dataFrom`` names.

        Raises:
            InvalidInputError: Something is missing, or the job may not have it.
            ClusterUnavailableError: The API can't be reached now.
            ClusterError: There is none, or it refuses.
        """
        ...


class StorageForJobs(Protocol):
    """What opens a job's own connections to its database; a module, loaded when the first job asks for one."""

    async def open_store(self, url: str) -> JobStore:
        """Open the table of jobs."""
        ...

    def connect_for_job(self, url: str) -> Any:
        """Open a `psycopg.Connection`."""
        ...

    async def connect_async_for_job(self, url: str) -> Any:
        """Open a `psycopg.AsyncConnection`."""
        ...

    async def open_chain_store(self, url: str) -> ChainStore:
        """Open the tables of watched chains."""
        ...

    def close_for_job(self, connection: Any) -> None:
        """Close either, without waiting for anything."""
        ...

    def remember_payment(
        self, connection: Any, chain_id: int, payment: SignedTransaction, instead_of: str | None
    ) -> SignedTransaction:
        """Note a payment on a chain before it is sent; one at a time.

        Args:
            connection: Of `connect_for_job`.
            chain_id: Of the chain.
            payment: What is about to be sent.
            instead_of: The hash of the noted one that it replaces, if any.

        Returns:
            What is noted now: an earlier payment, where that is another one than ``instead_of``.
        """
        ...
