"""What a job logged: the last lines on its page, those before them when asked for, and line by line while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from workerjobs.errors import NotFoundError
from workerjobs.ports.api import ApiStore
from workerjobs.ports.jobs import LogLine
from workerjobs.web.api import schemas
from workerjobs.web.api.jobs import JobId
from workerjobs.web.api.stores import StoreOfRequest
from workerjobs.web.dashboard.rendering import HEADERS, pages_of

router = APIRouter()

PAGE = 200
LATE = timedelta(seconds=10)
"""A worker stores the last lines of a job a little after its end."""

Line = Annotated[int, Query(ge=0, le=schemas.MAX_ID)]


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a job, and how to come by those before and after them."""

    lines: Sequence[LogLine]
    first: int
    """The first one's id."""
    last: int
    """The last one's id."""
    has_earlier: bool
    """There may be earlier ones, which are to be offered."""
    has_more: bool
    """There may be later ones already."""
    is_followed: bool
    """More may come."""


async def lines_after(store: ApiStore, job_id: int, after: int, finished: datetime | None) -> Lines:
    """Read the lines after one."""
    lines = await store.job_logs(job_id, after, PAGE)
    last = lines[-1].id if lines else after
    return Lines(lines, after, last, has_earlier=False, has_more=len(lines) == PAGE, is_followed=_is_followed(finished))


async def lines_before(store: ApiStore, job_id: int, before: int) -> Lines:
    """Read the lines before one."""
    lines = await store.last_job_logs(job_id, before, PAGE)
    first, last = (lines[0].id, lines[-1].id) if lines else (0, 0)
    return Lines(lines, first, last, has_earlier=len(lines) == PAGE, has_more=False, is_followed=False)


async def last_lines(store: ApiStore, job_id: int, finished: datetime | None) -> Lines:
    """Read the last lines, which most people look for."""
    return replace(await lines_before(store, job_id, schemas.MAX_ID), is_followed=_is_followed(finished))


def _is_followed(finished: datetime | None) -> bool:
    return finished is None or datetime.now(UTC) - finished < LATE


@router.get("/jobs/{jobId:int}/lines")
async def show_lines(
    job_id: JobId,
    request: Request,
    store: StoreOfRequest,
    after: Line = 0,
    before: Line | None = None,
) -> Response:
    """Show the lines after one, or before one, to a page that has the others; 204 where there are none yet."""
    job = await store.summary(job_id)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}")
    if before is not None:
        log = await lines_before(store, job_id, before)
    else:
        log = await lines_after(store, job_id, after, job.finished)
    if log.is_followed and not log.lines:
        return Response(status_code=204, headers=HEADERS)
    return pages_of(request).show(request, "lines.html", job=job, log=log)
