"""What a job logged: on its page, and line by line while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from workerjobs.errors import NotFoundError
from workerjobs.ports.api import ApiStore
from workerjobs.ports.jobs import LogLine
from workerjobs.web.api import schemas
from workerjobs.web.api.stores import StoreOfRequest
from workerjobs.web.dashboard.rendering import HEADERS, pages_of

router = APIRouter()

PAGE = 200
LATE = timedelta(seconds=10)
"""A worker stores the last lines of a job a little after its end."""

After = Annotated[int, Query(ge=0, le=schemas.MAX_ID)]


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a job, and how to come by the ones after them."""

    lines: Sequence[LogLine]
    last: int
    """The last one's id."""
    has_more: bool
    is_followed: bool
    """More may come."""


async def read_lines(store: ApiStore, job_id: int, after: int, finished: datetime | None) -> Lines:
    """Read the lines after one."""
    lines = await store.job_logs(job_id, after, PAGE)
    return Lines(
        lines,
        lines[-1].id if lines else after,
        len(lines) == PAGE,
        finished is None or datetime.now(UTC) - finished < LATE,
    )


@router.get("/jobs/{jobId:int}/lines")
async def show_lines(
    job_id: Annotated[int, Path(alias="jobId", ge=1, le=schemas.MAX_ID)],
    request: Request,
    store: StoreOfRequest,
    after: After = 0,
) -> Response:
    """Show the lines after one, to a page that has those up to it; 204 where there are none yet."""
    job = await store.summary(job_id)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}")
    log = await read_lines(store, job_id, after, job.finished)
    if log.is_followed and not log.lines:
        return Response(status_code=204, headers=HEADERS)
    return pages_of(request).show(request, "lines.html", job=job, log=log)
