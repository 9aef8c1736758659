"""Results on their way from a child to its supervisor: memory that both share, and that outlives the child.

A tiny job takes less time than a message about its end: a child that has more to do puts results here, and rings over
its channel when it runs out of jobs or some milliseconds have passed. What it put here before it died is not lost.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading

SIZE = 1024 * 1024
"""Bytes of results that may be on their way; what does not fit goes over the channel."""
_COUNTERS = struct.Struct("=QQQ")
"""Bytes ever written, bytes ever read, results that went over the channel instead."""
_COUNTER = struct.Struct("=Q")
_READ_AT, _APART_AT = _COUNTER.size, 2 * _COUNTER.size


class Results:
    """A ring of bytes with one writer and one reader, each in a process of its own.

    Args:
        descriptor: Shared memory, made by `make_memory`; it stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _COUNTERS.size + SIZE)
        self._fence = threading.Lock()

    @property
    def written(self) -> int:
        """Bytes ever written."""
        count: int = _COUNTER.unpack_from(self._memory, 0)[0]
        return count

    @property
    def apart(self) -> int:
        """How many results went over the channel; what is written after one of them comes after it."""
        count: int = _COUNTER.unpack_from(self._memory, _APART_AT)[0]
        return count

    def goes_apart(self) -> None:
        """Note, before it is sent, that a result goes over the channel."""
        _COUNTER.pack_into(self._memory, _APART_AT, self.apart + 1)

    def take_all(self, apart: int | None) -> bytes:
        """Read everything, unless it may come after a result that the channel has not brought yet.

        Args:
            apart: How many results the channel has brought; None: all that it will.
        """
        # In this order: what is not counted as sent apart by now comes after all that was written up to here.
        written = self.written
        with self._fence:
            pass
        return self.take(written) if apart is None or self.apart == apart else b""

    def put(self, data: bytes) -> bool:
        """Write, all or nothing; False where there is no room now."""
        written, read, _ = _COUNTERS.unpack_from(self._memory, 0)
        if len(data) > SIZE - (written - read):
            return False
        start = written % SIZE
        first = min(len(data), SIZE - start)
        base = _COUNTERS.size
        self._memory[base + start : base + start + first] = data[:first]
        if first < len(data):
            self._memory[base : base + len(data) - first] = data[first:]
        # The reader must not see the count before the bytes, on any processor: a lock orders memory.
        with self._fence:
            pass
        _COUNTER.pack_into(self._memory, 0, written + len(data))
        return True

    def take(self, until: int) -> bytes:
        """Read what was written before a count of `written`."""
        read: int = _COUNTER.unpack_from(self._memory, _READ_AT)[0]
        with self._fence:
            pass
        size = until - read
        if size <= 0:
            return b""
        start = read % SIZE
        first = min(size, SIZE - start)
        base = _COUNTERS.size
        data = self._memory[base + start : base + start + first] + self._memory[base : base + size - first]
        _COUNTER.pack_into(self._memory, _READ_AT, until)
        return data

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


def make_memory() -> int:
    """Make the memory of one `Results`; returns its file descriptor."""
    descriptor = os.memfd_create("workerjobs-results", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _COUNTERS.size + SIZE)
    return descriptor
