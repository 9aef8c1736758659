"""The code blocks of the documentation, and a run of a page as its reader would go through it.

What stands after a block's language says how tests run it: ``no-test`` not at all, ``background`` for as long as the
page is gone through, ``slow`` by a slow test. A block that begins with a file's name in a comment is that file.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.support.cli import environment
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^# ([\w./-]+\.\w+)\n")
SECONDS = 120
"""For one block, on a machine that does much else."""


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: str
    line: int
    language: str
    marks: frozenset[str]
    text: str

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that it is, as its first line says."""
        named = _FILE.match(self.text)
        return named[1] if named and self.language in ("python", "yaml", "sql", "dockerfile") else None

    @property
    def content(self) -> str:
        """Its text without the line that names a file."""
        return _FILE.sub("", self.text, count=1) if self.file else self.text


def all_blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page, in their order; of some languages alone where these are given.

    Args:
        page: Its path in the repository.
        languages: Such as ``shell``.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        indent, language, marks, body = match.groups()
        if not languages or language in languages:
            line = text.count("\n", 0, match.start()) + 1
            body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
            found.append(Block(page, line, language, frozenset(marks.split()), body))
    return found


def blocks(page: str, language: str) -> list[str]:
    """The texts of a page's blocks of a language that are not marked ``no-test``."""
    return [block.text for block in all_blocks(page, language) if "no-test" not in block.marks]


def go_through(page: str, folder: Path, database_url: str) -> None:
    """Do what a page says: write its files, run its commands, programs and SQL, in their order.

    Text after a command is what it prints: every line of it has to be there, in its order. Numbers count as equal,
    ``…`` stands for anything.

    Args:
        page: Its path in the repository.
        folder: Where its files go, and its commands run; a virtual environment is there, as in a checkout.
        database_url: Its database.
    """
    (folder / ".venv").symlink_to(sys.prefix)
    port = free_port()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = environment(database_url, PATH=path, WORKERJOBS_SERVER_PORT=str(port), COLUMNS="200", WORKER_COUNT="1")
    printed: str | None = None
    with contextlib.ExitStack() as stack:
        for block in all_blocks(page):
            before, printed = printed, None
            if block.marks & {"no-test", "slow"}:
                continue
            if block.language == "text":
                if before is not None:
                    assert_printed(block, before)
            elif block.file:
                file = folder / block.file
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.content, encoding="utf-8")
            elif block.language == "sql":
                with psycopg.connect(database_url, autocommit=True) as connection:
                    connection.execute(block.text.encode())
            elif block.language in ("shell", "python"):
                text = block.text.replace("127.0.0.1:8095", f"127.0.0.1:{port}")
                command = (
                    ["bash", "-euc", text]
                    if block.language == "shell"
                    else [sys.executable, "-W", "error", "-c", block.text]
                )
                if "background" in block.marks:
                    stack.enter_context(_in_background(command, folder, variables))
                    if "workerjobs server" in text:
                        _wait_for(port)
                else:
                    printed = _run(block, command, folder, variables)


def assert_printed(block: Block, printed: str) -> None:
    """Check that a block's lines were printed, in their order."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for shown in block.text.splitlines():
        if not (words := " ".join(shown.split())):
            continue
        pattern = re.sub(r"\d+", r"\\d+", re.escape(words)).replace("…", ".*")
        while lines and not re.fullmatch(pattern, lines[0]):
            lines.pop(0)
        assert lines, f"{block.place}: `{shown}` was not printed, but:\n{printed}"
        lines.pop(0)


def _run(block: Block, command: list[str], folder: Path, variables: dict[str, str]) -> str:
    ended = subprocess.run(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{block.place}: {ended.stdout}"
    return ended.stdout


@contextlib.contextmanager
def _in_background(command: list[str], folder: Path, variables: dict[str, str]) -> Iterator[None]:
    with (folder / "background.log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(port: int) -> None:
    """Wait until something listens, as a reader would who goes to the next step when it says so."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens at port {port}"
            time.sleep(0.05)
        else:
            return
