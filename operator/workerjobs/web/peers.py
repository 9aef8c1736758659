"""Who is connected, and for whom a proxy speaks: the addresses of `X-Forwarded-For` count from listed peers alone."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

Network = IPv4Network | IPv6Network


class Peers:
    """Says in ``state.proxy`` whether a listed proxy sent a request, and takes its word on whom it came from.

    Args:
        app: What comes next; it finds the client's own address in ``client``.
        trusted: Networks of the proxies.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app = cast("ASGIApp", ProxyHeadersMiddleware(app, [str(each) for each in trusted]))  # type: ignore[arg-type]
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] in ("http", "websocket"):
            if scope["client"]:
                host, port = scope["client"]
                scope["client"] = (unmapped(host), port)
            # Before the client's address takes the place of the peer's.
            peer = (scope["client"] or ("",))[0]
            scope.setdefault("state", {})["proxy"] = is_listed(peer, self._trusted)
        await self._app(scope, receive, send)


def unmapped(host: str) -> str:
    """An address as its owner knows it: a socket of both families shows IPv4 addresses as such of IPv6.

    >>> [unmapped(host) for host in ("::ffff:10.1.2.3", "10.1.2.3", "2001:db8::1", "testclient")]
    ['10.1.2.3', '10.1.2.3', '2001:db8::1', 'testclient']
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)


def is_listed(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether a peer's address is in one of some networks.

    >>> from ipaddress import ip_network
    >>> [is_listed(peer, [ip_network("10.1.0.0/16")]) for peer in ("10.1.2.3", "10.2.0.1", "")]
    [True, False, False]
    """
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in trusted)
