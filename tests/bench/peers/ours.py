"""Ours as a producer, through the same protocol as the peers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg

import workerjobs
from tests.bench.peers.python.protocol import URL, main
from workerjobs import NewJob, app


class WorkerJobs:
    """The table of jobs; the worker is `workerjobs worker`."""

    connection: psycopg.AsyncConnection[tuple[object, ...]]

    async def setup(self) -> None:
        await app.wait_to_migrate(URL, 10)

    async def open(self) -> None:
        self.connection = await psycopg.AsyncConnection.connect(URL, autocommit=True)

    async def insert(self, kind: str, numbers: range) -> None:
        jobs = [NewJob(type=kind, data={"number": number}) for number in numbers]
        await workerjobs.submit_many(self.connection, jobs)

    async def submit(self, kind: str, number: int) -> None:
        await workerjobs.submit(self.connection, NewJob(type=kind, data={"number": number}))

    async def work(self, profile: str, ready: Callable[[], None], stop: asyncio.Event) -> None:
        raise NotImplementedError("the worker is a command of its own")


if __name__ == "__main__":
    main(WorkerJobs)
