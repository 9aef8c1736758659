"""JSON as the tables hold it: values written so that Postgres takes them, and read back quickly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

MAX_NESTING = 100
"""Deepest `data` and `result`, in lists and objects inside each other. Postgres stores some thousands; readers of JSON,
Python's among them, stop earlier."""

# json.dumps with arguments would make one each time.
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class NestedTooDeepError(ValueError):
    """A value is nested deeper than `MAX_NESTING` levels."""


def encode_json(value: object) -> str:
    """Write a value as the JSON that Postgres stores.

    Raises:
        NestedTooDeepError: It is nested too deep.
        ValueError: The value is not JSON, or JSON that Postgres refuses: NaN, infinities, NUL characters, lone
            surrogates; the message says which.
    """
    try:
        if _is_flat(value):
            text = _encode_flat(value).decode()
        elif _is_nested_too_deep(value):
            # Not left to the encoder: some libraries (py_ecc, which web3 loads) raise Python's limit of recursion past
            # what its stack holds, and the process would be gone.
            raise NestedTooDeepError(f"it is nested deeper than {MAX_NESTING} levels")
        else:
            text = _ENCODER.encode(value)
            text.encode()
    except UnicodeEncodeError:
        raise ValueError("a string holds half of a surrogate pair, which is no Unicode text") from None
    except TypeError as error:
        raise ValueError(str(error)) from None
    if "\\u0000" in text and _holds_nul(value):
        raise ValueError("a string holds a NUL character, which Postgres can't store")
    return text


def decode_json(text: str) -> Any:
    """Read JSON as `json.loads` does, at a fraction of the time.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return _decode_quickly(text)
    except msgspec.MsgspecError:
        # What only the standard library reads: a number too large for a float, half of a surrogate pair.
        return json.loads(text)


_decode_quickly = msgspec.json.Decoder().decode
_encode_flat = msgspec.json.Encoder().encode
_STRING = frozenset({str})
_PLAIN = frozenset({str, int, bool, type(None)})
"""What both encoders write alike; not floats, of which the quick one makes null where they are no JSON."""


def _is_flat(value: object) -> bool:
    """Whether a value is a plain one, or an object of plain ones: most data and results are."""
    if type(value) is dict:
        return _PLAIN.issuperset(map(type, value.values())) and _STRING.issuperset(map(type, value))
    return type(value) in _PLAIN


def _is_nested_too_deep(value: object) -> bool:
    """Whether a value has more than `MAX_NESTING` lists and objects inside each other."""
    if _is_flat(value):
        return False
    level = [value]
    for _ in range(MAX_NESTING + 1):
        # Each object once: a value that holds itself twice would double the level each time.
        level = list({id(each): each for each in level if isinstance(each, Mapping | list | tuple)}.values())
        if not level:
            return False
        level = [item for each in level for item in _items(each)]
    return True


def _holds_nul(value: object) -> bool:
    # Without recursion: what the JSON encoder could walk down may be too deep for Python functions.
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and "\x00" in each:
            return True
        waiting += _items(each)
        if isinstance(each, Mapping):
            waiting += each
    return False


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
