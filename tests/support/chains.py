"""Watching chains in tests: a database with users who own wallets, and a watcher whose single steps are called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

from tests.support.anvil import ACCOUNTS, Anvil
from tests.support.table import sql
from workerjobs.chain.decoding import topic_of
from workerjobs.chain.endpoint import EndpointState
from workerjobs.chain.reader import RpcChainReader, name_endpoints
from workerjobs.domain.blocks import Confirmations
from workerjobs.domain.chains import Chain
from workerjobs.jobs.chain_filters import ChainFilter
from workerjobs.jobs.token_filters import TOKEN_TRANSFERRED, token_filters
from workerjobs.jobs.watch_chain import ChainWatch
from workerjobs.storage.chain import PostgresChainStore

SENT = topic_of(TOKEN_TRANSFERRED)
"""The first topic of a transfer's log."""
QUERIES = [each.query for each in token_filters(None)]
"""What the built-in filters ask a chain for."""


@contextmanager
def aside(chain: Anvil) -> Iterator[Anvil]:
    """The same chain over a connection of its own, for another thread."""
    own = Anvil(chain.port, chain.process, chain.log, chain.host)
    try:
        yield own
    finally:
        own._connection.close()


def make_chain(*urls: str, chain_id: int = 31337, from_block: int | None = 0, **more: Any) -> Chain:
    """A chain as settings would describe it."""
    confirmations = Confirmations.parse(str(more.pop("confirmations", "latest")))
    return Chain("anvil", chain_id, urls, confirmations, from_block, **more)


def reader_of(chain: Chain, seconds: float = 5.0) -> RpcChainReader:
    """A reader that knows nothing of its endpoints yet."""
    states = [
        EndpointState(name, url, chain.requests_per_second)
        for name, url in zip(name_endpoints(chain.rpc_urls), chain.rpc_urls, strict=True)
    ]
    return RpcChainReader(chain, states, seconds)


def late_copy(from_block: int = 0) -> ChainFilter:
    """The built-in filter sendToken once more: under the name ``late``, and with a start block of its own."""
    (sent,) = (each for each in token_filters(None) if each.query.name == "sendToken")
    return ChainFilter(replace(sent.query, name="late", from_block=from_block), sent.handle)


@asynccontextmanager
async def watching(
    database_url: str, chain: Chain | str, filters: Sequence[ChainFilter] | None = None, seconds: float = 5.0
) -> AsyncIterator[ChainWatch]:
    """A watcher of a chain; by default with the built-in filters."""
    described = make_chain(chain) if isinstance(chain, str) else chain
    store = await PostgresChainStore.open(database_url, "workerjobs test")
    reader = reader_of(described, seconds)
    try:
        yield ChainWatch(described, store, reader, token_filters(None) if filters is None else filters)
    finally:
        await reader.close()
        await store.close()


async def catch_up(watch: ChainWatch) -> None:
    """Step until nothing is left to do."""
    while await watch.step():
        pass


async def make_user(database_url: str, wallet: str = ACCOUNTS[0]) -> int:
    """A user who owns a wallet."""
    store = await PostgresChainStore.open(database_url, "workerjobs test")
    await store.close()
    ((user_id,),) = sql(database_url, "insert into users default values returning id")
    sql(
        database_url,
        "insert into user_auth (user_id, auth_type, auth_identifier) values (%s, 'WEB3_WALLET', %s)",
        user_id,
        wallet.lower(),
    )
    return int(user_id)


def notifications(database_url: str, *, revoked: bool = False) -> list[dict[str, Any]]:
    """The data of notifications that hold, or of those that were revoked, oldest first."""
    rows = sql(
        database_url, "select data from notifications where (data ->> 'revoked' is not null) = %s order by id", revoked
    )
    return [row[0] for row in rows]


def events_of(chain: Anvil, topic: str) -> list[tuple[str, int]]:
    """What the node itself has of an event, in all blocks: transaction hash and log index."""
    logs = chain.call("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "topics": [topic]})
    return [(log["transactionHash"], int(log["logIndex"], 16)) for log in logs]


def active_effects(database_url: str, filter_name: str) -> list[tuple[str, int]]:
    """What was done for logs of a filter and holds: transaction hash and log index, in the order of the chain."""
    rows = sql(
        database_url,
        """
        select effect."transactionHash", effect."logIndex"
        from "workerChainEffects" as effect
        join notifications on notifications.id = effect."notificationId"
        where effect.filter = %s and effect."revokedAt" is null and notifications.data ->> 'revoked' is null
        order by effect."blockNumber", effect."logIndex"
        """,
        filter_name,
    )
    return [(row[0], row[1]) for row in rows]
