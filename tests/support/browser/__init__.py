"""A real browser: Debian's Chromium without a window, driven by playwright-core.

``python -m tests.support.browser`` installs both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.node import node
from tests.support.npm import NodeError
from tests.support.require import require_or_skip

FOLDER = Path(__file__).parent


def find_chromium() -> str | None:
    """The program's path."""
    return shutil.which("chromium")


class Page:
    """A page that is open in a browser."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def read(self) -> Any:
        """Read the next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the browser ended: {self._log.read_text()}"
        return json.loads(line)

    def ask(self, script: str) -> Any:
        """Evaluate JavaScript in the page, in one line; returns its value."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{script}\n")
        self._process.stdin.flush()
        return self.read()

    def act(self, script: str) -> Any:
        """Do something with playwright's ``page``, in JavaScript of one line; returns what it returns."""
        return self.ask(f"!{script}")

    @property
    def said(self) -> str:
        """What the page and the browser had to say against it so far."""
        return self._log.read_text()

    def wait_for(self, script: str, is_right: Callable[[Any], bool], *, seconds: float = 60) -> Any:
        """Evaluate it until its value is right."""
        deadline = time.monotonic() + seconds
        while not is_right(value := self.ask(script)):
            assert time.monotonic() < deadline, f"{script} is {value!r}; {self._log.read_text()}"
            time.sleep(0.05)
        return value


@contextmanager
def open_page(url: str) -> Iterator[Page]:
    """Open a page in a browser of its own until the end of the block."""
    chromium = find_chromium()
    if chromium is None:
        require_or_skip("chromium", "Chromium is not installed: as root, `python -m tests.support.browser`")
    try:
        program, environment = node(FOLDER)
    except NodeError as error:
        require_or_skip("chromium", f"what drives Chromium can't be had: {error}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workerjobs-chromium-")))
        log = folder / "log"
        process = subprocess.Popen(
            [program, str(FOLDER / "drive.cjs"), chromium, str(folder / "profile"), url],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stack.enter_context(log.open("w")),
            text=True,
        )
        with process:
            page = Page(process, log)
            try:
                page.read()
                yield page
            finally:
                assert process.stdin is not None
                # It closes the browser then.
                process.stdin.close()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
