"""Asking the tables of tokens and of chains one thing, for what no server can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from workerjobs import app
from workerjobs.cli.places import needs_database
from workerjobs.settings.reading import database_url

if TYPE_CHECKING:
    from workerjobs.ports.api import TokenStore
    from workerjobs.ports.chains import ChainStore

Answer = TypeVar("Answer")
Store = TypeVar("Store")


def on_chains(ask: Callable[[ChainStore], Awaitable[Answer]]) -> Answer:
    """Ask the tables of watched chains."""
    return _on(app.open_chain_store, ask)


def on_tokens(ask: Callable[[TokenStore], Awaitable[Answer]]) -> Answer:
    """Ask the table of the API's tokens."""
    return _on(app.open_token_store, ask)


def _on(
    opened: Callable[[str], AbstractAsyncContextManager[Store]], ask: Callable[[Store], Awaitable[Answer]]
) -> Answer:
    async def run(url: str) -> Answer:
        async with opened(url) as store:
            return await ask(store)

    needs_database()
    with app.database(database_url()) as url:
        return asyncio.run(run(url))
