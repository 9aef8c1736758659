"""Opening the place where commands work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from workerjobs.app.extras import extra
from workerjobs.settings.workers import LEASE_SECONDS

if TYPE_CHECKING:
    from workerjobs.ports.places import Place


@asynccontextmanager
async def database_place(url: str) -> AsyncIterator[Place]:
    """Work at a database."""
    from workerjobs.storage.api import PostgresApiStore
    from workerjobs.storage.place import DatabasePlace

    place = DatabasePlace(await PostgresApiStore.open(url, "workerjobs"), timedelta(seconds=LEASE_SECONDS))
    try:
        yield place
    finally:
        await place.close()


@asynccontextmanager
async def server_place(url: str, token: str | None) -> AsyncIterator[Place]:
    """Work at a server."""
    from workerjobs.web.remote import ServerPlace
    from workerjobs.web.urls import UrlExchange

    place = ServerPlace(UrlExchange(url, token))
    try:
        yield place
    finally:
        await place.close()


@asynccontextmanager
async def cluster_place(context: str | None, service: str | None, token: str | None) -> AsyncIterator[Place]:
    """Work at the server in a cluster.

    Args:
        context: Of the kubeconfig; None: its current one.
        service: Its Service, ``NAMESPACE/NAME``; None: found by its labels.
        token: What it is shown; None: the one in its Secret.
    """
    with extra("operator", "Working at a cluster needs"):
        from workerjobs.kube.service import ServiceExchange
    from workerjobs.web.remote import ServerPlace

    place = ServerPlace(await ServiceExchange.connect(context, service, token))
    try:
        yield place
    finally:
        await place.close()
