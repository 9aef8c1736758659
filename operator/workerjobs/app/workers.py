"""The worker: a supervisor with its children."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import logging
import os
import resource
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from workerjobs import tracing
from workerjobs.app.databases import listener, wait_for_store
from workerjobs.app.probes import serve_health
from workerjobs.errors import InvalidSettingsError
from workerjobs.jobs.chain_cron import watch_jobs
from workerjobs.jobs.deploy_multicall3 import deploy_multicall3_at_start
from workerjobs.jobs.prune import REMOVE_OLD_WORKER_JOBS
from workerjobs.kube.job_data import ServiceAccountJobData
from workerjobs.settings import HEALTH_URL_VARIABLE, WorkerSettings, chain_settings
from workerjobs.storage.chain import PostgresChainStore
from workerjobs.worker.chain_metrics import ChainMetrics
from workerjobs.worker.configuration import Configuration
from workerjobs.worker.cpus import usable_cpus
from workerjobs.worker.options import SupervisorOptions
from workerjobs.worker.sealing import can_seal
from workerjobs.worker.supervisor import Supervisor

log = logging.getLogger(__name__)

STORAGE_FOR_JOBS = "workerjobs.storage.for_jobs"
"""What a job's process imports when, and only when, the job works on its database."""
OPEN_FILES, OPEN_FILES_OF_A_CHILD = 48, 2
"""What a supervisor opens: connections, probes, its nursery; and for each child a channel and a pipe."""


def most_children(settings: WorkerSettings) -> int:
    """How many children WORKER_COUNT means here, at most."""
    return settings.worker_count if isinstance(settings.worker_count, int) else usable_cpus()


def _allow_open_files(wanted: int, wanted_by: str) -> None:
    """Raise the soft limit of open files as far as is needed: it is often 1,024, where the hard one is far higher."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InvalidSettingsError(
            f"{wanted_by} need {wanted} open files, and this process may have {hard}: raise the limit (ulimit -n), or "
            "give a lower WORKER_COUNT"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def run_worker(
    settings: WorkerSettings, url: str, on_started: Callable[[Supervisor], Awaitable[None] | None] | None = None
) -> None:
    """Run a supervisor until it is stopped.

    Args:
        settings: How.
        url: The database.
        on_started: Called with the supervisor once it claims jobs; its ``stop`` ends this function.
    """
    chains = chain_settings()
    if chains.chains and importlib.util.find_spec("aiohttp") is None:
        raise InvalidSettingsError('WEB3_SUPPORTED_CHAINS needs more packages: pip install "workerjobs[chain]"')
    watching = watch_jobs(chains, chains.pool or settings.pool)
    at_start = deploy_multicall3_at_start(chains, chains.pool or settings.pool)
    pruning = dataclasses.replace(REMOVE_OLD_WORKER_JOBS, pool=settings.pool)
    children = most_children(settings)
    _allow_open_files(OPEN_FILES + OPEN_FILES_OF_A_CHILD * children, f"{children} children")
    store = await wait_for_store(url, "workerjobs worker", settings.database_wait_seconds, settings.namespaces)
    supervisor = Supervisor(
        store,
        listener(url, settings.database_direct_url),
        Configuration(
            settings.job_modules,
            settings.log_level,
            url,
            STORAGE_FOR_JOBS,
            isolation=settings.isolation,
            memory_mib=settings.job_memory_mib,
            has_chains=bool(chains.chains),
            traces=_traces(),
            error_hook=settings.error_hook,
            sealed=_token_to_seal(settings.service_account),
        ),
        SupervisorOptions(
            children=children,
            fewest_children=1 if settings.worker_count == "auto" else None,
            pool=settings.pool,
            types=settings.types,
            is_judge=not settings.types and not settings.namespaces,
            lease=timedelta(seconds=settings.lease_seconds),
            renew_every=timedelta(seconds=settings.renew_seconds),
            grace=timedelta(seconds=settings.grace_seconds),
            log_lines=settings.keep_logs,
            pod=settings.pod,
            child_max_jobs=settings.child_max_jobs,
            child_max_mib=settings.child_max_mib,
            builtin_jobs=[pruning, *watching] if settings.builtin_jobs else [],
            placed_jobs=[*watching, *at_start] if settings.builtin_jobs and chains.pool is not None else [],
            jobs_at_start=at_start if settings.builtin_jobs else [],
        ),
        ServiceAccountJobData(settings.service_account),
    )
    health = serve_health(
        settings.health_host,
        settings.health_port,
        seconds_since_life=lambda: supervisor.seconds_since_life,
        is_started=supervisor.started.is_set,
        registry=supervisor.metrics.registry,
        role="worker",
    )
    if health is not None:
        os.environ[HEALTH_URL_VARIABLE] = f"{health.url}/healthz"
    chain_metrics = None
    if chains.chains:
        chain_metrics = ChainMetrics(
            lambda: PostgresChainStore.open(url, "workerjobs metrics"), supervisor.metrics.registry
        )
        chain_metrics.start()
    try:
        work = asyncio.create_task(supervisor.run(), name="supervisor")
        started = asyncio.create_task(supervisor.started.wait())
        await asyncio.wait({work, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if on_started is not None and not work.done():
            result = on_started(supervisor)
            if result is not None:
                await result
        await work
    finally:
        if chain_metrics is not None:
            await chain_metrics.stop()
        if health is not None:
            await asyncio.to_thread(health.close)
        with contextlib.suppress(Exception):
            await store.close()


def _traces() -> bool:
    """Whether jobs are traced, as the variables of OpenTelemetry ask."""
    if not tracing.is_asked_for(os.environ):
        return False
    if (obstacle := tracing.obstacle(os.environ)) is not None:
        # Such variables are often set for all that runs in a cluster: no reason to run nothing.
        log.warning("Jobs are not traced: %s", obstacle)
        return False
    return True


def _token_to_seal(folder: str) -> str | None:
    """The folder of the worker's token, where there is one and the kernel can keep it from the jobs."""
    if not Path(folder, "token").exists():
        return None
    if not can_seal():
        log.warning("Jobs could read this worker's token in %s, as the kernel here has no Landlock", folder)
        return None
    return folder
