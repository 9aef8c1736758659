"""What clients may keep of an answer: nothing that they do not ask about again. And HEAD: GET without its body.

Answers have an ETag, by which who asks again with `If-None-Match` gets 304 and no body while nothing changed.

Source:
    RFC 9110, 8.8.3 (ETag), 9.3.2 (HEAD), 13.1.2 (If-None-Match).
"""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CACHE_CONTROL = "private, no-cache"
VARY = "Authorization, Cookie"
STREAM = b"text/event-stream"


class Caching:
    """Adds what an answer says of caches, and leaves its body out where the client has it or does not want it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back."""
        # Events are no document: there is nothing to keep, and no end to leave out.
        is_ours = scope["type"] == "http" and scope["path"].startswith(self._prefix)
        if not is_ours or scope["path"].endswith("/events"):
            return await self._app(scope, receive, send)
        is_head = scope["method"] == "HEAD"
        wanted = Headers(scope=scope).get("if-none-match", "") if scope["method"] in ("GET", "HEAD") else ""
        start: Message = {}
        body = bytearray()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            _finish(start, bytes(body), scope["method"], wanted)
            await send(start)
            is_left_out = is_head or start["status"] == 304
            await send({"type": "http.response.body", "body": b"" if is_left_out else bytes(body)})

        # The server itself looks at what it was asked, to send no body.
        return await self._app({**scope, "method": "GET"} if is_head else scope, receive, answer)


def _finish(start: Message, body: bytes, method: str, wanted: str) -> None:
    headers = MutableHeaders(raw=list(start["headers"]))
    headers.setdefault("Cache-Control", CACHE_CONTROL)
    headers.add_vary_header(VARY)
    if start["status"] == 200 and method in ("GET", "HEAD"):
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers["ETag"] = tag
        if tag in wanted or wanted.strip() == "*":
            start["status"] = 304
            for name in ("Content-Length", "Content-Type"):
                del headers[name]
    start["headers"] = headers.raw
