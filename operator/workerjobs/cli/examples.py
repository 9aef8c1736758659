"""Examples at the end of a command's help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., Any])

EPILOG = "epilog"
"""The attribute of a command's function that holds them."""


def examples(*lines: str) -> str:
    """Write examples as the epilog of a command's help; the first character keeps their lines as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def with_examples(*lines: str) -> Callable[[Command], Command]:
    """Give a command examples, for `workerjobs.cli.commands` to show."""

    def give(command: Command) -> Command:
        setattr(command, EPILOG, examples(*lines))
        return command

    return give
