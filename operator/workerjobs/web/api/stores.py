"""Stores for requests: some connections that requests take turns at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request

from workerjobs.errors import DatabaseUnavailableError
from workerjobs.ports.api import ApiStore, Caller, RecordingStore

WAIT_SECONDS = 10.0


class Stores:
    """Hands out stores, each to one at a time."""

    def __init__(self, stores: Sequence[ApiStore]) -> None:
        self._all = stores
        self._free: asyncio.LifoQueue[ApiStore] = asyncio.LifoQueue()
        for store in stores:
            self._free.put_nowait(store)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[ApiStore]:
        """Take a store for a while.

        Raises:
            DatabaseUnavailableError: All are in use for long.
        """
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                store = await self._free.get()
        except TimeoutError:
            raise DatabaseUnavailableError("All connections of the API are in use") from None
        try:
            yield store
        finally:
            self._free.put_nowait(store)

    async def close(self) -> None:
        """Close all."""
        for store in self._all:
            await store.close()


async def _borrowed(request: Request) -> AsyncIterator[ApiStore]:
    stores: Stores = request.app.state.stores
    async with stores.borrow() as store:
        yield store


StoreOfRequest = Annotated[ApiStore, Depends(_borrowed, scope="function")]
"""A store for the time until the answer is known."""


class Changing:
    """What a request changes, in one transaction with its line in the audit."""

    def __init__(self, request: Request, store: ApiStore) -> None:
        self.store = store
        self._caller: Caller = request.state.caller
        self._address = request.client.host if request.client is not None else None

    @asynccontextmanager
    async def transaction(self, action: str, details: dict[str, object]) -> AsyncIterator[RecordingStore]:
        """Change something; what is in ``details`` at the end is recorded."""
        async with self.store.transaction() as inside:
            yield inside
            await inside.record(self._caller, self._address, action, details)


def _changing(request: Request, store: StoreOfRequest) -> Changing:
    return Changing(request, store)


ChangeOfRequest = Annotated[Changing, Depends(_changing)]
