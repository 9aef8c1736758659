"""Metrics of requests to the server; and the trace context that they came with, for the jobs that they submit."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workerjobs import tracing

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "other"
"""Whatever a caller makes up, in place of paths and methods."""


def _route_of(scope: Scope) -> str:
    template = getattr(scope.get("route"), "path", None)
    if not isinstance(template, str):
        return OTHER
    if ":path}" in template:
        return template
    # Of a router within another one it is the end of the path alone (FastAPI 0.165), otherwise all of it.
    segments = scope["path"].split("/")
    return "/".join(segments[: len(segments) - template.count("/")]) + template


class RequestMetrics:
    """Counts requests on their way to an application and back.

    Args:
        app: Who answers.
        registry: Where the metrics are shown.
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "workerjobs_http_requests_total",
            "Requests answered, by their route and not by their path.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "workerjobs_http_request_duration_seconds",
            "From a request to the beginning of its answer.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, as an ASGI application."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.monotonic()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in _METHODS else OTHER
                route = _route_of(scope)
                self._seconds.labels(method, route).observe(time.monotonic() - began)
                self._requests.labels(method, route, str(message["status"])).inc()
            await send(message)

        traceparent = Headers(scope=scope).get("traceparent")
        # What is no context is no reason to refuse a request (W3C Trace Context, 3.2.2.5).
        tracing.caller.set(traceparent if tracing.trace_id_of(traceparent) is not None else None)
        return await self._app(scope, receive, send_counted)
