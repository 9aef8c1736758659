"""Browsers' sessions: a browser shows a token once, and from then on a cookie that only the server can read and make.

The cookie holds the token's hash, signed (a JSON Web Token, HS256), so that nothing is stored and every replica that
knows the secret takes it. The token is looked at with each request: revoked or over, it ends its sessions at once.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

import jwt
from starlette.datastructures import Headers

COOKIE = "workerjobs-session"
AUDIENCE = "workerjobs-session"
ALGORITHM = "HS256"


class Sessions:
    """Makes and reads sessions.

    Args:
        secret: What tickets are signed with; sessions are signed with a key made from it.
        lasts: After so long a browser has to show its token again.
    """

    def __init__(self, secret: str, lasts: timedelta) -> None:
        self._key = hmac.new(secret.encode(), b"workerjobs sessions", hashlib.sha256).hexdigest()
        self.lasts = lasts

    def make(self, token_hash: str, *, now: datetime) -> str:
        """Make a session of whoever showed a token."""
        claims = {"sub": token_hash, "aud": AUDIENCE, "iat": now, "exp": now + self.lasts}
        return jwt.encode(claims, self._key, ALGORITHM)

    def token_hash(self, headers: Headers) -> str | None:
        """Read the session of a request; None: there is none, or it is over or not ours."""
        session = _cookie(headers.get("cookie", ""))
        if session is None:
            return None
        try:
            claims = jwt.decode(
                session, self._key, [ALGORITHM], audience=AUDIENCE, options={"require": ["exp", "sub", "aud"]}
            )
        except jwt.InvalidTokenError:
            return None
        return str(claims["sub"])


def _cookie(header: str) -> str | None:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def is_same_origin(headers: Headers) -> bool:
    """Whether a page of this server itself sent a request; browsers say so with everything that may change something.

    A cookie comes along with whatever a browser sends here, whoever's page asked for it. Pages of other origins, also
    those that may use the API with a token of their own, must not change anything in the name of a session.

    Source:
        OWASP Cross-Site Request Forgery Prevention Cheat Sheet, "Fetch Metadata headers" and "Verifying origin".
    """
    if (site := headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == headers.get("host", "")


def is_from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that a page of another server sent a request; programs say nothing of pages."""
    return ("sec-fetch-site" in headers or "origin" in headers) and not is_same_origin(headers)
