"""Sizing: as many children as have work, between one and as many as there may be (WORKER_COUNT=auto)."""

from __future__ import annotations

import asyncio

from workerjobs.worker.children import Children
from workerjobs.worker.duty import Duty
from workerjobs.worker.process import ChildState

EVERY_SECONDS = 0.5
SPARE_SECONDS = 30.0
"""A child that had nothing to do for so long, because the others were enough, is ended."""


class Sizing(Duty):
    """Adds a child when all are busy, and ends one when some were spare for a while.

    Args:
        children: Who they are.
        most: How many there may be.
    """

    def __init__(self, children: Children, most: int) -> None:
        super().__init__()
        self._children = children
        self._most = most
        self._spare_since: float | None = None

    async def step(self) -> float | None:
        """Look once."""
        now = asyncio.get_running_loop().time()
        count = self._children.count
        if self._children.count_of(ChildState.BUSY) >= count:
            self._spare_since = None
            if count < self._most:
                await self._children.add()
        elif count > 1:
            if self._spare_since is None:
                self._spare_since = now
            if now - self._spare_since >= SPARE_SECONDS and self._children.remove_idle():
                self._spare_since = now
        return EVERY_SECONDS
