"""How large a request may be."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workerjobs.web.api.problems import ProblemError, problem


class SizeLimit:
    """Refuses bodies that are too large, whether or not they say so before."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit = limit_bytes
        self._sentence = f"The body is too large: at most {limit_bytes:,} bytes are taken"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as far as it is not too large."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        said = Headers(scope=scope).get("content-length", "")
        if said.isdigit() and int(said) > self._limit:
            return await problem(413, self._sentence, headers={"Connection": "close"})(scope, receive, send)
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise ProblemError(413, self._sentence, headers={"Connection": "close"})
            return message

        return await self._app(scope, bounded, send)
