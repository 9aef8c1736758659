"""Postgres arrays as text: psycopg (3.3) adapts lists element by element in Python, at ten times the cost."""

from __future__ import annotations

from collections.abc import Iterable


def number_array(numbers: Iterable[float | None]) -> str:
    """Write numbers as the text of an array; None is NULL.

    >>> number_array([1, None, 2.5])
    '{1,NULL,2.5}'
    """
    return "{" + ",".join(["NULL" if number is None else repr(number) for number in numbers]) + "}"


def flag_array(flags: Iterable[bool]) -> str:
    """Write booleans as the text of an array.

    >>> flag_array([True, False])
    '{t,f}'
    """
    return "{" + ",".join(["t" if flag else "f" for flag in flags]) + "}"


def text_array(texts: Iterable[str | None]) -> str:
    r"""Write texts as the text of an array; None is NULL.

    >>> print(text_array(['{"a": 1}', None, "back\\slash"]))
    {"{\"a\": 1}",NULL,"back\\slash"}
    """
    return "{" + ",".join(["NULL" if text is None else _quoted(text) for text in texts]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
