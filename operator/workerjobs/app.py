"""Puts the parts together: the only module that names concrete adapters."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import logging
import os
import resource
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml
from prometheus_client import CollectorRegistry, Gauge

from workerjobs.domain.blocks import BlockRef
from workerjobs.domain.chains import Chain
from workerjobs.domain.data_schema import check_data
from workerjobs.domain.doctor import Facts
from workerjobs.domain.job import Job, NewJob
from workerjobs.errors import (
    ChainUnavailableError,
    DatabaseUnavailableError,
    InvalidInputError,
    InvalidSettingsError,
    NotFoundError,
    SchemaError,
    WorkerJobsError,
)
from workerjobs.jobs.chain_cron import watch_jobs
from workerjobs.jobs.deploy_multicall3 import deploy_multicall3_at_start
from workerjobs.jobs.prune import REMOVE_OLD_WORKER_JOBS
from workerjobs.kube.carrying import carry_out
from workerjobs.kube.job_data import ServiceAccountJobData
from workerjobs.kube.reconcile import Resource, reconcile
from workerjobs.ports import Leadership, PoolCluster, TokenStore
from workerjobs.settings import (
    DEFAULT_HEALTH_PORT,
    HEALTH_URL_VARIABLE,
    LEASE_SECONDS,
    OperatorSettings,
    ServerSettings,
    WorkerSettings,
    chain_settings,
)
from workerjobs.storage import quickdapp
from workerjobs.storage.api import PostgresApiStore
from workerjobs.storage.chain import PostgresChainStore
from workerjobs.storage.connection import address_of
from workerjobs.storage.doctor import gather
from workerjobs.storage.embedded import EmbeddedPostgres
from workerjobs.storage.fenced import FencedJobStore
from workerjobs.storage.listen import NOTIFICATIONS, POLL_SECONDS, PostgresListener
from workerjobs.storage.messages import PostgresMessageStore
from workerjobs.storage.migrate import migrate_url
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.storage.quickdapp import Adoption
from workerjobs.web.backlog import BacklogPage
from workerjobs.web.health import HealthServer, Pulse
from workerjobs.worker.chain_metrics import ChainMetrics
from workerjobs.worker.child import Configuration
from workerjobs.worker.cpus import usable_cpus
from workerjobs.worker.sealing import can_seal
from workerjobs.worker.supervisor import Supervisor, SupervisorOptions

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

log = logging.getLogger(__name__)

T = TypeVar("T")

STORAGE_FOR_JOBS = "workerjobs.storage.for_jobs"
"""What a job's process imports when, and only when, the job works on its database."""
API_CONNECTIONS = 4
"""Requests to the HTTP API that the database works on at once."""
OPERATOR_NAME = "workerjobs operator"
OPERATOR_POLL_SECONDS = 10.0
"""How often the operator looks at its rows behind a pooler without DATABASE_DIRECT_URL."""
OPEN_FILES, OPEN_FILES_OF_A_CHILD = 48, 2
"""What a supervisor opens: connections, probes, its nursery; and for each child a channel and a pipe."""
_WAIT_SECONDS = 1.0
_APPLY_ROUNDS = 6
"""Applying a manifest is done after two, or some more where several of its fields changed."""
_REWIND_SECONDS, _REWIND_TRIES = 10.0, 10


@contextmanager
def database(url: str | None) -> Iterator[str]:
    """Give the database's URL, starting (or joining) the embedded Postgres where there is none.

    The embedded one is migrated on the way: nobody else would do it.
    """
    if url is not None:
        yield url
        return
    with EmbeddedPostgres() as server:
        migrate_url(server.url)
        yield server.url


@contextmanager
def throwaway_database() -> Iterator[str]:
    """Give the URL of a migrated database that is gone afterwards."""
    with EmbeddedPostgres.ephemeral() as server:
        migrate_url(server.url)
        yield server.url


def name_of(url: str) -> str:
    """Name a database for people, without its password."""
    return address_of(url)


@asynccontextmanager
async def open_store(url: str, application_name: str = "workerjobs") -> AsyncIterator[PostgresJobStore]:
    """Open the table of jobs and close it at the end."""
    store = await PostgresJobStore.open(url, application_name)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_token_store(url: str) -> AsyncIterator[TokenStore]:
    """Open the tokens of the HTTP API and close them at the end."""
    store = await PostgresApiStore.open(url, "workerjobs")
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_chain_store(url: str) -> AsyncIterator[PostgresChainStore]:
    """Open the tables of watched chains and close them at the end."""
    store = await PostgresChainStore.open(url, "workerjobs chain")
    try:
        yield store
    finally:
        await store.close()


async def rewind_chain(url: str, chain: Chain, block: int) -> int:
    """Undo what blocks of a chain after one led to; returns how many effects.

    Raises:
        NotFoundError: The chain was never watched, or has no such block.
        InvalidInputError: It is not processed so far.
        ChainUnavailableError: No endpoint answers, or another worker processes the chain all the time.
    """
    # Here and not above: what reads chains is an extra.
    from workerjobs.chain.for_jobs import open_reader

    reader = await open_reader(chain, seconds=_REWIND_SECONDS)
    try:
        async with open_chain_store(url) as store:
            header = (await reader.headers([block]))[0] if block >= 0 else None
            if header is None and block >= 0:
                raise NotFoundError(f"{chain.name} has no block {block}")
            to = BlockRef(-1, "") if header is None else header.ref
            for _ in range(_REWIND_TRIES):
                cursor = await store.cursor(chain.name)
                if cursor is None:
                    raise NotFoundError(f"{chain.name} was never watched")
                if block > cursor.number:
                    raise InvalidInputError(f"{chain.name} is processed up to block {cursor.number}: give that or less")
                revoked = await store.rewind(chain.name, cursor.ref, to)
                if revoked is not None:
                    return revoked
            raise ChainUnavailableError(f"{chain.name} is processed meanwhile: pause watchChain, and try again")
    finally:
        await reader.close()


async def gather_facts(url: str, direct_url: str | None) -> Facts:
    """Ask the database what `workerjobs doctor` judges."""
    return await gather(url, direct_url)


async def check_against_workers(store: PostgresJobStore, job: NewJob) -> None:
    """Refuse a job's data where live workers know its type, and none of them would accept it.

    Args:
        store: The table.
        job: Otherwise valid (`workerjobs.domain.job.check_job`).

    Raises:
        InvalidDataError: With everything that is wrong.
    """
    check_data(job.data, await store.schemas_of(job.pool, job.type, _seconds(LEASE_SECONDS)))


async def wait_for_store(
    url: str, application_name: str, wait_seconds: float, namespaces: Sequence[str] = ()
) -> PostgresJobStore:
    """Open the table of jobs, waiting a while for a database that is not up, or not migrated, yet."""
    missing = (DatabaseUnavailableError, SchemaError)
    return await _wait_for(lambda: PostgresJobStore.open(url, application_name, namespaces), missing, wait_seconds)


async def wait_to_migrate(url: str, wait_seconds: float) -> list[str]:
    """Migrate, waiting a while for a database that is not up yet."""
    return await _wait_for(lambda: asyncio.to_thread(migrate_url, url), (DatabaseUnavailableError,), wait_seconds)


async def _wait_for(
    attempt: Callable[[], Awaitable[T]], missing: tuple[type[WorkerJobsError], ...], wait_seconds: float
) -> T:
    """Try again every second while something is missing; what that is, is said when it begins or changes."""
    deadline = time.monotonic() + wait_seconds
    said = ""
    while True:
        try:
            return await attempt()
        except missing as error:
            if time.monotonic() >= deadline:
                raise
            if str(error) != said:
                log.warning("Waiting: %s", error)
                said = str(error)
            await asyncio.sleep(_WAIT_SECONDS)


def listener(url: str, direct_url: str | None, *, poll_seconds: float = POLL_SECONDS) -> PostgresListener:
    """Listen past the pooler where there is a way."""
    return PostgresListener(
        direct_url or url, "workerjobs listener", is_direct=direct_url is not None, poll_seconds=poll_seconds
    )


def install_quickdapp(url: str) -> list[str]:
    """Make the view worker_jobs and QuickDapp's other tables; returns what was made."""
    return quickdapp.install_quickdapp(url)


def adopt(url: str, *, dry_run: bool) -> Adoption:
    """Take over QuickDapp's table worker_jobs."""
    return quickdapp.adopt(url, dry_run=dry_run)


def child_count(settings: WorkerSettings) -> int:
    """How many children WORKER_COUNT means here."""
    return usable_cpus() if settings.worker_count == "cpus" else settings.worker_count


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
    children = child_count(settings)
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
            sealed=_token_to_seal(settings.service_account),
        ),
        SupervisorOptions(
            children=children,
            pool=settings.pool,
            types=settings.types,
            is_judge=not settings.types and not settings.namespaces,
            lease=_seconds(settings.lease_seconds),
            renew_every=_seconds(settings.renew_seconds),
            grace=_seconds(settings.grace_seconds),
            pod=settings.pod,
            child_max_jobs=settings.child_max_jobs,
            child_max_mib=settings.child_max_mib,
            builtin_jobs=[REMOVE_OLD_WORKER_JOBS, *watch_jobs(chains)] if settings.builtin_jobs else [],
            jobs_at_start=deploy_multicall3_at_start(chains) if settings.builtin_jobs else [],
        ),
        ServiceAccountJobData(settings.service_account),
    )
    health = serve_health(
        settings.health_host,
        settings.health_port,
        seconds_since_life=lambda: supervisor.seconds_since_life,
        is_started=supervisor.started.is_set,
        registry=supervisor.metrics.registry,
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


def _token_to_seal(folder: str) -> str | None:
    """The folder of the worker's token, where there is one and the kernel can keep it from the jobs."""
    if not Path(folder, "token").exists():
        return None
    if not can_seal():
        log.warning("Jobs could read this worker's token in %s, as the kernel here has no Landlock", folder)
        return None
    return folder


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
    try:
        from workerjobs.kube import handlers
        from workerjobs.kube.client import KubernetesCluster
        from workerjobs.kube.default_pool import DefaultPool
        from workerjobs.kube.election import Election
        from workerjobs.kube.metrics import OperatorMetrics
        from workerjobs.kube.mirror import Mirror
        from workerjobs.kube.pools import Pools
        from workerjobs.kube.poolspec import WorkerDefaults
        from workerjobs.kube.workerpods import WorkerPods
    except ImportError as error:
        raise InvalidSettingsError(
            f'The operator needs more packages: pip install "workerjobs[operator]" ({error})'
        ) from error

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
    backlog_store = PostgresJobStore(url, "workerjobs backlog")  # connects when somebody asks

    async def backlog_of(namespace: str, pool: str) -> Mapping[str, int] | None:
        if settings.namespaces and namespace not in settings.namespaces:
            return None
        return await backlog_store.pool_backlog(pool)

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

        mirror = Mirror(store, cluster, cluster_id, settings.namespaces, on_pass=metrics.passed)
        pods = WorkerPods(store, cluster, cluster_id, settings.pod_namespaces, _seconds(LEASE_SECONDS), metrics)
        defaults = WorkerDefaults(
            cluster_id=cluster_id,
            image=settings.worker_image or f"workerjobs:{version('workerjobs')}",
            database_secret=settings.database_secret,
            chain_secret=settings.chain_secret,
            service_account=settings.worker_service_account,
            log_level=settings.log_level,
        )
        own = own_namespace(settings, cluster.usual_namespace)
        if default_pool is not None and settings.namespaces and own not in settings.namespaces:
            raise InvalidSettingsError(
                f"WORKERJOBS_NAMESPACES has to name {own} as well: there the operator is, and makes the default pool"
            )
        pools = Pools(store, cluster, defaults, own, _seconds(LEASE_SECONDS), default_pool)
        metrics.watch_queue(lambda: mirror.queue_length)
        metrics.watch_pods(lambda: pods.seconds_since_heard)
        metrics.watch_leadership(
            lambda: all(each.is_leader for each in elections), lambda: sum(each.transitions for each in elections)
        )
        health = serve_health(
            settings.health_host,
            settings.health_port,
            seconds_since_life=lambda: mirror.seconds_since_life,
            is_started=lambda: mirror.started.is_set() or any(each.stands_by for each in elections),
            registry=metrics.registry,
            pages={"backlog": BacklogPage(settings.backlog_token, backlog_of, asyncio.get_running_loop())},
        )
        watched = ", ".join(settings.namespaces) or "all namespaces"
        stop = asyncio.Event()
        if on_started is not None:
            on_started(stop.set)
        log.info("The operator of cluster %s watches %s", cluster_id, watched)
        try:
            # Each look of the operator is at all its resources.
            notices = listener(url, settings.database_direct_url, poll_seconds=OPERATOR_POLL_SECONDS)
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


@asynccontextmanager
async def _cluster() -> AsyncIterator[PoolCluster]:
    """Connect to the user's cluster, and close the connection at the end."""
    try:
        from workerjobs.kube.client import KubernetesCluster
    except ImportError as error:
        raise InvalidSettingsError(f'This needs more packages: pip install "workerjobs[operator]" ({error})') from error
    cluster = await KubernetesCluster.connect()
    try:
        yield cluster
    finally:
        await cluster.close()


async def list_pools(namespace: str | None, *, all_namespaces: bool) -> list[Mapping[str, Any]]:
    """Read the WorkerPools of a namespace, by default the user's own, or of all."""
    async with _cluster() as cluster:
        return await cluster.list_workerpools([] if all_namespaces else [namespace or cluster.usual_namespace])


async def read_pool(namespace: str | None, name: str) -> Mapping[str, Any] | None:
    """Read a WorkerPool; None where there is none."""
    async with _cluster() as cluster:
        return await cluster.read_workerpool(namespace or cluster.usual_namespace, name)


async def change_pool(namespace: str | None, name: str, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Change fields of a WorkerPool's spec, where None removes one; None where there is no such pool."""
    async with _cluster() as cluster:
        return await cluster.patch_workerpool(namespace or cluster.usual_namespace, name, spec)


def own_namespace(settings: OperatorSettings, usual: str) -> str:
    """The namespace that the operator is in; where it does not know the first that it watches, or the usual one."""
    if settings.namespace is not None:
        return settings.namespace
    return settings.namespaces[0] if settings.namespaces else usual


def make_ticket(user_id: int, secret: str, seconds: float) -> str:
    """Make a ticket for a user's browser; see `workerjobs.web.tickets`."""
    try:
        from workerjobs.web import tickets
    except ImportError as error:
        raise InvalidSettingsError(f'Tickets need more packages: pip install "workerjobs[server]" ({error})') from error
    return tickets.make_ticket(user_id, secret, now=datetime.now(UTC), lasts=_seconds(seconds))[0]


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
    try:
        from workerjobs.web.api.changes import Changes
        from workerjobs.web.api.stores import Stores
        from workerjobs.web.relay import Relay
        from workerjobs.web.server import WebServer, make_app
    except ImportError as error:
        raise InvalidSettingsError(
            f'The server needs more packages: pip install "workerjobs[server]" ({error})'
        ) from error

    await (await wait_for_store(url, "workerjobs server", settings.database_wait_seconds)).close()
    store = await PostgresMessageStore.open(url, "workerjobs server")
    notices = PostgresListener(
        settings.database_direct_url or url,
        "workerjobs server listener",
        is_direct=settings.database_direct_url is not None,
        channel=NOTIFICATIONS,
    )
    relay = Relay(store, notices, limit=settings.max_listeners, limit_per_user=settings.max_user_listeners)
    stores = Stores([PostgresApiStore(url, "workerjobs server API") for _ in range(API_CONNECTIONS)])
    changes = Changes(stores, listener(url, settings.database_direct_url), limit=settings.max_listeners)
    server = WebServer(make_app(settings, relay, stores, changes), settings)
    pulse = Pulse()
    registry = CollectorRegistry()
    Gauge("workerjobs_listeners", "Connections that are sent notifications.", registry=registry).set_function(
        lambda: relay.count
    )
    health = serve_health(
        settings.health_host,
        settings.health_port,
        seconds_since_life=lambda: pulse.seconds_since,
        is_started=relay.listening.is_set,
        registry=registry,
    )
    stopped = asyncio.Event()
    passing_on = asyncio.create_task(relay.run(), name="relay")
    serving = asyncio.create_task(server.run_until_stopped(), name="server")
    stopping = asyncio.create_task(stopped.wait())
    beating = asyncio.create_task(pulse.beat())
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
        ending: list[asyncio.Task[Any]] = [passing_on, stopping, beating]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        if health is not None:
            await asyncio.to_thread(health.close)
        await stores.close()
        await store.close()


def serve_health(
    host: str,
    port: int | None,
    *,
    seconds_since_life: Callable[[], float],
    is_started: Callable[[], bool],
    registry: CollectorRegistry,
    pages: Mapping[str, WSGIApplication] = MappingProxyType({}),
) -> HealthServer | None:
    """Serve probes and metrics; None where they are off.

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
    try:
        server = serve(port)
    except InvalidSettingsError:
        if port != DEFAULT_HEALTH_PORT:
            raise
        server = serve(0)
        log.warning("Port %s is taken: probes and metrics are at %s", port, server.url)
    log.debug("Probes and metrics at %s", server.url)
    return server


def _seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying one manifest without a cluster did."""

    name: str
    action: str
    """created, configured, unchanged or restored."""
    job_id: int | None
    state: str | None


async def apply_locally(url: str, jobs: Sequence[NewJob]) -> list[Applied]:
    """Put the jobs of manifests into the table, as the operator does it in a cluster.

    Args:
        url: The database.
        jobs: Each with its `NewJob.resource`; all of one cluster id, each resource once.
    """
    known = {job.resource.uid: _with_generation(job) for job in jobs if job.resource is not None}
    if not known:
        return []
    cluster_id = next(job.resource.cluster_id for job in known.values() if job.resource is not None)
    resources = {uid: _as_resource(job) for uid, job in known.items()}
    done: dict[str, str] = {}
    async with open_store(url) as store:
        now = await store.now()
        for _ in range(_APPLY_ROUNDS):
            rows = await store.rows_of(cluster_id, list(known))
            states = await store.states_of(cluster_id, list(known))
            actions = reconcile(resources.values(), _marked(rows, known), states, {}, now=now)
            changed = {job.resource.uid: "configured" for job in actions.update if job.resource is not None}
            changed |= dict.fromkeys((*actions.suspend, *actions.resume, *actions.cancel), "configured")
            changed |= {job.resource.uid: "restored" for job in actions.restore if job.resource is not None}
            for job in actions.submit:
                assert job.resource is not None
                changed[job.resource.uid] = "configured" if states[job.resource.uid].run_keys else "created"
            await store.submit(actions.submit)
            await store.update_pending(cluster_id, actions.update)
            await store.ensure_cron(actions.restore)
            await carry_out(store, cluster_id, actions)
            done = changed | done
            if not changed:
                break
        rows = await store.rows_of(cluster_id, list(known))
    applied = []
    for uid, applied_one in resources.items():
        newest = rows[uid][-1] if uid in rows else None
        state = str(newest.state) if newest else None
        applied.append(Applied(applied_one.name, done.get(uid, "unchanged"), newest.id if newest else None, state))
    return applied


def _as_resource(job: NewJob) -> Resource:
    assert job.resource is not None
    return Resource(job.resource.uid, job.resource.namespace, job.resource.name, job.resource.generation, job)


def _marked(rows: Mapping[str, Sequence[Job]], known: Mapping[str, NewJob]) -> dict[str, list[Job]]:
    """Mark rows of another generation as of none: without a cluster a generation is not older or newer, but another."""

    def mark(uid: str, row: Job) -> Job:
        resource = known[uid].resource
        assert resource is not None
        is_same = row.resource_generation == resource.generation
        return row if is_same else msgspec.structs.replace(row, resource_generation=None)

    return {uid: [mark(uid, row) for row in mine] for uid, mine in rows.items()}


def _with_generation(job: NewJob) -> NewJob:
    """Number a manifest by what it says: without a cluster nobody counts its changes."""
    assert job.resource is not None
    digest = hashlib.sha256(repr(replace(job, resource=None)).encode()).digest()
    return replace(job, resource=replace(job.resource, generation=int.from_bytes(digest[:7])))
