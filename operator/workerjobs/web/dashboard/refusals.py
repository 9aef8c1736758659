"""Refusals for people: where a browser asked for a page, problem details become one."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workerjobs.web.api.problems import MEDIA_TYPE
from workerjobs.web.dashboard.rendering import Pages

OTHERS = ("/api/", "/openapi.json", "/static/")


class PageRefusals:
    """Shows a page instead of problem details, and sends whoever has shown no token to the page where that is done."""

    def __init__(self, app: ASGIApp, pages: Pages) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["path"].startswith(OTHERS):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if "text/html" not in headers.get("accept", "") and "hx-request" not in headers:
            return await self._app(scope, receive, send)
        started: Message | None = None
        body = b""

        async def pass_on(message: Message) -> None:
            nonlocal started, body
            if (
                message["type"] == "http.response.start"
                and Headers(raw=message["headers"]).get("content-type") == MEDIA_TYPE
            ):
                started = message
            elif started is None:
                await send(message)
            else:
                body += message.get("body", b"")

        await self._app(scope, receive, pass_on)
        if started is not None:
            await self._answer(scope, headers, started, json.loads(body))(scope, receive, send)
        return None

    def _answer(self, scope: Scope, headers: Headers, started: Message, problem: dict[str, Any]) -> ASGIApp:
        status = problem["status"]
        if status == 401 and "hx-request" in headers:
            # The page that is shown is asked for anew as a whole, and leads to where a token is asked for.
            answer = self._pages.go("/login")
            answer.status_code = 200
            answer.headers["HX-Refresh"] = "true"
            return answer
        if status == 401:
            path = scope["path"]
            query = scope["query_string"].decode("ascii", "replace")
            return self._pages.go("/login", next=f"{path}?{query}" if query and scope["method"] == "GET" else path)
        kept = {name: value for name, value in Headers(raw=started["headers"]).items() if name == "retry-after"}
        return self._pages.write(
            "problem.html",
            status,
            request=Request(scope),
            headers=kept,
            title=problem["title"],
            problem=problem,
            area="",
        )
