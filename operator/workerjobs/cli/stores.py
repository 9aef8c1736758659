"""Asking the tables one thing: what most commands do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from workerjobs import app
from workerjobs.ports.chains import ChainStore
from workerjobs.ports.jobs import JobStore
from workerjobs.settings import database_url

Answer = TypeVar("Answer")


def on_store(ask: Callable[[JobStore], Awaitable[Answer]]) -> Answer:
    """Ask the table of jobs."""

    async def run(url: str) -> Answer:
        async with app.open_store(url) as store:
            return await ask(store)

    with app.database(database_url()) as url:
        return asyncio.run(run(url))


def on_chains(ask: Callable[[ChainStore], Awaitable[Answer]]) -> Answer:
    """Ask the tables of watched chains."""

    async def run(url: str) -> Answer:
        async with app.open_chain_store(url) as store:
            return await ask(store)

    with app.database(database_url()) as url:
        return asyncio.run(run(url))
