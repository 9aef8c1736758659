"""The tables of watched chains, and rewinding a chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from workerjobs.domain.blocks import BlockRef
from workerjobs.domain.chains import Chain
from workerjobs.errors import ChainUnavailableError, InvalidInputError, NotFoundError
from workerjobs.storage.chain import PostgresChainStore

_REWIND_SECONDS, _REWIND_TRIES = 10.0, 10


@asynccontextmanager
async def open_chain_store(url: str) -> AsyncIterator[PostgresChainStore]:
    """Open the tables of watched chains and close them at the end."""
    store = await PostgresChainStore.open(url, "workerjobs chain")
    try:
        yield store
    finally:
        await store.close()


async def rewind_chain(url: str, chain: Chain, block: int) -> int:
    """Undo what blocks of a chain after one led to; returns how many effects.

    Raises:
        NotFoundError: The chain was never watched, or has no such block.
        InvalidInputError: It is not processed so far.
        ChainUnavailableError: No endpoint answers, or another worker processes the chain all the time.
    """
    # Here and not above: what reads chains is an extra.
    from workerjobs.chain.for_jobs import open_reader

    reader = await open_reader(chain, seconds=_REWIND_SECONDS)
    try:
        async with open_chain_store(url) as store:
            header = (await reader.headers([block]))[0] if block >= 0 else None
            if header is None and block >= 0:
                raise NotFoundError(f"{chain.name} has no block {block}")
            to = BlockRef(-1, "") if header is None else header.ref
            for _ in range(_REWIND_TRIES):
                cursor = await store.cursor(chain.name)
                if cursor is None:
                    raise NotFoundError(f"{chain.name} was never watched")
                if block > cursor.number:
                    raise InvalidInputError(f"{chain.name} is processed up to block {cursor.number}: give that or less")
                revoked = await store.rewind(chain.name, cursor.ref, to)
                if revoked is not None:
                    return revoked
            raise ChainUnavailableError(f"{chain.name} is processed meanwhile: pause watchChain, and try again")
    finally:
        await reader.close()
