"""A real receiver of traces over HTTP, which is also the service that jobs call: it keeps what it was sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A span as it came."""

    name: str
    kind: int
    """4: producer, 5: consumer, as the protocol numbers them."""
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    """Traceparents without flags: "trace-span"."""
    attributes: Mapping[str, Any]
    is_error: bool
    events: tuple[str, ...]
    service: str


@dataclass
class Collector:
    """What came so far."""

    url: str
    spans: list[Span] = field(default_factory=list)
    calls: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """Headers of other requests, by path."""
    bodies: dict[str, list[bytes]] = field(default_factory=dict)
    """What was sent to other paths."""

    def find(self, name: str, **attributes: Any) -> list[Span]:
        """Spans of a name, oldest first; attributes with ``_`` in place of dots."""
        return [
            span
            for span in self.spans
            if span.name == name
            and all(span.attributes.get(key.replace("_", ".")) == value for key, value in attributes.items())
        ]


@contextmanager
def collector() -> Iterator[Collector]:
    """Receive until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                kept.spans += _spans(ExportTraceServiceRequest.FromString(body))
            else:
                kept.bodies.setdefault(self.path, []).append(body)
            self._answer()

        def do_GET(self) -> None:
            kept.calls[self.path] = dict(self.headers)
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    links=tuple(f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in span.links),
                    attributes=_attributes(span.attributes),
                    is_error=span.status.code == 2,
                    events=tuple(event.name for event in span.events),
                    service=service,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
