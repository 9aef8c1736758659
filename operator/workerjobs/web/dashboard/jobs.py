"""Jobs: the list, and one of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from workerjobs.domain.job import JobState
from workerjobs.ports.jobs import JobQuery
from workerjobs.web.api import schemas
from workerjobs.web.api.jobs import HISTORY, LEASE, JobId
from workerjobs.web.api.jobs import show_job as job_of_api
from workerjobs.web.api.stores import StoreOfRequest
from workerjobs.web.dashboard.actions import action_of
from workerjobs.web.dashboard.filters import read_filter
from workerjobs.web.dashboard.job_logs import Line, last_lines, lines_after
from workerjobs.web.dashboard.rendering import pages_of

router = APIRouter()

FILTERS = {
    "type": "Type",
    "tag": "Tag",
    "pool": "Pool",
    "userId": "User id",
    "namespace": "Namespace",
    "cronKey": "Cron job",
    "since": "Since",
    "until": "Until",
    "isLast": "Not run again",
}
"""What a list may be narrowed down by, beside the state, and what each is called."""
SHOWN_APART = frozenset(
    (
        "id",
        "state",
        "type",
        "data",
        "result",
        "progress",
        "due",
        "started",
        "finished",
        "created_at",
        "success",
        "history",
    )
)
"""Fields that a job's page shows in places of their own; of the others it lists those that say something."""


@router.get("/jobs")
async def list_jobs(request: Request, store: StoreOfRequest, q: Annotated[str, Query(max_length=500)] = "") -> Response:
    """List jobs, newest first, by what the URL says."""
    pages = pages_of(request)
    if (words := q.strip()) and words.removeprefix("#").isascii() and words.removeprefix("#").isdigit():
        return pages.go(f"/jobs/{words.removeprefix('#')}")
    if words:
        return pages.go("/jobs", type=words)
    query = read_filter(request.query_params)
    found = await store.page(JobQuery(**query.model_dump()))
    queues = await store.queues()
    filters = {name: value for name in FILTERS if (value := request.query_params.get(name))}
    return pages.show(
        request,
        "jobs.html",
        area="jobs",
        jobs=found.jobs,
        next=found.before,
        query=query,
        state=",".join(query.states),
        action=action_of(query.states),
        filters=filters,
        conditions=[
            (
                FILTERS[name],
                "yes" if (name, value) == ("isLast", "true") else value,
                {other: filters[other] for other in filters if other != name},
            )
            for name, value in filters.items()
        ],
        states=list(JobState),
        counts={
            "pending": sum(each.waiting + each.later for each in queues),
            "running": sum(each.running for each in queues),
        },
        types=sorted({each.type for each in queues} | {each.type for each in await store.job_types(LEASE)}),
        pools=sorted({each.pool for each in queues} | {each.pool for each in await store.workers(LEASE)}),
    )


@router.get("/jobs/{jobId:int}")
async def show_job(job_id: JobId, request: Request, store: StoreOfRequest, after: Line | None = None) -> Response:
    """Show a job with all that is known of it."""
    found = await job_of_api(job_id, store)
    if after is None:
        log = await last_lines(store, job_id, found.finished)
    else:
        log = await lines_after(store, job_id, after, found.finished)
    worker = next((each for each in await store.workers(LEASE) if each.owner == found.lease_owner), None)
    return pages_of(request).show(
        request,
        "job.html",
        area="jobs",
        job=found,
        history=found.history,
        worker=worker,
        fields=_fields(found),
        error=_error(found),
        is_full=len(found.history) > HISTORY,
        log=log,
        after=after,
    )


def _fields(job: schemas.JobWithHistory) -> list[tuple[str, Any]]:
    """The fields that say something, by the table's names."""
    return [
        (field.alias or name, value)
        for name, field in schemas.JobWithHistory.model_fields.items()
        if name not in SHOWN_APART and (value := getattr(job, name)) not in (None, False, 0, [], {})
    ]


def _error(job: schemas.JobWithHistory) -> str | None:
    """The error of a job that failed or was cancelled."""
    if job.success is not False or not isinstance(job.result, dict) or "error" not in job.result:
        return None
    return str(job.result["error"])
