"""awa-pg: the Rust engine with Python handlers, queue storage, COPY ingestion."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import awa
from protocol import JOBS, URL, main

WORKERS = {"drain": 64, "pickup": 8, "cpu": 1}


@dataclass
class Noop:
    number: int


@dataclass
class Stamp:
    number: int


@dataclass
class Cpu:
    number: int


KINDS: dict[str, type[Any]] = {"noop": Noop, "stamp": Stamp, "cpu": Cpu}


class AwaPeer:
    def __init__(self) -> None:
        self.client = awa.AsyncClient(URL)

    async def setup(self) -> None:
        await self.client.migrate()
        await self.client.install_queue_storage()

    async def open(self) -> None:
        pass

    async def insert(self, kind: str, numbers: range) -> None:
        await self.client.enqueue_many_copy([KINDS[kind](number) for number in numbers], queue="default")

    async def submit(self, kind: str, number: int) -> None:
        await self.client.insert(KINDS[kind](number), queue="default")

    async def work(self, profile: str, ready: Callable[[], None], stop: asyncio.Event) -> None:
        for kind, function in JOBS.items():
            self._register(kind, function)
        queue = {"name": "default", "max_workers": WORKERS[profile]}
        if profile == "drain":
            queue |= {"claimers": 2, "claim_batch_size": 256}
        await self.client.start([queue])
        ready()
        await stop.wait()
        await self.client.shutdown()

    def _register(self, kind: str, function: Callable[[int], None]) -> None:
        @self.client.task(KINDS[kind], queue="default")
        async def task(job: Any) -> None:
            function(job.args.number)


if __name__ == "__main__":
    main(AwaPeer)
