"""The way to a server by its URL: `Exchange` over the standard library, which loads faster than any client of HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from workerjobs.errors import InvalidSettingsError, PlaceUnavailableError
from workerjobs.ports.places import Answer

TIMEOUT_SECONDS = 30.0
ACCEPTED = "give http://HOST:PORT or https://HOST, with the path before /api where there is one"


class UrlExchange:
    """`Exchange` with a server at a URL; one connection, kept open.

    Args:
        url: Where it is, without ``/api/v1``.
        token: What it is shown; None: nothing.

    Raises:
        InvalidSettingsError: It is no such URL.
    """

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.username:
            raise InvalidSettingsError(f"The server's URL is not accepted: {ACCEPTED}")
        self.name = f"The server {parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._host, self._port, self._is_secure = parts.hostname, port, parts.scheme == "https"
        self._path = f"{parts.path.rstrip('/')}/api/v1"
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._connection: http.client.HTTPConnection | None = None

    async def ask(self, method: str, path: str, query: Mapping[str, str], body: Any = None) -> Answer:
        """See `Exchange.ask`."""
        target = f"{self._path}{path}" + (f"?{urlencode(query)}" if query else "")
        return await asyncio.to_thread(self._ask, method, target, body)

    def _ask(self, method: str, target: str, body: Any) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | ({} if data is None else {"Content-Type": "application/json"})
        # A connection that was kept may have been closed by the server meanwhile: what changes things gets a new one,
        # so that it is known whether it was done, and what only reads is sent again.
        if method != "GET":
            self._close()
        is_kept = self._connection is not None
        try:
            try:
                return self._send(method, target, data, headers)
            except (http.client.RemoteDisconnected, ConnectionError):
                if not is_kept:
                    raise
                self._close()
                return self._send(method, target, data, headers)
        except (OSError, http.client.HTTPException) as error:
            self._close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise PlaceUnavailableError(f"{self.name} can't be reached: {reason}") from error

    def _send(self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, target, data, dict(headers))
        answer = self._connection.getresponse()
        return Answer(answer.status, read_json(answer.read()))

    def _connect(self) -> http.client.HTTPConnection:
        if self._is_secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_SECONDS, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def close(self) -> None:
        """See `Exchange.close`."""
        self._close()


def read_json(data: bytes) -> Any:
    """Read JSON; None where it is something else, as of a proxy."""
    try:
        return json.loads(data)
    except ValueError:
        return None
