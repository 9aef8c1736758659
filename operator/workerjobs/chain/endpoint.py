"""One endpoint of a chain: requests over HTTP with its limits, and how it has been doing."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec

from workerjobs.chain.refusals import Kind, Refusal, read_refusal
from workerjobs.errors import WorkerJobsError
from workerjobs.ports.chains import EndpointHealth

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 10.0
"""How long an endpoint is left alone after an error; twice as long after each further one."""
RATE_PAUSE_SECONDS = 1.0
"""The same where it asks for patience without saying for how long."""
MAX_RETRY_AFTER_SECONDS = 3600.0
WRONG_CHAIN_PAUSE_SECONDS = 60.0
BEHIND_SECONDS = 5.0
"""How long an endpoint that was behind is asked last."""
FIRST_SPAN = 2_000
MAX_SPAN = 5_000
"""Blocks in one range; also what bounds the memory of a pass."""
FIRST_BATCH = 500
RANGE_LOGS = 5_000
"""Logs that a range should hold."""
REQUESTS_AT_ONCE = 4
"""Requests to one endpoint that are on their way at once."""
LACKING_SECONDS, BELIEVING_SECONDS = 30.0, 600.0
"""How long a block's bloom filter is believed more than an endpoint that has no logs of it, and for how long it is the
endpoint that is believed after that: a chain may fill its filters in anyhow."""
LACKING_BLOCKS = 64
"""So many such blocks are remembered: the chain's cursor and filters that catch up may wait for different ones."""
GROWTH_ANSWERS = 3
"""So many ranges have to be answered before a wider one is tried."""

Call = tuple[str, Sequence[Any]]
"""A method and its parameters."""


class RpcErrorObject(msgspec.Struct):
    """The error of an answer."""

    code: int = 0
    message: str = ""
    data: Any = None


class Answer(msgspec.Struct):
    """The answer to one call."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: RpcErrorObject | None = None


class EndpointError(WorkerJobsError):
    """An endpoint did not answer as it should; another one may.

    Attributes:
        kind: The class of the error, for metrics.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class RefusedError(WorkerJobsError):
    """An endpoint answered one call with an error that says what to do."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


_answers = msgspec.json.Decoder(list[Answer])
_answer = msgspec.json.Decoder(Answer)


class EndpointState:
    """What is known of an endpoint; it outlives the connections, for the next run in the same process."""

    def __init__(self, name: str, url: str, requests_per_second: float | None) -> None:
        self.name = name
        self.url = url
        self.is_verified = False
        """It has shown the right chain id, and did not fail since."""
        self.blocked_until = 0.0
        """On the monotonic clock."""
        self.trouble: str | None = None
        self.failures = 0
        """In a row."""
        self.head: int | None = None
        self.head_seen = 0.0
        """When it showed that, on the monotonic clock."""
        self.latency: float | None = None
        """Seconds, of late."""
        self.span = FIRST_SPAN
        """Blocks to ask for."""
        self.refused_span: int | None = None
        """The narrowest range that it refused for its width."""
        self.batch = FIRST_BATCH
        """Calls in one request."""
        self._lacking: dict[str, float] = {}
        """The last blocks of which it had no logs, by hash, and since when, on the monotonic clock."""
        self._believed_until = 0.0
        self._answers_in_a_row = 0
        self._rate = requests_per_second
        self._tokens = requests_per_second or 0.0
        self._refilled = time.monotonic()
        self._requests = 0
        self._errors: Counter[str] = Counter()

    # --- pace

    async def take(self, calls: int) -> None:
        """Wait until so many calls are allowed (a token bucket that holds one second's worth)."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._tokens = min(max(self._rate, 1.0), self._tokens + (now - self._refilled) * self._rate)
        self._refilled = now
        # More than the bucket holds is taken in advance, and the next ones wait for it.
        self._tokens -= calls
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)

    @property
    def max_batch(self) -> int:
        """Calls in one request, now."""
        return self.batch if self._rate is None else max(1, min(self.batch, int(self._rate)))

    # --- mood

    def saw_head(self, number: int) -> None:
        """Note the newest block that it knows."""
        self.head, self.head_seen = number, time.monotonic()

    def is_behind(self, number: int) -> bool:
        """Whether it did not know a block a moment ago; later it deserves to be asked again."""
        return self.head is not None and self.head < number and time.monotonic() - self.head_seen < BEHIND_SECONDS

    def is_believed(self, block_hash: str) -> bool:
        """Note that it has no logs at all of a block whose bloom filter says that there are some.

        Returns:
            Whether there are none all the same: it has said so for long enough.
        """
        now = time.monotonic()
        since = self._lacking.setdefault(block_hash, now)
        if len(self._lacking) > LACKING_BLOCKS:
            del self._lacking[next(iter(self._lacking))]
        if now - since >= LACKING_SECONDS:
            self._believed_until = now + BELIEVING_SECONDS
        return now < self._believed_until

    def succeeded(self, seconds: float, calls: int) -> None:
        """Note an answer."""
        self._requests += calls
        self.latency = seconds if self.latency is None else 0.8 * self.latency + 0.2 * seconds
        # One of several requests that were on their way at once says nothing of what another one found.
        if self.blocked_until <= time.monotonic():
            self.failures = 0
            self.trouble = None

    def failed(self, kind: str, message: str, pause: float | None = None) -> None:
        """Note an error, and leave the endpoint alone for a while."""
        self._errors[kind] += 1
        # Several requests that were on their way at once are one failure.
        self.failures += self.blocked_until <= time.monotonic()
        self.trouble = message
        if pause is None:
            pause = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(max(0, self.failures - 1), 10))
            pause *= random.uniform(0.75, 1.25)  # noqa: S311  # so that many workers do not come back at once
        self.blocked_until = time.monotonic() + pause

    def count(self, kind: str) -> None:
        """Count an error that needs no pause."""
        self._errors[kind] += 1

    # --- ranges

    def narrow(self, asked: int, refusal: Refusal, span: int) -> None:
        """Remember that a range of ``asked`` blocks was refused, and that ``span`` is tried next."""
        self.count(str(refusal.kind))
        self.span = span
        self._answers_in_a_row = 0
        if refusal.kind is Kind.RANGE:
            # Where it names its limit, that is what counts.
            refused = asked if refusal.blocks is None else min(asked, refusal.blocks + 1)
            self.refused_span = min(refused, self.refused_span or refused)

    def answered(self, asked: int, logs: int) -> None:
        """Remember that a range was answered; after some, a wider one is tried.

        So that one range is read while another one is committed, none should hold many more than `RANGE_LOGS`.
        """
        self._answers_in_a_row += 1
        if logs > RANGE_LOGS:
            self.span = max(1, asked * RANGE_LOGS // logs)
        elif 2 * logs > RANGE_LOGS:
            return
        elif asked >= self.span and self._answers_in_a_row >= GROWTH_ANSWERS:
            self._answers_in_a_row = 0
            widest = MAX_SPAN if self.refused_span is None else self.refused_span - 1
            self.span = max(self.span, min(widest, self.span + self.span // 2 + 1))

    def health(self) -> EndpointHealth:
        """Tell how it did since this was last asked."""
        latency = None if self.latency is None else round(1000 * self.latency, 1)
        trouble = self.trouble if self.blocked_until > time.monotonic() else None
        health = EndpointHealth(self.name, self.head, latency, self.span, self._requests, dict(self._errors), trouble)
        self._requests = 0
        self._errors.clear()
        return health


class Endpoint:
    """One endpoint, with connections."""

    def __init__(self, state: EndpointState, session: aiohttp.ClientSession, timeout_seconds: float) -> None:
        self.state = state
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=min(5.0, timeout_seconds))
        self._ids = itertools.count(1)

    async def call(self, calls: Sequence[Call]) -> list[Answer]:
        """Call methods, in as few requests as the endpoint takes.

        Returns:
            An answer for each, in their order; errors that are no matter of the whole endpoint stand in them.

        Raises:
            EndpointError: It did not answer, or asks for patience; it is left alone for a while.
        """
        found: list[Answer] = []
        while len(found) < len(calls):
            size = self.state.max_batch
            begins = range(len(found), min(len(calls), len(found) + size * REQUESTS_AT_ONCE), size)
            parts = [calls[begin : begin + size] for begin in begins]
            results = await asyncio.gather(*map(self._request, parts), return_exceptions=True)
            for part, result in zip(parts, results, strict=True):
                if isinstance(result, RefusedError):
                    if len(part) == 1:
                        self._fail("batch", str(result))
                    self.state.count("batch")
                    self.state.batch = max(1, len(part) // 2)
                    break
                if isinstance(result, BaseException):
                    raise result
                found += result
        return found

    async def _request(self, calls: Sequence[Call]) -> list[Answer]:
        await self.state.take(len(calls))
        first = next(self._ids)
        requests = [
            {"jsonrpc": "2.0", "id": first + index, "method": method, "params": params}
            for index, (method, params) in enumerate(calls)
        ]
        for _ in calls[1:]:
            next(self._ids)
        is_batch = len(calls) > 1
        began = time.monotonic()
        status, body, headers = await self._post(msgspec.json.encode(requests if is_batch else requests[0]))
        if status == 429 or (status == 503 and "Retry-After" in headers):
            self._fail("rate", f"it answers {status}: too many requests", _retry_after(headers.get("Retry-After")))
        if status == 413:
            raise RefusedError(Refusal(Kind.BATCH, "it answers 413: the request is too large"))
        answers = self._parse(status, body, is_batch)
        if is_batch and len(answers) == 1 and answers[0].error is not None:
            # The whole batch was refused with one error.
            has_logs = any(method == "eth_getLogs" for method, _ in calls)
            refusal = _refusal_of(answers[0].error, "eth_getLogs" if has_logs else "")
            if has_logs and refusal.kind in (Kind.RANGE, Kind.RESULTS):
                return [answers[0]] * len(calls)
            if refusal.kind is not Kind.RATE:
                raise RefusedError(refusal)
        by_id = {answer.id: answer for answer in answers}
        for answer in answers:
            if answer.error is not None:
                refusal = _refusal_of(answer.error, "")
                if refusal.kind is Kind.RATE and not _is_about_logs(answer.error, calls):
                    self._fail("rate", refusal.text, _retry_after(headers.get("Retry-After")))
        if any(first + index not in by_id for index in range(len(calls))):
            self._fail("invalid", "it left calls unanswered")
        self.state.succeeded(time.monotonic() - began, len(calls))
        return [by_id[first + index] for index in range(len(calls))]

    async def _post(self, body: bytes) -> tuple[int, bytes, Any]:
        try:
            async with self._session.post(
                self.state.url, data=body, headers={"Content-Type": "application/json"}, timeout=self._timeout
            ) as response:
                return response.status, await response.read(), response.headers
        except TimeoutError:
            self._fail("timeout", f"it did not answer within {self._timeout.total:g} s")
        except (aiohttp.ClientError, OSError) as error:
            # Its text may name the URL, which holds a key.
            self._fail("connection", f"the connection failed ({type(error).__name__})")
        raise AssertionError

    def _parse(self, status: int, body: bytes, is_batch: bool) -> list[Answer]:
        try:
            if is_batch and body.lstrip()[:1] == b"[":
                return _answers.decode(body)
            return [_answer.decode(body)]
        except (msgspec.DecodeError, UnicodeDecodeError):
            if status >= 400:
                self._fail("http", f"it answers {status}")
            self._fail("invalid", "it answers something else than JSON-RPC, or a part of it")
        raise AssertionError

    def _fail(self, kind: str, message: str, pause: float | None = None) -> None:
        self.state.is_verified = False
        if pause == 0.0:
            # A Retry-After that is over already: it would be asked without end.
            pause = None
        elif kind == "rate" and pause is None:
            pause = min(MAX_PAUSE_SECONDS, RATE_PAUSE_SECONDS * 2 ** min(self.state.failures, 6))
        self.state.failed(kind, message, pause)
        raise EndpointError(kind, message)


def _refusal_of(error: RpcErrorObject, method: str) -> Refusal:
    return read_refusal(error.code, error.message, error.data, method=method)


def _is_about_logs(error: RpcErrorObject, calls: Sequence[Call]) -> bool:
    """Whether the bare code of a limit is all there is, and logs were asked for: then fewer blocks help."""
    return (
        error.code == -32005
        and any(method == "eth_getLogs" for method, _ in calls)
        and (_refusal_of(error, "eth_getLogs").kind is not Kind.RATE)
    )


def refusal_of(answer: Answer, method: str) -> Refusal | None:
    """What an answer refuses; None: nothing."""
    return None if answer.error is None else _refusal_of(answer.error, method)


def _retry_after(text: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(MAX_RETRY_AFTER_SECONDS, max(0.0, seconds))
