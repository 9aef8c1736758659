"""QuickDapp's server as a client of the database: its client libraries in a real Node process."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest

from tests.support.node import FOLDER, node
from tests.support.npm import NodeError
from tests.support.require import require_or_skip


class QuickDappError(Exception):
    """What Postgres answered to the client."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code = error["code"]


class QuickDapp:
    """The calls of tests/support/node/quickdapp.cjs; several may be under way at once."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def call(self, name: str, **values: Any) -> Any:
        """Call and wait for the answer: rows as objects, moments as ISO 8601.

        Raises:
            QuickDappError: The database refuses it.
        """
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        line = json.dumps({"number": number, "call": name, "values": values}, default=datetime.isoformat)
        self._process.stdin.write(line.encode() + b"\n")
        return await future

    async def schedule(self, **job: Any) -> dict[str, Any]:
        """Cancel what is pending under the tag and insert the job, in one transaction."""
        (row,) = await self.schedule_all(job)
        return row

    async def schedule_all(self, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
        """Do that for one job after the other, all in one transaction."""
        rows: list[dict[str, Any]] = await self.call("schedule", jobs=[{"userId": 7} | job for job in jobs])
        return rows

    async def read(self) -> None:
        """Hand out answers until the client ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            reply = json.loads(line)
            future = self._waiting.pop(reply["number"])
            if "error" in reply:
                future.set_exception(QuickDappError(reply["error"]))
            else:
                future.set_result(reply["value"])
        for future in self._waiting.values():
            future.set_exception(AssertionError("the Node client has ended; its standard error says why"))


@pytest.fixture(scope="session")
def node_command() -> tuple[str, dict[str, str]]:
    """Node, and the environment in which it finds the packages; skips where they are not to be had."""
    try:
        return node()
    except NodeError as error:
        require_or_skip("node", f"tests with a Node client are left out: {error}")


@asynccontextmanager
async def quickdapp(command: tuple[str, dict[str, str]], url: str) -> AsyncIterator[QuickDapp]:
    """Run the client; afterwards it has ended."""
    program, variables = command
    process = await asyncio.create_subprocess_exec(
        program,
        str(FOLDER / "quickdapp.cjs"),
        env=os.environ | variables | {"DATABASE_URL": url},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    client = QuickDapp(process)
    reading = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 60)
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading
