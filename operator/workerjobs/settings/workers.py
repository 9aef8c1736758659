"""Settings of workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from workerjobs.ports.workers import PodIdentity
from workerjobs.settings.reading import Reader, names_in, number, one_of, whole

Isolation = Literal["warm", "fresh"]
WorkerCount = int | Literal["cpus", "auto"]

MAX_WORKER_COUNT = 1000
COUNT_ACCEPTED = f'a number from 1 to {MAX_WORKER_COUNT}, "cpus" or "auto"'
MAX_CHILD_JOBS = 2**31 - 1
DEFAULT_CHILD_MAX_JOBS = 100_000
DEFAULT_CHILD_MAX_MIB = 1024
MIN_MEMORY_MIB, MAX_MEMORY_MIB = 32, 1024 * 1024
"""Limits of a job's memory limit; Python alone takes some 20 MiB."""
LEASE_SECONDS = 15.0
"""How long a claimed row stays reserved without a renewal, and a worker counts as alive that does not show itself."""
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes puts a pod's token."""
HEALTH_URL_VARIABLE = "WORKERJOBS_HEALTH_URL"
"""Where a worker tells its jobs its own health endpoint."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a supervisor needs to know (`workerjobs worker`, `workerjobs dev`, `WorkerManager`)."""

    database_url: str | None
    """DATABASE_URL; None means the embedded Postgres."""
    database_direct_url: str | None
    """DATABASE_DIRECT_URL: the same database past a pooler, to listen and to migrate; None where there is none."""
    worker_count: WorkerCount
    """WORKER_COUNT: number of child processes; "cpus": one for each CPU that this process may use; "auto": between one
    and that, as there is work."""
    log_level: str
    """WORKER_LOG_LEVEL: trace, debug, info, warn or error."""
    keep_logs: int
    """WORKER_KEEP_LOGS: so many lines that a job logs are kept in the tables, for `workerjobs logs`; 0: none."""
    job_modules: tuple[str, ...]
    """WORKER_JOB_MODULES: importable modules, .py files or folders of them with `@job` functions, comma-separated."""
    pool: str
    """WORKER_POOL: only rows of this pool are claimed."""
    types: tuple[str, ...]
    """WORKER_TYPES: only jobs of these types are claimed, comma-separated; none means all that are known."""
    namespaces: tuple[str, ...]
    """WORKER_NAMESPACES: only jobs of WorkerJobs in these namespaces are claimed; none means all jobs."""
    grace_seconds: float
    """WORKER_GRACE_SECONDS: how long running jobs may go on after SIGTERM."""
    health_host: str
    """WORKER_HEALTH_HOST: address that the probes and metrics listen on."""
    health_port: int | None
    """WORKER_HEALTH_PORT: their port; 0 picks a free one, "off" (None) serves none."""
    database_wait_seconds: float
    """DATABASE_WAIT_SECONDS: how long to wait at start for a database that is not up or not migrated yet."""
    builtin_jobs: bool
    """WORKER_BUILTIN_JOBS: "off" leaves the built-in cron jobs alone."""
    isolation: Isolation
    """WORKER_ISOLATION: "fresh" runs every job in a process of its own; "warm" those whose type asks for it."""
    job_memory_mib: int | None
    """WORKER_JOB_MEMORY_MIB: memory that a job may take whose type says nothing of it; 0 (None): any."""
    child_max_jobs: int
    """WORKER_CHILD_MAX_JOBS: about how many jobs a child runs before it is replaced; 0: any number."""
    child_max_mib: int
    """WORKER_CHILD_MAX_MIB: memory that a child may keep between jobs before it is replaced; 0: any."""
    error_hook: str | None = None
    """WORKERJOBS_ERROR_HOOK: a function, as "module:function", that is told of jobs that fail."""
    service_account: str = SERVICE_ACCOUNT
    """WORKERJOBS_SERVICE_ACCOUNT: folder with the token and ca.crt that dataFrom is resolved with."""
    lease_seconds: float = LEASE_SECONDS
    """How long a claimed row stays reserved without a renewal."""
    pod: PodIdentity | None = None
    """POD_UID, POD_NAME, POD_NAMESPACE (the downward API) and WORKERJOBS_CLUSTER_ID; None outside of Kubernetes."""
    renew_seconds: float = 5.0
    """How often all leases are renewed; below a third of a lease, so that one lost renewal is harmless."""


def parse_worker_count(text: str) -> WorkerCount:
    """Parse WORKER_COUNT.

    Raises:
        ValueError: It is neither a number from 1 to 1000 nor "cpus" or "auto".
    """
    if text in ("cpus", "auto"):
        return cast("WorkerCount", text)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_WORKER_COUNT:
        raise ValueError(text)
    return int(text)


def job_modules(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Read WORKER_JOB_MODULES alone."""
    return names_in((os.environ if environment is None else environment).get("WORKER_JOB_MODULES", ""))


def worker_settings(environment: Mapping[str, str] | None = None) -> WorkerSettings:
    """Read the worker's settings.

    Raises:
        InvalidSettingsError: With every variable that is wrong, its value, and what is accepted.
    """
    reader = Reader(environment)
    settings = WorkerSettings(
        database_url=reader.database_url(),
        database_direct_url=reader.database_direct_url(),
        worker_count=reader.read("WORKER_COUNT", "cpus", parse_worker_count, COUNT_ACCEPTED),
        log_level=reader.log_level(),
        keep_logs=reader.read("WORKER_KEEP_LOGS", 1000, whole(1, 1_000_000), "lines a job, or 0 to keep none"),
        job_modules=reader.read(
            "WORKER_JOB_MODULES", (), names_in, "module names, .py files or folders, comma-separated"
        ),
        pool=reader.read("WORKER_POOL", "default", str, "a name"),
        types=reader.read("WORKER_TYPES", (), names_in, "job types, comma-separated"),
        namespaces=reader.read("WORKER_NAMESPACES", (), names_in, "namespaces, comma-separated"),
        grace_seconds=reader.read("WORKER_GRACE_SECONDS", 20.0, number(0, 86_400), "seconds from 0 to 86400"),
        health_host=reader.health_host(),
        health_port=reader.health_port(),
        database_wait_seconds=reader.database_wait_seconds(),
        builtin_jobs=reader.read("WORKER_BUILTIN_JOBS", "on", one_of("on", "off"), "on or off") == "on",
        isolation=cast("Isolation", reader.read("WORKER_ISOLATION", "warm", one_of("warm", "fresh"), "warm or fresh")),
        job_memory_mib=reader.read(
            "WORKER_JOB_MEMORY_MIB",
            0,
            whole(MIN_MEMORY_MIB, MAX_MEMORY_MIB),
            f"MiB from {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}, or 0 for no limit",
        )
        or None,
        child_max_jobs=reader.read(
            "WORKER_CHILD_MAX_JOBS",
            DEFAULT_CHILD_MAX_JOBS,
            whole(1, MAX_CHILD_JOBS),
            f"a number from 0 to {MAX_CHILD_JOBS}",
        ),
        child_max_mib=reader.read(
            "WORKER_CHILD_MAX_MIB", DEFAULT_CHILD_MAX_MIB, whole(1, MAX_MEMORY_MIB), f"MiB from 0 to {MAX_MEMORY_MIB}"
        ),
        error_hook=reader.read("WORKERJOBS_ERROR_HOOK", None, _function, "module:function"),
        service_account=reader.read("WORKERJOBS_SERVICE_ACCOUNT", SERVICE_ACCOUNT, str, "a folder"),
        pod=_pod(reader),
    )
    reader.finish()
    return settings


def _function(text: str) -> str | None:
    module, colon, path = text.partition(":")
    if not colon or not all(name.isidentifier() for name in (*module.split("."), *path.split("."))):
        raise ValueError(text)
    return text


def _pod(reader: Reader) -> PodIdentity | None:
    uid = reader.read("POD_UID", None, str, "a pod's uid")
    if uid is None:
        return None
    return PodIdentity(
        uid=uid,
        namespace=reader.read("POD_NAMESPACE", None, str, "a namespace"),
        name=reader.read("POD_NAME", None, str, "a pod's name"),
        cluster_id=reader.read("WORKERJOBS_CLUSTER_ID", None, str, "a name"),
    )
