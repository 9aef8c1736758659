"""procrastinate: asynchronous worker with a concurrency, psycopg pool (its "howto/production")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import procrastinate
from protocol import URL, cpu, main, noop, stamp

CONCURRENCY = {"drain": 20, "pickup": 20, "cpu": 1}


class Procrastinate:
    def __init__(self) -> None:
        self.app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=URL, min_size=4, max_size=CONCURRENCY["drain"])
        )
        for function in (noop, stamp, cpu):
            self._register(function)

    def _register(self, function: Callable[[int], None]) -> None:
        @self.app.task(name=function.__name__)
        async def task(number: int) -> None:
            function(number)

    async def setup(self) -> None:
        async with self.app.open_async():
            await self.app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        await self.app.open_async()

    async def insert(self, kind: str, numbers: range) -> None:
        await self.app.configure_task(kind).batch_defer_async(*({"number": number} for number in numbers))

    async def submit(self, kind: str, number: int) -> None:
        await self.app.configure_task(kind).defer_async(number=number)

    async def work(self, profile: str, ready: Callable[[], None], stop: asyncio.Event) -> None:
        async with self.app.open_async():
            worker = asyncio.create_task(
                self.app.run_worker_async(concurrency=CONCURRENCY[profile], install_signal_handlers=False)
            )
            ready()
            await stop.wait()
            worker.cancel()
            await asyncio.wait([worker])


if __name__ == "__main__":
    main(Procrastinate)
