"""Events of contracts as people write them: `Transfer(address indexed from, address indexed to, uint256 value)`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from workerjobs.errors import InvalidInputError

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_TYPE = re.compile(r"(address|bool|string|bytes|bytes(?:[1-9]|[12]\d|3[0-2])|u?int(\d*)|function)((?:\[\d*\])*)")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
MAX_INDEXED = 3


@dataclass(frozen=True, slots=True)
class EventParameter:
    """One parameter of an event."""

    name: str
    type: str
    """In its canonical form: uint256 and not uint."""
    indexed: bool


@dataclass(frozen=True, slots=True)
class EventSignature:
    """An event's name and parameters."""

    name: str
    parameters: tuple[EventParameter, ...]

    @property
    def canonical(self) -> str:
        """What is hashed into the first topic, such as ``Transfer(address,address,uint256)``."""
        return f"{self.name}({','.join(parameter.type for parameter in self.parameters)})"

    def __str__(self) -> str:
        """As `canonical`, and says which parameters are indexed."""
        types = (f"{parameter.type} indexed" if parameter.indexed else parameter.type for parameter in self.parameters)
        return f"{self.name}({','.join(types)})"


class DecodedLog(Struct, frozen=True, gc=False):
    """A log as handlers see it."""

    chain: str
    filter: str
    """The name of the filter that asked for it."""
    event: str
    address: str
    """Of the contract; all addresses are lower-case."""
    block_number: int
    block_hash: str
    block_time: int
    """Seconds since 1970."""
    transaction_hash: str
    log_index: int
    arguments: dict[str, object]
    """By the parameters' names: int, str (addresses, strings), bool, bytes, lists of these."""
    topics: Sequence[str] = ()
    data: str = "0x"
    """As the node has them, hexadecimal with 0x."""


class UndecodableLog(Struct, frozen=True, gc=False):
    """A log that has a filter's topic and not its form, or that its handler can't handle."""

    filter: str
    address: str
    block_number: int
    block_hash: str
    transaction_hash: str
    log_index: int
    topics: Sequence[str]
    data: str
    reason: str


def parse_event(text: str) -> EventSignature:
    """Parse an event's declaration; ``event`` before it and ``;`` after it may be there.

    Raises:
        InvalidInputError: It is none.

    >>> parse_event("event Moved(uint indexed from_, bytes32)").canonical
    'Moved(uint256,bytes32)'
    """
    match = re.fullmatch(r"\s*(?:event\s+)?([A-Za-z_$][\w$]*)\s*\((.*)\)\s*(anonymous)?\s*;?\s*", text, re.DOTALL)
    if match is None:
        raise InvalidInputError(
            f"{text!r} is no event: write it as in Solidity, such as "
            "Transfer(address indexed from, address indexed to, uint256 value)"
        )
    if match[3]:
        raise InvalidInputError(f"{text!r} is anonymous: its logs can't be told from others")
    parts = [part.strip() for part in match[2].split(",")] if match[2].strip() else []
    parameters = tuple(_parameter(part, index, text) for index, part in enumerate(parts))
    if sum(parameter.indexed for parameter in parameters) > MAX_INDEXED:
        raise InvalidInputError(f"{text!r} has more than {MAX_INDEXED} indexed parameters")
    names = [parameter.name for parameter in parameters]
    if len(set(names)) != len(names):
        raise InvalidInputError(f"{text!r} has two parameters of one name")
    return EventSignature(match[1], parameters)


def _parameter(text: str, index: int, event: str) -> EventParameter:
    words = text.split()
    type_match = _TYPE.fullmatch(words[0]) if words else None
    if type_match is None:
        raise InvalidInputError(
            f"{text!r} in {event!r} is no parameter: give a type (address, uint256, string, bytes32, …; no structs), "
            "indexed where it is, and a name"
        )
    canonical = words[0]
    if type_match[1].startswith(("int", "uint")):
        bits = int(type_match[2] or 256)
        if bits % 8 or not 8 <= bits <= 256:
            raise InvalidInputError(f"{words[0]!r} in {event!r} is no type: give bits from 8 to 256 in steps of 8")
        canonical = f"{type_match[1].rstrip('0123456789')}{bits}{type_match[3]}"
    rest = words[1:]
    indexed = "indexed" in rest[:1]
    rest = rest[1:] if indexed else rest
    if len(rest) > 1 or (rest and _NAME.fullmatch(rest[0]) is None):
        raise InvalidInputError(f"{text!r} in {event!r} is no parameter: give a type, indexed where it is, and a name")
    return EventParameter(rest[0] if rest else f"arg{index}", canonical, indexed)


def parse_address(text: str) -> str:
    """Check an address; returns it in lower case.

    Raises:
        InvalidInputError: It is none.
    """
    if _ADDRESS.fullmatch(text.strip()) is None:
        raise InvalidInputError(f"{text!r} is no address: give 0x and 40 hexadecimal digits")
    return text.strip().lower()


@dataclass(frozen=True, slots=True)
class FactorySource:
    """Where the addresses of a filter come from: an event that names each contract that a factory made."""

    addresses: tuple[str, ...]
    """Of the factories."""
    event: EventSignature
    parameter: str
    """The parameter that holds the new contract's address."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which logs a filter asks for."""

    name: str
    event: EventSignature
    addresses: tuple[str, ...] | None = None
    """Lower-case; None: any contract."""
    factory: FactorySource | None = None
    """Adds the contracts of a factory to ``addresses``."""
    from_block: int | None = None
    """The first block whose logs it wants, also where the chain is processed further already; None: those to come."""

    @property
    def text(self) -> str:
        """All that it asks for, to see whether that has changed.

        >>> LogQuery("moves", parse_event("Moved(address indexed by)"), ("0x12",), None, 7).text
        'Moved(address indexed) of 0x12 from 7'
        """
        made = (
            f" or made by {_names(self.factory.addresses)} in {self.factory.parameter} of {self.factory.event}"
            if self.factory
            else ""
        )
        return f"{self.event} of {_names(self.addresses or ())}{made} from {self.from_block}"


def _names(addresses: Sequence[str]) -> str:
    return ",".join(sorted(addresses)) or "any"
