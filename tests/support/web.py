"""`workerjobs server`, in a thread of this process or as a process, and the clients of its notifications."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from tests.support.cli import environment
from tests.support.loop import PATIENCE_SECONDS, until
from workerjobs import app
from workerjobs.settings import server_settings

TOKEN = "token-of-the-tests-0123456789abcdef"
TOKEN_HEADER = {"Authorization": f"Bearer {TOKEN}"}


def make_users(url: str, *ids: int) -> None:
    """Make users of QuickDapp's table."""
    with psycopg.connect(url) as connection:
        for each in ids:
            connection.execute("insert into users (id) values (%s)", [each])


@dataclass
class Server:
    """A server that runs."""

    url: str
    http: aiohttp.ClientSession

    async def ticket(self, user_id: int) -> str:
        """Have the server make a ticket."""
        async with self.http.post(f"{self.url}/api/tickets", json={"userId": user_id}, headers=TOKEN_HEADER) as answer:
            assert answer.status == 201, await answer.text()
            made: str = (await answer.json())["ticket"]
            return made

    @asynccontextmanager
    async def socket(
        self, ticket: str, last: str | None = None, **headers: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Connect by a web socket."""
        more = "" if last is None else f"&lastEventId={last}"
        url = f"{self.url.replace('http', 'ws')}/api/notifications/socket?ticket={ticket}{more}"
        async with self.http.ws_connect(url, headers=headers) as socket:
            yield socket

    @asynccontextmanager
    async def stream(self, ticket: str, last: str | None = None, **headers: str) -> AsyncIterator[Stream]:
        """Connect by server-sent events."""
        more = {"Last-Event-ID": last} if last is not None else {}
        url = f"{self.url}/api/notifications/stream?ticket={ticket}"
        async with self.http.get(url, headers=headers | more) as answer:
            yield Stream(answer)


@dataclass
class ServerProcess(Server):
    """A server that runs as a process."""

    log: Path
    process: subprocess.Popen[bytes]


MARK_SECONDS = 60.0
"""Marks wait for all transactions of the server that are open, also those of other tests."""


@dataclass
class Stream:
    """Server-sent events."""

    answer: aiohttp.ClientResponse
    last: str = ""
    """The last event's id, as a browser would say it."""

    async def next(self, *, seconds: float = PATIENCE_SECONDS) -> tuple[str, Any]:
        """Wait for an event with data; returns its name and data."""
        name, data = "", ""
        async with asyncio.timeout(seconds):
            async for line in self.answer.content:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                match field:
                    case "event":
                        name = value
                    case "data":
                        data = value
                    case "id":
                        self.last = value
                    case "" if data:
                        return name, json.loads(data)
                    case "":
                        name = ""
        raise AssertionError("the stream ended")

    async def mark(self, beyond: int = 0) -> str:
        """Wait for an id that is beyond a transaction; by default the next one that comes."""
        beyond = max(beyond, int(self.last or 0))
        async with asyncio.timeout(MARK_SECONDS):
            async for line in self.answer.content:
                if line.startswith(b"id: ") and int(line[4:]) > beyond:
                    self.last = line[4:].strip().decode()
                    return self.last
        raise AssertionError("the stream ended")


async def next_message(
    socket: aiohttp.ClientWebSocketResponse, *kinds: str, seconds: float = PATIENCE_SECONDS
) -> dict[str, Any]:
    """Wait for a message of some kinds over a web socket; others are left out."""
    async with asyncio.timeout(seconds):
        while True:
            message: dict[str, Any] = await socket.receive_json()
            if message["event"] in (kinds or ("notification", "broadcast", "reset")):
                return message


@asynccontextmanager
async def served(url: str, **variables: str) -> AsyncIterator[Server]:
    """Run a server in a thread of this process: there at once, where a process imports for a second or more."""
    given = {"WORKERJOBS_SERVER_PORT": "0", "WORKERJOBS_SERVER_TOKEN": TOKEN} | variables
    settings = server_settings(environment(url, **given))
    started: Future[tuple[str, Callable[[], object]]] = Future()

    async def serve() -> None:
        loop = asyncio.get_running_loop()

        def say(address: str, stop: Callable[[], None]) -> None:
            started.set_result((address, lambda: loop.call_soon_threadsafe(stop)))

        await app.run_server(settings, url, on_started=say)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    address, stop = await asyncio.wrap_future(started)
    try:
        async with aiohttp.ClientSession() as http:
            yield Server(address, http)
    finally:
        stop()
        await asyncio.to_thread(thread.join)


@asynccontextmanager
async def server(
    url: str, folder: Path, *, port: int = 0, name: str = "server", **variables: str
) -> AsyncIterator[ServerProcess]:
    """Run `workerjobs server`; afterwards nothing of it is left."""
    log = folder / f"{name}.log"
    given = {"WORKERJOBS_SERVER_PORT": str(port), "WORKERJOBS_SERVER_TOKEN": TOKEN} | variables
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220  # over within a millisecond
            [sys.executable, "-m", "workerjobs", "server"],
            env=environment(url, **given),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:

        def address() -> str | None:
            assert process.poll() is None, log.read_text()
            found = re.search(r"Serving at (\S+)", log.read_text())
            return found[1] if found else None

        address_of_it = await until(address, seconds=60)
        assert address_of_it is not None
        async with aiohttp.ClientSession() as http:
            yield ServerProcess(address_of_it, http, log, process)
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 15)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
