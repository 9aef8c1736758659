"""The operator: mirrors WorkerJobs into the table, scales pools, looks after the pods of workers."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from workerjobs.app.databases import listener, wait_to_migrate
from workerjobs.app.extras import extra
from workerjobs.app.probes import serve_health
from workerjobs.errors import InvalidInputError, InvalidSettingsError
from workerjobs.ports.workers import Leadership
from workerjobs.settings import LEASE_SECONDS, OperatorSettings
from workerjobs.storage.api import PostgresApiStore
from workerjobs.storage.fenced import FencedJobStore
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.web.backlog import BacklogPage
from workerjobs.web.queue_metrics import QueueMetrics

log = logging.getLogger(__name__)

OPERATOR_NAME = "workerjobs operator"
OPERATOR_POLL_SECONDS = 10.0
"""How often the operator looks at its rows behind a pooler without DATABASE_DIRECT_URL."""


async def run_operator(
    settings: OperatorSettings, url: str, on_started: Callable[[Callable[[], None]], None] | None = None
) -> None:
    """Run the operator until it is stopped; before it acts, it migrates the database.

    Args:
        settings: How.
        url: The database.
        on_started: Called, once it has its database and its cluster, with a function that stops it; until then it can
            be cancelled.
    """
    # Here and not above: kopf and kubernetes are an extra, and no worker loads them.
    with extra("operator", "The operator needs"):
        from workerjobs.kube import handlers
        from workerjobs.kube.backlog import pool_backlog
        from workerjobs.kube.cluster import KubernetesCluster
        from workerjobs.kube.default_pool import DefaultPool
        from workerjobs.kube.election import Election
        from workerjobs.kube.metrics import OperatorMetrics
        from workerjobs.kube.mirror import Mirror
        from workerjobs.kube.pools import Pools
        from workerjobs.kube.poolspec import WorkerDefaults
        from workerjobs.kube.workerpods import WorkerPods

    try:
        default_pool = None if (spec := _default_pool_spec(settings)) is None else DefaultPool(spec)
    except InvalidInputError as error:
        told = settings.default_pool or "WORKER_COUNT"
        raise InvalidSettingsError([f"{told}: {problem}" for problem in error.problems]) from error
    metrics = OperatorMetrics()
    elections: list[Election] = []
    if settings.lease is None:
        await wait_to_migrate(settings.database_direct_url or url, settings.database_wait_seconds)
    cluster = await KubernetesCluster.connect(
        on_call=metrics.api_called, before_write=lambda: elections[0].check() if elections else None
    )
    backlog_store = PostgresApiStore(url, "workerjobs backlog")  # connects when somebody asks

    async def backlog_of(namespace: str, pool: str) -> Mapping[str, int] | None:
        if settings.namespaces and namespace not in settings.namespaces:
            return None
        return await pool_backlog(cluster, backlog_store, namespace, pool)

    store: PostgresJobStore | None = None
    try:
        cluster_id = settings.cluster_id or await cluster.cluster_id()
        if settings.lease is None:
            store = await PostgresJobStore.open(url, OPERATOR_NAME)

            async def begin() -> None:
                pass
        else:
            identity = f"{settings.pod_name or socket.gethostname()}_{secrets.token_hex(4)}"
            election = Election(cluster, settings.lease, identity)
            elections.append(election)
            store = fenced = FencedJobStore(url, OPERATOR_NAME, election.refused)
            lease = f"{cluster_id}/{settings.lease}"

            async def begin() -> None:
                await wait_to_migrate(settings.database_direct_url or url, settings.database_wait_seconds)
                while True:
                    ours = Leadership(lease, election.transitions, identity)
                    if (latest := await fenced.lead(ours)) == ours:
                        return
                    election.count_from(latest.transitions)

        mirror = Mirror(
            store, cluster, cluster_id, settings.namespaces, on_pass=metrics.passed, on_failure=metrics.failed
        )
        pods = WorkerPods(
            store, cluster, cluster_id, settings.pod_namespaces, timedelta(seconds=LEASE_SECONDS), metrics
        )
        defaults = WorkerDefaults(
            cluster_id=cluster_id,
            image=settings.worker_image or f"workerjobs:{version('workerjobs')}",
            database_secret=settings.database_secret,
            database_url_key=settings.database_url_key,
            database_direct_url_key=settings.database_direct_url_key,
            chain_secret=settings.chain_secret,
            chain_variables=settings.chain_variables,
            service_account=settings.worker_service_account,
            log_level=settings.log_level,
        )
        own = own_namespace(settings, cluster.usual_namespace)
        if default_pool is not None and settings.namespaces and own not in settings.namespaces:
            raise InvalidSettingsError(
                f"WORKERJOBS_NAMESPACES has to name {own} as well: there the operator is, and makes the default pool"
            )
        pools = Pools(
            store,
            cluster,
            defaults,
            own,
            timedelta(seconds=LEASE_SECONDS),
            settings.namespaces,
            default_pool,
            metrics.failed,
        )
        metrics.watch_queue(lambda: mirror.queue_length)
        metrics.watch_pods(lambda: pods.seconds_since_heard)
        metrics.watch_leadership(
            lambda: all(each.is_leader for each in elections), lambda: sum(each.transitions for each in elections)
        )
        metrics.watch_pools(lambda: pools.statuses)
        queue_metrics = QueueMetrics(
            backlog_store.queues,
            metrics.registry,
            lambda: mirror.started.is_set() and all(e.is_leader for e in elections),
        )
        health = serve_health(
            settings.health_host,
            settings.health_port,
            seconds_since_life=lambda: mirror.seconds_since_life,
            is_started=lambda: mirror.started.is_set() or any(each.stands_by for each in elections),
            registry=metrics.registry,
            role="operator",
            pages={"backlog": BacklogPage(settings.backlog_token, backlog_of, asyncio.get_running_loop())},
        )
        watched = ", ".join(settings.namespaces) or "all namespaces"
        stop = asyncio.Event()
        if on_started is not None:
            on_started(stop.set)
        log.info("The operator of cluster %s watches %s", cluster_id, watched)
        measuring = asyncio.create_task(queue_metrics.run(), name="queue metrics")
        try:
            # Each look of the operator is at all its resources.
            notices = listener(url, settings.database_direct_url, poll_seconds=OPERATOR_POLL_SECONDS)
            metrics.watch_listening(lambda: notices.is_listening)
            await handlers.run(
                mirror,
                notices,
                pools,
                pods,
                settings.namespaces,
                stop,
                elections[0] if elections else None,
                begin,
            )
        finally:
            measuring.cancel()
            await asyncio.wait({measuring})
            if health is not None:
                await asyncio.to_thread(health.close)
    finally:
        await backlog_store.close()
        if store is not None:
            await store.close()
        await cluster.close()


def _default_pool_spec(settings: OperatorSettings) -> dict[str, Any] | None:
    """Read the default pool's spec; None where none is configured.

    Raises:
        InvalidSettingsError: The file can't be read, or holds no object.
    """
    if settings.default_pool is None:
        return None if settings.worker_count is None else {"workerCount": settings.worker_count}
    try:
        spec = yaml.safe_load(Path(settings.default_pool).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidSettingsError(
            f"WORKERJOBS_DEFAULT_POOL={settings.default_pool!r} can't be read: {error}"
        ) from error
    if not isinstance(spec, dict):
        raise InvalidSettingsError(
            f"WORKERJOBS_DEFAULT_POOL={settings.default_pool!r} holds no object: give a pool's spec"
        )
    return spec if settings.worker_count is None else {**spec, "workerCount": settings.worker_count}


def own_namespace(settings: OperatorSettings, usual: str) -> str:
    """The namespace that the operator is in; where it does not know the first that it watches, or the usual one."""
    if settings.namespace is not None:
        return settings.namespace
    return settings.namespaces[0] if settings.namespaces else usual
