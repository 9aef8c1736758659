"""The database's clock, for decisions between statements."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from workerjobs.ports.jobs import JobStore

SAMPLES = 5
"""The quickest of so many answers counts; the first one of a connection is slow."""

DRIFT = timedelta(milliseconds=5)
"""Clocks that nobody set may run apart by this, between a few looks, as time servers let them go slower or faster."""


@dataclass(frozen=True, slots=True)
class _Sample:
    offset: timedelta
    """The database's clock less this machine's."""
    error: timedelta
    """At most: half a round trip."""


class DatabaseClock:
    """This machine's clock, corrected by its difference to the database's: due moments are the database's."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES)
        self._offset = timedelta(0)
        self.epoch = time.time() - time.monotonic()
        """What to add to what a process of this machine reads from `time.monotonic`, for seconds since the epoch on the
        database's clock."""

    async def synchronise(self, store: JobStore, samples: int = SAMPLES) -> None:
        """Measure the difference, some times anew."""
        for _ in range(samples):
            # In this order: what passes between the two belongs to the round trip.
            began, before = time.monotonic(), datetime.now(UTC)
            there = await store.now()
            error = timedelta(seconds=time.monotonic() - began) / 2
            self._take(_Sample(there - (before + error), error))
        self._offset = min(self._samples, key=lambda sample: sample.error).offset
        self.epoch = time.time() - time.monotonic() + self._offset.total_seconds()

    def _take(self, sample: _Sample) -> None:
        if any(abs(sample.offset - earlier.offset) > sample.error + earlier.error + DRIFT for earlier in self._samples):
            # Both can't be right: one of the clocks was set.
            self._samples.clear()
        self._samples.append(sample)

    def now(self) -> datetime:
        """The moment on the database's clock."""
        return datetime.now(UTC) + self._offset
