"""Requests that are carried out once, however often they are sent: the header `Idempotency-Key`.

The key is taken, and the answer kept under it, in the transaction that does what is asked. So a request whose answer
got lost can be sent again without harm, also where a server was killed in the middle of it.

Source:
    IETF draft "The Idempotency-Key HTTP Header Field", draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from workerjobs.ports.api import Caller, RecordingStore
from workerjobs.web.api.problems import ProblemError

REPLAYED = "Idempotent-Replayed"

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Made by chance for this request, such as a UUID. Sent again with the same body within a day, "
        f"nothing is done and the first answer comes again, with `{REPLAYED}: true`; with another body: 422.",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]


class AnsweredError(Exception):
    """The request was carried out before.

    Attributes:
        answer: What was kept of the answer.
    """

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.answer = answer
        super().__init__("answered before")


class Once:
    """Carries out a request at most once, where it has a key."""

    def __init__(self, request: Request, response: Response, key: Key = None) -> None:
        self._key = key
        self._path: str = request.scope["path"]
        self._response = response
        caller: Caller = request.state.caller
        self._actor = caller.actor

    async def begin(self, inside: RecordingStore, asked: BaseModel | None = None) -> None:
        """Take the request's key, before anything else is done in the transaction.

        Raises:
            AnsweredError: The request was carried out before.
            ProblemError: Another one was, under its key.
        """
        if self._key is None:
            return
        fingerprint = fingerprint_of(self._path, asked)
        kept = await inside.use_key(self._actor, self._key, fingerprint)
        if kept.answer is None:
            return
        if kept.fingerprint != fingerprint:
            raise ProblemError(
                422, "Idempotency-Key: something else was asked with this key: give each request its own"
            )
        self._response.headers[REPLAYED] = "true"
        raise AnsweredError(kept.answer)

    async def keep(self, inside: RecordingStore, answer: Mapping[str, Any]) -> None:
        """Keep what is answered, at the end of the transaction."""
        if self._key is not None:
            await inside.keep_answer(self._actor, self._key, answer)


class _EveryTime(Once):
    """Has no key."""

    def __init__(self) -> None:
        self._key = None


OnceOfRequest = Annotated[Once, Depends(Once)]
EVERY_TIME = _EveryTime()
"""For what is asked otherwise than through the API: each time it is done."""


def fingerprint_of(path: str, asked: BaseModel | None) -> str:
    """Tell requests apart by where they go and what they ask for, however that is written."""
    given = None if asked is None else asked.model_dump(by_alias=True, exclude_unset=True)
    return hashlib.sha256(json.dumps([path, given], sort_keys=True, default=str).encode()).hexdigest()
