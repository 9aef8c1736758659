"""Settings, read from the environment; a module for each role. Every problem is found before any is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workerjobs.lazy import loader

if TYPE_CHECKING:
    from workerjobs.settings.chains import ChainSettings, chain_settings
    from workerjobs.settings.operators import OperatorSettings, operator_settings
    from workerjobs.settings.reading import DEFAULT_HEALTH_PORT, database_direct_url, database_url
    from workerjobs.settings.servers import ServerSettings, server_settings, ticket_secret
    from workerjobs.settings.workers import (
        COUNT_ACCEPTED,
        HEALTH_URL_VARIABLE,
        LEASE_SECONDS,
        MAX_MEMORY_MIB,
        MIN_MEMORY_MIB,
        Isolation,
        WorkerSettings,
        job_modules,
        parse_worker_count,
        worker_settings,
    )

__all__ = [
    "COUNT_ACCEPTED",
    "DEFAULT_HEALTH_PORT",
    "HEALTH_URL_VARIABLE",
    "LEASE_SECONDS",
    "MAX_MEMORY_MIB",
    "MIN_MEMORY_MIB",
    "ChainSettings",
    "Isolation",
    "OperatorSettings",
    "ServerSettings",
    "WorkerSettings",
    "chain_settings",
    "database_direct_url",
    "database_url",
    "job_modules",
    "operator_settings",
    "parse_worker_count",
    "server_settings",
    "ticket_secret",
    "worker_settings",
]

_HOME_OF = {
    "COUNT_ACCEPTED": "workerjobs.settings.workers",
    "ChainSettings": "workerjobs.settings.chains",
    "DEFAULT_HEALTH_PORT": "workerjobs.settings.reading",
    "HEALTH_URL_VARIABLE": "workerjobs.settings.workers",
    "Isolation": "workerjobs.settings.workers",
    "LEASE_SECONDS": "workerjobs.settings.workers",
    "MAX_MEMORY_MIB": "workerjobs.settings.workers",
    "MIN_MEMORY_MIB": "workerjobs.settings.workers",
    "OperatorSettings": "workerjobs.settings.operators",
    "ServerSettings": "workerjobs.settings.servers",
    "WorkerSettings": "workerjobs.settings.workers",
    "chain_settings": "workerjobs.settings.chains",
    "database_direct_url": "workerjobs.settings.reading",
    "database_url": "workerjobs.settings.reading",
    "job_modules": "workerjobs.settings.workers",
    "operator_settings": "workerjobs.settings.operators",
    "parse_worker_count": "workerjobs.settings.workers",
    "server_settings": "workerjobs.settings.servers",
    "ticket_secret": "workerjobs.settings.servers",
    "worker_settings": "workerjobs.settings.workers",
}

__getattr__ = loader(__name__, _HOME_OF)
