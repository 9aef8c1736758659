"""Refusals for people: where a browser asked for a page, problem details become one."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workerjobs.web.api.problems import FAILED, MEDIA_TYPE, problem
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
        is_answered = False

        async def pass_on(message: Message) -> None:
            nonlocal started, body, is_answered
            if (
                message["type"] == "http.response.start"
                and Headers(raw=message["headers"]).get("content-type") == MEDIA_TYPE
            ):
                started = message
            elif started is None:
                is_answered = True
                await send(message)
            else:
                body += message.get("body", b"")

        failure: Exception | None = None
        try:
            await self._app(scope, receive, pass_on)
        except Exception as error:
            if is_answered:
                raise
            # Starlette answers what nobody expected outside of all that is added to it, where it also logs it.
            failure = error
            await problem(500, FAILED)(scope, receive, pass_on)
        if started is not None:
            await self._answer(scope, headers, started, json.loads(body))(scope, receive, send)
        if failure is not None:
            raise failure
        return None

    def _answer(self, scope: Scope, headers: Headers, started: Message, told: dict[str, Any]) -> ASGIApp:
        status = told["status"]
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
            title=told["title"],
            problem=told,
            wait_seconds=kept.get("retry-after"),
            area="",
        )
