"""The server: the HTTP API, and notifications for browsers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from workerjobs.app.databases import listener, wait_for_store
from workerjobs.app.extras import extra
from workerjobs.app.probes import serve_health
from workerjobs.ports.api import TokenStore
from workerjobs.settings import ServerSettings
from workerjobs.storage.api import PostgresApiStore
from workerjobs.storage.chain import PostgresChainStore
from workerjobs.storage.listen import NOTIFICATIONS
from workerjobs.storage.messages import PostgresMessageStore
from workerjobs.web.health import Pulse
from workerjobs.web.queue_metrics import QueueMetrics
from workerjobs.web.server_metrics import ServerMetrics

log = logging.getLogger(__name__)

API_CONNECTIONS = 4
"""Requests to the HTTP API that the database works on at once."""


@asynccontextmanager
async def open_token_store(url: str) -> AsyncIterator[TokenStore]:
    """Open the tokens of the HTTP API and close them at the end."""
    store = await PostgresApiStore.open(url, "workerjobs")
    try:
        yield store
    finally:
        await store.close()


def make_ticket(user_id: int, secret: str, seconds: float) -> str:
    """Make a ticket for a user's browser; see `workerjobs.web.tickets`."""
    with extra("server", "Tickets need"):
        from workerjobs.web import tickets
    return tickets.make_ticket(user_id, secret, now=datetime.now(UTC), lasts=timedelta(seconds=seconds))[0]


async def run_server(
    settings: ServerSettings, url: str, on_started: Callable[[str, Callable[[], None]], None] | None = None
) -> None:
    """Run the server until it is stopped.

    Args:
        settings: How.
        url: The database.
        on_started: Called, once it answers, with its URL and a function that stops it.
    """
    # Here and not above: fastapi is an extra, and no worker loads it.
    with extra("server", "The server needs"):
        from workerjobs.web.api.changes import Changes
        from workerjobs.web.api.stores import Stores
        from workerjobs.web.relay import Relay
        from workerjobs.web.request_metrics import RequestMetrics
        from workerjobs.web.server import WebServer, make_app

    await (await wait_for_store(url, "workerjobs server", settings.database_wait_seconds)).close()
    store = await PostgresMessageStore.open(url, "workerjobs server")
    notices = listener(url, settings.database_direct_url, "workerjobs server listener", channel=NOTIFICATIONS)
    relay = Relay(store, notices, limit=settings.max_listeners, limit_per_user=settings.max_user_listeners)
    stores = Stores([PostgresApiStore(url, "workerjobs server API") for _ in range(API_CONNECTIONS)])
    changes = Changes(stores, listener(url, settings.database_direct_url), limit=settings.max_listeners)
    chains = PostgresChainStore(url, "workerjobs server chains")
    registry = CollectorRegistry()
    app = make_app(settings, relay, stores, changes, chains)
    server = WebServer(RequestMetrics(app, registry), settings)
    pulse = Pulse()
    metrics_store = PostgresApiStore(url, "workerjobs server metrics")
    queue_metrics = QueueMetrics(metrics_store.queues, registry)
    ServerMetrics(registry, listeners=lambda: relay.count, is_listening=lambda: notices.is_listening)
    health = serve_health(
        settings.health_host,
        settings.health_port,
        seconds_since_life=lambda: pulse.seconds_since,
        is_started=relay.listening.is_set,
        registry=registry,
        role="server",
    )
    stopped = asyncio.Event()
    passing_on = asyncio.create_task(relay.run(), name="relay")
    serving = asyncio.create_task(server.run_until_stopped(), name="server")
    stopping = asyncio.create_task(stopped.wait())
    beating = asyncio.create_task(pulse.beat())
    measuring = asyncio.create_task(queue_metrics.run(), name="queue metrics")
    try:
        await asyncio.wait(
            {passing_on, asyncio.create_task(relay.listening.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        log.info("The server answers at %s", server.url)
        if on_started is not None:
            on_started(server.url, stopped.set)
        running: set[asyncio.Task[Any]] = {passing_on, serving, stopping}
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in (passing_on, serving):
            if task.done():
                task.result()
    finally:
        relay.close()
        changes.close()
        server.should_exit = True
        await asyncio.wait({serving})
        ending: list[asyncio.Task[Any]] = [passing_on, stopping, beating, measuring]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        if health is not None:
            await asyncio.to_thread(health.close)
        await stores.close()
        await metrics_store.close()
        await chains.close()
        await store.close()
