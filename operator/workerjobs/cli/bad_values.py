"""Values of options and arguments that are of the wrong kind, said in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

_SENTENCES: dict[str, Callable[[Any, dict[str, Any]], str]] = {
    "int_parsing": lambda value, _: f"{value!r} is no whole number.",
    "float_parsing": lambda value, _: f"{value!r} is no number.",
    "greater_than_equal": lambda value, limits: f"{value} is less than {limits['ge']:g}.",
    "less_than_equal": lambda value, limits: f"{value} is more than {limits['le']:g}.",
    # The sentence is typer's own, or ours.
    "value_error": lambda _, raised: str(raised["error"]),
}
"""What to say, by pydantic's name of the problem, of the value and what pydantic tells of it."""


def reword(error: typer.BadParameter) -> None:
    """Say what is wrong with the value itself: typer (0.29) leaves it to pydantic, which names no value.

    Args:
        error: Gets the sentence; stays as it is where pydantic said nothing, or something else.
    """
    problems = getattr(error.__cause__, "errors", None)
    if problems is None:
        return
    first = problems()[0]
    if (sentence := _SENTENCES.get(first["type"])) is not None:
        error.message = sentence(first["input"], first.get("ctx", {}))
