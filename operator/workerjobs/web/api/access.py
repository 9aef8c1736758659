"""Who may ask, with the scope that the request needs, and not too often.

A bearer token says who it is, or somebody whom a proxy has signed in, or a browser's session.
"""

from __future__ import annotations

import math
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from workerjobs.domain.tokens import TOKEN_HEADER
from workerjobs.domain.tokens import Scope as TokenScope
from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError, SchemaError
from workerjobs.ports.api import Caller
from workerjobs.settings import ServerSettings
from workerjobs.web.api.problems import RETRY_AFTER, problem
from workerjobs.web.api.proxies import NotAcceptedError, signed_in
from workerjobs.web.api.rates import Rates
from workerjobs.web.api.tokens import Tokens, TooManyWrongTokensError
from workerjobs.web.sessions import Sessions, is_from_elsewhere, is_same_origin

OWN_CHECKS = ("/api/notifications/", "/login", "/static/")
"""What looks at tickets or tokens by itself, or is for everybody. All else is looked at here, whatever it is."""
SAFE_METHODS = ("GET", "HEAD")
NOBODY = Caller("loopback", TokenScope.WRITE)
"""Who asks a server on a loopback address that has no token of its own."""
SHOW_ONE = "Show a token: Authorization: Bearer … (workerjobs token create)"


class Access:
    """Lets requests through to an application from those who may send them; says who that is in ``state.caller``."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, tokens: Tokens, sessions: Sessions) -> None:
        self._app = app
        self._signed_in = settings.signed_in
        # Behind a proxy on this machine everybody comes from a loopback address.
        self._is_open = settings.token is None and settings.is_loopback and settings.signed_in is None
        self._tokens = tokens
        self._sessions = sessions
        self._rates = Rates(settings.api_rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http" or scope["path"].startswith(OWN_CHECKS):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        is_safe = scope["method"] in SAFE_METHODS
        shown = _shown(headers)
        try:
            # A proxy's word goes first: a token that it passes on may be its own, which means nothing here.
            caller = self._person(scope, headers)
        except NotAcceptedError as error:
            return await problem(403, str(error))(scope, receive, send)
        session = self._sessions.token_hash(headers) if caller is None and shown is None else None
        if not is_safe and (
            (session is not None and not is_same_origin(headers)) or (caller is not None and is_from_elsewhere(headers))
        ):
            answer = problem(403, "Another page sent this: for whom a browser knows only this server's own pages may")
            return await answer(scope, receive, send)
        try:
            if caller is None and shown is not None:
                caller = await self._tokens.caller(_bearer(shown), (scope["client"] or ("unknown",))[0])
            elif caller is None:
                caller = await self._tokens.caller_of_hash(session) if session is not None else None
                if caller is None and self._is_open:
                    caller = NOBODY
        except TooManyWrongTokensError:
            return await problem(429, "Too many wrong tokens: wait a little", headers=RETRY_AFTER)(scope, receive, send)
        except (DatabaseUnavailableError, DatabaseRefusedError, SchemaError):
            answer = problem(503, "Tokens can't be checked now, as the database can't be asked", headers=RETRY_AFTER)
            return await answer(scope, receive, send)
        if caller is None:
            answer = problem(401, SHOW_ONE, headers={"WWW-Authenticate": "Bearer"})
            return await answer(scope, receive, send)
        # Ending a session is nobody's right but its own.
        if caller.scope != TokenScope.WRITE and not is_safe and scope["path"] != "/logout":
            answer = problem(
                403,
                f"{caller.actor} may look and not change anything: that takes the scope write",
                headers={"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="write"'},
            )
            return await answer(scope, receive, send)
        if wait := self._rates.wait_seconds(caller.actor, now=time.monotonic()):
            answer = problem(429, "Too many requests: wait", headers={"Retry-After": str(math.ceil(wait))})
            return await answer(scope, receive, send)
        scope.setdefault("state", {})["caller"] = caller
        return await self._app(scope, receive, send)

    def _person(self, scope: Scope, headers: Headers) -> Caller | None:
        if self._signed_in is None:
            return None
        return signed_in(headers, self._signed_in, is_from_proxy=scope.get("state", {}).get("proxy") is True)


def _shown(headers: Headers) -> str | None:
    """What a request shows, in either header."""
    token = headers.get(TOKEN_HEADER)
    return headers.get("authorization", None if token is None else f"Bearer {token}")


def _bearer(authorization: str) -> str | None:
    kind, _, token = authorization.partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None
