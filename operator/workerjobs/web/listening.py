"""Sockets that listen, also on all addresses of both families: pods have those that their cluster gives them."""

from __future__ import annotations

import socket

ANY = "::"
"""All addresses, of IPv6 and IPv4."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Args:
        host: An address or a name; ``::`` means all addresses, on a machine without IPv6 those of IPv4.
        port: 0 picks a free one.

    Raises:
        OSError: The address or port can't be used.
    """
    if host == ANY and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104  # as was asked for
    if ":" not in host:
        return socket.create_server((host, port))
    return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=host == ANY)


def url_of(host: str, port: int) -> str:
    """The address of what listens, for people on this machine.

    >>> url_of("::", 8090), url_of("::1", 80), url_of("0.0.0.0", 80), url_of("localhost", 80)
    ('http://127.0.0.1:8090', 'http://[::1]:80', 'http://127.0.0.1:80', 'http://localhost:80')
    """
    if host in (ANY, "0.0.0.0"):  # noqa: S104  # compared, not bound
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
