"""What the supervisor's background duties have in common."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod

from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError

log = logging.getLogger(__name__)

DATABASE_RETRY_SECONDS = 1.0
STOP_SECONDS = 30.0


class Duty(ABC):
    """Something done again and again: every so often, or when woken."""

    def __init__(self) -> None:
        self._awake = asyncio.Event()
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        self._is_troubled = False

    @abstractmethod
    async def step(self) -> float | None:
        """Do it once; returns seconds until the next time, or None to wait until woken."""

    def start(self) -> None:
        """Begin; the first step comes at once."""
        self._task = asyncio.create_task(self._run(), name=type(self).__name__)

    def wake(self) -> None:
        """Make the next step come now."""
        self._awake.set()

    @property
    def is_troubled(self) -> bool:
        """The last step found no database."""
        return self._is_troubled

    async def stop(self) -> None:
        """End after the step that is under way: one broken off could leave leases that nobody knows of."""
        self._is_stopping = True
        self.wake()
        if self._task is not None:
            _, pending = await asyncio.wait({self._task}, timeout=STOP_SECONDS)
            if pending:
                self._task.cancel()
                await asyncio.wait({self._task})

    async def _run(self) -> None:
        while not self._is_stopping:
            self._awake.clear()
            try:
                delay = await self.step()
                if self._is_troubled:
                    log.info("%s works again", type(self).__name__)
                self._is_troubled = False
            except (DatabaseUnavailableError, DatabaseRefusedError) as error:
                # Said once; running jobs go on, and what they return is kept until the database is back.
                log.log(logging.DEBUG if self._is_troubled else logging.WARNING, "%s", error)
                self._is_troubled = True
                delay = DATABASE_RETRY_SECONDS
            except Exception:
                # A defect in one duty must not end the jobs that are running.
                log.exception("%s failed", type(self).__name__)
                delay = 5 * DATABASE_RETRY_SECONDS
            if not self._is_stopping and not self._awake.is_set():
                # Not wait_for, which makes a task of what it waits for, in each step of a busy worker.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._awake.wait()
