"""Settings, read from the environment; a module for each role. Every problem is found before any is reported."""

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
