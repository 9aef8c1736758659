"""Settings of the server."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from workerjobs.settings.reading import Reader, names_in, number, whole

MIN_SECRET = 32
"""Characters of a secret; the key of HS256 has as many bytes (RFC 7518, 3.2)."""
DEFAULT_SERVER_PORT = 8095


@dataclass(frozen=True, slots=True)
class SignedInHeaders:
    """Where a proxy says whom it has signed in, and what its groups may do."""

    user: str
    """WORKERJOBS_PROXY_USER_HEADER: the header with the name."""
    groups: str
    """WORKERJOBS_PROXY_GROUPS_HEADER: the header with the groups, comma-separated."""
    read_groups: frozenset[str]
    """WORKERJOBS_PROXY_READ_GROUPS: who may look; none: everybody whom the proxy has signed in."""
    write_groups: frozenset[str]
    """WORKERJOBS_PROXY_WRITE_GROUPS: who may change things as well; none: nobody."""


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
    path_prefix: str
    """WORKERJOBS_PATH_PREFIX: the path below which a proxy offers this server; empty: none."""
    session_hours: float
    """WORKERJOBS_SESSION_HOURS: after so long a browser has to show its token again."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    """WORKERJOBS_TRUSTED_PROXIES: peers whose headers are believed, `X-Forwarded-For` and those of ``signed_in``."""
    signed_in: SignedInHeaders | None
    """Headers of those whom a proxy has signed in; None: no such headers count."""
    max_listeners: int
    """WORKERJOBS_MAX_LISTENERS: connections in all."""
    max_user_listeners: int
    """WORKERJOBS_MAX_USER_LISTENERS: connections of one user."""
    api_rate: float
    """WORKERJOBS_API_RATE: requests a second that a token allows in the long run; 0: any number."""
    max_body_bytes: int
    """WORKERJOBS_MAX_BODY_MIB: how large a request may be."""
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
    reader = Reader(environment)
    host = reader.read("WORKERJOBS_SERVER_HOST", "127.0.0.1", str, "an address")
    token = _secret(reader, "WORKERJOBS_SERVER_TOKEN")
    secret = _secret(reader, "WORKERJOBS_TICKET_SECRET")
    if token is None and not is_loopback(host):
        reader.problems.append(
            f"WORKERJOBS_SERVER_HOST={host} lets other machines connect: set WORKERJOBS_SERVER_TOKEN as well"
        )
    nobody: tuple[IPv4Network | IPv6Network, ...] = ()
    proxies = reader.read(
        "WORKERJOBS_TRUSTED_PROXIES", nobody, _networks, "addresses or networks such as 10.1.0.0/16, comma-separated"
    )
    settings = ServerSettings(
        database_url=reader.database_url(),
        database_direct_url=reader.database_direct_url(),
        log_level=reader.log_level(),
        host=host,
        port=int(reader.read("WORKERJOBS_SERVER_PORT", DEFAULT_SERVER_PORT, whole(0, 65535), "a port to 65535")),
        token=token,
        ticket_secret=secret or (ticket_secret_of(token) if token is not None else secrets.token_hex(MIN_SECRET)),
        ticket_seconds=reader.read("WORKERJOBS_TICKET_SECONDS", 60.0, number(1, 86_400), "seconds from 1 to 86400"),
        allowed_origins=reader.read("WORKERJOBS_ALLOWED_ORIGINS", (), _origins, "origins such as https://app.example"),
        path_prefix=reader.read("WORKERJOBS_PATH_PREFIX", "", _prefix, "a path such as /workerjobs"),
        session_hours=reader.read("WORKERJOBS_SESSION_HOURS", 12.0, number(0.01, 8_760), "hours to 8760"),
        trusted_proxies=proxies,
        signed_in=_signed_in(reader, is_some_proxy_trusted=bool(proxies)),
        max_listeners=reader.read("WORKERJOBS_MAX_LISTENERS", 1000, whole(1, 100_000), "a number to 100000"),
        max_user_listeners=reader.read("WORKERJOBS_MAX_USER_LISTENERS", 10, whole(1, 100_000), "a number to 100000"),
        api_rate=reader.read(
            "WORKERJOBS_API_RATE", 100.0, number(0, 1_000_000), "requests a second, or 0 for any number"
        ),
        max_body_bytes=int(reader.read("WORKERJOBS_MAX_BODY_MIB", 16.0, number(0.001, 1024), "MiB to 1024") * 2**20),
        health_host=reader.health_host(),
        health_port=reader.health_port(),
        database_wait_seconds=reader.database_wait_seconds(),
    )
    reader.finish()
    return settings


def ticket_secret(environment: Mapping[str, str] | None = None) -> str:
    """Read what tickets are signed with, for those who make them without asking the server.

    Raises:
        InvalidSettingsError: Neither WORKERJOBS_TICKET_SECRET nor WORKERJOBS_SERVER_TOKEN is set, or one is too short.
    """
    reader = Reader(environment)
    secret = _secret(reader, "WORKERJOBS_TICKET_SECRET")
    token = _secret(reader, "WORKERJOBS_SERVER_TOKEN")
    if secret is None and token is None and not reader.problems:
        reader.problems.append("Set WORKERJOBS_TICKET_SECRET, or WORKERJOBS_SERVER_TOKEN, to the server's")
    reader.finish()
    return secret or ticket_secret_of(token or "")


def ticket_secret_of(token: str) -> str:
    """Make the secret of tickets from the server's token, so that one secret is enough."""
    return hmac.new(token.encode(), b"workerjobs tickets", hashlib.sha256).hexdigest()


def _secret(reader: Reader, name: str) -> str | None:
    text = reader.given.get(name, "").strip()
    if text and len(text) < MIN_SECRET:
        reader.problems.append(f"{name} is too short: give at least {MIN_SECRET} characters, made by chance")
    return text or None


def _signed_in(reader: Reader, *, is_some_proxy_trusted: bool) -> SignedInHeaders | None:
    user = reader.read("WORKERJOBS_PROXY_USER_HEADER", None, _header, "a header's name such as X-Forwarded-User")
    names = SignedInHeaders(
        user=user or "",
        groups=reader.read(
            "WORKERJOBS_PROXY_GROUPS_HEADER",
            "X-Forwarded-Groups",
            _header,
            "a header's name such as X-Forwarded-Groups",
        ),
        read_groups=reader.read("WORKERJOBS_PROXY_READ_GROUPS", frozenset(), _groups, "groups, comma-separated"),
        write_groups=reader.read("WORKERJOBS_PROXY_WRITE_GROUPS", frozenset(), _groups, "groups, comma-separated"),
    )
    if user is None:
        others = ("WORKERJOBS_PROXY_GROUPS_HEADER", "WORKERJOBS_PROXY_READ_GROUPS", "WORKERJOBS_PROXY_WRITE_GROUPS")
        reader.problems += [
            f"{name} says nothing by itself: set WORKERJOBS_PROXY_USER_HEADER as well"
            for name in others
            if reader.given.get(name, "").strip()
        ]
        return None
    if not is_some_proxy_trusted:
        reader.problems.append(
            f"WORKERJOBS_PROXY_USER_HEADER={user} is believed from listed peers alone: set WORKERJOBS_TRUSTED_PROXIES"
        )
    return names


_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


def _header(text: str) -> str:
    if not _HEADER.fullmatch(text) or text.lower() in ("authorization", "cookie", "host", "origin"):
        raise ValueError(text)
    return text


def _groups(text: str) -> frozenset[str]:
    return frozenset(names_in(text))


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(each, strict=False) for each in names_in(text))


def _origins(text: str) -> tuple[str, ...]:
    origins = names_in(text)
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
            raise ValueError(origin)
    return origins


def _prefix(text: str) -> str:
    path = text.strip().rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError(text)
    return path
