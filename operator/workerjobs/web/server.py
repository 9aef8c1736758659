"""`workerjobs server`: what browsers and programs are served: the dashboard, the API, notifications, and tickets."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Header, HTTPException, Query, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from workerjobs.errors import DatabaseUnavailableError, InvalidSettingsError
from workerjobs.ports.chains import ChainStore
from workerjobs.settings.servers import ServerSettings, is_loopback
from workerjobs.web.api.application import add_api, operation_id
from workerjobs.web.api.changes import Changes
from workerjobs.web.api.events import STREAM
from workerjobs.web.api.problems import problem as refusal
from workerjobs.web.api.stores import Stores
from workerjobs.web.api.tokens import Tokens
from workerjobs.web.dashboard.application import add_dashboard
from workerjobs.web.dashboard.refusals import PageRefusals
from workerjobs.web.listening import listen, url_of
from workerjobs.web.peers import Peers
from workerjobs.web.prefix import PathPrefix
from workerjobs.web.relay import Event, Listener, Relay, TooManyListenersError
from workerjobs.web.sessions import Sessions
from workerjobs.web.tickets import MAX_USER_ID, make_ticket, user_of

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 15.0
"""A quiet connection is used that often, so that nothing between takes it for dead."""
RETRY_MS = 1_000
"""How soon a browser comes back."""
BAD_TICKET = "The ticket is missing, not valid, or over: get another one"
MAX_MARK = 2**62
SERVER_ERROR = 1013
"""WebSocket: try again later."""


class TicketRequest(BaseModel):
    """For whom a ticket is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user_id: int = Field(alias="userId", ge=1, le=MAX_USER_ID, description="Id in the table users.", examples=[7])


class Ticket(BaseModel):
    """With it a user's browser may connect to `/api/notifications/stream` or `/api/notifications/socket`."""

    model_config = ConfigDict(extra="forbid")

    ticket: str = Field(description="A JSON Web Token.")
    expires: datetime = Field(description="From then on it is not taken; connections that were made go on.")


def make_app(settings: ServerSettings, relay: Relay, stores: Stores, changes: Changes, chains: ChainStore) -> FastAPI:
    """Put the application together."""
    app = FastAPI(
        title="WorkerJobs",
        version=version("workerjobs"),
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
    )

    @app.post("/api/tickets", status_code=201, summary="Make a ticket", tags=["notifications"])
    async def make_a_ticket(wanted: TicketRequest) -> Ticket:
        """Make a ticket with which a user's browser may listen to its notifications; needs the scope write."""
        lasts = timedelta(seconds=settings.ticket_seconds)
        made, expires = make_ticket(wanted.user_id, settings.ticket_secret, now=datetime.now(UTC), lasts=lasts)
        return Ticket(ticket=made, expires=expires)

    @app.get(
        "/api/notifications/stream",
        summary="Listen to notifications",
        tags=["notifications"],
        response_class=StreamingResponse,
        responses=STREAM,
    )
    async def listen_to_notifications(
        ticket: Annotated[str, Query(description="For whom: of `POST /api/tickets`.")] = "",
        last_event_id: Annotated[str, Query(alias="lastEventId", description="Of the last event that was seen.")] = "",
        last_event_id_header: Annotated[
            str, Header(alias="Last-Event-ID", description="The same, as browsers say.")
        ] = "",
    ) -> Response:
        """Send a user's notifications as they come, as server-sent events."""
        user_id = user_of(ticket, settings.ticket_secret)
        if user_id is None:
            raise HTTPException(401, BAD_TICKET)
        place = ExitStack()
        try:
            listener = place.enter_context(relay.listener(user_id))
        except TooManyListenersError as error:
            raise HTTPException(*_refusal(error), headers={"Retry-After": "5"}) from None

        async def send() -> AsyncIterator[str]:
            yield f"retry: {RETRY_MS}\n\n"
            # The browser's own word on where it is comes later than the page's.
            async for event in _listen(relay, listener, _mark_of(last_event_id_header or last_event_id)):
                yield ": still here\n\n" if event is None else _as_server_sent(event)

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Stream(place, send(), media_type="text/event-stream", headers=headers)

    @app.websocket("/api/notifications/socket")
    async def web_socket(
        socket: WebSocket, ticket: str = "", last_event_id: Annotated[str, Query(alias="lastEventId")] = ""
    ) -> None:
        """Send a user's notifications as they come, as JSON messages."""
        user_id = user_of(ticket, settings.ticket_secret)
        if user_id is None:
            return await socket.send_denial_response(JSONResponse({"detail": BAD_TICKET}, 401))
        try:
            with relay.listener(user_id) as listener:
                await socket.accept()
                async for event in _listen(relay, listener, _mark_of(last_event_id)):
                    await socket.send_json({"event": "alive"} if event is None else _as_json(event))
                await socket.close(SERVER_ERROR)
        except TooManyListenersError as error:
            status, sentence = _refusal(error)
            await socket.send_denial_response(JSONResponse({"detail": sentence}, status, {"Retry-After": "5"}))
        except (WebSocketDisconnect, RuntimeError):
            # Gone; starlette says so in both ways.
            return None
        return None

    tokens = Tokens(settings, stores)
    sessions = Sessions(settings.ticket_secret, timedelta(hours=settings.session_hours))
    add_api(app, settings, stores, changes, tokens, sessions)
    pages = add_dashboard(app, settings, chains, tokens, sessions)
    app.add_middleware(
        CORSMiddleware,  # the guard outside of it refuses; this tells browsers what it lets pass
        allow_origins=settings.allowed_origins,
        allow_origin_regex=_LOOPBACK_ORIGIN if settings.is_loopback else None,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "Idempotency-Key", "If-None-Match"],
        expose_headers=["ETag", "Idempotent-Replayed", "Location", "Retry-After"],
    )
    app.add_middleware(_Guard, settings=settings)
    app.add_middleware(PageRefusals, pages=pages)
    if settings.path_prefix:
        app.add_middleware(PathPrefix, prefix=settings.path_prefix)
    return app


async def _listen(relay: Relay, listener: Listener, mark: int | None) -> AsyncIterator[Event | None]:
    try:
        await relay.begin(listener, mark)
    except DatabaseUnavailableError as error:
        # The browser comes back by itself.
        log.warning("A listener was sent away: %s", error)
        return
    async for event in listener.events(KEEPALIVE_SECONDS):
        yield event


class _Stream(StreamingResponse):
    """A response that gives the listener's place back however it ends, also before its first byte."""

    def __init__(self, place: ExitStack, content: AsyncIterator[str], **more: Any) -> None:
        super().__init__(content, **more)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


def _refusal(error: TooManyListenersError) -> tuple[int, str]:
    if error.whose == "user":
        return 429, "This user has too many connections: close one"
    return 503, "This server has too many connections: try again later"


def _mark_of(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) < MAX_MARK else None


def _as_json(event: Event) -> dict[str, Any]:
    answer: dict[str, Any] = {"event": event.kind, "id": str(event.mark)}
    if (message := event.message) is not None:
        # The data is passed on as it is, with the order of its keys.
        data = json.loads(message.data_json)
        answer["message"] = {
            "id": message.id,
            "data": data,
            "read": message.is_read,
            "revoked": isinstance(data, dict) and data.get("revoked") is True,
            "createdAt": message.created_at.isoformat(),
            "updatedAt": message.updated_at.isoformat(),
        }
    return answer


def _as_server_sent(event: Event) -> str:
    """Write an event; one without data moves the browser's last id and is not shown to the page.

    Source:
        HTML Living Standard, 9.2.6, "Interpreting an event stream".
    """
    if event.kind == "mark":
        return f"id: {event.mark}\n\n"
    message = _as_json(event).get("message", {})
    return f"event: {event.kind}\nid: {event.mark}\ndata: {json.dumps(message, ensure_ascii=False)}\n\n"


_LOOPBACK_ORIGIN = r"https?://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?"


class _Guard:
    """Refuses what a page of another origin sent, and, in loopback mode, what was asked under another host's name.

    A page on the internet can have its own name point to 127.0.0.1: the browser then takes this server for the page's
    (DNS rebinding). It can't keep its name out of Host and Origin.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The files that refusals are shown with are everybody's.
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith("/static/"):
            return await self._app(scope, receive, send)
        problem = self._problem(Headers(scope=scope))
        if problem is None:
            return await self._app(scope, receive, send)
        response = refusal(403, problem)
        if scope["type"] == "websocket":
            return await WebSocket(scope, receive, send).send_denial_response(response)
        return await response(scope, receive, send)

    def _problem(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._settings.is_loopback and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return "This server listens on this machine alone: ask it under localhost or 127.0.0.1"
        if origin is None or origin in self._settings.allowed_origins:
            return None
        parts = urlsplit(origin)
        if self._settings.is_loopback and is_loopback(parts.hostname or ""):
            return None
        if parts.netloc and parts.netloc == host:
            return None
        return "Pages of this origin may not ask: name it in WORKERJOBS_ALLOWED_ORIGINS"


class WebServer(uvicorn.Server):
    """Serves an application until it is told to stop; signals are left to the role.

    Raises:
        InvalidSettingsError: The address can't be used.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        # Its access log and its word on web sockets hold tickets.
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "websockets", "websockets.server"):
            logging.getLogger(name).setLevel(logging.WARNING)
        super().__init__(
            uvicorn.Config(
                Peers(app, settings.trusted_proxies),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=5,
            )
        )
        try:
            self._socket = listen(settings.host, settings.port)
        except OSError as error:
            raise InvalidSettingsError(
                f"WORKERJOBS_SERVER_PORT={settings.port} can't be used on {settings.host}: {error.strerror}"
            ) from error
        # asyncio does so only for sockets that it made; without it, answers wait 40 ms for an acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = cast("int", self._socket.getsockname()[1])
        self.url = url_of(settings.host, port)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server`."""
        yield

    async def run_until_stopped(self) -> None:
        """Serve until ``should_exit`` is set."""
        await self.serve(sockets=[self._socket])
