"""Which logs to ask an endpoint for, and which of those that come are for which filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from workerjobs.chain.decoding import CompiledEvent, UndecodableError, compile_event
from workerjobs.domain.blocks import Header
from workerjobs.domain.events import DecodedLog, LogQuery, UndecodableLog
from workerjobs.domain.keccak import bloom_mask_of

MAX_ADDRESSES = 500
"""Addresses in one request; endpoints refuse more than a thousand or so."""


class WireLog(msgspec.Struct, gc=False):
    """A log as JSON-RPC has it."""

    address: str
    topics: list[str]
    data: str
    blockNumber: str  # noqa: N815
    blockHash: str  # noqa: N815
    transactionHash: str  # noqa: N815
    logIndex: str  # noqa: N815
    removed: bool = False


@dataclass(frozen=True, slots=True)
class _Watch:
    """One filter's part in an event."""

    query: LogQuery
    event: CompiledEvent
    addresses: frozenset[str] | None
    """None: any contract."""
    is_factory: bool = False
    """It names new contracts of the query's factory, and is no log of the query itself."""
    first: int = 0
    """Logs of earlier blocks are not wanted."""


class Matcher:
    """Filters made ready for one chain.

    Args:
        chain: Its name.
        queries: What is asked for.
        addresses: Contracts of factories known so far, by the query's name.
    """

    def __init__(self, chain: str, queries: Sequence[LogQuery], addresses: Mapping[str, Iterable[str]]) -> None:
        self._chain = chain
        self._queries = queries
        self._known = {query.name: frozenset(addresses.get(query.name, ())) for query in queries if query.factory}
        self._watches: dict[str, list[_Watch]] = {}
        for query in queries:
            event = compile_event(query.event)
            wanted = None if query.addresses is None and query.factory is None else frozenset(query.addresses or ())
            if query.factory is not None:
                wanted = (wanted or frozenset()) | self._known[query.name]
                factory = compile_event(query.factory.event)
                self._add(_Watch(query, factory, frozenset(query.factory.addresses), is_factory=True))
            self._add(_Watch(query, event, wanted, first=query.from_block or 0))
        self.groups = self._groups()
        self.bloom = [
            ([bloom_mask_of(each) for each in addresses], [bloom_mask_of(each) for each in topics])
            for addresses, topics in self.groups
        ]
        """For `workerjobs.domain.blocks.may_contain`."""

    def _add(self, watch: _Watch) -> None:
        self._watches.setdefault(watch.event.topic, []).append(watch)

    def _groups(self) -> list[tuple[list[str], list[str]]]:
        """Addresses (none: any) and topics of the requests that cover all filters, as few as can be."""
        anywhere = {
            topic for topic, watches in self._watches.items() if any(watch.addresses is None for watch in watches)
        }
        groups: list[tuple[list[str], list[str]]] = [([], sorted(anywhere))] if anywhere else []
        addressed = {topic: watches for topic, watches in self._watches.items() if topic not in anywhere}
        addresses = sorted({a for watches in addressed.values() for watch in watches for a in watch.addresses or ()})
        topics = sorted(addressed)
        parts = range(0, len(addresses), MAX_ADDRESSES)
        return groups + [(addresses[begin : begin + MAX_ADDRESSES], topics) for begin in parts]

    def parameters(self, place: Mapping[str, str]) -> list[dict[str, Any]]:
        """The parameters of the eth_getLogs calls for a range or a block."""
        return [
            {**place, **({"address": addresses} if addresses else {}), "topics": [topics]}
            for addresses, topics in self.groups
        ]

    def wants(self, log: WireLog) -> bool:
        """Whether a log is one of those that the requests ask for."""
        topic, address = log.topics[0] if log.topics else "", log.address.lower()
        return any(topic in topics and (not addresses or address in addresses) for addresses, topics in self.groups)

    def new_addresses(self, logs: Iterable[WireLog]) -> dict[str, dict[str, int]]:
        """Find contracts that factories made and that are not known yet: block numbers by query and address."""
        found: dict[str, dict[str, int]] = {}
        for log in logs:
            for watch in self._watches.get(log.topics[0], ()) if log.topics else ():
                if not watch.is_factory or log.address.lower() not in (watch.addresses or ()):
                    continue
                assert watch.query.factory is not None
                try:
                    made = str(watch.event.decode(log.topics, log.data)[watch.query.factory.parameter])
                except UndecodableError:
                    continue
                if made not in self._known[watch.query.name]:
                    found.setdefault(watch.query.name, {}).setdefault(made, int(log.blockNumber, 16))
        return found

    def match(
        self, logs: Iterable[WireLog], headers: Mapping[int, Header]
    ) -> tuple[list[DecodedLog], list[UndecodableLog]]:
        """Decode logs, in their order, for each filter that wants them."""
        decoded: list[DecodedLog] = []
        undecodable: list[UndecodableLog] = []
        watches, chain = self._watches, self._chain
        for log in logs:
            address = log.address.lower()
            for watch in watches.get(log.topics[0], ()) if log.topics else ():
                if watch.addresses is not None and address not in watch.addresses:
                    continue
                number = int(log.blockNumber, 16)
                if number < watch.first:
                    continue
                try:
                    arguments = watch.event.decode(log.topics, log.data)
                except UndecodableError as error:
                    undecodable.append(
                        UndecodableLog(
                            watch.query.name,
                            address,
                            number,
                            log.blockHash,
                            log.transactionHash,
                            int(log.logIndex, 16),
                            log.topics,
                            log.data,
                            str(error),
                        )
                    )
                    continue
                if watch.is_factory:
                    continue
                decoded.append(
                    DecodedLog(
                        chain,
                        watch.query.name,
                        watch.event.signature.name,
                        address,
                        number,
                        log.blockHash,
                        headers[number].timestamp,
                        log.transactionHash,
                        int(log.logIndex, 16),
                        arguments,
                        log.topics,
                        log.data,
                    )
                )
        return decoded, undecodable
