"""Ours as a producer, through the same protocol as the peers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.bench.peers.python.protocol import URL, main
from workerjobs import app
from workerjobs.domain.job import NewJob
from workerjobs.storage.postgres import PostgresJobStore


class WorkerJobs:
    """The table of jobs; the worker is `workerjobs worker`."""

    store: PostgresJobStore

    async def setup(self) -> None:
        await app.wait_to_migrate(URL, 10)

    async def open(self) -> None:
        self.store = await PostgresJobStore.open(URL, "workerjobs bench")

    async def insert(self, kind: str, numbers: range) -> None:
        await self.store.submit([NewJob(type=kind, data={"number": number}) for number in numbers])

    async def submit(self, kind: str, number: int) -> None:
        await self.store.submit([NewJob(type=kind, data={"number": number})])

    async def work(self, profile: str, ready: Callable[[], None], stop: asyncio.Event) -> None:
        raise NotImplementedError("the worker is a command of its own")


if __name__ == "__main__":
    main(WorkerJobs)
