"""Jobs: submitting, looking, cancelling, running again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response

from workerjobs.domain.data_schema import Schema, check_data
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.domain.job_checks import check_job
from workerjobs.domain.parsing import parse_job
from workerjobs.domain.words import unknown_type
from workerjobs.errors import InvalidInputError, NotFoundError
from workerjobs.ports.api import BulkChange, cancelled_of, check_states
from workerjobs.ports.jobs import JobQuery, JobStore
from workerjobs.settings import LEASE_SECONDS
from workerjobs.web.api import schemas
from workerjobs.web.api.once import EVERY_TIME, REPLAYED, AnsweredError, Once, OnceOfRequest
from workerjobs.web.api.problems import ProblemError
from workerjobs.web.api.stores import ChangeOfRequest, StoreOfRequest

router = APIRouter(prefix="/jobs", tags=["jobs"])

LEASE = timedelta(seconds=LEASE_SECONDS)
HISTORY = 50
MAX_PROBLEMS = 20

JobId = Annotated[int, Path(alias="jobId", ge=1, le=schemas.MAX_ID, description="The job's id.", examples=[17])]
REPLAY: dict[int | str, dict[str, Any]] = {
    201: {
        "headers": {
            REPLAYED: {
                "description": "`true`: the answer is an earlier one, and nothing was done now.",
                "schema": {"type": "string", "const": "true"},
            }
        }
    }
}


@router.get("", summary="List jobs")
async def list_jobs(query: Annotated[schemas.JobListQuery, Query()], store: StoreOfRequest) -> schemas.JobList:
    """List jobs, newest first, without their data and results."""
    page = await store.page(JobQuery(**query.model_dump()))
    return schemas.JobList(jobs=[schemas.JobSummary.model_validate(job) for job in page.jobs], next=page.before)


@router.get("/full", summary="Read jobs")
async def read_jobs(query: Annotated[schemas.JobListQuery, Query()], store: StoreOfRequest) -> schemas.FullJobList:
    """List jobs, newest first, with their data and results: for exports."""
    page = await store.full_page(JobQuery(**query.model_dump()))
    return schemas.FullJobList(jobs=[_full(job) for job in page.jobs], next=page.before)


@router.post("", status_code=201, summary="Submit a job", responses=REPLAY)
async def submit_job(
    job: schemas.NewJob, change: ChangeOfRequest, response: Response, once: OnceOfRequest
) -> schemas.SubmittedJob:
    """Store a job; a worker starts it as soon as it is due.

    Pending jobs of its tag are cancelled. Its data is checked where live workers know the type; where there are some
    and none does, it is stored all the same, with a warning.
    """
    details: dict[str, object] = {"type": job.type, "pool": job.pool}
    try:
        async with change.transaction("jobs.submit", details) as inside:
            await once.begin(inside, job)
            new, warnings = await _checked(inside, [job])
            (stored,) = await inside.submit(new)
            details["id"] = stored.id
            answer = schemas.SubmittedJob(**stored.to_dict(), warnings=warnings)
            await once.keep(inside, answer.model_dump(mode="json", exclude={"data"}))
    except AnsweredError as earlier:
        answer = schemas.SubmittedJob(**earlier.answer, data=job.data)
    response.headers["Location"] = f"jobs/{answer.id}"
    return answer


@router.post("/bulk", status_code=201, summary="Submit many jobs", responses=REPLAY)
async def submit_jobs(jobs: schemas.NewJobs, change: ChangeOfRequest, once: OnceOfRequest) -> schemas.SubmittedJobs:
    """Store up to 5,000 jobs, all or none. Problems name each job by its place, from 0."""
    details: dict[str, object] = {"count": len(jobs.jobs), "types": sorted({job.type for job in jobs.jobs})}
    try:
        async with change.transaction("jobs.submit", details) as inside:
            await once.begin(inside, jobs)
            new, warnings = await _checked(inside, jobs.jobs, is_bulk=True)
            ids = [job.id for job in await inside.submit(new)]
            details |= {"first": min(ids), "last": max(ids)}
            answer = schemas.SubmittedJobs(ids=ids, warnings=warnings)
            await once.keep(inside, answer.model_dump())
    except AnsweredError as earlier:
        answer = schemas.SubmittedJobs(**earlier.answer)
    return answer


@router.post("/cancel", summary="Cancel some jobs", responses={200: REPLAY[201]})
async def cancel_jobs(
    which: schemas.CancelJobs, change: ChangeOfRequest, once: OnceOfRequest = EVERY_TIME
) -> schemas.Cancelled | schemas.MatchingJobs:
    """Cancel jobs: pending ones at once, running ones are stopped by their worker.

    They are named by their ids, by a tag, or by a filter (`where`), which takes up to `limit` at once: until an answer
    has none, the same request takes more. Cancelling the pending run of a cron job ends the cron job.
    """
    given = [name for name in ("ids", "tag", "where") if getattr(which, name) is not None]
    if len(given) != 1:
        raise InvalidInputError("ids, tag or where: give one of them")
    query = _query_of(which, BulkChange.CANCEL)
    if query is not None and which.dry_run:
        return schemas.MatchingJobs.model_validate(await change.store.matching(BulkChange.CANCEL, query))
    return await cancel_some(which, query, change, once)


async def cancel_some(
    which: schemas.CancelJobs, query: JobQuery | None, change: ChangeOfRequest, once: Once = EVERY_TIME
) -> schemas.Cancelled:
    """Cancel jobs by a filter, by their tag or by their ids."""
    details: dict[str, object] = {"reason": which.reason, "tag": which.tag, **_audited(which)}
    try:
        async with change.transaction("jobs.cancel", details) as inside:
            await once.begin(inside, which)
            if query is not None:
                done = await inside.cancel_matching(query, which.reason)
            elif which.tag is not None:
                done = cancelled_of(await inside.cancel_tag(which.tag, which.reason))
            else:
                done = cancelled_of(await inside.cancel(which.ids or [], which.reason))
            details["ids"] = sorted([*done.cancelled, *done.stopping])
            answer = schemas.Cancelled.model_validate(done)
            await once.keep(inside, answer.model_dump())
    except AnsweredError as earlier:
        answer = schemas.Cancelled(**earlier.answer)
    return answer


@router.post(
    "/retry",
    status_code=201,
    summary="Run some jobs again",
    responses=REPLAY
    | {
        200: {"model": schemas.MatchingJobs, "description": "A dry run: nothing was done."},
        404: {"description": "There is no such job."},
    },
)
async def retry_jobs(
    which: schemas.RetryJobs, change: ChangeOfRequest, response: Response, once: OnceOfRequest = EVERY_TIME
) -> schemas.JobIds | schemas.MatchingJobs:
    """Run finished jobs again, now, each as a new job.

    Those named by `ids` run again all or none. A filter (`where`) finds those that no retry and no run by hand
    followed, up to `limit` at once: until an answer has none, the same request takes more.
    """
    if (which.ids is None) == (which.where is None):
        raise InvalidInputError("ids or where: give one of them")
    query = _query_of(which, BulkChange.RETRY)
    if query is not None and which.dry_run:
        response.status_code = 200
        return schemas.MatchingJobs.model_validate(await change.store.matching(BulkChange.RETRY, query))
    return await retry_some(which, query, change, once)


async def retry_some(
    which: schemas.RetryJobs, query: JobQuery | None, change: ChangeOfRequest, once: Once = EVERY_TIME
) -> schemas.JobIds:
    """Run jobs again that a filter finds, or all or none of those named by their ids."""
    details: dict[str, object] = _audited(which)
    try:
        async with change.transaction("jobs.retry", details) as inside:
            await once.begin(inside, which)
            if query is not None:
                new = await inside.retry_matching(query)
                details["ids"] = list(new)
                ids = list(new.values())
            else:
                wanted = list(dict.fromkeys(which.ids or []))
                of_old = {job.rescheduled_from_job: job.id for job in await inside.retry(wanted)}
                details["ids"] = wanted
                ids = [of_old[each] for each in wanted]
            details["new"] = ids
            await once.keep(inside, {"ids": ids})
    except AnsweredError as earlier:
        ids = earlier.answer["ids"]
    return schemas.JobIds(ids=ids)


@router.get("/{jobId:int}", summary="Show a job")
async def show_job(job_id: JobId, store: StoreOfRequest) -> schemas.JobWithHistory:
    """Show a job with its data, its result, and the runs that it belongs to."""
    job = await _existing(store, job_id)
    history = await store.history(job_id, HISTORY)
    return schemas.JobWithHistory(
        **job.to_dict(), history=[schemas.JobSummary.model_validate(each) for each in history]
    )


@router.get("/{jobId:int}/logs", summary="Read what a job logged")
async def logs(job_id: JobId, query: Annotated[schemas.LogQuery, Query()], store: StoreOfRequest) -> schemas.LogLines:
    """Read the lines that a job logged or printed, as far as its worker keeps them (WORKER_KEEP_LOGS)."""
    if await store.summary(job_id) is None:
        raise NotFoundError(f"There is no job {job_id}")
    lines = await store.job_logs(job_id, query.after, query.limit)
    return schemas.LogLines(
        lines=[schemas.LogLine.model_validate(line) for line in lines],
        next=lines[-1].id if len(lines) == query.limit else None,
    )


@router.patch("/{jobId:int}", summary="Change a pending job")
async def change_job(job_id: JobId, wanted: schemas.JobChange, change: ChangeOfRequest) -> schemas.Job:
    """Change when a pending job is due (`null`: now), its priority, or its pool.

    409 where it has started, and where something else says it: a WorkerJob resource, or a schedule when it is due.
    """
    job = await _existing(change.store, job_id)
    given = wanted.model_dump(by_alias=True, exclude_unset=True)
    new = parse_job({"type": job.type, **given})
    is_due_given = "due" in given
    if not is_due_given and new == parse_job({"type": job.type}):
        raise InvalidInputError("nothing is given: give due, priority or pool")
    check_job(new, now=datetime.now(UTC))
    _see_it_is_no_resources(job)
    if is_due_given and job.cron_schedule is not None:
        raise ProblemError(409, f"Job {job_id} is a cron job's: its schedule says when it is due")
    async with change.transaction("jobs.change", {"ids": [job_id], **given}) as inside:
        changed = await inside.change_pending(
            job_id,
            due=new.due,
            is_now=is_due_given and new.due is None,
            priority=wanted.priority,
            pool=wanted.pool,
        )
        if changed is None:
            raise ProblemError(409, f"Job {job_id} is not pending any more: only pending jobs are changed")
    return _full(changed)


@router.delete("/{jobId:int}", status_code=204, summary="Delete a finished job")
async def delete_job(job_id: JobId, change: ChangeOfRequest) -> None:
    """Delete a finished job with its result, before its time. 409 where it is not finished, or a resource's."""
    job = await _existing(change.store, job_id)
    if not job.state.is_final:
        raise ProblemError(409, f"Job {job_id} is {job.state}: cancel it first")
    _see_it_is_no_resources(job)
    async with change.transaction("jobs.delete", {"ids": [job_id], "type": job.type}) as inside:
        if not await inside.delete_finished(job_id):
            raise NotFoundError(f"There is no job {job_id}")


@router.post("/{jobId:int}/cancel", summary="Cancel a job")
async def cancel_job(
    job_id: JobId,
    change: ChangeOfRequest,
    why: Annotated[schemas.CancelJob | None, Body()] = None,
) -> schemas.Job:
    """Cancel a pending job, or ask a running one to stop (`cancelRequested`); 409 where it is finished."""
    await _existing(change.store, job_id)
    reason = schemas.USUAL_REASON if why is None else why.reason
    async with change.transaction("jobs.cancel", {"ids": [job_id], "reason": reason}) as inside:
        found = await inside.cancel([job_id], reason)
        if not found:
            raise ProblemError(409, f"Job {job_id} is finished")
    return _full(found[0])


@router.post("/{jobId:int}/retry", status_code=201, summary="Try a job again", responses=REPLAY)
async def retry_job(
    job_id: JobId, change: ChangeOfRequest, response: Response, once: OnceOfRequest = EVERY_TIME
) -> schemas.Job:
    """Run a job again, now, that failed or was cancelled: as a new job. 409 where it succeeded or is not finished."""
    return await _again(job_id, "jobs.retry", change, response, once)


@router.post("/{jobId:int}/rerun", status_code=201, summary="Run a job again", responses=REPLAY)
async def rerun_job(
    job_id: JobId, change: ChangeOfRequest, response: Response, once: OnceOfRequest = EVERY_TIME
) -> schemas.Job:
    """Run a finished job again, now, however it ended: as a new job. 409 where it is not finished."""
    return await _again(job_id, "jobs.rerun", change, response, once)


def _see_it_is_no_resources(job: Job) -> None:
    if job.resource_uid is not None:
        raise ProblemError(
            409, f"Job {job.id} is of the WorkerJob {job.namespace}/{job.resource_name}: change or delete that"
        )


async def _again(job_id: int, action: str, change: ChangeOfRequest, response: Response, once: Once) -> schemas.Job:
    details: dict[str, object] = {"ids": [job_id]}
    try:
        async with change.transaction(action, details) as inside:
            await once.begin(inside)
            job = await _existing(inside, job_id)
            if not job.state.is_final:
                raise ProblemError(409, f"Job {job_id} is {job.state}: cancel it first")
            if action == "jobs.retry" and job.state is JobState.SUCCEEDED:
                raise ProblemError(409, f"Job {job_id} has succeeded: rerun runs it again all the same")
            (new,) = await inside.retry([job_id])
            details["new"] = [new.id]
            answer = _full(new)
            await once.keep(inside, answer.model_dump(mode="json", exclude={"data"}))
    except AnsweredError as earlier:
        # Its data is kept in its row alone.
        stored = await change.store.get(earlier.answer["id"])
        answer = schemas.Job(**earlier.answer, data=None if stored is None else stored.to_dict()["data"])
    response.headers["Location"] = f"../{answer.id}"
    return answer


async def _existing(store: JobStore, job_id: int) -> Job:
    job = await store.get(job_id)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}")
    return job


async def _checked(
    store: JobStore, given: Sequence[schemas.NewJob], *, is_bulk: bool = False
) -> tuple[list[NewJob], list[str]]:
    """Check jobs, also against what workers know of their types; returns them, and what may be mistakes."""
    now = datetime.now(UTC)
    known: dict[tuple[str, str], list[Schema]] = {}
    jobs: list[NewJob] = []
    problems: list[str] = []
    for index, each in enumerate(given):
        try:
            job = parse_job(each.model_dump(by_alias=True, exclude_unset=True))
            check_job(job, now=now)
            key = (job.pool, job.type)
            if key not in known:
                known[key] = await store.schemas_of(job.pool, job.type, LEASE)
            check_data(job.data, known[key])
            jobs.append(job)
        except InvalidInputError as error:
            problems += [f"jobs[{index}]: {problem}" if is_bulk else problem for problem in error.problems]
            if len(problems) >= MAX_PROBLEMS:
                break
    if problems:
        raise InvalidInputError(problems[:MAX_PROBLEMS])
    return jobs, await _warnings(store, [key for key, asked in known.items() if not asked])


async def _warnings(store: JobStore, unknown: Sequence[tuple[str, str]]) -> list[str]:
    """Warn of types (pool, type) that no live worker knows, where the pool has workers."""
    workers = await store.workers(LEASE) if unknown else []
    told = [
        unknown_type(job_type, pool, {name for each in workers if each.pool == pool for name in each.types})
        for pool, job_type in unknown
    ]
    return [each for each in told if each][:MAX_PROBLEMS]


def _query_of(which: schemas.SomeJobs, change: BulkChange) -> JobQuery | None:
    """Read the filter of a change; None where jobs are named otherwise."""
    if which.where is None:
        for name, is_given in (("limit", which.limit is not None), ("dryRun", which.dry_run)):
            if is_given:
                raise InvalidInputError(f"{name} needs where")
        return None
    asked = which.where.model_dump()
    if all(value in (None, []) for name, value in asked.items() if name != "before"):
        accepted = [name for name in which.where.model_json_schema()["properties"] if name != "before"]
        raise InvalidInputError(f"where: say which jobs, by at least one of {', '.join(accepted)}")
    check_states(change, which.where.states, "where.state")
    if change is BulkChange.RETRY and not which.where.states:
        asked["states"] = [JobState.FAILED]
    return JobQuery(**asked, limit=which.limit or schemas.MAX_BULK)


def _audited(which: schemas.SomeJobs) -> dict[str, object]:
    if which.where is None:
        return {}
    return {"where": which.where.model_dump(mode="json", by_alias=True, exclude_unset=True), "limit": which.limit}


def _full(job: Job) -> schemas.Job:
    return schemas.Job(**job.to_dict())
