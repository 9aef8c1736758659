"""Probes and metrics, which every role serves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics

from workerjobs.errors import InvalidSettingsError
from workerjobs.settings import DEFAULT_HEALTH_PORT
from workerjobs.web.health import HealthServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

log = logging.getLogger(__name__)


def describe_process(registry: CollectorRegistry, role: str) -> None:
    """Show what runs, and what it takes: ``workerjobs_build_info`` and ``process_…``."""
    ProcessCollector(registry=registry)
    about = Info("workerjobs_build", "What runs: role and release; always 1.", registry=registry)
    about.info({"role": role, "version": version("workerjobs")})


def serve_health(
    host: str,
    port: int | None,
    *,
    seconds_since_life: Callable[[], float],
    is_started: Callable[[], bool],
    registry: CollectorRegistry,
    role: str,
    pages: Mapping[str, WSGIApplication] = MappingProxyType({}),
) -> HealthServer | None:
    """Serve probes and metrics, also those of the process itself; None where they are off.

    Where the default port is taken, by another worker on this machine, a free one is used and said.
    """

    def serve(at: int) -> HealthServer:
        return HealthServer(
            host,
            at,
            seconds_since_life=seconds_since_life,
            is_started=is_started,
            registry=registry,
            pages=pages,
        )

    if port is None:
        return None
    # The moment at which each series began would be as many series again, which Prometheus has no use for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    describe_process(registry, role)
    try:
        server = serve(port)
    except InvalidSettingsError:
        if port != DEFAULT_HEALTH_PORT:
            raise
        server = serve(0)
        log.warning("Port %s is taken: probes and metrics are at %s", port, server.url)
    log.debug("Probes and metrics at %s", server.url)
    return server
