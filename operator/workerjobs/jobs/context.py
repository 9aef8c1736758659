"""What a running job is given beside its data."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workerjobs.ports import JobStore


def _no_progress(current: float, total: float | None, message: str | None) -> None:
    """Drop progress: nobody is looking."""


async def _no_store() -> JobStore:
    raise RuntimeError("this job runs without a database")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """The job at hand, as its function sees it."""

    job_id: int
    job_type: str
    attempt: int = 1
    """1 for the first run, 2 for the first retry, …"""
    user_id: int = 0
    """0 is the system."""
    tag: str | None = None
    fencing_token: int = 0
    """Grows with every run. A run whose worker was lost may still be going while the job runs again elsewhere: effects
    that must not happen twice can remember the highest token they saw and refuse lower ones."""
    database_url: str | None = None
    """The database that the job came from, for jobs that work on it."""
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("workerjobs.job"))
    """Its records carry the job's id, type and attempt."""
    report_progress: Callable[[float, float | None, str | None], None] = _no_progress
    open_store: Callable[[], Awaitable[JobStore]] = _no_store
    """Opens the table of jobs, for jobs that maintain it; the caller closes it."""

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the job is; what people see is at most half a second old.

        Args:
            current: Done so far, in any unit.
            total: All there is, in the same unit; None where that is unknown.
            message: What is being done, a few words.
        """
        self.report_progress(current, total, message)
