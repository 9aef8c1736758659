"""From the resources that exist and the rows that the table holds to what has to be done: one pure function.

Level-triggered: it looks at what is, not at what happened, so it comes to the same decision after a missed event, a
restart, or a crash between two of its actions, and it decides on nothing where everything is as it should be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from workerjobs.domain.job import FIRST_RUN, CatchUp, ConcurrencyPolicy, Job, JobState, NewJob
from workerjobs.domain.schedule import CronSchedule
from workerjobs.kube.events import Event, events_of
from workerjobs.kube.status import ended_at, status_of
from workerjobs.ports.resources import ResourceState

_UNKNOWN = ResourceState()


@dataclass(frozen=True, slots=True)
class Resource:
    """A WorkerJob that exists."""

    uid: str
    namespace: str
    name: str
    generation: int
    job: NewJob | None
    """What its spec asks for; None where the spec is refused."""
    problems: tuple[str, ...] = ()
    """Why it is refused."""
    status: Mapping[str, Any] | None = None
    """As the API server has it; None where that is not known."""
    version: int = 0
    """metadata.resourceVersion that it was last seen at, to tell old news from new; 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class StatusWrite:
    """A status to write."""

    uid: str
    namespace: str
    name: str
    status: Mapping[str, Any]
    is_urgent: bool = True
    """False where only the progress differs."""
    events: Sequence[Event] = ()
    """What it says that is news."""


@dataclass(slots=True)
class Actions:
    """What has to be done. A resource whose rows are written is looked at again afterwards, for its status."""

    submit: list[NewJob] = field(default_factory=list)
    """First rows, and those of reruns."""
    update: list[NewJob] = field(default_factory=list)
    """Newer generations of pending rows."""
    restore: list[NewJob] = field(default_factory=list)
    """Next rows of cron lines that have none."""
    suspend: list[str] = field(default_factory=list)
    """Resources, by uid, whose rows are to be held back."""
    resume: dict[str, datetime | None] = field(default_factory=dict)
    """Resources whose rows go on, with the next tick of those that are cron lines."""
    cancel: dict[str, list[int]] = field(default_factory=dict)
    """Rows to cancel, by their resource."""
    keep: dict[str, int | None] = field(default_factory=dict)
    """How many finished rows resources are to keep."""
    delete: list[Resource] = field(default_factory=list)
    """Resources whose time after their end is up."""
    look_again: dict[str, datetime] = field(default_factory=dict)
    """When to look at resources again without being told."""
    statuses: list[StatusWrite] = field(default_factory=list)


def reconcile(
    resources: Iterable[Resource],
    rows: Mapping[str, Sequence[Job]],
    states: Mapping[str, ResourceState],
    types: Mapping[str, Set[str]],
    *,
    now: datetime,
) -> Actions:
    """Decide what has to be done for some resources.

    Args:
        resources: Those to look at.
        rows: By uid, each one's unfinished rows and its newest finished one, oldest first; none is no entry.
        states: By uid, what is known of them beside their rows, read after these.
        types: By pool, the job types that its live workers know; pools without any are left out.
        now: The moment, for cron ticks and conditions.
    """
    actions = Actions()
    for resource in resources:
        mine = rows.get(resource.uid, ())
        state = states.get(resource.uid, _UNKNOWN)
        job = resource.job
        if job is not None and _write_rows(resource, job, mine, state, actions, now):
            continue
        if job is not None and _expires(resource, job, mine, state, actions, now):
            continue
        is_cron = any(row.cron_schedule for row in mine) if job is None else bool(job.cron_schedule)
        previous = resource.status or {}
        status = status_of(
            mine,
            is_cron=is_cron,
            generation=resource.generation,
            problems=resource.problems,
            unknown_type=None if job is None else _unknown_type(job, mine, types),
            held_by=None if job is None else _held_by(job),
            counts=state.counts,
            previous=previous,
            now=now,
        )
        if status != resource.status:
            is_urgent = _without_progress(status) != _without_progress(previous)
            # Where it is not known what was said before, nothing is known to be news.
            events = () if resource.status is None else events_of(previous, status)
            actions.statuses.append(
                StatusWrite(resource.uid, resource.namespace, resource.name, status, is_urgent, events)
            )
    return actions


def _write_rows(
    resource: Resource, job: NewJob, rows: Sequence[Job], state: ResourceState, actions: Actions, now: datetime
) -> bool:
    """Decide on a resource's rows; whether there is something to write that makes another look necessary."""
    wish = job.resource
    assert wish is not None
    uid = resource.uid
    if not rows and not state.run_keys:
        actions.submit.append(job)
        return True
    if state.history_limit != wish.history_limit or state.has_surplus:
        actions.keep[uid] = wish.history_limit
    if state.has_surplus:
        actions.look_again[uid] = now
    if state.is_suspended != wish.holds_back:
        if wish.holds_back:
            actions.suspend.append(uid)
        else:
            actions.resume[uid] = restored(job, state, now).due if job.cron_schedule is not None else None
        return True
    if wish.is_cancelled and (unwanted := [row.id for row in rows if _is_unwanted(row)]):
        actions.cancel[uid] = unwanted
        return True
    outdated = [row for row in rows if row.state is JobState.PENDING and _is_older(row, resource)]
    if outdated:
        # The latest row of the line, where an earlier one or a retry waits beside it.
        row = next((row for row in reversed(outdated) if row.cron_key), outdated[-1])
        actions.update.append(updated(job, row, state, now))
        return True
    if job.cron_schedule is not None and not any(row.cron_key and not row.state.is_final for row in rows):
        actions.restore.append(restored(job, state, now))
        return True
    if state.run_keys and wish.run_key != FIRST_RUN and wish.run_key not in state.run_keys:
        actions.submit.append(rerun(job, rows))
        return True
    return False


def _is_unwanted(row: Job) -> bool:
    """Whether a cancelled resource's row is to end; the next one of a cron line only waits."""
    is_waiting_line = row.state is JobState.PENDING and row.cron_key is not None
    return not row.state.is_final and not row.cancel_requested and not is_waiting_line


def rerun(job: NewJob, rows: Sequence[Job]) -> NewJob:
    """One more run, at once, beside whatever its resource has; of a cron job outside its line."""
    assert job.resource is not None
    return replace(
        job,
        due=None,
        cron_schedule=None,
        time_zone=None,
        cron_key=None,
        catch_up=CatchUp.NONE,
        concurrency_policy=ConcurrencyPolicy.FORBID,
        rescheduled_from_job=rows[-1].id if rows else None,
        resource=replace(job.resource, is_beside_line=job.cron_schedule is not None),
    )


def _expires(
    resource: Resource, job: NewJob, rows: Sequence[Job], state: ResourceState, actions: Actions, now: datetime
) -> bool:
    """Decide whether a resource's time is up; where it is still to come, remember when."""
    if job.resource is None or job.resource.ttl_seconds is None or job.cron_schedule is not None:
        return False
    end = ended_at(rows, resource.status or {})
    if end is None:
        return False
    ends = [end, state.last_end]
    if job.resource.history_limit is not None:
        # The row that ended last may be gone by then, where others were stored after it.
        ends.append(ended_at((), resource.status or {}))
    expires = max(each for each in ends if each is not None) + timedelta(seconds=job.resource.ttl_seconds)
    if expires <= now:
        actions.delete.append(resource)
        return True
    actions.look_again[resource.uid] = min(expires, actions.look_again.get(resource.uid, expires))
    return False


def _unknown_type(job: NewJob, rows: Sequence[Job], types: Mapping[str, Set[str]]) -> str | None:
    """Say that no worker knows the type, where that matters: while a run is to come, or as a run failed for it."""
    if any(not row.state.is_final for row in rows):
        if job.pool in types and job.type not in types[job.pool]:
            return f"No worker of pool {job.pool} knows the job type {job.type}"
        return None
    error = rows[-1].error if rows else None
    return error if error is not None and error.startswith("Unknown job type: ") else None


def _held_by(job: NewJob) -> str | None:
    """Which field holds its rows back."""
    if job.resource is None or not job.resource.holds_back:
        return None
    return "suspend" if job.resource.is_suspended else "cancel"


def _is_older(row: Job, resource: Resource) -> bool:
    # Not one of a newer generation: another operator may have seen what this one's watch has yet to bring.
    return row.resource_generation is None or row.resource_generation < resource.generation


def updated(job: NewJob, row: Job, state: ResourceState, now: datetime) -> NewJob:
    """A newer generation of a pending row; a cron job's tick stays where its schedule stays."""
    if job.cron_schedule is None:
        return job
    is_same_line = row.cron_key and (row.cron_schedule, row.time_zone) == (job.cron_schedule, job.time_zone)
    if is_same_line and not _begins_later(job, state, now):
        return replace(job, due=row.due)
    return restored(job, state, now)


def restored(job: NewJob, state: ResourceState, now: datetime) -> NewJob:
    """The next row of a cron line that lost it: never a tick again that a run, or a cancellation, has used up."""
    if _begins_later(job, state, now):
        return job
    schedule = CronSchedule.parse(job.cron_schedule or "", job.time_zone, identity=job.cron_key or "")
    tick = schedule.next_after(now)
    while tick in state.used_ticks:
        tick = schedule.next_after(tick)
    return replace(job, due=tick)


def _begins_later(job: NewJob, state: ResourceState, now: datetime) -> bool:
    """Whether a cron job's first run, which its due moment asks for, is yet to come."""
    return job.due is not None and job.due > now and job.due not in state.used_ticks


def _without_progress(status: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name != "progress"}
