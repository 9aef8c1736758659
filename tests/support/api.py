"""The HTTP API of a server that runs, as a program uses it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.web import TOKEN, Server, ServerProcess, Stream, served, server

EVERYTHING = [
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("POST", "/jobs/bulk"),
    ("POST", "/jobs/cancel"),
    ("POST", "/jobs/retry"),
    ("GET", "/jobs/1"),
    ("PATCH", "/jobs/1"),
    ("DELETE", "/jobs/1"),
    ("POST", "/jobs/1/cancel"),
    ("POST", "/jobs/1/retry"),
    ("POST", "/jobs/1/rerun"),
    ("GET", "/jobs/1/events"),
    ("GET", "/jobs/1/logs"),
    ("GET", "/jobs/full"),
    ("GET", "/cron"),
    ("POST", "/cron/trigger"),
    ("POST", "/cron/pause"),
    ("POST", "/cron/resume"),
    ("GET", "/workers"),
    ("GET", "/pools"),
    ("GET", "/pools/default"),
    ("GET", "/pools/default/pause"),
    ("PUT", "/pools/default/pause"),
    ("DELETE", "/pools/default/pause"),
    ("GET", "/workerpools"),
    ("GET", "/pauses"),
    ("GET", "/types"),
    ("GET", "/types/echo"),
    ("GET", "/types/echo/pause"),
    ("PUT", "/types/echo/pause"),
    ("DELETE", "/types/echo/pause"),
    ("GET", "/limits"),
    ("GET", "/types/echo/limit"),
    ("PUT", "/types/echo/limit"),
    ("DELETE", "/types/echo/limit"),
    ("GET", "/keys/customer/limit"),
    ("PUT", "/keys/customer/limit"),
    ("DELETE", "/keys/customer/limit"),
    ("GET", "/me"),
    ("GET", "/statistics"),
    ("GET", "/audit"),
    ("GET", "/events"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
]
"""All operations, on one of each thing, and a path where there is nothing."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: Any
    text: str


@dataclass
class Api:
    """A client with a token."""

    server: Server
    token: str | None = TOKEN

    @property
    def process(self) -> ServerProcess:
        """The server, where it is a process."""
        assert isinstance(self.server, ServerProcess)
        return self.server

    def with_token(self, token: str | None) -> Api:
        """The same server, asked by someone else."""
        return Api(self.server, token)

    @property
    def _headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request to a path below /api/v1, or to a whole one."""
        url = f"{self.server.url}{path if path.startswith('/openapi') else f'/api/v1{path}'}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        more = {"Content-Type": "application/json"} | self._headers | headers
        async with self.server.http.request(method, url, data=data, headers=more) as answer:
            text = await answer.text()
            return Answer(answer.status, json.loads(text) if text else None, answer.headers, text)

    async def get(self, path: str) -> Any:
        """Read something that is there."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer.text
        return answer.body

    async def post(self, path: str, body: Any = None, *, status: int = 201) -> Any:
        """Change something."""
        answer = await self.ask("POST", path, body)
        assert answer.status == status, answer.text
        return answer.body

    async def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Send a request that is refused; returns the status and why."""
        answer = await self.ask(method, path, body)
        assert answer.headers["Content-Type"] == "application/problem+json", answer.text
        assert answer.body["status"] == answer.status
        assert answer.body["title"]
        return answer.status, answer.body["detail"]

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[Stream]:
        """Listen to server-sent events."""
        async with self.server.http.get(f"{self.server.url}/api/v1{path}", headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            yield Stream(answer)


async def event(stream: Stream, kind: str, **wanted: Any) -> dict[str, Any]:
    """Wait for an event whose data has some values."""
    async with asyncio.timeout(60):
        while True:
            name, data = await stream.next()
            if name == kind and wanted.items() <= data.items():
                found: dict[str, Any] = data
                return found


@asynccontextmanager
async def api(url: str, folder: Path, *, as_process: bool = False, **variables: str) -> AsyncIterator[Api]:
    """Run a server; afterwards nothing of it is left.

    Args:
        url: The database.
        folder: Where its log goes, if it is a process.
        as_process: Whether it is one, and no thread of this one.
        variables: More of its environment.
    """
    async with (
        server(url, folder, port=0, name="server", **variables) if as_process else served(url, **variables) as running
    ):
        yield Api(running)
