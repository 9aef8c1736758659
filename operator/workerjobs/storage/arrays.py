"""Postgres arrays as text: psycopg (3.3) adapts lists element by element in Python, at ten times the cost."""

from __future__ import annotations

from collections.abc import Iterable


def number_array(numbers: Iterable[float | None]) -> str:
    """Write numbers as the text of an array; None is NULL.

    >>> number_array([1, None, 2.5])
    '{1, NULL, 2.5}'
    """
    # A list is written in C, and what Python puts between its elements is what Postgres reads.
    return "{" + repr(list(numbers))[1:-1].replace("None", "NULL") + "}"


def moment_array(moments: Iterable[float | None]) -> str:
    """Write seconds since the epoch as the text of an array of whole microseconds, as exact as timestamps are.

    >>> moment_array([1.5, None])
    '{1500000, NULL}'
    """
    return number_array([None if moment is None else int(moment * 1_000_000) for moment in moments])


def flag_array(flags: Iterable[bool]) -> str:
    """Write booleans as the text of an array.

    >>> flag_array([True, False])
    '{True, False}'
    """
    return "{" + repr(list(flags))[1:-1] + "}"


def text_array(texts: Iterable[str | None]) -> str:
    r"""Write texts as the text of an array; None is NULL.

    >>> print(text_array(['{"a": 1}', None, "back\\slash"]))
    {"{\"a\": 1}",NULL,"back\\slash"}
    """
    return "{" + ",".join(["NULL" if text is None else _quoted(text) for text in texts]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
