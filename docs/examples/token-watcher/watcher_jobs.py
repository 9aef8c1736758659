"""A ledger of token transfers."""

from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from workerjobs import JobContext, job

LEDGER = """
    create table if not exists ledger (
        transaction_hash text, log_index integer, token text, sender text, receiver text, amount numeric,
        primary key (transaction_hash, log_index)
    )
"""
ENTER = """
    insert into ledger values (%(hash)s, %(index)s, %(token)s, %(sender)s, %(receiver)s, %(amount)s)
    on conflict do nothing
"""


class Log(BaseModel):
    address: str
    transactionHash: str  # noqa: N815  # as the chain's logs name it
    logIndex: int  # noqa: N815
    arguments: dict[str, Any]


class Transfer(BaseModel):
    log: Log


@job("bookTransfer", retry=5)
def book_transfer(transfer: Transfer, context: JobContext) -> dict[str, Any]:
    """Enter a transfer. The key is the log's own, so a second run of the job enters nothing twice."""
    log, said = transfer.log, transfer.log.arguments
    amount = Decimal(said["value"]).scaleb(-int(said["decimals"])).normalize()
    connection = context.connection
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('ledger'))")
        connection.execute(LEDGER)
        connection.execute(
            ENTER,
            {
                "hash": log.transactionHash,
                "index": log.logIndex,
                "token": said["symbol"],
                "sender": said["from"],
                "receiver": said["to"],
                "amount": amount,
            },
        )
    return {"token": said["symbol"], "amount": f"{amount:f}"}
