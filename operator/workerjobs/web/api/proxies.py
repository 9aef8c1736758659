"""People whom a proxy has signed in (OpenID Connect and the like): who they are, and what they may do.

A proxy such as oauth2-proxy puts their name and groups into headers. Anybody can send such headers, so they count only
where a listed peer sent them, and only where they say one thing.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers

from workerjobs.domain.tokens import PERSON, Scope
from workerjobs.ports.api import Caller
from workerjobs.settings.servers import SignedInHeaders

MAX_PERSON = 250


class NotAcceptedError(Exception):
    """Somebody may do nothing here, or a proxy does not say clearly who it is; in words for whoever reads them."""


def signed_in(headers: Headers, names: SignedInHeaders, *, is_from_proxy: bool) -> Caller | None:
    """Tell whom a proxy has signed in; None where it says nothing, or where no listed peer says it.

    Raises:
        NotAcceptedError: It says several things, or no name, or none of the groups that may look or change things.
    """
    if not is_from_proxy:
        return None
    person = _one(headers, names.user)
    if person is None:
        return None
    if not 0 < len(person) <= MAX_PERSON or not person.isprintable():
        raise NotAcceptedError(f"{names.user} is no name: one of 1 to {MAX_PERSON} characters is accepted")
    groups = {group.strip() for group in (_one(headers, names.groups) or "").split(",")} - {""}
    if groups & names.write_groups:
        return Caller(f"{PERSON}{person}", Scope.WRITE)
    if not names.read_groups or groups & names.read_groups:
        return Caller(f"{PERSON}{person}", Scope.READ)
    raise NotAcceptedError(f"{person} is in none of the groups that may use this server")


def _one(headers: Headers, name: str) -> str | None:
    given: Sequence[str] = headers.getlist(name)
    if len(given) > 1:
        # One of them may be what the client sent, to which the proxy added its own.
        raise NotAcceptedError(
            f"{name} was sent {len(given)} times: have the proxy set it once, in place of what it gets"
        )
    return given[0].strip() if given else None
