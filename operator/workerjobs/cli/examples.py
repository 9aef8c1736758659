"""Examples at the end of a command's help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from typer.core import TyperCommand

Command = TypeVar("Command", bound=Callable[..., Any])

EXAMPLES = "shown_examples"
"""The attribute of a command's function that holds them."""


class CommandWithExamples(TyperCommand):
    """A command whose epilog is kept line by line."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples; in Markdown, as they are, they are a block of code."""
        for line in (self.epilog or "").splitlines():
            if not line.strip():
                continue
            formatter.write(f"{line[2:]}\n" if line.startswith("    ") else f"\n{line}\n")


def examples(*lines: str) -> dict[str, Any]:
    """Make what `typer.Typer.command` takes to show examples."""
    return {"cls": CommandWithExamples, "epilog": "\n".join(["Examples:", "", *(f"    {line}" for line in lines)])}


def with_examples(*lines: str) -> Callable[[Command], Command]:
    """Give a command examples, for `workerjobs.cli.commands` to show."""

    def give(command: Command) -> Command:
        setattr(command, EXAMPLES, examples(*lines))
        return command

    return give
