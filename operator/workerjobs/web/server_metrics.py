"""What the server shows of itself, for Prometheus, beside its requests."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge


class ServerMetrics:
    """Gauges of one server.

    Args:
        registry: Where they are shown.
        listeners: Counts the connections that are sent notifications.
        is_listening: Whether the database's announcements are heard.
    """

    def __init__(
        self, registry: CollectorRegistry, *, listeners: Callable[[], float], is_listening: Callable[[], bool]
    ) -> None:
        Gauge("workerjobs_listeners", "Connections that are sent notifications.", registry=registry).set_function(
            listeners
        )
        Gauge(
            "workerjobs_listening",
            "1 while the database's announcements are heard; 0: they are looked for every 2 s.",
            registry=registry,
        ).set_function(lambda: float(is_listening()))
