"""What a running job says beside its result, on its way to the supervisor: progress and log records."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable

import msgspec

from workerjobs.worker.failures import storable
from workerjobs.worker.messages import Logged, Reported

PROGRESS_SECONDS = 0.25
"""Progress is sent this often at most; the row is written twice a second."""


class ProgressSender:
    """Sends a job's progress, not too often, and never forgets the last one."""

    def __init__(self, job_id: int, send: Callable[[msgspec.Struct], None]) -> None:
        self._job_id = job_id
        self._send = send
        self._sent_at = -math.inf
        self._unsent: str | None = None

    def report(self, progress_json: str) -> None:
        """Take what the job reports; sent now, or with what comes later."""
        self._unsent = progress_json
        if time.monotonic() - self._sent_at >= PROGRESS_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what was not sent yet."""
        if self._unsent is not None:
            self._send(Reported(self._job_id, self._unsent))
            self._sent_at, self._unsent = time.monotonic(), None


class ChannelHandler(logging.Handler):
    """Hands log records to the supervisor, which adds the job's id, type and attempt."""

    def __init__(self, send: Callable[[msgspec.Struct], None]) -> None:
        super().__init__()
        self._send_message = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
            self._send_message(Logged(record.name, record.levelno, storable(record.getMessage()), storable(trace)))
        except Exception:  # noqa: BLE001  # as every logging.Handler does
            self.handleError(record)
