"""oban for Python: one queue with a limit, uvloop as its own command has it where installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvloop
from oban import Oban, worker
from oban.schema import install
from protocol import JOBS, URL, main

LIMIT = {"drain": 200, "pickup": 20, "cpu": 1}


class _Work:
    name: str

    async def process(self, job: Any) -> None:
        JOBS[self.name](job.args["number"])


class ObanPeer:
    def __init__(self) -> None:
        self.workers = {name: worker(queue="default")(type(name, (_Work,), {"name": name})) for name in JOBS}
        self.oban: Oban

    async def setup(self) -> None:
        pool = await Oban.create_pool(URL)
        await install(pool)
        await pool.close()

    async def open(self) -> None:
        self.oban = Oban(pool=await Oban.create_pool(URL))
        await self.oban.start()

    async def insert(self, kind: str, numbers: range) -> None:
        new = self.workers[kind].new
        await self.oban.enqueue_many([new({"number": number}) for number in numbers])

    async def submit(self, kind: str, number: int) -> None:
        await self.oban.enqueue(self.workers[kind].new({"number": number}))

    async def work(self, profile: str, ready: Callable[[], None], stop: asyncio.Event) -> None:
        pool = await Oban.create_pool(URL)
        async with Oban(pool=pool, queues={"default": LIMIT[profile]}):
            ready()
            await stop.wait()


if __name__ == "__main__":
    main(ObanPeer, uvloop.run)
