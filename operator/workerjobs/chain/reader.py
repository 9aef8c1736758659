"""One chain over all its endpoints: what is read is checked until it fits (`workerjobs.ports.chains.ChainReader`)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import lt
from typing import Any, NoReturn
from urllib.parse import urlsplit

import aiohttp
import msgspec

from workerjobs.chain.endpoint import (
    WRONG_CHAIN_PAUSE_SECONDS,
    Answer,
    Call,
    Endpoint,
    EndpointError,
    EndpointState,
    refusal_of,
)
from workerjobs.chain.matching import Matcher, WireLog
from workerjobs.chain.new_heads import HeadListener
from workerjobs.chain.refusals import Kind, Refusal, smaller
from workerjobs.domain.blocks import BlockRef, ChainChangedError, Header, Heads, contiguous, may_contain
from workerjobs.domain.chains import Chain
from workerjobs.domain.events import LogQuery
from workerjobs.errors import ChainUnavailableError
from workerjobs.ports.chains import ChainRange, EndpointHealth

log = logging.getLogger(__name__)

POLL_SECONDS, LISTENING_POLL_SECONDS = 0.25, 2.0
"""How often it is asked for the newest block; seldom where an endpoint tells of new ones."""
BEHIND_PAUSE_SECONDS = 1.0
"""How long an endpoint is left alone that does not know blocks that others know."""
CONTRADICTION_PAUSE_SECONDS = 1.0
"""The same for one that contradicts itself."""
RECENT_BLOCKS = 32
"""So many of the newest blocks, where they come without logs, are looked at more closely."""
TAGS_SECONDS = 2.0
"""How often it is asked which blocks are safe and final."""
LAST_TIMESTAMP = 253_370_764_800
"""9999-01-01, which is as far as dates go here; development chains may be told any time."""
MAX_READS = 40
"""So often one range is asked for anew, with fewer blocks or elsewhere, before the pass is given up."""


class _WireBlock(msgspec.Struct):
    number: str
    hash: str
    parentHash: str  # noqa: N815
    timestamp: str
    logsBloom: str = "0x0"  # noqa: N815


_block = msgspec.json.Decoder(_WireBlock | None)
_logs = msgspec.json.Decoder(list[WireLog])


class _TruncatedError(EndpointError):
    """An answer lacked logs that are there."""


class RpcChainReader:
    """See `workerjobs.ports.chains.ChainReader`.

    Args:
        chain: Which chain.
        states: Of its endpoints, in their order; kept for later runs.
        seconds: How long a call may wait for endpoints that ask for patience.
    """

    def __init__(self, chain: Chain, states: Sequence[EndpointState], seconds: float) -> None:
        self._chain = chain
        self._seconds = seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=16), auto_decompress=True, headers={"User-Agent": "workerjobs"}
        )
        self._endpoints = [Endpoint(state, self._session, chain.timeout_seconds) for state in states]
        self._matcher: tuple[object, Matcher] | None = None
        self._latest: Header | None = None
        self._head = 0
        """The newest block that an endpoint has shown."""
        self._distrusts_bloom = False
        self._tags: tuple[float, int | None, int | None] | None = None
        self._listener = HeadListener(self._session, chain.head_urls, chain.chain_id) if chain.head_urls else None

    async def close(self) -> None:
        """See `ChainReader.close`."""
        if self._listener is not None:
            await self._listener.close()
        await self._session.close()

    async def pause(self, known: int, seconds: float) -> None:
        """See `ChainReader.pause`."""
        listener = self._listener
        if listener is None or not listener.is_listening or listener.newest > known:
            # Nobody tells, or the endpoint that is asked does not know yet what another one told.
            await asyncio.sleep(min(seconds, POLL_SECONDS))
        else:
            await listener.wait(min(seconds, LISTENING_POLL_SECONDS))

    def health(self) -> list[EndpointHealth]:
        """See `ChainReader.health`."""
        return [endpoint.state.health() for endpoint in self._endpoints]

    # --- endpoints

    async def _ask(self, calls: Sequence[Call], at_least: int = 0) -> tuple[Endpoint, list[Answer]]:
        """Call methods on the first endpoint that answers."""
        deadline = time.monotonic() + self._seconds
        while True:
            endpoint = await self._next_endpoint(at_least, deadline)
            try:
                await self._verify(endpoint)
                return endpoint, await endpoint.call(calls)
            except EndpointError as error:
                log.debug("Endpoint %s of %s: %s", endpoint.state.name, self._chain.name, error)

    async def _next_endpoint(self, at_least: int, deadline: float) -> Endpoint:
        """Choose the first endpoint that is fit; wait where none is.

        The order of the settings is the order of preference; those known to be behind come last.
        """
        while True:
            now = time.monotonic()
            free = [each for each in self._endpoints if each.state.blocked_until <= now]
            if free:
                return min(free, key=lambda each: each.state.is_behind(at_least))
            wait = min(each.state.blocked_until for each in self._endpoints) - now
            if now + wait > deadline:
                reasons = "; ".join(f"{each.state.name}: {each.state.trouble}" for each in self._endpoints)
                raise ChainUnavailableError(f"No endpoint of {self._chain.name} answers: {reasons}")
            await asyncio.sleep(wait)

    async def _verify(self, endpoint: Endpoint) -> None:
        """See once, and after each failure again, that an endpoint is one of this chain."""
        if endpoint.state.is_verified:
            return
        (answer,) = await endpoint.call([("eth_chainId", [])])
        if answer.error is not None:
            self._fail(endpoint, "rpc", f"it does not tell its chain id: {answer.error.message[:200]}")
        try:
            chain_id = int(msgspec.json.decode(answer.result, type=str), 16)
        except (msgspec.DecodeError, ValueError):
            self._fail(endpoint, "invalid", "its chain id is no number")
        if chain_id != self._chain.chain_id:
            message = f"it serves chain {chain_id}, and {self._chain.name} is {self._chain.chain_id}"
            log.error("Endpoint %s of %s is not used: %s", endpoint.state.name, self._chain.name, message)
            self._fail(endpoint, "chain-id", message, WRONG_CHAIN_PAUSE_SECONDS)
        endpoint.state.is_verified = True

    def _fail(self, endpoint: Endpoint, kind: str, message: str, pause: float | None = None) -> NoReturn:
        endpoint.state.failed(kind, message, pause)
        raise EndpointError(kind, message)

    # --- reading

    async def heads(self, at_least: int = 0) -> Heads:
        """See `ChainReader.heads`."""
        # Safe and final blocks move every few minutes, and each call may cost money.
        with_tags = self._tags is None or time.monotonic() - self._tags[0] >= TAGS_SECONDS
        names = ["latest", "safe", "finalized"] if with_tags else ["latest"]
        calls: list[Call] = [("eth_getBlockByNumber", [name, False]) for name in names]
        best: Heads | None = None
        for _ in self._endpoints:
            endpoint, answers = await self._ask(calls, at_least)
            latest = self._header(endpoint, answers[0])
            if latest is None:
                self._behind(endpoint, "it knows no latest block")
                continue
            endpoint.state.saw_head(latest.number)
            if with_tags:
                self._tags = (time.monotonic(), self._number(answers[1]), self._number(answers[2]))
            assert self._tags is not None
            heads = Heads(latest, self._tags[1], self._tags[2])
            if best is None or latest.number > best.latest.number:
                best = heads
            if latest.number >= at_least:
                break
            # Asked last from now on, and the next one is tried.
        if best is None:
            raise ChainUnavailableError(f"No endpoint of {self._chain.name} knows a latest block")
        self._latest = best.latest
        self._head = best.latest.number
        return best

    async def headers(self, numbers: Sequence[int]) -> list[Header | None]:
        """See `ChainReader.headers`."""
        if not numbers:
            return []
        endpoint, answers = await self._ask([_get_block(number) for number in numbers], max(numbers))
        return [self._header(endpoint, answer) for answer in answers]

    def _header(self, endpoint: Endpoint, answer: Answer) -> Header | None:
        if answer.error is not None:
            return None
        try:
            block = _block.decode(answer.result)
            return None if block is None else _as_header(block)
        except (msgspec.DecodeError, ValueError):
            endpoint.state.failed("invalid", "it answers something else than a block")
            return None

    def _number(self, answer: Answer) -> int | None:
        if answer.error is not None:
            return None
        try:
            block = _block.decode(answer.result)
            return None if block is None else int(block.number, 16)
        except (msgspec.DecodeError, ValueError):
            return None

    async def read(
        self, parent: BlockRef | None, last: int, queries: Sequence[LogQuery], addresses: Mapping[str, Iterable[str]]
    ) -> ChainRange | None:
        """See `ChainReader.read`."""
        first = 0 if parent is None else parent.number + 1
        limit: int | None = None
        unknown = 0
        made: dict[str, dict[str, int]] = {}
        for _ in range(MAX_READS):
            deadline = time.monotonic() + self._seconds
            endpoint = await self._next_endpoint(last, deadline)
            span = min(last - first + 1, endpoint.state.span)
            span = max(1, span if limit is None else min(span, limit))
            matcher = self._matching(queries, addresses, made)
            try:
                await self._verify(endpoint)
                headers, logs = await self._read_range(endpoint, matcher, parent, first, span)
            except _RangeRefusedError as error:
                limit = smaller(error.span, error.refusal)
                if error.span <= 1:
                    endpoint.state.failed("refused", f"it refuses the logs of one block: {error.refusal.text[:200]}")
                    limit = None
                else:
                    endpoint.state.narrow(error.span, error.refusal, limit)
                continue
            except EndpointError as error:
                log.debug("Endpoint %s of %s: %s", endpoint.state.name, self._chain.name, error)
                if isinstance(error, _TruncatedError):
                    limit = max(1, span // 2)
                unknown += error.kind == "behind"
                if unknown > len(self._endpoints):
                    return None
                continue
            endpoint.state.answered(span, len(logs))
            new = matcher.new_addresses(logs)
            if new:
                # The logs of these contracts in the same range are not among those asked for.
                for name, found in new.items():
                    made.setdefault(name, {}).update(found)
                continue
            by_number = {header.number: header for header in headers}
            decoded, undecodable = matcher.match(logs, by_number)
            return ChainRange(
                headers,
                decoded,
                undecodable,
                [
                    (name, address, number)
                    for name, found in made.items()
                    for address, number in found.items()
                    if number <= headers[-1].number
                ],
            )
        raise ChainUnavailableError(f"Blocks of {self._chain.name} from {first} on can't be read: {self._troubles()}")

    def _troubles(self) -> str:
        return "; ".join(f"{each.state.name}: {each.state.trouble or 'no trouble'}" for each in self._endpoints)

    def _matching(
        self, queries: Sequence[LogQuery], addresses: Mapping[str, Iterable[str]], made: Mapping[str, Iterable[str]]
    ) -> Matcher:
        known = {
            query.name: sorted({*addresses.get(query.name, ()), *made.get(query.name, ())})
            for query in queries
            if query.factory is not None
        }
        key = (tuple(queries), repr(known))
        if self._matcher is None or self._matcher[0] != key:
            self._matcher = (key, Matcher(self._chain.name, queries, known))
        return self._matcher[1]

    async def _read_headers(self, endpoint: Endpoint, parent: BlockRef | None, first: int, span: int) -> list[Header]:
        latest = self._latest
        if span == 1 and latest is not None and latest.number == first:
            # The very block that was just shown as the newest.
            self._latest = None
            return contiguous(parent, [latest])
        answers = await endpoint.call([_get_block(number) for number in range(first, first + span)])
        found = [self._header(endpoint, answer) for answer in answers]
        if found[0] is None:
            self._behind(endpoint, f"it does not know block {first} yet")
        for number, header in enumerate(found, first):
            if header is not None and header.number != number:
                self._contradicts(endpoint, f"it answers block {header.number} where block {number} was asked for")
        return contiguous(parent, found)

    async def _read_range(
        self, endpoint: Endpoint, matcher: Matcher, parent: BlockRef | None, first: int, span: int
    ) -> tuple[list[Header], list[WireLog]]:
        """Read blocks that the endpoint knows, and their logs; see that they fit and that none is missing."""
        reading = asyncio.create_task(self._read_headers(endpoint, parent, first, span))
        witness: Header | None = None
        if span == 1 or not matcher.groups:
            headers = await reading
            logs = await self._logs_of_block(endpoint, matcher, headers[0]) if matcher.groups else []
        else:
            asking = asyncio.create_task(self._logs_of_range(endpoint, matcher, first, span))
            try:
                headers = await reading
                logs, witness = await asking
            finally:
                for task in (reading, asking):
                    task.cancel()
                await asyncio.gather(reading, asking, return_exceptions=True)
        last = headers[-1].number
        if last < first + span - 1:
            logs = [each for each in logs if int(each.blockNumber, 16) <= last]
        by_number = {header.number: header for header in headers}
        if witness is not None and (shown := by_number.get(witness.number)) and shown.hash != witness.hash:
            await self._see_change(endpoint, witness.number, shown)
        counts: dict[int, int] = {}
        for (text, block_hash), count in Counter((each.blockNumber, each.blockHash) for each in logs).items():
            number = int(text, 16)
            header = by_number.get(number)
            if header is None or header.hash != block_hash:
                await self._see_change(endpoint, number, header)
            counts[number] = count
        removed = next((int(each.blockNumber, 16) for each in logs if each.removed), None)
        if removed is not None:
            await self._see_change(endpoint, removed, by_number[removed])
        if span > 1:
            await self._check_missing(endpoint, matcher, by_number, counts)
        elif not logs and self._is_suspect(matcher, headers[0]):
            await self._check_empty(endpoint, matcher, headers[0])
        return headers, logs

    async def _see_change(self, endpoint: Endpoint, number: int, header: Header | None) -> NoReturn:
        """Find out why logs are not of the block that was read: it changed, or the endpoint contradicts itself."""
        if header is None:
            self._contradicts(endpoint, f"it answers logs of block {number}, which were not asked for")
        (answer,) = await endpoint.call([_get_block(number)])
        if self._header(endpoint, answer) == header:
            self._contradicts(endpoint, f"its logs of block {number} are of another block than it shows, or removed")
        raise ChainChangedError(f"block {number} of {self._chain.name} changed while its logs were read")

    async def _check_missing(
        self, endpoint: Endpoint, matcher: Matcher, headers: Mapping[int, Header], counts: Mapping[int, int]
    ) -> None:
        """Ask again, one by one, for blocks whose bloom filter does not exclude logs and that came without.

        And for the last one that came with logs: a cut off answer may end in the middle of it.

        Args:
            endpoint: What answered.
            matcher: What was asked for.
            headers: Of the range, by number.
            counts: Logs that came, by number of block; those without are missing.
        """
        suspects = [
            header for number, header in headers.items() if number not in counts and self._is_suspect(matcher, header)
        ]
        if any(not may_contain(int(headers[number].logs_bloom, 16), matcher.bloom) for number in counts):
            # Some chains leave the filter empty.
            self._distrusts_bloom, suspects = True, []
        if counts:
            suspects.append(headers[max(counts)])
        found = await self._logs_by_hash(endpoint, matcher, suspects)
        for header, some in zip(suspects, found, strict=True):
            if len(some) != counts.get(header.number, 0):
                message = f"its logs of blocks {min(headers)} to {max(headers)} lack some of block {header.number}"
                endpoint.state.failed("truncated", message, 0.0)
                raise _TruncatedError("truncated", message)
            if not some and header.number > self._head - RECENT_BLOCKS:
                await self._check_empty(endpoint, matcher, header)

    def _is_suspect(self, matcher: Matcher, header: Header) -> bool:
        """Whether a block without logs may have some all the same."""
        return not self._distrusts_bloom and may_contain(int(header.logs_bloom, 16), matcher.bloom)

    async def _check_empty(self, endpoint: Endpoint, matcher: Matcher, header: Header) -> None:
        """See that a new block, whose bloom filter does not exclude logs, has none that are wanted.

        Behind an endpoint may be many nodes, and each call may go to another one: that the block is known says nothing
        of the node that answered without logs. But a block with a bloom filter has some logs, so that a node that has
        none of it at all does not know the block.

        Source:
            ponder-sh/ponder, packages/core, validateLogsAndBlock: endpoints are known to do so near a chain's head.
        """
        (answer,) = await endpoint.call([("eth_getLogs", [{"blockHash": header.hash}])])
        refusal = refusal_of(answer, "eth_getLogs")
        if refusal is not None and refusal.kind is not Kind.BEHIND:
            # Some endpoints refuse to answer all logs of a block.
            return
        logs = self._in_order(endpoint, [answer], 1)
        if any(map(matcher.wants, logs)) or (not logs and not endpoint.state.is_believed(header.hash)):
            self._behind(endpoint, f"it does not know the logs of block {header.number} yet")

    async def _logs_of_range(
        self, endpoint: Endpoint, matcher: Matcher, first: int, span: int
    ) -> tuple[list[WireLog], Header]:
        """Ask for the logs of a range, and for its last block beside.

        Behind an endpoint may be many nodes, of which one answers the whole request: one that does not know the last
        blocks yet answers without their logs, and is found out by that.
        """
        last = first + span - 1
        place = {"fromBlock": hex(first), "toBlock": hex(last)}
        calls: list[Call] = [("eth_getLogs", [each]) for each in matcher.parameters(place)]
        answers = await endpoint.call([*calls, _get_block(last)])
        logs = self._in_order(endpoint, answers[:-1], span)
        witness = self._header(endpoint, answers[-1])
        if witness is None:
            self._behind(endpoint, f"it does not know block {last} yet")
        return logs, witness

    async def _logs_of_block(self, endpoint: Endpoint, matcher: Matcher, header: Header) -> list[WireLog]:
        """Ask by a block's hash: another block in its place can't answer for it.

        A node that does not know the block may still answer without logs, so it is asked for that as well.
        """
        calls: list[Call] = [("eth_getLogs", [each]) for each in matcher.parameters({"blockHash": header.hash})]
        answers = await endpoint.call([*calls, ("eth_getBlockByHash", [header.hash, False])])
        if self._header(endpoint, answers[-1]) is None:
            self._behind(endpoint, f"it does not know block {header.number} yet")
        return self._in_order(endpoint, answers[:-1], 1)

    async def _logs_by_hash(
        self, endpoint: Endpoint, matcher: Matcher, headers: Sequence[Header]
    ) -> list[list[WireLog]]:
        calls: list[Call] = [
            ("eth_getLogs", [each]) for header in headers for each in matcher.parameters({"blockHash": header.hash})
        ]
        if not calls:
            return []
        # A node may answer without logs where it does not know a block; one that knows the newest knows all of them.
        newest = max(headers, key=lambda header: header.number)
        answers = await endpoint.call([*calls, ("eth_getBlockByHash", [newest.hash, False])])
        if self._header(endpoint, answers[-1]) is None:
            self._behind(endpoint, f"it does not know block {newest.number} yet")
        size = len(matcher.groups)
        return [
            self._in_order(endpoint, answers[index * size : (index + 1) * size], 1) for index in range(len(headers))
        ]

    def _in_order(self, endpoint: Endpoint, answers: Sequence[Answer], span: int) -> list[WireLog]:
        found: list[WireLog] = []
        for answer in answers:
            refusal = refusal_of(answer, "eth_getLogs")
            if refusal is not None:
                if refusal.kind in (Kind.RANGE, Kind.RESULTS):
                    raise _RangeRefusedError(span, refusal)
                if refusal.kind is Kind.BEHIND:
                    self._behind(endpoint, refusal.text[:200])
                self._fail(endpoint, str(refusal.kind), refusal.text[:200])
            try:
                found += _logs.decode(answer.result)
            except msgspec.DecodeError:
                self._fail(endpoint, "invalid", "it answers something else than logs")
        try:
            keys = [(int(each.blockNumber, 16), int(each.logIndex, 16), each.blockHash) for each in found]
        except ValueError:
            self._fail(endpoint, "invalid", "it answers logs with places that are no numbers")
        if all(map(lt, keys, keys[1:])):
            return found
        # Two requests never overlap, but an endpoint may answer the same log twice.
        unique = dict(zip(keys, found, strict=True))
        if any(unique[key] != each for key, each in zip(keys, found, strict=True)):
            self._contradicts(endpoint, "it answers two logs with one index in one block")
        return [unique[key] for key in sorted(unique)]

    def _contradicts(self, endpoint: Endpoint, message: str) -> NoReturn:
        self._fail(endpoint, "inconsistent", message, CONTRADICTION_PAUSE_SECONDS)

    def _behind(self, endpoint: Endpoint, message: str) -> NoReturn:
        """Leave an endpoint for the others; a single one is only asked again a little later."""
        endpoint.state.failed("behind", message, BEHIND_PAUSE_SECONDS if len(self._endpoints) > 1 else None)
        raise EndpointError("behind", message)


class _RangeRefusedError(Exception):
    def __init__(self, span: int, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.span = span
        self.refusal = refusal


def _get_block(number: int) -> Call:
    return ("eth_getBlockByNumber", [hex(number), False])


def _as_header(block: _WireBlock) -> Header:
    seconds = min(int(block.timestamp, 16), LAST_TIMESTAMP)
    bloom = "0x0" if block.logsBloom == "0x" else block.logsBloom
    # Read here, so that one that is no number is found out with the block.
    int(bloom, 16)
    return Header(int(block.number, 16), block.hash, block.parentHash, seconds, bloom)


def name_endpoints(urls: Sequence[str]) -> list[str]:
    """Name endpoints without what may be a key.

    >>> name_endpoints(["https://node.example/v3/secret", "http://127.0.0.1:8545"])
    ['1:node.example', '2:127.0.0.1:8545']
    """
    names = []
    for index, url in enumerate(urls, 1):
        parts = urlsplit(url)
        host = parts.hostname or "?"
        names.append(f"{index}:{host}" + (f":{parts.port}" if parts.port else ""))
    return names


_states: dict[tuple[str, int, tuple[str, ...], float | None], list[EndpointState]] = {}


def states_of(chain: Chain) -> list[EndpointState]:
    """What this process knows of a chain's endpoints, from earlier runs."""
    key: Any = (chain.name, chain.chain_id, chain.rpc_urls, chain.requests_per_second)
    if key not in _states:
        _states[key] = [
            EndpointState(name, url, chain.requests_per_second)
            for name, url in zip(name_endpoints(chain.rpc_urls), chain.rpc_urls, strict=True)
        ]
    return _states[key]
