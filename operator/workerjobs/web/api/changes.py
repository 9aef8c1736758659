"""Changes of the queue, as they are told to those who listen.

The database announces new jobs, cancelling, pauses and workers' orders. How runs begin and end it does not announce, as
that would cost every run something: while somebody listens, the table is looked at after each announcement and once a
second, for running jobs, new ones, and those that were seen unfinished. All listeners share these looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from workerjobs.domain.job import JobState
from workerjobs.errors import WorkerJobsError
from workerjobs.ports.api import JobSummary
from workerjobs.ports.notices import Notice, NoticeSource, Reconnected, ResourceNotice, SettingsNotice, WorkerNotice
from workerjobs.web.api.stores import Stores

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
SHORTEST_SECONDS = 0.2
"""Announcements that come closer together lead to one look."""
QUEUE = 2_000
"""Changes that wait for a slow listener; with more, it is sent away."""
KNOWN = 2_000
"""Unfinished jobs that are followed; the newest ones."""


@dataclass(frozen=True, slots=True)
class Change:
    """What listeners are told: a job as it is now, or that something else changed."""

    kind: str
    """job, pauses, workers, resources; reset at the beginning and where changes may have been missed."""
    job: JobSummary | None = None


class TooManyListeningError(Exception):
    """No further listener is taken for now."""


@dataclass(eq=False)
class Listening:
    """One who listens."""

    is_told: bool
    queue: asyncio.Queue[Change | None] = field(default_factory=lambda: asyncio.Queue(QUEUE))


def changed_jobs(before: Mapping[int, JobSummary], seen: Sequence[JobSummary]) -> list[JobSummary]:
    """Tell which jobs are not as they were."""
    return [job for job in seen if _shown(job) != _shown(before.get(job.id))]


def followed(seen: Sequence[JobSummary]) -> dict[int, JobSummary]:
    """Choose the jobs that are looked at again: the newest unfinished ones."""
    unfinished = [job for job in seen if job.finished is None]
    return {job.id: job for job in unfinished[-KNOWN:]}


def _shown(job: JobSummary | None) -> object:
    return None if job is None else (job.state, job.cancel_requested, job.progress, job.due, job.priority, job.pool)


class Changes:
    """Tells listeners; does nothing while there are none.

    Args:
        stores: Where jobs are read.
        notices: What the database announces.
        limit: Listeners at once.
    """

    def __init__(self, stores: Stores, notices: NoticeSource, *, limit: int) -> None:
        self._stores = stores
        self._notices = notices
        self._limit = limit
        self._listeners: set[Listening] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted = asyncio.Event()
        self._based = asyncio.Event()
        """Set once it is known which jobs are old."""
        self._is_live = False
        """Whatever changes from now on is told."""
        self._is_closed = False

    @property
    def count(self) -> int:
        """Listeners now."""
        return len(self._listeners)

    @contextmanager
    def place(self, *, is_told: bool = True) -> Iterator[Listening]:
        """Take a listener's place.

        Args:
            is_told: False: it looks for itself, and only has to hear of the end.

        Raises:
            TooManyListeningError: There is none.
        """
        if self._is_closed or len(self._listeners) >= self._limit:
            raise TooManyListeningError
        listener = Listening(is_told)
        self._listeners.add(listener)
        if is_told and self._is_live:
            listener.queue.put_nowait(Change("reset"))
        if is_told and not self._tasks:
            self._tasks = [
                asyncio.create_task(self._look(), name="changes"),
                asyncio.create_task(self._hear(), name="announcements"),
            ]
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not any(each.is_told for each in self._listeners):
                self._stop()

    async def told(self, listener: Listening, pause_seconds: float) -> AsyncIterator[Change | None]:
        """Yield changes until the end, and None whenever there were none for so long."""
        while True:
            try:
                async with asyncio.timeout(pause_seconds):
                    change = await listener.queue.get()
            except TimeoutError:
                yield None
                continue
            if change is None:
                return
            yield change

    def close(self) -> None:
        """End all connections, and take no more."""
        self._is_closed = True
        for listener in self._listeners:
            _end(listener)
        self._stop()

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._based.clear()
        self._is_live = False

    async def _hear(self) -> None:
        async for notice in self._notices.notices():
            await self._based.wait()
            self._is_live = True
            self._wanted.set()
            if (kind := _kind(notice)) is not None:
                self._tell([Change(kind)])

    async def _look(self) -> None:
        last: int | None = None
        known: dict[int, JobSummary] = {}
        while True:
            self._wanted.clear()
            try:
                async with self._stores.borrow() as store:
                    if last is None:
                        last = await store.newest_id()
                    seen = await store.seen(list(known), last)
                self._tell([Change("job", job) for job in changed_jobs(known, seen)])
                known = followed(seen)
                last = max([last, *(job.id for job in seen)])
                self._based.set()
            except WorkerJobsError as error:
                log.warning("Changes can't be told now: %s", error)
                self._tell([Change("reset")])
            await asyncio.sleep(SHORTEST_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS - SHORTEST_SECONDS):
                    await self._wanted.wait()

    def _tell(self, changes: Sequence[Change]) -> None:
        for listener in [each for each in self._listeners if each.is_told]:
            if listener.queue.qsize() + len(changes) > QUEUE:
                _end(listener)
                continue
            for change in changes:
                listener.queue.put_nowait(change)


def _end(listener: Listening) -> None:
    """Let a listener go: what waits for it is dropped, as it reads anew when it is back."""
    while not listener.queue.empty():
        listener.queue.get_nowait()
    listener.queue.put_nowait(None)


def _kind(notice: Notice) -> str | None:
    match notice:
        case SettingsNotice():
            return "pauses"
        case WorkerNotice():
            return "workers"
        case ResourceNotice():
            return "resources"
        case Reconnected():
            return "reset"
        case _:
            # The look tells which job it is.
            return None


def is_over(job: JobSummary) -> bool:
    """Whether nothing more will be told of a job."""
    return JobState(job.state).is_final
