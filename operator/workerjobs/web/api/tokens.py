"""Whose a token is, and how often wrong ones are looked at."""

from __future__ import annotations

import hmac
import time

from workerjobs.domain.tokens import Scope, hash_token
from workerjobs.ports.api import Caller
from workerjobs.settings import ServerSettings
from workerjobs.web.api.rates import Rates
from workerjobs.web.api.stores import Stores

FAILURES_PER_SECOND = 5.0
"""Wrong tokens from one address; of more, only those are looked at that were valid before."""
ADMIN = "server"


class TooManyWrongTokensError(Exception):
    """An address showed too many: it has to wait."""


class Tokens:
    """Finds whose tokens are."""

    def __init__(self, settings: ServerSettings, stores: Stores) -> None:
        self._own = None if settings.token is None else hash_token(settings.token)
        self._stores = stores
        self._failures = Rates(FAILURES_PER_SECOND)
        self._known: set[str] = set()
        """Hashes of tokens that were valid when they were last looked at."""

    async def caller(self, token: str | None, address: str) -> Caller | None:
        """Find who shows a token; None where it is not valid, or no token.

        Raises:
            TooManyWrongTokensError: It may be valid or not, and is not looked at for now.
        """
        hashed = hash_token(token) if token else ""
        now = time.monotonic()
        if not self._is_known(hashed) and self._failures.wait_seconds(address, now=now, is_counted=False) > 0:
            raise TooManyWrongTokensError
        caller = await self.caller_of_hash(hashed) if token else None
        if caller is None:
            self._failures.wait_seconds(address, now=now)
        return caller

    async def caller_of_hash(self, hashed: str) -> Caller | None:
        """Find whose token has a hash; None where it is not valid any more."""
        if self._is_own(hashed):
            return Caller(ADMIN, Scope.WRITE)
        async with self._stores.borrow() as store:
            caller = await store.use_token(hashed)
        if caller is None:
            self._known.discard(hashed)
        else:
            self._known.add(hashed)
        return caller

    def _is_known(self, hashed: str) -> bool:
        return self._is_own(hashed) or hashed in self._known

    def _is_own(self, hashed: str) -> bool:
        return self._own is not None and hmac.compare_digest(hashed, self._own)
