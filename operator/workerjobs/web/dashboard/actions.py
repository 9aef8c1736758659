"""What people can do, each with a page that asks first and says what will happen; the API's use cases do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from starlette.responses import Response

from workerjobs.domain.job import JobState
from workerjobs.domain.limits import PauseKind
from workerjobs.web.api import jobs, pools, schemas
from workerjobs.web.api.stores import ChangeOfRequest, StoreOfRequest
from workerjobs.web.dashboard.notices import Did
from workerjobs.web.dashboard.rendering import Pages, pages_of

router = APIRouter()

MOST_SELECTED = 500
USUAL_REASON = "Job cancelled in the dashboard"

JobId = Annotated[int, Path(alias="jobId", ge=1, le=schemas.MAX_ID)]
Ids = Annotated[list[schemas.Id], Query(min_length=1, max_length=MOST_SELECTED)]
FormIds = Annotated[list[schemas.Id], Form(min_length=1, max_length=MOST_SELECTED)]
Name = Annotated[str, Form(min_length=1, max_length=200)]
GivenReason = Annotated[str, Form(max_length=500)]


class Action(StrEnum):
    """What can be done to a job."""

    CANCEL = "cancel"
    RETRY = "retry"
    RERUN = "rerun"


class SomeAction(StrEnum):
    """What can be done to several at once."""

    CANCEL = "cancel"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before something is done."""

    title: str
    text: str
    button: str
    to: str
    """Where the answer goes."""
    back: str
    is_dangerous: bool = False
    takes_reason: bool = False
    fields: Mapping[str, str | list[int]] | None = None


def _cancel(job: schemas.Job) -> Question:
    if job.state is JobState.RUNNING:
        text = "Its worker tells it to stop, and ends its process 5 seconds later if it did not."
    elif job.cron_schedule is not None:
        text = f"It is the pending run of a cron job ({job.cron_schedule}): cancelled, the cron job ends with it."
    else:
        text = "It will not start. It can be run again later."
    return _question(job, "Cancel", text, Action.CANCEL, is_dangerous=True, takes_reason=True)


def _retry(job: schemas.Job) -> Question:
    return _question(job, "Retry", "It runs again now, as a new job with the same data.", Action.RETRY)


def _rerun(job: schemas.Job) -> Question:
    text = "It runs once more now, as a new job with the same data. Whatever it does is done again."
    return _question(job, "Run again", text, Action.RERUN)


def _question(
    job: schemas.Job, verb: str, text: str, action: Action, *, is_dangerous: bool = False, takes_reason: bool = False
) -> Question:
    return Question(
        f"{verb}: job {job.id}, {job.type}?",
        text,
        f"{verb} job {job.id}",
        f"/jobs/{job.id}/{action}",
        f"/jobs/{job.id}",
        is_dangerous,
        takes_reason,
    )


_QUESTIONS: Mapping[Action, Callable[[schemas.Job], Question]] = {
    Action.CANCEL: _cancel,
    Action.RETRY: _retry,
    Action.RERUN: _rerun,
}


def _ask(pages: Pages, request: Request, area: str, question: Question) -> Response:
    return pages.show(request, "confirm.html", area=area, question=question)


@router.get("/jobs/{jobId:int}/{action}")
async def ask(job_id: JobId, action: Action, request: Request, store: StoreOfRequest) -> Response:
    """Ask whether something is to be done to a job."""
    return _ask(pages_of(request), request, "jobs", _QUESTIONS[action](await jobs.show_job(job_id, store)))


@router.post("/jobs/{jobId:int}/cancel")
async def cancel(job_id: JobId, request: Request, change: ChangeOfRequest, reason: GivenReason = "") -> Response:
    """Cancel a job."""
    done = await jobs.cancel_job(job_id, change, schemas.CancelJob(reason=reason.strip() or USUAL_REASON))
    did = Did.CANCEL if done.state is JobState.CANCELLED else Did.STOP
    return pages_of(request).go(f"/jobs/{job_id}", did=did, job=job_id)


@router.post("/jobs/{jobId:int}/retry")
async def retry(job_id: JobId, request: Request, change: ChangeOfRequest) -> Response:
    """Run a job again that did not succeed."""
    new = await jobs.retry_job(job_id, change, Response())
    return pages_of(request).go(f"/jobs/{new.id}", did=Did.AGAIN, job=new.id)


@router.post("/jobs/{jobId:int}/rerun")
async def rerun(job_id: JobId, request: Request, change: ChangeOfRequest) -> Response:
    """Run a job again, however it ended."""
    new = await jobs.rerun_job(job_id, change, Response())
    return pages_of(request).go(f"/jobs/{new.id}", did=Did.AGAIN, job=new.id)


@router.get("/jobs/selected")
async def ask_some(request: Request, action: SomeAction, ids: Ids) -> Response:
    """Ask whether something is to be done to the selected jobs."""
    number = f"{len(ids)} job{'' if len(ids) == 1 else 's'}"
    if action is SomeAction.CANCEL:
        text = "Pending ones will not start, running ones are told to stop; those of cron jobs end the cron job."
        question = Question(
            f"Cancel {number}?", text, f"Cancel {number}", "/jobs/cancel", "/jobs", True, True, {"ids": ids}
        )
    else:
        text = "Each runs again now, as a new job with the same data: all of them, or none if one is not finished."
        question = Question(f"Retry {number}?", text, f"Retry {number}", "/jobs/retry", "/jobs", fields={"ids": ids})
    return _ask(pages_of(request), request, "jobs", question)


@router.post("/jobs/cancel")
async def cancel_some(request: Request, change: ChangeOfRequest, ids: FormIds, reason: GivenReason = "") -> Response:
    """Cancel the selected jobs."""
    which = schemas.CancelJobs(ids=ids, reason=reason.strip() or USUAL_REASON)
    done = await jobs.cancel_jobs(which, change)
    return pages_of(request).go("/jobs", did=Did.CANCEL_SOME, count=len(done.cancelled), stopping=len(done.stopping))


@router.post("/jobs/retry")
async def retry_some(request: Request, change: ChangeOfRequest, ids: FormIds) -> Response:
    """Run the selected jobs again."""
    new = await jobs.retry_jobs(schemas.SomeJobs(ids=ids), change)
    return pages_of(request).go("/jobs", did=Did.AGAIN_SOME, count=len(new.ids))


@router.get("/pause")
async def ask_pause(request: Request, kind: PauseKind, name: schemas.Name) -> Response:
    """Ask whether a pool or type is to be paused."""
    text = "No more of its jobs are started until it is resumed. Running ones go on, new ones wait."
    question = Question(
        f"Pause the {kind} {name}?",
        text,
        f"Pause {name}",
        "/pause",
        f"/{kind}s",
        takes_reason=True,
        fields={"kind": kind, "name": name},
    )
    return _ask(pages_of(request), request, f"{kind}s", question)


@router.post("/pause")
async def pause(
    request: Request, change: ChangeOfRequest, kind: Annotated[PauseKind, Form()], name: Name, reason: GivenReason = ""
) -> Response:
    """Pause a pool or type."""
    pause_it = pools.pause_pool if kind is PauseKind.POOL else pools.pause_type
    await pause_it(name, change, schemas.PauseRequest(reason=reason.strip() or None))
    return pages_of(request).go(f"/{kind}s", did=Did.PAUSE, kind=kind, name=name)


@router.get("/resume")
async def ask_resume(request: Request, kind: PauseKind, name: schemas.Name) -> Response:
    """Ask whether the pause of a pool or type is to end."""
    question = Question(
        f"Resume the {kind} {name}?",
        "Its jobs are started again; those that wait start at once, as far as workers are free.",
        f"Resume {name}",
        "/resume",
        f"/{kind}s",
        fields={"kind": kind, "name": name},
    )
    return _ask(pages_of(request), request, f"{kind}s", question)


@router.post("/resume")
async def resume(request: Request, change: ChangeOfRequest, kind: Annotated[PauseKind, Form()], name: Name) -> Response:
    """End the pause of a pool or type."""
    resume_it = pools.resume_pool if kind is PauseKind.POOL else pools.resume_type
    await resume_it(name, change)
    return pages_of(request).go(f"/{kind}s", did=Did.RESUME, kind=kind, name=name)
