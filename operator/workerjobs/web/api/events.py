"""Changes as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from workerjobs.errors import DatabaseUnavailableError, NotFoundError
from workerjobs.ports.api import JobSummary
from workerjobs.web.api import schemas
from workerjobs.web.api.changes import Change, Changes, Listening, TooManyListeningError, is_over
from workerjobs.web.api.jobs import JobId
from workerjobs.web.api.problems import ProblemError
from workerjobs.web.api.stores import Stores

router = APIRouter(tags=["events"])

KEEPALIVE_SECONDS = 15.0
"""A quiet connection is used that often, so that nothing between takes it for dead."""
RETRY_MS = 1_000
LOOK_SECONDS = 0.5

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events, until the client leaves.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


class EventStream(StreamingResponse):
    """A response that gives its place back however it ends, also before its first byte."""

    media_type = "text/event-stream"

    def __init__(self, place: ExitStack, content: AsyncIterator[str]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and give the place back."""
        with self._place:
            await super().__call__(scope, receive, send)


@router.get("/events", summary="Changes as they happen", response_class=StreamingResponse, responses=STREAM)
async def listen(request: Request) -> EventStream:
    """Tell of changes: `job` with a job as `GET /jobs` shows it; `pauses`, `workers`, `resources` without more.

    `reset` comes first, and again where changes may have been missed: whatever is read after it is up to date, and what
    changes then is told. The table is looked at once a second and whenever
    something is announced; a job that was pending before and that starts and ends between two looks is not told.
    """
    changes: Changes = request.app.state.changes
    place, listener = _place(changes)

    async def send() -> AsyncIterator[str]:
        yield f"retry: {RETRY_MS}\n\n"
        async for change in changes.told(listener, KEEPALIVE_SECONDS):
            yield ": still here\n\n" if change is None else _event(change)

    return EventStream(place, send())


@router.get("/jobs/{jobId:int}/events", summary="Follow a job", response_class=StreamingResponse, responses=STREAM)
async def follow_job(job_id: JobId, request: Request) -> EventStream:
    """Tell of each change of a job, `job` each time with the job as `GET /jobs` shows it, until it is finished."""
    stores: Stores = request.app.state.stores
    if await _read(stores, job_id) is None:
        raise NotFoundError(f"There is no job {job_id}")
    place, listener = _place(request.app.state.changes, is_told=False)

    async def send() -> AsyncIterator[str]:
        last: JobSummary | None = None
        quiet = 0.0
        while listener.queue.empty():
            try:
                job = await _read(stores, job_id)
            except DatabaseUnavailableError:
                return
            if job is None:
                return
            quiet += LOOK_SECONDS
            if job != last:
                yield _event(Change("job", job))
                quiet = 0
            elif quiet >= KEEPALIVE_SECONDS:
                yield ": still here\n\n"
                quiet = 0
            if is_over(job):
                return
            last = job
            await asyncio.sleep(LOOK_SECONDS)

    return EventStream(place, send())


def _place(changes: Changes, *, is_told: bool = True) -> tuple[ExitStack, Listening]:
    place = ExitStack()
    try:
        return place, place.enter_context(changes.place(is_told=is_told))
    except TooManyListeningError:
        raise ProblemError(503, "Too many connections listen: try again later", headers={"Retry-After": "5"}) from None


async def _read(stores: Stores, job_id: int) -> JobSummary | None:
    async with stores.borrow() as store:
        return await store.summary(job_id)


def _event(change: Change) -> str:
    data = "{}"
    if change.job is not None:
        data = schemas.JobSummary.model_validate(change.job).model_dump_json(by_alias=True)
    # One line, as JSON escapes line ends.
    return f"event: {change.kind}\ndata: {data}\n\n"
