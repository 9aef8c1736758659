"""Tokens of the HTTP API: how they look, and what is kept of them."""

from __future__ import annotations

import hashlib
import secrets
from enum import StrEnum

PREFIX = "wj_"
"""By which people and scanners of repositories know one."""
MAX_TOKEN_NAME = 100
TOKEN_HEADER = "X-WorkerJobs-Token"  # noqa: S105  # its name
"""The header with a token where Authorization can't be used: the Kubernetes API server's proxy keeps that."""
PERSON = "user:"
"""What stands before the name of somebody whom a proxy has signed in; no token's name begins so."""


class Scope(StrEnum):
    """What a token allows."""

    READ = "read"
    """To look at everything."""
    WRITE = "write"
    """To change things as well."""


def make_token() -> str:
    """Make a token of 256 bits by chance."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is stored of a token; as it was made by chance, a plain hash gives nothing away."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
