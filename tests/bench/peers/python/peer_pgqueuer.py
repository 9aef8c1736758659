"""PgQueuer: asyncpg driver, uvloop, batches of 100; all tables logged (durable)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer, Queries
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.models import Job
from protocol import JOBS, URL, main

BATCH = {"drain": 100, "pickup": 10, "cpu": 1}


class PgQueuerPeer:
    queries: Queries

    async def setup(self) -> None:
        await Queries(AsyncpgDriver(await asyncpg.connect(URL))).install()

    async def open(self) -> None:
        self.queries = Queries(AsyncpgDriver(await asyncpg.connect(URL)))

    async def insert(self, kind: str, numbers: range) -> None:
        count = len(numbers)
        await self.queries.enqueue([kind] * count, [b"%d" % number for number in numbers], [0] * count)

    async def submit(self, kind: str, number: int) -> None:
        await self.queries.enqueue(kind, b"%d" % number)

    async def work(self, profile: str, ready: Callable[[], None], stop: asyncio.Event) -> None:
        queue = PgQueuer.from_asyncpg_connection(await asyncpg.connect(URL))
        for name, function in JOBS.items():
            self._register(queue, name, function)
        queue.shutdown = queue.qm.shutdown = queue.sm.shutdown = stop
        ready()
        await queue.run(dequeue_timeout=timedelta(seconds=30), batch_size=BATCH[profile])

    def _register(self, queue: PgQueuer, name: str, function: Callable[[int], None]) -> None:
        @queue.entrypoint(name)
        async def entrypoint(job: Job) -> None:
            assert job.payload is not None
            function(int(job.payload))


if __name__ == "__main__":
    main(PgQueuerPeer, uvloop.run)
