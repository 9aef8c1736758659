"""Ports for servers that have to be told one, or that come back at the same one."""

from __future__ import annotations

import random
import socket

_PORTS = range(20_000, 32_768)
"""Below those that systems give to whoever asks for any: no such connection takes one before its server does."""


def free_port(address: str = "127.0.0.1") -> int:
    """A port of an address of this machine at which nobody listens."""
    while True:
        port = random.choice(_PORTS)
        try:
            socket.create_server((address, port)).close()
        except OSError:
            continue
        return port
