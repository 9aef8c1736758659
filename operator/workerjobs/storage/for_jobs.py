"""What a job's process loads only when a job works on its database (`workerjobs.ports.for_jobs.StorageForJobs`)."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import class_row

from workerjobs.ports.chains import SignedTransaction
from workerjobs.storage.chain import PostgresChainStore
from workerjobs.storage.connection import CONNECT_OPTIONS, address_of, connect, connect_error
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.storage.queries import query

APPLICATION_NAME = "workerjobs job"


async def open_store(url: str) -> PostgresJobStore:
    """Open the table of jobs."""
    return await PostgresJobStore.open(url, APPLICATION_NAME)


def connect_for_job(url: str) -> psycopg.Connection[Any]:
    """Open an autocommit connection.

    Raises:
        DatabaseUnavailableError: No server answers there.
        DatabaseRefusedError: It answers and refuses the account, password or database.
    """
    address_of(url)
    try:
        return psycopg.connect(url, autocommit=True, **(CONNECT_OPTIONS | {"application_name": APPLICATION_NAME}))
    except psycopg.OperationalError as error:
        raise connect_error(url, error) from error


async def connect_async_for_job(url: str) -> psycopg.AsyncConnection[Any]:
    """The same for ``async`` functions."""
    return await connect(url, APPLICATION_NAME)


def remember_payment(
    connection: psycopg.Connection[Any], chain_id: int, payment: SignedTransaction, instead_of: str | None
) -> SignedTransaction:
    """Note a payment on a chain before it is sent; see `workerjobs.ports.for_jobs.StorageForJobs.remember_payment`."""
    values = {
        "chain_id": chain_id,
        "transaction_hash": payment.transaction_hash,
        "signed_transaction": payment.signed_transaction,
        "instead_of": instead_of,
    }
    connection.execute(query("remember_payment"), values)
    with connection.cursor(row_factory=class_row(SignedTransaction)) as cursor:
        noted = cursor.execute(query("remembered_payment"), values).fetchone()
    assert noted is not None
    return noted


def close_for_job(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Close a connection at once, also an asynchronous one whose event loop is gone."""
    connection.pgconn.finish()


async def open_chain_store(url: str) -> PostgresChainStore:
    """Open the tables of watched chains."""
    return await PostgresChainStore.open(url, APPLICATION_NAME)
