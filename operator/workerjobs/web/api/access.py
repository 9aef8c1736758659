"""Who may ask: a bearer token, or somebody whom a proxy has signed in, with the scope that the request needs."""

from __future__ import annotations

import hmac
import math
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from workerjobs.domain.tokens import Scope as TokenScope
from workerjobs.domain.tokens import hash_token
from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError, SchemaError
from workerjobs.ports.api import Caller
from workerjobs.settings import ServerSettings
from workerjobs.web.api.problems import RETRY_AFTER, problem
from workerjobs.web.api.proxies import NotAcceptedError, signed_in
from workerjobs.web.api.rates import Rates
from workerjobs.web.api.stores import Stores

OWN_CHECKS = ("/api/notifications/",)
"""What looks at tickets by itself. Everything else is looked at here, whatever it is."""
TOKEN_HEADER = "X-WorkerJobs-Token"  # noqa: S105  # its name
SAFE_METHODS = ("GET", "HEAD")
FAILURES_PER_SECOND = 5.0
"""Wrong tokens from one address; of more, only those are looked at that were valid before."""
ADMIN = "server"
NOBODY = Caller("loopback", TokenScope.WRITE)
"""Who asks a server on a loopback address that has no token of its own."""
SHOW_ONE = "Show a token: Authorization: Bearer … (workerjobs token create)"


class Access:
    """Lets requests through to an application from those who may send them; says who that is in ``state.caller``."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, stores: Stores) -> None:
        self._app = app
        self._settings = settings
        self._stores = stores
        self._rates = Rates(settings.api_rate)
        self._failures = Rates(FAILURES_PER_SECOND)
        self._known: set[str] = set()
        """Hashes of tokens that were valid when they were last looked at."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http" or scope["path"].startswith(OWN_CHECKS):
            return await self._app(scope, receive, send)
        address = (scope["client"] or ("unknown",))[0]
        now = time.monotonic()
        headers = Headers(scope=scope)
        token = _shown(headers)
        try:
            # A proxy's word goes first: a token that it passes on may be its own, which means nothing here.
            caller = self._person(scope, headers)
        except NotAcceptedError as error:
            return await problem(403, str(error))(scope, receive, send)
        is_guessing = self._failures.wait_seconds(address, now=now, is_counted=False) > 0
        if caller is None and token is not None and is_guessing and not self._is_known(token):
            return await problem(429, "Too many wrong tokens: wait a little", headers=RETRY_AFTER)(scope, receive, send)
        try:
            caller = caller or await self._caller(token)
        except (DatabaseUnavailableError, DatabaseRefusedError, SchemaError):
            answer = problem(503, "Tokens can't be checked now, as the database can't be asked", headers=RETRY_AFTER)
            return await answer(scope, receive, send)
        if caller is None:
            if token is not None:
                self._failures.wait_seconds(address, now=now)
            answer = problem(401, SHOW_ONE, headers={"WWW-Authenticate": "Bearer"})
            return await answer(scope, receive, send)
        if caller.scope != TokenScope.WRITE and scope["method"] not in SAFE_METHODS:
            answer = problem(
                403,
                f"{caller.actor} may look and not change anything: that takes the scope write",
                headers={"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="write"'},
            )
            return await answer(scope, receive, send)
        if wait := self._rates.wait_seconds(caller.actor, now=now):
            answer = problem(429, "Too many requests: wait", headers={"Retry-After": str(math.ceil(wait))})
            return await answer(scope, receive, send)
        scope.setdefault("state", {})["caller"] = caller
        return await self._app(scope, receive, send)

    def _is_known(self, authorization: str) -> bool:
        token = _bearer(authorization)
        return token is not None and (self._is_own(token) or hash_token(token) in self._known)

    def _is_own(self, token: str) -> bool:
        own = self._settings.token
        return own is not None and hmac.compare_digest(token.encode(), own.encode())

    def _person(self, scope: Scope, headers: Headers) -> Caller | None:
        names = self._settings.signed_in
        if names is None:
            return None
        return signed_in(headers, names, is_from_proxy=scope.get("state", {}).get("proxy") is True)

    async def _caller(self, authorization: str | None) -> Caller | None:
        if authorization is None:
            # Behind a proxy on this machine everybody comes from here.
            is_open = self._settings.token is None and self._settings.is_loopback and self._settings.signed_in is None
            return NOBODY if is_open else None
        token = _bearer(authorization)
        if token is None:
            return None
        if self._is_own(token):
            return Caller(ADMIN, TokenScope.WRITE)
        hashed = hash_token(token)
        async with self._stores.borrow() as store:
            caller = await store.use_token(hashed)
        if caller is None:
            self._known.discard(hashed)
        else:
            self._known.add(hashed)
        return caller


def _shown(headers: Headers) -> str | None:
    """What a request shows; behind the Kubernetes API server's proxy, which keeps Authorization, in another header."""
    token = headers.get(TOKEN_HEADER)
    return headers.get("authorization", None if token is None else f"Bearer {token}")


def _bearer(authorization: str) -> str | None:
    kind, _, token = authorization.partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None
