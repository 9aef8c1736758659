"""The commands' help: complete, with examples that are right."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer

from tests.support.cli import workerjobs
from workerjobs.cli.commands import HOMES, commands
from workerjobs.cli.places import first

GROUP: Any = typer.main.get_command(commands)


def leaves() -> dict[str, Any]:
    """All commands that do something, by how they are called."""
    found = {}
    context = typer.Context(GROUP, info_name="workerjobs")
    waiting: list[tuple[tuple[str, ...], Any]] = [((name,), GROUP.get_command(context, name)) for name in HOMES]
    while waiting:
        path, command = waiting.pop()
        if hasattr(command, "list_commands"):
            waiting += [((*path, name), command.get_command(context, name)) for name in command.list_commands(context)]
        else:
            found[" ".join(path)] = command
    return found


LEAVES = leaves()
EXAMPLES = [
    line.strip() for command in LEAVES.values() for line in (command.epilog or "").splitlines() if "workerjobs " in line
]


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_and_option_says_what_it_is(name: str) -> None:
    command = LEAVES[name]
    assert command.help
    assert [each.name for each in command.params if not getattr(each, "help", None)] == []


@pytest.mark.parametrize("name", ["list", "show", "watch", "cancel", "retry", "export", "submit", "top", "explain"])
def test_commands_of_every_day_show_examples(name: str) -> None:
    shown = workerjobs(name, "--help", database_url=None).stdout
    assert re.search(r"Examples:\n\s+workerjobs ", shown)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_can_be_read(example: str) -> None:
    words = shlex.split(example.partition("workerjobs ")[2].rstrip(")"))
    end = next((index for index, word in enumerate(words) if word in ("|", "&&", ">", "<")), len(words))
    arguments = first(words[:end])
    context = GROUP.make_context("workerjobs", list(arguments), resilient_parsing=True)
    command: Any = GROUP
    rest = [*context._protected_args, *context.args]
    while rest and hasattr(command, "list_commands"):
        name, *rest = rest
        command = command.get_command(context, name)
        assert command is not None, example
    assert command.make_context("example", rest, resilient_parsing=False) is not None


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(["lst"], "Did you mean list?"), (["cron", "trigge", "x"], "Did you mean 'trigger'"), (["xyzzy"], "no command")],
)
def test_mistyped_commands_are_told_the_nearest_one(arguments: list[str], hint: str) -> None:
    ended = workerjobs(*arguments, database_url=None)
    assert ended.returncode == 2
    assert hint in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "first"], "Invalid value for 'ID': 'first' is no whole number."),
        (["cancel", "1", "1.5"], "Invalid value for 'ID…': '1.5' is no whole number."),
        (["submit", "x", "--delay", "soon"], "Invalid value for '--delay': 'soon' is no number."),
        (["list", "--output", "yaml"], "Invalid value for '-o' / '--output': 'yaml' is not one of 'table', 'json'."),
        (["dev", "--time-limit", "0"], "Invalid value for '--time-limit': 0 is less than 1."),
    ],
)
def test_value_of_the_wrong_kind_is_named(arguments: list[str], sentence: str) -> None:
    ended = workerjobs(*arguments, database_url=None)
    assert ended.returncode == 2
    assert ended.stderr.endswith(f"\nError: {sentence}\n")


def test_help_of_all_commands_lists_each_once() -> None:
    shown = workerjobs("--help", database_url=None).stdout
    assert [name for name in HOMES if len(re.findall(rf"^  {name} ", shown, re.MULTILINE)) != 1] == []
