"""What people can do, each with a page that asks first and says what will happen; the API's use cases do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from workerjobs.domain.job import JobState
from workerjobs.domain.limits import PauseKind
from workerjobs.errors import InvalidInputError
from workerjobs.ports.api import STATES_OF_CHANGE, BulkChange
from workerjobs.ports.jobs import JobQuery
from workerjobs.web.api import cron, jobs, pools, schemas
from workerjobs.web.api.jobs import JobId
from workerjobs.web.api.stores import ChangeOfRequest, StoreOfRequest
from workerjobs.web.dashboard.filters import MOST, find_ids, read_filter
from workerjobs.web.dashboard.notices import Did
from workerjobs.web.dashboard.rendering import Pages, pages_of

router = APIRouter()

MOST_SELECTED = 500
MAX_KEY = 1000
NO_NUL = r"^[^\x00]*$"
USUAL_REASON = "Job cancelled in the dashboard"

Ids = Annotated[list[schemas.Id], Query(min_length=1, max_length=MOST_SELECTED)]
FormIds = Annotated[
    list[schemas.Id],
    BeforeValidator(lambda fields: [each for field in fields for each in field.split(",")]),
    Form(min_length=1, max_length=MOST),
]
"""All in one field, as a form may have a thousand of these."""
PausedName = Annotated[str, Query(min_length=1, max_length=MAX_KEY, pattern=NO_NUL)]
FormName = Annotated[str, Form(min_length=1, max_length=MAX_KEY, pattern=NO_NUL)]
FormKind = Annotated[PauseKind, Form()]
GivenReason = Annotated[str, Form(max_length=500, pattern=NO_NUL)]


class Action(StrEnum):
    """What can be done to a job."""

    CANCEL = "cancel"
    RETRY = "retry"
    RERUN = "rerun"
    DELETE = "delete"


def action_of(states: Sequence[JobState]) -> BulkChange | None:
    """What can be done to all jobs of some states; None: nothing."""
    if not states:
        return None
    return next((change for change, possible in STATES_OF_CHANGE.items() if {*states} <= {*possible}), None)


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
    fields: Mapping[str, str] | None = None


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
    return _question(job, "Rerun", text, Action.RERUN)


def _delete(job: schemas.Job) -> Question:
    text = "It is gone at once, with its data, result and log lines. That can't be undone."
    return _question(job, "Delete", text, Action.DELETE, is_dangerous=True)


def _question(
    job: schemas.Job, verb: str, text: str, action: Action, *, is_dangerous: bool = False, takes_reason: bool = False
) -> Question:
    return Question(
        f"{verb} job {job.id}, {job.type}?",
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
    Action.DELETE: _delete,
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


@router.post("/jobs/{jobId:int}/delete")
async def delete(job_id: JobId, request: Request, change: ChangeOfRequest) -> Response:
    """Delete a finished job."""
    await jobs.delete_job(job_id, change)
    return pages_of(request).go("/jobs", did=Did.DELETE, job=job_id)


@router.get("/jobs/selected")
async def ask_some(request: Request, action: BulkChange, ids: Ids) -> Response:
    """Ask whether something is to be done to the selected jobs."""
    return _ask(pages_of(request), request, "jobs", _some(action, ids, ""))


@router.get("/jobs/matching")
async def ask_matching(request: Request, store: StoreOfRequest) -> Response:
    """Ask whether something is to be done to all jobs that a filter finds: to the very ones that it finds now."""
    query = read_filter(request.query_params)
    action = action_of(query.states)
    if action is None:
        raise InvalidInputError(f"state: give one of {', '.join(chain.from_iterable(STATES_OF_CHANGE.values()))}")
    # What was run again already is not run again once more.
    is_last = query.is_last or action is BulkChange.RETRY
    wanted = replace(JobQuery(**query.model_dump()), is_last=is_last, before=None)
    ids, is_all = await find_ids(store, wanted)
    if not ids:
        raise InvalidInputError("No job is like that any more" if is_all else "None of the newest jobs is like that")
    given = query.model_dump(exclude_defaults=True, by_alias=True)
    conditions = [f"{name} {' or '.join(value) if name == 'state' else value}" for name, value in given.items()]
    which = f"{'All' if is_all else 'The newest'} with {', '.join(conditions)}"
    if action is BulkChange.RETRY:
        which += ", but for those that were run again already"
    if not is_all:
        which += "; there may be more"
    return _ask(pages_of(request), request, "jobs", _some(action, ids, f"{which}. "))


def _some(action: BulkChange, ids: Sequence[int], of_which: str) -> Question:
    number = f"{len(ids):,} job{'' if len(ids) == 1 else 's'}"
    fields = {"ids": ",".join(str(each) for each in ids)}
    if action is BulkChange.CANCEL:
        text = "Pending ones will not start, running ones are told to stop; those of cron jobs end the cron job."
        return Question(
            f"Cancel {number}?", of_which + text, f"Cancel {number}", "/jobs/cancel", "/jobs", True, True, fields
        )
    text = "Each runs again now, as a new job with the same data: all of them, or none if one is not finished."
    return Question(f"Retry {number}?", of_which + text, f"Retry {number}", "/jobs/retry", "/jobs", fields=fields)


@router.post("/jobs/cancel")
async def cancel_some(request: Request, change: ChangeOfRequest, ids: FormIds, reason: GivenReason = "") -> Response:
    """Cancel the selected jobs."""
    which = schemas.CancelJobs(ids=ids, reason=reason.strip() or USUAL_REASON)
    done = await jobs.cancel_some(which, None, change)
    return pages_of(request).go("/jobs", did=Did.CANCEL_SOME, count=len(done.cancelled), stopping=len(done.stopping))


@router.post("/jobs/retry")
async def retry_some(request: Request, change: ChangeOfRequest, ids: FormIds) -> Response:
    """Run the selected jobs again."""
    new = await jobs.retry_some(schemas.RetryJobs(ids=ids), None, change)
    return pages_of(request).go("/jobs", did=Did.AGAIN_SOME, count=len(new.ids))


@dataclass(frozen=True, slots=True)
class Pausing:
    """How something that can be paused is spoken of, and where it shows."""

    noun: str
    page: str
    while_paused: str
    afterwards: str


_OF_JOBS = (
    "No more of its jobs are started until it is resumed. Running ones go on, new ones wait.",
    "Its jobs are started again; those that wait start at once, as far as workers are free.",
)
_PAUSING: Mapping[PauseKind, Pausing] = {
    PauseKind.POOL: Pausing("pool", "/pools", *_OF_JOBS),
    PauseKind.TYPE: Pausing("type", "/types", *_OF_JOBS),
    PauseKind.CRON: Pausing(
        "cron job",
        "/cron",
        "No more runs of it are started until it is resumed; one that runs goes on. Ticks meanwhile are left out.",
        "It goes on with its next tick.",
    ),
}


def _ask_of_paused(
    request: Request, kind: PauseKind, name: str, verb: str, text: str, *, takes_reason: bool = False
) -> Response:
    words = _PAUSING[kind]
    question = Question(
        f"{verb} the {words.noun} {name}?",
        text,
        f"{verb} {name}",
        f"/{verb.lower()}",
        words.page,
        takes_reason=takes_reason,
        fields={"kind": kind, "name": name},
    )
    return _ask(pages_of(request), request, words.page.removeprefix("/"), question)


@router.get("/pause")
async def ask_pause(request: Request, kind: PauseKind, name: PausedName) -> Response:
    """Ask whether a pool, type or cron job is to be paused."""
    return _ask_of_paused(request, kind, name, "Pause", _PAUSING[kind].while_paused, takes_reason=True)


@router.post("/pause")
async def pause(
    request: Request, change: ChangeOfRequest, kind: FormKind, name: FormName, reason: GivenReason = ""
) -> Response:
    """Pause a pool, type or cron job."""
    why = reason.strip() or None
    if kind is PauseKind.CRON:
        await cron.pause(schemas.CronPause(key=name, reason=why), change)
    else:
        pause_it = pools.pause_pool if kind is PauseKind.POOL else pools.pause_type
        await pause_it(name, change, schemas.PauseRequest(reason=why))
    return pages_of(request).go(_PAUSING[kind].page, did=Did.PAUSE, kind=kind, name=name)


@router.get("/resume")
async def ask_resume(request: Request, kind: PauseKind, name: PausedName) -> Response:
    """Ask whether the pause of a pool, type or cron job is to end."""
    return _ask_of_paused(request, kind, name, "Resume", _PAUSING[kind].afterwards)


@router.post("/resume")
async def resume(request: Request, change: ChangeOfRequest, kind: FormKind, name: FormName) -> Response:
    """End the pause of a pool, type or cron job."""
    if kind is PauseKind.CRON:
        await cron.resume(schemas.CronLineName(key=name), change)
    else:
        resume_it = pools.resume_pool if kind is PauseKind.POOL else pools.resume_type
        await resume_it(name, change)
    return pages_of(request).go(_PAUSING[kind].page, did=Did.RESUME, kind=kind, name=name)


@router.get("/cron/trigger")
async def ask_trigger(request: Request, name: PausedName) -> Response:
    """Ask whether a cron job is to run now."""
    question = Question(
        f"Run the cron job {name} now?",
        "It runs once, as a job of its own. Its ticks stay as they are, also while it is paused.",
        "Run now",
        "/cron/trigger",
        "/cron",
        fields={"name": name},
    )
    return _ask(pages_of(request), request, "cron", question)


@router.post("/cron/trigger")
async def trigger(request: Request, change: ChangeOfRequest, name: FormName) -> Response:
    """Run a cron job now."""
    new = await cron.trigger(schemas.CronLineName(key=name), change)
    return pages_of(request).go(f"/jobs/{new.id}", did=Did.TRIGGER, job=new.id)
