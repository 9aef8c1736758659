"""What the pages name exists: files, variables, commands with their options, targets of make."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.docs import ROOT, all_blocks
from workerjobs.cli.commands import commands

PAGES = sorted(
    str(file.relative_to(ROOT))
    for file in [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "manifests" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
READ = ("operator", "tests/support", "charts", "docs/examples")
"""Where variables are read."""
FOLDERS = ("charts", "docs", "manifests", "operator", "tests")
ASSIGNMENT = re.compile(r"\w+=.*")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def inline_code(page: str) -> list[str]:
    """What stands between backticks in a page's text."""
    text = re.sub(r"^ *```.*?^ *```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


@pytest.mark.parametrize("page", PAGES)
def test_paths_on_the_page_exist(page: str) -> None:
    named = {code for code in inline_code(page) if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]+", code)}
    # What belongs to other projects is told by its owner's name before the path.
    missing = {
        path for path in named if not (ROOT / path).exists() and not (ROOT / "operator/workerjobs" / path).exists()
    }
    assert missing == set()


@cache
def known_variables() -> frozenset[str]:
    files = [file for folder in READ for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".yaml", ".tpl")]
    text = "".join(file.read_text(encoding="utf-8") for file in [*files, ROOT / "Makefile", ROOT / "Dockerfile"])
    return frozenset(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text))


@pytest.mark.parametrize("page", PAGES)
def test_variables_on_the_page_are_read_somewhere(page: str) -> None:
    named = set(re.findall(r"\b(?:WORKER|WORKERJOBS|DATABASE|WEB3|WATCH)_[A-Z0-9_]*[A-Z0-9]\b", text_of(page)))
    # Those of a chain are made of its name.
    of_chains = {name for name in named if re.fullmatch(r"WEB3_[A-Z0-9]+_(RPC|CHAIN_ID)", name)}
    assert named - of_chains - known_variables() == set()


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", text_of("Makefile"), flags=re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_make_has_the_targets_on_the_page(page: str) -> None:
    codes = re.findall(r"`(make [^`]+)`", text_of(page))
    named = {code.split()[1] for code in codes if re.fullmatch(r"make [a-z-]+(?: .*)?", code)}
    named |= {line.split()[1] for line in shell_lines(page) if re.match(r"make [a-z-]+", line)}
    assert named <= targets()


def shell_lines(page: str) -> Iterator[str]:
    for block in all_blocks(page, "shell", "sh"):
        yield from block.text.replace("\\\n", " ").splitlines()


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell that call workerjobs, each as its words after that."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    command: list[str] = []
    for word in [*words, ";"]:
        if word in (";", "&", "&&", "||", "|", "--", "&&", "until", "do", "$("):
            while command and ASSIGNMENT.fullmatch(command[0]):
                command.pop(0)
            if command and Path(command[0]).name == "workerjobs":
                yield command[1:]
            command = []
        else:
            command.append(word.rstrip(";"))


@cache
def group() -> Any:
    return typer.main.get_command(commands)


def problem_with(words: list[str]) -> str | None:
    """What there is not of a command line; None where all of it is."""
    command, context = group(), typer.Context(group(), info_name="workerjobs")
    rest = list(words)
    while rest and hasattr(command, "get_command"):
        if not re.fullmatch(r"[a-z-]+", rest[0]) or rest[0].startswith("-"):
            break
        found = command.get_command(context, rest[0])
        if found is None:
            return f"no command {rest[0]}"
        command = found
        rest.pop(0)
    # Those of the whole program may stand after a command too.
    taken = [*command.params, *group().params]
    options = {option for parameter in taken for option in parameter.opts} | {"--help", "-h"}
    unknown = [word for word in rest if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options]
    return f"no option {unknown[0]} of {command.name}" if unknown else None


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_page_exist_with_their_options(page: str) -> None:
    lines = [*shell_lines(page), *(code for code in inline_code(page) if code.startswith("workerjobs "))]
    wrong = {
        " ".join(words): problem
        for line in lines
        for words in simple_commands(line)
        if (problem := problem_with(words))
    }
    assert wrong == {}


def test_what_does_not_exist_is_found() -> None:
    assert problem_with(["submitt", "report"]) == "no command submitt"
    assert problem_with(["limit", "sett", "key"]) == "no command sett"
    assert problem_with(["submit", "report", "--dta", "{}"]) == "no option --dta of submit"
    assert problem_with(["submit", "report", "--data", "{}", "-w"]) is None
    assert [*simple_commands("A=1 workerjobs list | head && kubectl exec x -- workerjobs doctor")] == [
        ["list"],
        ["doctor"],
    ]
