"""What a job prints: read from its pipe and logged line by line, up to a limit."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger("workerjobs.output")

READ_BYTES = 64 * 1024
LINE_BYTES = 16 * 1024
"""Longer lines are logged in pieces."""
LIMIT_BYTES = 1024 * 1024
"""What one job may print into the log; the rest is read, counted and dropped."""
LINE_COST_BYTES = 256
"""What a line costs besides its text: its record carries moment, logger, job id, …"""


class Output:
    """The reading end of the pipe that is a child's standard output and standard error."""

    def __init__(self, descriptor: int, describe: Callable[[], Mapping[str, Any]]) -> None:
        self._descriptor = descriptor
        self._describe = describe
        self._rest = b""
        self._taken = 0
        self._dropped = 0
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def finish_job(self) -> None:
        """Log what the job printed last, and begin to count anew.

        A job's own output is in the pipe before its result is on the channel, so at most a pipe's worth is waiting.
        """
        for _ in range(32):
            if not self._read():
                break
        if self._rest:
            self._log_line(self._rest)
        if self._dropped:
            log.warning(
                "%s bytes of output were dropped: a job may fill %s bytes of the log, and each line counts %s more",
                self._dropped,
                LIMIT_BYTES,
                LINE_COST_BYTES,
                extra=self._describe(),
            )
        self._rest, self._taken, self._dropped = b"", 0, 0

    def close(self) -> None:
        """Stop reading."""
        if self._descriptor >= 0:
            self._stop_reading()
            os.close(self._descriptor)
            self._descriptor = -1

    def _stop_reading(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)

    def _read(self) -> bool:
        """Take one piece; False when there is none now."""
        if self._descriptor < 0:
            return False
        try:
            piece = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            self._stop_reading()
            return False
        if self._taken >= LIMIT_BYTES:
            self._dropped += len(piece)
            return True
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._log_line(line)
        while len(self._rest) > LINE_BYTES:
            self._log_line(self._rest[:LINE_BYTES])
            self._rest = self._rest[LINE_BYTES:]
        return True

    def _log_line(self, line: bytes) -> None:
        """Log a line in pieces, as far as the job may still fill the log; empty ones are counted and left out."""
        for start in range(0, len(line) or 1, LINE_BYTES):
            text = line[start : start + LINE_BYTES].decode(errors="backslashreplace").rstrip("\r")
            self._taken += len(text) + LINE_COST_BYTES
            if self._taken > LIMIT_BYTES:
                self._dropped += len(line) - start
                return
            if text:
                facts = self._describe()
                # Without a job it is the child itself that speaks, and then something is wrong.
                log.log(logging.INFO if facts else logging.ERROR, "%s", text, extra=facts)
