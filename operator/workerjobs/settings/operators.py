"""Settings of the operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workerjobs.settings.reading import Reader, names_in
from workerjobs.settings.workers import COUNT_ACCEPTED, WorkerCount, parse_worker_count

MIN_TOKEN_LENGTH = 16
CHAIN_VARIABLES = ("WEB3_SUPPORTED_CHAINS", "WEB3_FACTORY_CONTRACT_ADDRESS", "WEB3_POOL")
"""What workers with chains have to agree on, and is no secret."""


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """What `workerjobs operator` needs to know."""

    database_url: str | None
    """DATABASE_URL; None means the embedded Postgres."""
    database_direct_url: str | None
    """DATABASE_DIRECT_URL: the same database past a pooler, to listen and to migrate; None where there is none."""
    log_level: str
    """WORKER_LOG_LEVEL, as for workers."""
    namespaces: tuple[str, ...]
    """WORKERJOBS_NAMESPACES: namespaces watched, comma-separated; none means all."""
    cluster_id: str | None
    """WORKERJOBS_CLUSTER_ID: marks this cluster's rows; None means the uid of namespace kube-system."""
    worker_count: WorkerCount | None
    """WORKER_COUNT: workerCount of the default pool; None: what WORKERJOBS_DEFAULT_POOL says."""
    default_pool: str | None
    """WORKERJOBS_DEFAULT_POOL: a YAML file with the default pool's spec; None: no such pool without WORKER_COUNT."""
    namespace: str | None
    """POD_NAMESPACE: where the operator is, and with it the default pool; None: the first of ``namespaces``, or
    the usual one of the kubeconfig."""
    worker_image: str | None
    """WORKERJOBS_WORKER_IMAGE: image of worker pods whose pool names none; None: ``workerjobs`` of this release."""
    worker_service_account: str | None
    """WORKERJOBS_WORKER_SERVICE_ACCOUNT: of worker pods; None: their namespace's default one."""
    database_secret: str
    """WORKERJOBS_DATABASE_SECRET: of each pool's namespace, with the database's address."""
    database_url_key: str
    """WORKERJOBS_DATABASE_URL_KEY: the key of that Secret."""
    database_direct_url_key: str
    """WORKERJOBS_DATABASE_DIRECT_URL_KEY: its key of DATABASE_DIRECT_URL, where it has one."""
    chain_secret: str
    """WORKERJOBS_CHAIN_SECRET: of each pool's namespace, with the WEB3_* variables."""
    chain_variables: Mapping[str, str]
    """Those of `CHAIN_VARIABLES` that are set: for the workers of pools with chains."""
    health_host: str
    """WORKER_HEALTH_HOST, as for workers."""
    health_port: int | None
    """WORKER_HEALTH_PORT, as for workers."""
    database_wait_seconds: float
    """DATABASE_WAIT_SECONDS, as for workers."""
    lease: str | None = None
    """WORKERJOBS_LEASE: "namespace/name" of the Lease whose holder acts; "off" (None): there is one operator only."""
    pod_name: str | None = None
    """POD_NAME, the downward API: how this operator is called where it leads."""
    pod_namespaces: tuple[str, ...] = ()
    """WORKERJOBS_POD_NAMESPACES: where worker pods are, comma-separated; none means those watched, and this pod's."""
    backlog_token: str | None = None
    """WORKERJOBS_BACKLOG_TOKEN, or what is in the file WORKERJOBS_BACKLOG_TOKEN_FILE: who asks for a pool's backlog has
    to know it; None: nobody is told."""


def _lease(text: str) -> str | None:
    return None if text.lower() == "off" else _deployment(text)


def _deployment(text: str) -> str:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ValueError(text)
    return text


def operator_settings(environment: Mapping[str, str] | None = None) -> OperatorSettings:
    """Read the operator's settings.

    Raises:
        InvalidSettingsError: With every variable that is wrong, its value, and what is accepted.
    """
    reader = Reader(environment)
    settings = OperatorSettings(
        database_url=reader.database_url(),
        database_direct_url=reader.database_direct_url(),
        log_level=reader.log_level(),
        namespaces=reader.read("WORKERJOBS_NAMESPACES", (), names_in, "namespaces, comma-separated"),
        cluster_id=reader.read("WORKERJOBS_CLUSTER_ID", None, str, "a name"),
        worker_count=reader.read("WORKER_COUNT", None, parse_worker_count, COUNT_ACCEPTED),
        default_pool=reader.read("WORKERJOBS_DEFAULT_POOL", None, str, "the path of a file"),
        namespace=reader.read("POD_NAMESPACE", None, str, "a namespace"),
        worker_image=reader.read("WORKERJOBS_WORKER_IMAGE", None, str, "the name of an image"),
        worker_service_account=reader.read("WORKERJOBS_WORKER_SERVICE_ACCOUNT", None, str, "a name"),
        database_secret=reader.read("WORKERJOBS_DATABASE_SECRET", "workerjobs-database", str, "a name"),
        database_url_key=reader.read("WORKERJOBS_DATABASE_URL_KEY", "url", str, "a key"),
        database_direct_url_key=reader.read("WORKERJOBS_DATABASE_DIRECT_URL_KEY", "directUrl", str, "a key"),
        chain_secret=reader.read("WORKERJOBS_CHAIN_SECRET", "workerjobs-chain", str, "a name"),
        chain_variables={name: text for name in CHAIN_VARIABLES if (text := reader.given.get(name, "").strip())},
        health_host=reader.health_host(),
        health_port=reader.health_port(),
        database_wait_seconds=reader.database_wait_seconds(),
        lease=reader.read("WORKERJOBS_LEASE", None, _lease, '"namespace/name", or "off"'),
        pod_name=reader.read("POD_NAME", None, str, "a pod's name"),
        pod_namespaces=_pod_namespaces(reader),
        backlog_token=_backlog_token(reader),
    )
    if settings.backlog_token is not None and len(settings.backlog_token) < MIN_TOKEN_LENGTH:
        reader.problems.append(
            f"The token of WORKERJOBS_BACKLOG_TOKEN is too short: give {MIN_TOKEN_LENGTH} characters"
        )
    reader.finish()
    return settings


def _pod_namespaces(reader: Reader) -> tuple[str, ...]:
    none: tuple[str, ...] = ()
    given = reader.read("WORKERJOBS_POD_NAMESPACES", none, names_in, "namespaces, comma-separated")
    watched = reader.read("WORKERJOBS_NAMESPACES", none, names_in, "namespaces, comma-separated")
    if given or not watched:
        return given
    own = reader.read("POD_NAMESPACE", "", str, "a namespace")
    return tuple(dict.fromkeys(name for name in (*watched, own) if name))


def _backlog_token(reader: Reader) -> str | None:
    file = reader.read("WORKERJOBS_BACKLOG_TOKEN_FILE", None, str, "the path of a file")
    if file is None:
        return reader.read("WORKERJOBS_BACKLOG_TOKEN", None, str, "a token")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reader.problems.append(f"WORKERJOBS_BACKLOG_TOKEN_FILE={file!r} can't be read: {error}")
        return None
