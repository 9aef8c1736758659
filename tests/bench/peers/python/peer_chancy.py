"""chancy with its process executor, the one peer that runs every job in another process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import protocol
from chancy import Chancy, Queue, Worker, job
from protocol import URL, Calls, main

CONCURRENCY = {"drain": 4, "pickup": 2, "cpu": 2}


# The pool's processes end without a chance to say what they did: every job does.
@job()
def noop(*, number: int) -> None:
    protocol.noop(number)
    Calls.save()


@job()
def stamp(*, number: int) -> None:
    protocol.stamp(number)


@job()
def cpu(*, number: int) -> None:
    protocol.cpu(number)
    Calls.save()


JOBS = {"noop": noop, "stamp": stamp, "cpu": cpu}


class ChancyPeer:
    def __init__(self) -> None:
        self.chancy = Chancy(URL)

    async def setup(self) -> None:
        async with self.chancy:
            await self.chancy.migrate()

    async def open(self) -> None:
        await self.chancy.__aenter__()

    async def insert(self, kind: str, numbers: range) -> None:
        jobs = [JOBS[kind].job.with_kwargs(number=number) for number in numbers]
        async for _ in self.chancy.push_many(jobs, batch_size=len(jobs)):
            pass

    async def submit(self, kind: str, number: int) -> None:
        await self.chancy.push(JOBS[kind].job.with_kwargs(number=number))

    async def work(self, profile: str, ready: Callable[[], None], stop: asyncio.Event) -> None:
        queue = Queue(
            "default",
            concurrency=CONCURRENCY[profile],
            executor=Chancy.Executor.Process,
            # By default a process is replaced after 100 jobs, at 0.2 s each.
            executor_options={"maximum_jobs_per_worker": 100_000},
            eager_polling=True,
        )
        async with self.chancy:
            await self.chancy.declare(queue, upsert=True)
            async with Worker(self.chancy, register_signal_handlers=False):
                ready()
                await stop.wait()


if __name__ == "__main__":
    main(ChancyPeer)
