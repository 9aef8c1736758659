"""Writes statuses to the API server: several at a time, one at a time per resource, and only the latest of each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from itertools import count

from workerjobs.errors import ClusterError, ClusterUnavailableError
from workerjobs.kube.reconcile import StatusWrite
from workerjobs.ports.cluster import Cluster

log = logging.getLogger(__name__)

WRITES_AT_ONCE = 8
"""More of them make the API server no faster (measured: 150/s with one, 320/s with 8 and with 16, two CPUs)."""
PROGRESS_SECONDS = 1.0
"""A resource's progress alone is written no more often than this."""
PASSING_SECONDS = 0.3
"""How long states wait that may soon be over: of a short run its end alone is written, as a write costs the API server
some 5 ms of a CPU."""
_PASSING_STATES = ("Pending", "Running")
_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)


class StatusWriter:
    """Takes statuses to write; a later one of the same resource replaces one that still waits.

    Args:
        cluster: The API.
        on_written: Told the uid and the resource's version after its status was written.
        on_lost: Told the uid of a resource whose status was refused, or that is gone: what it says now is not known.
    """

    def __init__(
        self, cluster: Cluster, on_written: Callable[[str, int], None], on_lost: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._on_written = on_written
        self._on_lost = on_lost
        self._waiting: dict[str, StatusWrite] = {}
        self._being_written: set[str] = set()
        self._written_at: dict[str, float] = {}
        # Entries are (rank, number, uid), of which any but the first of a uid finds nothing left to write.
        self._turns: asyncio.PriorityQueue[tuple[int, int, str]] = asyncio.PriorityQueue()
        self._numbers = count()
        self._failures = 0
        self._said = ""

    def put(self, write: StatusWrite) -> None:
        """Take a status."""
        if write.uid in self._waiting and self._waiting[write.uid].is_urgent and not write.is_urgent:
            # What waits differs in more than progress from what the API server has, and so does this.
            write = StatusWrite(write.uid, write.namespace, write.name, write.status, is_urgent=True)
        self._waiting[write.uid] = write
        if write.uid not in self._being_written:
            self._take_turn(write)

    @property
    def is_busy(self) -> bool:
        """Whether more wait than are written at once."""
        return len(self._waiting) > WRITES_AT_ONCE

    def forget(self, uid: str) -> None:
        """Drop what waits for a resource that is gone."""
        self._waiting.pop(uid, None)
        self._written_at.pop(uid, None)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITES_AT_ONCE):
                group.create_task(self._write_again_and_again())

    def _take_turn(self, write: StatusWrite) -> None:
        delay = 0.0
        if not write.is_urgent:
            delay = PROGRESS_SECONDS - (time.monotonic() - self._written_at.get(write.uid, 0.0))
        elif write.status.get("state") in _PASSING_STATES:
            delay = PASSING_SECONDS
        entry = (0 if write.is_urgent else 1, next(self._numbers), write.uid)
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, self._turns.put_nowait, entry)
        else:
            self._turns.put_nowait(entry)

    async def _write_again_and_again(self) -> None:
        while True:
            _, _, uid = await self._turns.get()
            if uid in self._being_written or (write := self._waiting.pop(uid, None)) is None:
                continue
            self._being_written.add(uid)
            try:
                await self._write(write)
            except Exception:
                log.exception("Writing the status of WorkerJob %s/%s failed", write.namespace, write.name)
                self._on_lost(uid)
            finally:
                self._being_written.discard(uid)
            if (newer := self._waiting.get(uid)) is not None:
                self._take_turn(newer)

    async def _write(self, write: StatusWrite) -> None:
        try:
            version = await self._cluster.write_status(write.namespace, write.name, write.uid, write.status)
        except ClusterUnavailableError as error:
            self._say(str(error))
            self._waiting.setdefault(write.uid, write)
            self._failures += 1
            await asyncio.sleep(_BACKOFF_SECONDS[min(self._failures // WRITES_AT_ONCE, len(_BACKOFF_SECONDS) - 1)])
        except ClusterError as error:
            self._say(str(error))
            self._on_lost(write.uid)
        else:
            self._failures, self._said = 0, ""
            if version is None:
                self._on_lost(write.uid)
            else:
                self._written_at[write.uid] = time.monotonic()
                self._on_written(write.uid, version)

    def _say(self, message: str) -> None:
        """Log a trouble when it begins or changes."""
        log.log(logging.DEBUG if message == self._said else logging.WARNING, "%s", message)
        self._said = message
