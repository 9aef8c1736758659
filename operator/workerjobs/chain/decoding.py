"""Decoders of logs, compiled for each event: one function without loops over types.

web3's own decoding looks the event's ABI up and checks each value in general terms for every log: some 3,000 logs/s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from workerjobs.domain.events import EventParameter, EventSignature
from workerjobs.domain.keccak import keccak
from workerjobs.errors import WorkerJobsError

Decoder = Callable[[Sequence[str], str], dict[str, object]]
WORD = 64
"""Hexadecimal digits of one slot of ABI data."""
_ZEROS = "0" * WORD


class UndecodableError(WorkerJobsError):
    """A log's topics and data are not those of the event."""


@dataclass(frozen=True, slots=True)
class CompiledEvent:
    """An event that can be asked for and decoded."""

    signature: EventSignature
    topic: str
    """The first topic of its logs."""
    decode: Decoder
    """Takes a log's topics and data, hexadecimal with 0x; raises `UndecodableError`."""


def topic_of(signature: EventSignature) -> str:
    """The first topic of an event's logs."""
    return "0x" + keccak(signature.canonical.encode()).hex()


@cache
def compile_event(signature: EventSignature) -> CompiledEvent:
    """Write and compile the function that decodes an event's logs."""
    return CompiledEvent(signature, topic_of(signature), _compile(signature))


def _compile(signature: EventSignature) -> Decoder:
    indexed = [parameter for parameter in signature.parameters if parameter.indexed]
    plain = [parameter for parameter in signature.parameters if not parameter.indexed]
    by_library = any("[" in parameter.type for parameter in plain)
    lines = [
        "def decode(topics, data):",
        f" if len(topics) != {len(indexed) + 1}:",
        f"  raise UndecodableError('it has %d topics, not {len(indexed) + 1}' % len(topics))",
    ]
    values: dict[str, str] = {}
    checks: list[str] = []
    for index, parameter in enumerate(indexed):
        word = f"t{index}"
        lines.append(f" {word} = topics[{index + 1}]")
        # Of what has no fixed size, the topic is a hash.
        values[parameter.name] = word if _is_dynamic(parameter.type) else _value(parameter, word, 2, checks)
    if by_library:
        types = [parameter.type for parameter in plain]
        lines.append(f" values = decode_abi({types!r}, data)")
        values |= {parameter.name: f"values[{index}]" for index, parameter in enumerate(plain)}
    elif plain:
        lines += [
            f" if len(data) < {2 + WORD * len(plain)}:",
            f"  raise UndecodableError('it has %d bytes, not {32 * len(plain)} or more' % (len(data) // 2 - 1))",
        ]
        for index, parameter in enumerate(plain):
            at = 2 + WORD * index
            if parameter.type in ("string", "bytes"):
                values[parameter.name] = f"dynamic_{parameter.type}(data, {at})"
            else:
                values[parameter.name] = _value(parameter, "data", at, checks)
    lines += checks
    lines.append(" return {" + ", ".join(f"{p.name!r}: {values[p.name]}" for p in signature.parameters) + "}")
    source = "\n".join(lines)
    scope: dict[str, Any] = {
        "UndecodableError": UndecodableError,
        "decode_abi": _decode_by_library,
        "dynamic_string": _dynamic_string,
        "dynamic_bytes": _dynamic_bytes,
        "signed": _signed,
        "Z": _ZEROS,
    }
    exec(compile(source, f"<event {signature.canonical}>", "exec"), scope)  # noqa: S102  # names were checked by parse_event
    return _translating(scope["decode"])


def _translating(decode: Decoder) -> Decoder:
    def translated(topics: Sequence[str], data: str) -> dict[str, object]:
        try:
            return decode(topics, data)
        except (ValueError, OverflowError) as error:
            raise UndecodableError(f"its data can't be read: {error}") from None

    return translated


def _is_dynamic(kind: str) -> bool:
    return kind in ("string", "bytes") or "[" in kind


def _value(parameter: EventParameter, source: str, at: int, checks: list[str]) -> str:
    """Write the expression of a value that fills one slot, and what has to be checked of it."""
    kind, end = parameter.type, at + WORD

    def padded(begin: int, stop: int) -> None:
        if stop > begin:
            checks.extend(
                [
                    f" if {source}[{begin}:{stop}] != Z[:{stop - begin}]:",
                    f"  raise UndecodableError({f'{parameter.name} is no {kind}'!r})",
                ]
            )

    if kind == "address":
        padded(at, at + 24)
        return f"'0x' + {source}[{at + 24}:{end}].lower()"
    if kind == "bool":
        padded(at, end - 1)
        checks.extend(
            [
                f" if {source}[{end - 1}:{end}] not in ('0', '1'):",
                f"  raise UndecodableError({f'{parameter.name} is no bool'!r})",
            ]
        )
        return f"{source}[{end - 1}:{end}] == '1'"
    if kind.startswith("uint"):
        padded(at, end - int(kind[4:]) // 4)
        return f"int({source}[{at}:{end}], 16)"
    if kind.startswith("int"):
        return f"signed({source}[{at}:{end}], {int(kind[3:])})"
    size = 24 if kind == "function" else int(kind.removeprefix("bytes"))
    padded(at + 2 * size, end)
    return f"bytes.fromhex({source}[{at}:{at + 2 * size}])"


def _signed(word: str, bits: int) -> int:
    number = int(word, 16)
    if number >> 255:
        number -= 1 << 256
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise UndecodableError(f"{word} is no int{bits}")
    return number


def _dynamic(data: str, at: int) -> str:
    begin = 2 + 2 * int(data[at : at + WORD], 16)
    length = 2 * int(data[begin : begin + WORD] or "x", 16)
    begin += WORD
    found = data[begin : begin + length]
    if len(found) != length:
        raise UndecodableError("it has less data than it says")
    return found


def _dynamic_string(data: str, at: int) -> str:
    # As viem and ethers do: contracts may emit any bytes as a string, and the rest of the log is good.
    return bytes.fromhex(_dynamic(data, at)).decode("utf-8", "replace")


def _dynamic_bytes(data: str, at: int) -> bytes:
    return bytes.fromhex(_dynamic(data, at))


def _decode_by_library(types: Sequence[str], data: str) -> list[object]:
    """Decode data with arrays, which are rare, by eth-abi."""
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    try:
        return [_plain(value) for value in decode(types, bytes.fromhex(data[2:]))]
    except (DecodingError, UnicodeDecodeError) as error:
        raise UndecodableError(f"its data can't be read: {error}") from None


def _plain(value: object) -> object:
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value
