"""A pool's backlog as JSON, for what scales by it: ``GET /backlog/NAMESPACE/POOL``.

KEDA's metrics-api trigger asks it with a bearer token (kedacore/keda: pkg/scalers/metrics_api_scaler.go).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from workerjobs.errors import WorkerJobsError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0

Look = Callable[[str, str], Awaitable[Mapping[str, int] | None]]
"""Gives the numbers of a pool, by namespace and name; None where there is no such pool."""


class BacklogPage:
    """Answers who knows the token.

    Args:
        token: The token; None: nobody is told.
        look: Finds the numbers, in ``loop``.
        loop: The role's own; this one is called from threads.
    """

    def __init__(self, token: str | None, look: Look, loop: asyncio.AbstractEventLoop) -> None:
        self._token = token
        self._look = look
        self._loop = loop

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, as WSGI asks."""
        status, body = self._answer(environ)
        text = json.dumps(body).encode() + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
        if status.startswith("401"):
            headers.append(("WWW-Authenticate", "Bearer"))
        if status.startswith("405"):
            headers.append(("Allow", "GET"))
        start_response(status, headers)
        return [text]

    def _answer(self, environ: WSGIEnvironment) -> tuple[str, Mapping[str, object]]:
        if self._token is None:
            return _refusal("404 Not Found", "This operator tells no backlogs: WORKERJOBS_BACKLOG_TOKEN is not set")
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        # WSGI hands headers over as Latin-1.
        is_right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token.encode())
        if scheme.lower() != "bearer" or not is_right:
            return _refusal("401 Unauthorized", "Give the token of WORKERJOBS_BACKLOG_TOKEN: Authorization: Bearer …")
        if environ.get("REQUEST_METHOD") != "GET":
            return _refusal("405 Method Not Allowed", "Only GET is answered")
        parts = [unquote(part) for part in environ.get("PATH_INFO", "").strip("/").split("/")]
        if len(parts) != 3 or not all(parts):
            return _refusal("404 Not Found", "Ask for /backlog/NAMESPACE/POOL")
        _, namespace, pool = parts
        asked = asyncio.run_coroutine_threadsafe(self._ask(namespace, pool), self._loop)
        try:
            numbers = asked.result(ANSWER_SECONDS)
        except (TimeoutError, WorkerJobsError) as error:
            asked.cancel()
            return _refusal(
                "503 Service Unavailable", str(error) or "The cluster or the database did not answer in time"
            )
        except Exception:
            log.exception("A backlog could not be told")
            return _refusal("503 Service Unavailable", "The backlog can't be counted now")
        if numbers is None:
            return _refusal("404 Not Found", f"There is no WorkerPool {pool} in namespace {namespace}")
        return "200 OK", numbers

    async def _ask(self, namespace: str, pool: str) -> Mapping[str, int] | None:
        return await self._look(namespace, pool)


def _refusal(status: str, sentence: str) -> tuple[str, Mapping[str, object]]:
    return status, {"error": sentence}
