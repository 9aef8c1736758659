"""Keeping what jobs log: lines of the worker's log that are about a job go into the tables too, up to a limit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice

from workerjobs.errors import WorkerJobsError
from workerjobs.ports.jobs import JobStore, LogLine
from workerjobs.worker.duty import Duty

EVERY_SECONDS = 0.5
"""How often lines are stored while there are some."""
BYTES = 256 * 1024
"""Of one job; each line counts some more, for its row."""
LINE_COST_BYTES = 64
MESSAGE_CHARACTERS = 16 * 1024
WAITING, WAITING_BYTES = 20_000, 16 * 1024 * 1024
"""Lines that wait for a database that is away, and what they have together; the oldest go first."""
BATCH = 2_000
"""Lines a statement, at most."""
JOBS_OWN = ("workerjobs.job.", "workerjobs.output")
"""Loggers of what jobs say; what the worker says of a job is kept from warnings on."""
_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"), (logging.DEBUG, "debug"))


class LogKeeping(Duty):
    """Stores lines in batches; a job that logs nothing costs nothing.

    Args:
        store: Where they go.
        lines: So many of a job; 0: none are kept.
        holds: Whether this worker runs a job: others of this process have their own.
    """

    def __init__(self, store: JobStore, lines: int, holds: Callable[[int], bool]) -> None:
        super().__init__()
        self._store = store
        self._lines = lines
        self._holds = holds
        self._waiting: deque[LogLine] = deque()
        self._waiting_bytes = 0
        self._left: defaultdict[int, list[int]] = defaultdict(lambda: [lines, BYTES])
        """Of each job: lines and bytes that may still be kept."""
        self._is_idle = False
        self._handler = _Handler(self._take)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """See `Duty.start`."""
        self._loop = asyncio.get_running_loop()
        if self._lines:
            logging.getLogger("workerjobs").addHandler(self._handler)
        super().start()

    async def step(self) -> float | None:
        """Store what was logged."""
        with self._handler.lock or contextlib.nullcontext():
            for job_id in [each for each in self._left if not self._holds(each)]:
                del self._left[job_id]
            self._is_idle = not self._waiting
            if self._is_idle:
                return None
        while batch := [*islice(self._waiting, BATCH)]:
            await self._store.save_logs(batch)
            with self._handler.lock or contextlib.nullcontext():
                # Others may have come, and the oldest of these gone, while the database was asked.
                for line in batch:
                    if self._waiting and self._waiting[0] is line:
                        self._drop_oldest()
        return EVERY_SECONDS

    async def stop(self) -> None:
        """Store what is left, and end."""
        logging.getLogger("workerjobs").removeHandler(self._handler)
        await super().stop()
        with contextlib.suppress(WorkerJobsError):
            await self.step()

    def _take(self, job_id: int, record: logging.LogRecord) -> None:
        """Take a line; of any thread, under the handler's lock."""
        if not self._holds(job_id) or (left := self._left[job_id])[0] < 0:
            return
        message = record.getMessage()[:MESSAGE_CHARACTERS].replace("\0", "\ufffd")
        message = message.encode(errors="backslashreplace").decode()
        left[0] -= 1
        left[1] -= _bytes_of(message)
        if left[0] < 0 or left[1] < 0:
            left[0] = -1
            message = "More lines are in the worker's log alone"
        level = next((name for number, name in _LEVELS if record.levelno >= number), "trace")
        self._waiting.append(LogLine(job_id, datetime.fromtimestamp(record.created, UTC), level, message))
        self._waiting_bytes += _bytes_of(message)
        while len(self._waiting) > WAITING or self._waiting_bytes > WAITING_BYTES:
            self._drop_oldest()
        if self._is_idle and self._loop is not None:
            self._is_idle = False
            # Some records are of other threads.
            self._loop.call_soon_threadsafe(self.wake)

    def _drop_oldest(self) -> None:
        self._waiting_bytes -= _bytes_of(self._waiting.popleft().message)


def _bytes_of(message: str) -> int:
    return len(message) + LINE_COST_BYTES


class _Handler(logging.Handler):
    """Passes on records about jobs."""

    def __init__(self, take: Callable[[int, logging.LogRecord], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        job_id = getattr(record, "job_id", None)
        if isinstance(job_id, int) and (record.levelno >= logging.WARNING or record.name.startswith(JOBS_OWN)):
            try:
                self._take(job_id, record)
            except Exception:  # noqa: BLE001  # as every logging.Handler does
                self.handleError(record)
