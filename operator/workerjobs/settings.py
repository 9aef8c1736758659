"""Settings of the three roles, read from the environment; every problem is found before any is reported."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, TypeVar, cast
from urllib.parse import urlsplit

from workerjobs.domain.blocks import Confirmations
from workerjobs.domain.chains import CHAIN_IDS, Chain
from workerjobs.domain.events import parse_address
from workerjobs.errors import InvalidInputError, InvalidSettingsError
from workerjobs.logs import LEVELS
from workerjobs.ports import PodIdentity

Isolation = Literal["warm", "fresh"]
WorkerCount = int | Literal["cpus"]
PodCount = int | Literal["cpus", "auto"]
T = TypeVar("T")

MAX_WORKER_COUNT = 1000
DEFAULT_HEALTH_PORT = 8090
MAX_CHILD_JOBS = 2**31 - 1
DEFAULT_CHILD_MAX_JOBS = 100_000
DEFAULT_CHILD_MAX_MIB = 1024
MIN_MEMORY_MIB, MAX_MEMORY_MIB = 32, 1024 * 1024
"""Limits of a job's memory limit; Python alone takes some 20 MiB."""
LEASE_SECONDS = 15.0
"""How long a claimed row stays reserved without a renewal, and a worker counts as alive that does not show itself."""
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes puts a pod's token."""
MIN_TOKEN_LENGTH = 16
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
    """WORKER_COUNT: number of child processes, or "cpus" for one per CPU that this process may use."""
    log_level: str
    """WORKER_LOG_LEVEL: trace, debug, info, warn or error."""
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
    service_account: str = SERVICE_ACCOUNT
    """WORKERJOBS_SERVICE_ACCOUNT: folder with the token and ca.crt that dataFrom is resolved with."""
    lease_seconds: float = LEASE_SECONDS
    """How long a claimed row stays reserved without a renewal."""
    pod: PodIdentity | None = None
    """POD_UID, POD_NAME, POD_NAMESPACE (the downward API) and WORKERJOBS_CLUSTER_ID; None outside of Kubernetes."""
    renew_seconds: float = 5.0
    """How often all leases are renewed; below a third of a lease, so that one lost renewal is harmless."""


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
    worker_count: PodCount | None
    """WORKER_COUNT: workerCount of the default pool; None: what WORKERJOBS_DEFAULT_POOL says."""
    default_pool: str | None
    """WORKERJOBS_DEFAULT_POOL: a YAML file with the default pool's spec; None: no such pool without WORKER_COUNT."""
    namespace: str | None
    """POD_NAMESPACE: where the operator is, and with it the default pool; None: see `app.own_namespace`."""
    worker_image: str | None
    """WORKERJOBS_WORKER_IMAGE: image of worker pods whose pool names none; None: ``workerjobs`` of this release."""
    worker_service_account: str | None
    """WORKERJOBS_WORKER_SERVICE_ACCOUNT: of worker pods; None: their namespace's default one."""
    database_secret: str
    """WORKERJOBS_DATABASE_SECRET: of each pool's namespace, with the database's address as its key ``url``."""
    chain_secret: str
    """WORKERJOBS_CHAIN_SECRET: of each pool's namespace, with the WEB3_* variables."""
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


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What `workerjobs server` needs to know."""

    database_url: str | None
    """DATABASE_URL; None means the embedded Postgres."""
    database_direct_url: str | None
    """DATABASE_DIRECT_URL: the same database past a pooler, to listen."""
    log_level: str
    """WORKER_LOG_LEVEL, as for workers."""
    host: str
    """WORKERJOBS_SERVER_HOST: the address to listen on."""
    port: int
    """WORKERJOBS_SERVER_PORT; 0 picks a free one."""
    token: str | None
    """WORKERJOBS_SERVER_TOKEN: what programs show; needed where others than this machine can connect."""
    ticket_secret: str
    """WORKERJOBS_TICKET_SECRET: what tickets are signed with; else it is made from the token, or by chance."""
    ticket_seconds: float
    """WORKERJOBS_TICKET_SECONDS: how long a ticket can be used to connect."""
    allowed_origins: tuple[str, ...]
    """WORKERJOBS_ALLOWED_ORIGINS: of pages on other servers that may connect."""
    trusted_proxies: tuple[str, ...]
    """WORKERJOBS_TRUSTED_PROXIES: addresses whose X-Forwarded headers are believed."""
    max_listeners: int
    """WORKERJOBS_MAX_LISTENERS: connections in all."""
    max_user_listeners: int
    """WORKERJOBS_MAX_USER_LISTENERS: connections of one user."""
    health_host: str
    """WORKER_HEALTH_HOST, as for workers."""
    health_port: int | None
    """WORKER_HEALTH_PORT, as for workers."""
    database_wait_seconds: float
    """DATABASE_WAIT_SECONDS, as for workers."""

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can connect."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """Which chains are watched, and how."""

    chains: tuple[Chain, ...]
    """WEB3_SUPPORTED_CHAINS, the primary one first; none: no chain is watched."""
    factory_address: str | None
    """WEB3_FACTORY_CONTRACT_ADDRESS: whose tokens are announced, in lower case; None: those of any contract."""
    filters_file: str | None
    """WEB3_CHAIN_FILTERS: a YAML file with filters declared as data."""
    wallet_private_key: str | None
    """WEB3_SERVER_WALLET_PRIVATE_KEY: what jobs pay with; never shown."""

    def find(self, name: str | None = None) -> Chain:
        """Find a chain by name; None means the primary one.

        Raises:
            InvalidSettingsError: It is not among the supported ones.
        """
        known = ", ".join(chain.name for chain in self.chains) or "none"
        for chain in self.chains:
            if name is None or chain.name == name:
                return chain
        raise InvalidSettingsError(
            f"the chain {name!r} is not among WEB3_SUPPORTED_CHAINS ({known})"
            if name is not None
            else "WEB3_SUPPORTED_CHAINS is not set: name the chains to watch, such as anvil or mainnet,base"
        )


class _Reader:
    """Reads variables one by one and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def read(self, name: str, default: T, parse: Callable[[str], T], accepted: str) -> T:
        """Parse one variable; unset and empty mean the default."""
        text = self._environment.get(name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError:
            self.problems.append(f"{name}={text!r} is not accepted: give {accepted}")
            return default

    def finish(self) -> None:
        """Raise all problems at once."""
        if self.problems:
            raise InvalidSettingsError(self.problems)


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(text)
        return text.lower()

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        number = float(text)
        if not low <= number <= high:
            raise ValueError(text)
        return number

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number in a range, or 0."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit():
            raise ValueError(text)
        number = int(text)
        if number and not low <= number <= high:
            raise ValueError(text)
        return number

    return parse


def parse_worker_count(text: str) -> WorkerCount:
    """Parse WORKER_COUNT.

    Raises:
        ValueError: It is neither a number from 1 to 1000 nor "cpus".
    """
    if text == "cpus":
        return "cpus"
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_WORKER_COUNT:
        raise ValueError(text)
    return int(text)


def _port(text: str) -> int | None:
    if text.lower() == "off":
        return None
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError(text)
    return number


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError(text)
    return text


def _pod_count(text: str) -> PodCount:
    return "auto" if text == "auto" else parse_worker_count(text)


def _lease(text: str) -> str | None:
    return None if text.lower() == "off" else _deployment(text)


def _deployment(text: str) -> str:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ValueError(text)
    return text


_COUNT = f'a number from 1 to {MAX_WORKER_COUNT}, or "cpus"'
_LEVEL = ", ".join(LEVELS)
_DEFAULT_PORT: int | None = DEFAULT_HEALTH_PORT


def database_url(environment: Mapping[str, str] | None = None) -> str | None:
    """Read DATABASE_URL alone.

    Returns:
        The URL, or None where it is not set and the embedded Postgres serves.

    Raises:
        InvalidSettingsError: It is no Postgres URL. The value is not repeated, as it may hold a password.
    """
    return _url_of("DATABASE_URL", os.environ if environment is None else environment)


def database_direct_url(environment: Mapping[str, str] | None = None) -> str | None:
    """Read DATABASE_DIRECT_URL alone, as `database_url`; it can't stand without that."""
    given = os.environ if environment is None else environment
    url = _url_of("DATABASE_DIRECT_URL", given)
    if url is not None and not given.get("DATABASE_URL", "").strip():
        raise InvalidSettingsError("DATABASE_DIRECT_URL needs DATABASE_URL, the same database through its pooler")
    return url


def _url_of(name: str, environment: Mapping[str, str]) -> str | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    try:
        return _url(text)
    except ValueError:
        raise InvalidSettingsError(f"{name} is not accepted: give postgresql://user:password@host:port/name") from None


def job_modules(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Read WORKER_JOB_MODULES alone."""
    return _names((os.environ if environment is None else environment).get("WORKER_JOB_MODULES", ""))


def worker_settings(environment: Mapping[str, str] | None = None) -> WorkerSettings:
    """Read the worker's settings.

    Raises:
        InvalidSettingsError: With every variable that is wrong, its value, and what is accepted.
    """
    reader = _Reader(os.environ if environment is None else environment)
    settings = WorkerSettings(
        database_url=_read_url(reader, database_url, environment),
        database_direct_url=_read_url(reader, database_direct_url, environment),
        worker_count=reader.read("WORKER_COUNT", "cpus", parse_worker_count, _COUNT),
        log_level=reader.read("WORKER_LOG_LEVEL", "info", _one_of(*LEVELS), _LEVEL),
        job_modules=reader.read(
            "WORKER_JOB_MODULES", (), _names, "module names, .py files or folders, comma-separated"
        ),
        pool=reader.read("WORKER_POOL", "default", str, "a name"),
        types=reader.read("WORKER_TYPES", (), _names, "job types, comma-separated"),
        namespaces=reader.read("WORKER_NAMESPACES", (), _names, "namespaces, comma-separated"),
        grace_seconds=reader.read("WORKER_GRACE_SECONDS", 20.0, _number(0, 86_400), "seconds from 0 to 86400"),
        health_host=reader.read("WORKER_HEALTH_HOST", "127.0.0.1", str, "an address"),
        health_port=reader.read("WORKER_HEALTH_PORT", _DEFAULT_PORT, _port, 'a port from 0 to 65535, or "off"'),
        database_wait_seconds=reader.read("DATABASE_WAIT_SECONDS", 0.0, _number(0, 86_400), "seconds from 0 to 86400"),
        builtin_jobs=reader.read("WORKER_BUILTIN_JOBS", "on", _one_of("on", "off"), "on or off") == "on",
        isolation=cast("Isolation", reader.read("WORKER_ISOLATION", "warm", _one_of("warm", "fresh"), "warm or fresh")),
        job_memory_mib=reader.read(
            "WORKER_JOB_MEMORY_MIB",
            0,
            _whole(MIN_MEMORY_MIB, MAX_MEMORY_MIB),
            f"MiB from {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}, or 0 for no limit",
        )
        or None,
        child_max_jobs=reader.read(
            "WORKER_CHILD_MAX_JOBS",
            DEFAULT_CHILD_MAX_JOBS,
            _whole(1, MAX_CHILD_JOBS),
            f"a number from 0 to {MAX_CHILD_JOBS}",
        ),
        child_max_mib=reader.read(
            "WORKER_CHILD_MAX_MIB", DEFAULT_CHILD_MAX_MIB, _whole(1, MAX_MEMORY_MIB), f"MiB from 0 to {MAX_MEMORY_MIB}"
        ),
        service_account=reader.read("WORKERJOBS_SERVICE_ACCOUNT", SERVICE_ACCOUNT, str, "a folder"),
        pod=_pod(reader),
    )
    reader.finish()
    return settings


def operator_settings(environment: Mapping[str, str] | None = None) -> OperatorSettings:
    """Read the operator's settings.

    Raises:
        InvalidSettingsError: With every variable that is wrong, its value, and what is accepted.
    """
    reader = _Reader(os.environ if environment is None else environment)
    settings = OperatorSettings(
        database_url=_read_url(reader, database_url, environment),
        database_direct_url=_read_url(reader, database_direct_url, environment),
        log_level=reader.read("WORKER_LOG_LEVEL", "info", _one_of(*LEVELS), _LEVEL),
        namespaces=reader.read("WORKERJOBS_NAMESPACES", (), _names, "namespaces, comma-separated"),
        cluster_id=reader.read("WORKERJOBS_CLUSTER_ID", None, str, "a name"),
        worker_count=reader.read("WORKER_COUNT", None, _pod_count, f'{_COUNT}, or "auto"'),
        default_pool=reader.read("WORKERJOBS_DEFAULT_POOL", None, str, "the path of a file"),
        namespace=reader.read("POD_NAMESPACE", None, str, "a namespace"),
        worker_image=reader.read("WORKERJOBS_WORKER_IMAGE", None, str, "the name of an image"),
        worker_service_account=reader.read("WORKERJOBS_WORKER_SERVICE_ACCOUNT", None, str, "a name"),
        database_secret=reader.read("WORKERJOBS_DATABASE_SECRET", "workerjobs-database", str, "a name"),
        chain_secret=reader.read("WORKERJOBS_CHAIN_SECRET", "workerjobs-chain", str, "a name"),
        health_host=reader.read("WORKER_HEALTH_HOST", "127.0.0.1", str, "an address"),
        health_port=reader.read("WORKER_HEALTH_PORT", _DEFAULT_PORT, _port, 'a port from 0 to 65535, or "off"'),
        database_wait_seconds=reader.read("DATABASE_WAIT_SECONDS", 0.0, _number(0, 86_400), "seconds from 0 to 86400"),
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


def _pod_namespaces(reader: _Reader) -> tuple[str, ...]:
    none: tuple[str, ...] = ()
    given = reader.read("WORKERJOBS_POD_NAMESPACES", none, _names, "namespaces, comma-separated")
    watched = reader.read("WORKERJOBS_NAMESPACES", none, _names, "namespaces, comma-separated")
    if given or not watched:
        return given
    own = reader.read("POD_NAMESPACE", "", str, "a namespace")
    return tuple(dict.fromkeys(name for name in (*watched, own) if name))


def _backlog_token(reader: _Reader) -> str | None:
    file = reader.read("WORKERJOBS_BACKLOG_TOKEN_FILE", None, str, "the path of a file")
    if file is None:
        return reader.read("WORKERJOBS_BACKLOG_TOKEN", None, str, "a token")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reader.problems.append(f"WORKERJOBS_BACKLOG_TOKEN_FILE={file!r} can't be read: {error}")
        return None


def _pod(reader: _Reader) -> PodIdentity | None:
    uid = reader.read("POD_UID", None, str, "a pod's uid")
    if uid is None:
        return None
    return PodIdentity(
        uid=uid,
        namespace=reader.read("POD_NAMESPACE", None, str, "a namespace"),
        name=reader.read("POD_NAME", None, str, "a pod's name"),
        cluster_id=reader.read("WORKERJOBS_CLUSTER_ID", None, str, "a name"),
    )


_CHAIN_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def chain_settings(environment: Mapping[str, str] | None = None) -> ChainSettings:
    """Read which chains are watched.

    Of each chain named by WEB3_SUPPORTED_CHAINS, in upper case and with _ for -: WEB3_<CHAIN>_RPC (endpoints,
    comma-separated), and where needed WEB3_<CHAIN>_CHAIN_ID, WEB3_<CHAIN>_CONFIRMATIONS, WEB3_<CHAIN>_FROM_BLOCK,
    WEB3_<CHAIN>_FINALITY_BLOCKS, WEB3_<CHAIN>_RPC_RATE and WEB3_<CHAIN>_RPC_TIMEOUT_SECONDS.

    Raises:
        InvalidSettingsError: With every variable that is wrong. URLs are not repeated, as they may hold keys.
    """
    given = os.environ if environment is None else environment
    reader = _Reader(given)
    names = reader.read(
        "WEB3_SUPPORTED_CHAINS", _NO_CHAINS, _chain_names, "names of chains, comma-separated, each once"
    )
    confirmations = reader.read("WEB3_CONFIRMATIONS", Confirmations(), Confirmations.parse, _CONFIRMATIONS)
    from_block = reader.read("WATCH_FROM_BLOCK", _NO_BLOCK, _block_number, _BLOCK)
    chains = tuple(_read_chain(reader, given, name, confirmations, from_block) for name in names)
    by_id: dict[int, str] = {}
    for chain in chains:
        if chain.chain_id and by_id.setdefault(chain.chain_id, chain.name) != chain.name:
            first = by_id[chain.chain_id]
            reader.problems.append(f"WEB3_SUPPORTED_CHAINS names {first} and {chain.name}, which are one chain")
    settings = ChainSettings(
        chains,
        reader.read("WEB3_FACTORY_CONTRACT_ADDRESS", None, _address, "an address: 0x and 40 hexadecimal digits"),
        reader.read("WEB3_CHAIN_FILTERS", None, str, "the path of a YAML file"),
        _private_key(reader, given),
    )
    reader.finish()
    return settings


_CONFIRMATIONS = "latest, safe, finalized or a number of blocks"
_BLOCK = "the number of a block"
_NO_BLOCK: int | None = None
_NO_CHAINS: tuple[str, ...] = ()


def _read_chain(
    reader: _Reader, given: Mapping[str, str], name: str, confirmations: Confirmations, from_block: int | None
) -> Chain:
    prefix = f"WEB3_{name.upper().replace('-', '_')}_"
    known_id: int | None = CHAIN_IDS.get(name)
    chain_id = reader.read(f"{prefix}CHAIN_ID", known_id, _block_number, "a chain id") or 0
    if name in CHAIN_IDS and chain_id != CHAIN_IDS[name]:
        reader.problems.append(f"{prefix}CHAIN_ID={chain_id} is not accepted: {name} is {CHAIN_IDS[name]}")
    elif not chain_id:
        known = ", ".join(CHAIN_IDS)
        reader.problems.append(f"{prefix}CHAIN_ID is missing: {name} is none of the known chains ({known})")
    urls = [part.strip() for part in given.get(f"{prefix}RPC", "").split(",") if part.strip()]
    head_urls = tuple(url for url in urls if urlsplit(url).scheme in ("ws", "wss"))
    rpc_urls = tuple(url for url in urls if url not in head_urls)
    if not urls:
        reader.problems.append(f"{prefix}RPC is missing: give the URLs of {name}'s endpoints, comma-separated")
    elif not rpc_urls:
        reader.problems.append(
            f"{prefix}RPC has no endpoint to ask: give an http or https URL beside those of WebSocket, which only tell "
            "of new blocks"
        )
    for place, url in enumerate(urls, 1):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            reader.problems.append(
                f"{prefix}RPC, endpoint {place}, is not accepted: give an http, https, ws or wss URL"
            )
    if len(set(urls)) != len(urls):
        reader.problems.append(f"{prefix}RPC names an endpoint twice")
    rate = reader.read(f"{prefix}RPC_RATE", 0.0, _number(0, 1_000_000), "requests a second, or 0 for any number")
    return Chain(
        name,
        chain_id,
        rpc_urls,
        head_urls=head_urls,
        confirmations=reader.read(f"{prefix}CONFIRMATIONS", confirmations, Confirmations.parse, _CONFIRMATIONS),
        from_block=reader.read(f"{prefix}FROM_BLOCK", from_block, _block_number, _BLOCK),
        finality_blocks=reader.read(f"{prefix}FINALITY_BLOCKS", 64, _whole(1, 1_000_000), "blocks from 0 to 1000000"),
        requests_per_second=rate or None,
        timeout_seconds=reader.read(f"{prefix}RPC_TIMEOUT_SECONDS", 10.0, _number(0.1, 600), "seconds from 0.1 to 600"),
    )


def _private_key(reader: _Reader, given: Mapping[str, str]) -> str | None:
    """Check a key without ever repeating it."""
    text = given.get("WEB3_SERVER_WALLET_PRIVATE_KEY", "").strip()
    if text and re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", text) is None:
        reader.problems.append("WEB3_SERVER_WALLET_PRIVATE_KEY is not accepted: give 64 hexadecimal digits")
    return text or None


def _chain_names(text: str) -> tuple[str, ...]:
    names = _names(text.lower())
    if len(set(names)) != len(names) or not all(_CHAIN_NAME.fullmatch(name) for name in names):
        raise ValueError(text)
    return names


def _block_number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise ValueError(text)
    return int(text)


def _address(text: str) -> str | None:
    try:
        return parse_address(text)
    except InvalidInputError as error:
        raise ValueError(text) from error


def _read_url(
    reader: _Reader, read: Callable[[Mapping[str, str] | None], str | None], environment: Mapping[str, str] | None
) -> str | None:
    try:
        return read(environment)
    except InvalidSettingsError as error:
        reader.problems += error.problems
        return None


MIN_SECRET = 32
"""Characters of a secret; the key of HS256 has as many bytes (RFC 7518, 3.2)."""
DEFAULT_SERVER_PORT = 8095


def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine alone."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def server_settings(environment: Mapping[str, str] | None = None) -> ServerSettings:
    """Read the server's settings.

    Raises:
        InvalidSettingsError: With every variable that is wrong, its value (secrets are not repeated), and what is
            accepted.
    """
    given = os.environ if environment is None else environment
    reader = _Reader(given)
    host = reader.read("WORKERJOBS_SERVER_HOST", "127.0.0.1", str, "an address")
    token = _secret(reader, given, "WORKERJOBS_SERVER_TOKEN")
    secret = _secret(reader, given, "WORKERJOBS_TICKET_SECRET")
    if token is None and not is_loopback(host):
        reader.problems.append(
            f"WORKERJOBS_SERVER_HOST={host} lets other machines connect: set WORKERJOBS_SERVER_TOKEN as well"
        )
    settings = ServerSettings(
        database_url=_read_url(reader, database_url, environment),
        database_direct_url=_read_url(reader, database_direct_url, environment),
        log_level=reader.read("WORKER_LOG_LEVEL", "info", _one_of(*LEVELS), _LEVEL),
        host=host,
        port=int(reader.read("WORKERJOBS_SERVER_PORT", DEFAULT_SERVER_PORT, _whole(0, 65535), "a port to 65535")),
        token=token,
        ticket_secret=secret or (ticket_secret_of(token) if token is not None else secrets.token_hex(MIN_SECRET)),
        ticket_seconds=reader.read("WORKERJOBS_TICKET_SECONDS", 60.0, _number(1, 86_400), "seconds from 1 to 86400"),
        allowed_origins=reader.read("WORKERJOBS_ALLOWED_ORIGINS", (), _origins, "origins such as https://app.example"),
        trusted_proxies=reader.read("WORKERJOBS_TRUSTED_PROXIES", (), _names, "addresses, comma-separated"),
        max_listeners=reader.read("WORKERJOBS_MAX_LISTENERS", 1000, _whole(1, 100_000), "a number to 100000"),
        max_user_listeners=reader.read("WORKERJOBS_MAX_USER_LISTENERS", 10, _whole(1, 100_000), "a number to 100000"),
        health_host=reader.read("WORKER_HEALTH_HOST", "127.0.0.1", str, "an address"),
        health_port=reader.read("WORKER_HEALTH_PORT", _DEFAULT_PORT, _port, 'a port from 0 to 65535, or "off"'),
        database_wait_seconds=reader.read("DATABASE_WAIT_SECONDS", 0.0, _number(0, 86_400), "seconds from 0 to 86400"),
    )
    reader.finish()
    return settings


def ticket_secret(environment: Mapping[str, str] | None = None) -> str:
    """Read what tickets are signed with, for those who make them without asking the server.

    Raises:
        InvalidSettingsError: Neither WORKERJOBS_TICKET_SECRET nor WORKERJOBS_SERVER_TOKEN is set, or one is too short.
    """
    given = os.environ if environment is None else environment
    reader = _Reader(given)
    secret = _secret(reader, given, "WORKERJOBS_TICKET_SECRET")
    token = _secret(reader, given, "WORKERJOBS_SERVER_TOKEN")
    if secret is None and token is None and not reader.problems:
        reader.problems.append("Set WORKERJOBS_TICKET_SECRET, or WORKERJOBS_SERVER_TOKEN, to the server's")
    reader.finish()
    return secret or ticket_secret_of(token or "")


def ticket_secret_of(token: str) -> str:
    """Make the secret of tickets from the server's token, so that one secret is enough."""
    return hmac.new(token.encode(), b"workerjobs tickets", hashlib.sha256).hexdigest()


def _secret(reader: _Reader, given: Mapping[str, str], name: str) -> str | None:
    text = given.get(name, "").strip()
    if text and len(text) < MIN_SECRET:
        reader.problems.append(f"{name} is too short: give at least {MIN_SECRET} characters, made by chance")
    return text or None


def _origins(text: str) -> tuple[str, ...]:
    origins = _names(text)
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
            raise ValueError(origin)
    return origins
