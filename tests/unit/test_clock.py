"""What a worker takes for the database's clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from workerjobs.ports.jobs import JobStore
from workerjobs.worker.clock import DatabaseClock


class Server:
    """A database whose clock is off, and that answers late: it reads its clock first, or last."""

    def __init__(self) -> None:
        self.offset = timedelta(0)
        self.seconds_before = self.seconds_after = 0.0

    async def now(self) -> datetime:
        await asyncio.sleep(self.seconds_before)
        moment = datetime.now(UTC) + self.offset
        await asyncio.sleep(self.seconds_after)
        return moment


async def difference(server: Server, clock: DatabaseClock, samples: int) -> float:
    await clock.synchronise(cast(JobStore, server), samples)
    return (clock.now() - datetime.now(UTC)).total_seconds()


def test_quickest_answer_counts() -> None:
    async def check() -> None:
        server, clock = Server(), DatabaseClock()
        server.offset = timedelta(hours=1)
        # Some room, as this process may have to wait for its turn anywhere.
        assert await difference(server, clock, 1) == pytest.approx(3600, abs=0.15)
        server.seconds_after = 0.4
        assert await difference(server, clock, 2) == pytest.approx(3600, abs=0.15)

    asyncio.run(check())


def test_clock_that_runs_a_little_slower_was_not_set() -> None:
    async def check() -> None:
        server, clock = Server(), DatabaseClock()
        server.offset = timedelta(hours=1)
        await difference(server, clock, 1)
        # At the very end of what the round trip allows, and beyond it by what a slewed clock loses meanwhile.
        server.offset -= timedelta(milliseconds=2)
        server.seconds_after = 0.4
        assert await difference(server, clock, 1) == pytest.approx(3600, abs=0.15)

    asyncio.run(check())


@pytest.mark.parametrize("seconds", [-3600, 3])
def test_clock_that_was_set_is_followed_at_once(seconds: float) -> None:
    async def check() -> None:
        server, clock = Server(), DatabaseClock()
        await difference(server, clock, 5)
        server.offset = timedelta(seconds=seconds)
        server.seconds_after = 0.05
        assert await difference(server, clock, 1) == pytest.approx(seconds, abs=1)

    asyncio.run(check())
