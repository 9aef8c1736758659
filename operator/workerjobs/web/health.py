"""Probes and metrics: ``/healthz``, ``/readyz`` and ``/metrics``.

Served from a thread, so that a loop that hangs is reported and does not just keep a probe waiting.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from types import MappingProxyType
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from workerjobs.errors import InvalidSettingsError
from workerjobs.web.listening import listen, url_of

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

PULSE_SECONDS = 1.0
STALLED_SECONDS = 10.0
"""A loop that did not move for so long is reported as dead."""


class Pulse:
    """Shows that an event loop moves; ``beat`` runs in it."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    @property
    def seconds_since(self) -> float:
        """How long ago it last moved; may be asked from any thread."""
        return time.monotonic() - self._last

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(PULSE_SECONDS)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        log.debug(format, *args)


class HealthServer:
    """Answers probes until it is closed.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        seconds_since_life: How long ago the role's loop last moved.
        is_started: Whether the role has started once; never false again, whatever the database does (a pod that is busy
            during an outage must not become the first to be replaced).
        registry: The role's metrics.
        pages: More to answer, by the first part of the path, such as ``backlog``.

    Raises:
        InvalidSettingsError: The port is taken or may not be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        seconds_since_life: Callable[[], float],
        is_started: Callable[[], bool],
        registry: CollectorRegistry,
        pages: Mapping[str, WSGIApplication] = MappingProxyType({}),
    ) -> None:
        self._seconds_since_life = seconds_since_life
        self._is_started = is_started
        self._pages = pages
        self._metrics: WSGIApplication = make_wsgi_app(registry)
        try:
            self._server = _Server(listen(host, port))
        except OSError as error:
            why = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror
            raise InvalidSettingsError(
                f"WORKER_HEALTH_PORT={port} can't be used on {host}: {why}; give another port, 0 for a free one, or off"
            ) from error
        self._server.set_app(self._answer)
        self.port = self._server.server_port
        self.url = url_of(host, self.port)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/healthz":
                stalled = self._seconds_since_life()
                if stalled > STALLED_SECONDS:
                    return _text(start_response, "503 Service Unavailable", f"stalled for {stalled:.0f} s")
                return _text(start_response, "200 OK", "ok")
            case "/readyz":
                if not self._is_started():
                    return _text(start_response, "503 Service Unavailable", "starting")
                return _text(start_response, "200 OK", "ok")
            case "/metrics":
                return self._metrics(environ, start_response)
            case str(path) if (page := self._pages.get(path.split("/")[1])) is not None:
                return page(environ, start_response)
            case _:
                return _text(start_response, "404 Not Found", "try /healthz, /readyz or /metrics")


def _text(start_response: StartResponse, status: str, text: str) -> list[bytes]:
    body = f"{text}\n".encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
