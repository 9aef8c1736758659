"""Changing a job that waits: when it is due, its priority, its pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Annotated

from fastapi import APIRouter, Form, Request
from pydantic import ValidationError
from starlette.responses import Response

from workerjobs.errors import InvalidInputError
from workerjobs.ports.api import ApiStore
from workerjobs.web.api import jobs, schemas
from workerjobs.web.api.jobs import LEASE, JobId
from workerjobs.web.api.stores import ChangeOfRequest, StoreOfRequest
from workerjobs.web.dashboard.notices import Did
from workerjobs.web.dashboard.rendering import pages_of

router = APIRouter()

Text = Annotated[str, Form(max_length=300)]


@router.get("/jobs/{jobId:int}/change")
async def ask(job_id: JobId, request: Request, store: StoreOfRequest) -> Response:
    """Ask what is to be changed of a job."""
    job = await jobs.show_job(job_id, store)
    return await _form(request, store, job, _shown(job), [])


@router.post("/jobs/{jobId:int}/change")
async def change(
    job_id: JobId,
    request: Request,
    change: ChangeOfRequest,
    due: Annotated[str | None, Form(max_length=300)] = None,
    priority: Text = "",
    pool: Text = "",
) -> Response:
    """Change what is not as it was shown."""
    job = await jobs.show_job(job_id, change.store)
    shown = _shown(job)
    given = {"due": shown["due"] if due is None else due.strip(), "priority": priority.strip(), "pool": pool.strip()}
    try:
        wanted = read_change({name: text for name, text in given.items() if text != shown[name]})
        if wanted.model_fields_set:
            await jobs.change_job(job_id, wanted, change)
    except InvalidInputError as error:
        return await _form(request, change.store, job, given, error.problems)
    return pages_of(request).go(f"/jobs/{job_id}", did=Did.CHANGE if wanted.model_fields_set else None)


def read_change(given: Mapping[str, str]) -> schemas.JobChange:
    """Read what somebody wrote into a form; an empty ``due`` is now.

    >>> read_change({"due": "", "priority": "7"}).model_dump(exclude_unset=True)
    {'due': None, 'priority': 7}

    Raises:
        InvalidInputError: With each problem.
    """
    values: dict[str, object] = dict(given)
    if "due" in values:
        values["due"] = given["due"] or None
    if "priority" in values:
        try:
            values["priority"] = int(given["priority"])
        except ValueError:
            raise InvalidInputError(f"priority is {given['priority']!r}: give a whole number") from None
    try:
        return schemas.JobChange.model_validate(values)
    except ValidationError as error:
        raise InvalidInputError([f"{each['loc'][0]}: {each['msg']}" for each in error.errors()]) from None


def _shown(job: schemas.Job) -> dict[str, str]:
    return {
        "due": f"{job.due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "priority": str(job.priority),
        "pool": job.pool,
    }


async def _form(
    request: Request, store: ApiStore, job: schemas.Job, given: Mapping[str, str], problems: Sequence[str]
) -> Response:
    return pages_of(request).show(
        request,
        "change.html",
        422 if problems else 200,
        area="jobs",
        job=job,
        given=given,
        problems=problems,
        pools=sorted({each.pool for each in await store.workers(LEASE)} | {job.pool}),
    )
