"""Many reads of contracts in few requests, through Multicall3: ``aggregate3``, all of them at one block.

Example:
    results = read_many(node, [Call(token, "balanceOf(address)(uint256)", (holder,)) for token in tokens])
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eth_abi.abi import decode, encode
from eth_hash.auto import keccak

from workerjobs.domain.multicall3 import ADDRESS
from workerjobs.errors import ChainRefusedError, InvalidInputError, WorkerJobsError

AGGREGATE3 = "0x82ad56cb"
"""Selector of ``aggregate3((address target, bool allowFailure, bytes callData)[]) returns ((bool, bytes)[])``."""
BATCH = 500
"""Calls a request; where a node refuses that, it is halved."""
_SIGNATURE = re.compile(r"\s*([A-Za-z_$][\w$]*)\s*(\(.*\))\s*(?:returns\s*)?(\(.*\))\s*", re.ASCII)


class Node(Protocol):
    """What calls go through: `workerjobs.chain.node.Web3Node`."""

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Call a method of JSON-RPC."""
        ...


class CallFailedError(WorkerJobsError):
    """A contract reverted a call that had to succeed, or answered something else than its signature says.

    Attributes:
        call: Which.
        data: What came back.
    """

    def __init__(self, call: Call, data: bytes, why: str) -> None:
        self.call, self.data = call, data
        super().__init__(f"{call.signature} of {call.target} {why}: 0x{data.hex()}")


@dataclass(frozen=True, slots=True)
class Call:
    """One read."""

    target: str
    """The contract's address."""
    signature: str
    """The function with the types it takes and returns: ``balanceOf(address)(uint256)``."""
    arguments: Sequence[Any] = ()
    may_fail: bool = False
    """A revert is a result, and not an error."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a call returned."""

    succeeded: bool
    value: Any
    """Decoded: one value, or a tuple of several; None where it failed."""
    data: bytes
    """As it came; where it failed, the reason as the contract encodes it."""


def read_many(
    node: Node, calls: Iterable[Call], *, block: int | str = "latest", batch: int = BATCH
) -> list[CallResult]:
    """Read from many contracts at one moment.

    Args:
        node: Where.
        calls: What.
        block: A number, or a name such as "latest" or "finalized"; names are resolved once, so that all calls see the
            same block however many requests they take.
        batch: Calls a request, at most.

    Returns:
        A result for each call, in their order.

    Raises:
        InvalidInputError: A signature or an argument is not accepted.
        CallFailedError: A call failed that must not.
        ChainRefusedError: The node refuses a single call, or Multicall3 is not on this chain.
        ChainUnavailableError: The node does not answer.
    """
    prepared = [_prepare(call) for call in calls]
    if not prepared:
        return []
    if isinstance(block, str):
        block = int(node.request("eth_getBlockByNumber", [block, False])["number"], 16)
    results: list[CallResult] = []
    size = max(1, batch)
    while len(results) < len(prepared):
        part = prepared[len(results) : len(results) + size]
        try:
            answer = node.request("eth_call", [{"to": ADDRESS, "data": _encode(part)}, hex(block)])
        except ChainRefusedError:
            # Too much for one request: its size, its gas, the time it takes.
            if len(part) == 1:
                raise
            size = len(part) // 2
            continue
        if answer in ("0x", None):
            raise ChainRefusedError(
                f"Multicall3 is not on this chain at block {block}: run the job deployMulticall3", "no code"
            )
        (answers,) = decode(["(bool,bytes)[]"], bytes.fromhex(answer.removeprefix("0x")))
        results += [_result(each, succeeded, data) for each, (succeeded, data) in zip(part, answers, strict=True)]
    return results


@dataclass(frozen=True, slots=True)
class _Prepared:
    call: Call
    data: bytes
    returns: list[str]


def _prepare(call: Call) -> _Prepared:
    found = _SIGNATURE.fullmatch(call.signature)
    if found is None:
        raise InvalidInputError(
            f"{call.signature!r} is no function with its types: write it as balanceOf(address)(uint256)"
        )
    name, takes, returns = found.groups()
    takes = takes.replace(" ", "")
    try:
        arguments = encode(split_types(takes), list(call.arguments))
    except Exception as error:
        # eth-abi has no common base for what it raises about types and about values.
        raise InvalidInputError(f"{call.signature} of {call.target}: {error}") from error
    selector = keccak(f"{name}{takes}".encode())[:4]
    return _Prepared(call, selector + arguments, split_types(returns.replace(" ", "")))


def _encode(part: Sequence[_Prepared]) -> str:
    # Failures are told apart here, so that the error can say which call it was.
    calls = [(each.call.target, True, each.data) for each in part]
    return AGGREGATE3 + encode(["(address,bool,bytes)[]"], [calls]).hex()


def _result(prepared: _Prepared, succeeded: bool, data: bytes) -> CallResult:
    call = prepared.call
    if succeeded:
        try:
            values = decode(prepared.returns, data)
        except Exception as error:
            # Of no common base either; an address without code "succeeds" with nothing.
            if not call.may_fail:
                raise CallFailedError(call, data, "answered something else") from error
        else:
            return CallResult(True, values[0] if len(values) == 1 else values, data)
    elif not call.may_fail:
        raise CallFailedError(call, data, "was reverted")
    return CallResult(False, None, data)


def split_types(text: str) -> list[str]:
    """Take a list of types apart, which may hold tuples.

    Example:
        >>> split_types("(address,(uint256,bytes)[],bool)")
        ['address', '(uint256,bytes)[]', 'bool']
        >>> split_types("()")
        []
    """
    types, depth, start = [], 0, 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if (letter == "," and depth == 1) or (letter == ")" and depth == 0):
            types.append(text[start:place])
            start = place + 1
    return [each for each in types if each]
