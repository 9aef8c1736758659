"""What jobs print: read from their child's pipe and logged line by line, up to a limit for each job.

A child that runs jobs one after another without waiting for its supervisor writes a mark between what two of them
print, so that every line is logged with its own job, however late it is read.
"""

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
_MARK = b"\0workerjobs:job="


def mark(job_id: int) -> bytes:
    """What a child writes before a job that it begins right after another one."""
    return b"%s%d\n" % (_MARK, job_id)


class Output:
    """The reading end of the pipe that is a child's standard output and standard error.

    Args:
        descriptor: The pipe; closed by `close`.
        describe: What log records about a job carry; None: no job.
    """

    def __init__(self, descriptor: int, describe: Callable[[int | None], Mapping[str, Any]]) -> None:
        self._descriptor = descriptor
        self._describe = describe
        self._job_id: int | None = None
        self._rest = b""
        self._taken = 0
        self._dropped = 0
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def begin(self, job_id: int) -> None:
        """An idle child gets a job: what comes from now on is its output."""
        self._end_job()
        self._job_id = job_id

    def drain(self) -> None:
        """Log what is in the pipe: what a job printed is in it before its result is on the channel.

        At most a pipe's worth is waiting.
        """
        for _ in range(32):
            if not self._read():
                break

    def finish(self) -> None:
        """The child has nothing left to do: log what its last job printed last."""
        self._end_job()
        self._job_id = None

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
        if b"\0" not in piece and b"\0" not in self._rest:
            self._take(piece)
            return True
        text, *marked = (self._rest + piece).split(_MARK)
        self._rest = b""
        if not marked:
            self._take(text)
            return True
        self._take(text)
        for part in marked:
            number, newline, text = part.partition(b"\n")
            if not newline:
                # The rest of the mark is still to come. Before it may be a line without an end.
                self._rest += _MARK + number
                break
            self._end_job()
            self._job_id = int(number) if number.isdigit() else None
            self._take(text)
        return True

    def _take(self, piece: bytes) -> None:
        """Log the complete lines of what one job printed, and keep the rest."""
        if self._taken >= LIMIT_BYTES:
            # The beginning of a mark that was cut in two is kept; anything else is only counted.
            start = _start_of_mark(piece)
            self._dropped += start
            self._rest = piece[start:]
            return
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._log_line(line)
        while len(self._rest) > LINE_BYTES:
            # Not through the beginning of a mark whose rest is still to come.
            end = min(LINE_BYTES, _start_of_mark(self._rest))
            self._log_line(self._rest[:end])
            self._rest = self._rest[end:]

    def _end_job(self) -> None:
        if self._rest:
            self._log_line(self._rest)
        if self._dropped:
            log.warning(
                "%s bytes of output were dropped: a job may fill %s bytes of the log, and each line counts %s more",
                self._dropped,
                LIMIT_BYTES,
                LINE_COST_BYTES,
                extra=self._describe(self._job_id),
            )
        self._rest, self._taken, self._dropped = b"", 0, 0

    def _log_line(self, line: bytes) -> None:
        """Log a line in pieces, as far as the job may still fill the log; empty ones are counted and left out."""
        for start in range(0, len(line) or 1, LINE_BYTES):
            text = line[start : start + LINE_BYTES].decode(errors="backslashreplace").rstrip("\r")
            self._taken += len(text) + LINE_COST_BYTES
            if self._taken > LIMIT_BYTES:
                self._dropped += len(line) - start
                return
            if text:
                facts = self._describe(self._job_id)
                # Without a job it is the child itself that speaks, and then something is wrong.
                log.log(logging.INFO if facts else logging.ERROR, "%s", text, extra=facts)


def _start_of_mark(piece: bytes) -> int:
    """Where a mark begins that may be cut off at the end; the length where there is none."""
    start = piece.rfind(b"\0", -len(_MARK))
    return start if start >= 0 and _MARK.startswith(piece[start:]) else len(piece)
