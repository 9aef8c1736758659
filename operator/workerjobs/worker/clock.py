"""The database's clock, for decisions between statements."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from workerjobs.ports import JobStore

SAMPLES = 5
"""Answers that are waited for; the first one of a connection is slow."""


class DatabaseClock:
    """This machine's clock, corrected by its difference to the database's: due moments are the database's."""

    def __init__(self) -> None:
        self._offset = timedelta(0)
        self.epoch = time.time() - time.monotonic()
        """What to add to what a process of this machine reads from `time.monotonic`, for seconds since the epoch on the
        database's clock."""

    async def synchronise(self, store: JobStore) -> None:
        """Measure the difference by the quickest of some answers; half a round trip is its error."""
        quickest: timedelta | None = None
        for _ in range(SAMPLES):
            before = datetime.now(UTC)
            there = await store.now()
            took = datetime.now(UTC) - before
            if quickest is None or took < quickest:
                quickest = took
                self._offset = there - (before + took / 2)
        self.epoch = time.time() - time.monotonic() + self._offset.total_seconds()

    def now(self) -> datetime:
        """The moment on the database's clock."""
        return datetime.now(UTC) + self._offset
