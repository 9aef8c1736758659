"""Tickets: short-lived, signed, each for one user. With one, a browser may listen to that user's notifications.

They are JSON Web Tokens (HS256), so that other servers that know the secret can make them too: ``sub`` is the user's
id as text, ``aud`` is ``workerjobs-notifications``, ``exp`` the moment from which it is no longer taken.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import jwt

from workerjobs.errors import InvalidInputError

AUDIENCE = "workerjobs-notifications"
ALGORITHM = "HS256"
MAX_USER_ID = 2**31 - 1


def make_ticket(user_id: int, secret: str, *, now: datetime, lasts: timedelta) -> tuple[str, datetime]:
    """Make a ticket; returns it with the moment from which it is no longer taken.

    Raises:
        InvalidInputError: The user's id is none.
    """
    if not 1 <= user_id <= MAX_USER_ID:
        raise InvalidInputError(f"the user is {user_id}: give an id of the table users")
    expires = now + lasts
    claims = {"sub": str(user_id), "aud": AUDIENCE, "iat": now, "exp": expires}
    return jwt.encode(claims, secret, ALGORITHM), expires


def user_of(ticket: str, secret: str) -> int | None:
    """Read a ticket; None: it is not signed with the secret, is over, or is for something else."""
    try:
        claims = jwt.decode(ticket, secret, [ALGORITHM], audience=AUDIENCE, options={"require": ["exp", "sub", "aud"]})
        user_id = int(claims["sub"])
    except (jwt.InvalidTokenError, ValueError):
        return None
    return user_id if 1 <= user_id <= MAX_USER_ID else None
