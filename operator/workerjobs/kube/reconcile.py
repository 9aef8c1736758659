"""From the resources that exist and the rows that the table holds to what has to be done: one pure function.

Level-triggered: it looks at what is, not at what happened, so it comes to the same decision after a missed event, a
restart, or a crash between two of its actions, and it decides on nothing where everything is as it should be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.domain.schedule import CronSchedule
from workerjobs.kube.status import status_of


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
    is_recorded: bool = False
    """Whether its first row is known to have been stored at some time. It never gets a first row twice, also where this
    is False: the store refuses that."""
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


@dataclass(slots=True)
class Actions:
    """What has to be done. A resource whose rows are written is looked at again afterwards, for its status."""

    submit: list[NewJob] = field(default_factory=list)
    """First rows."""
    update: list[NewJob] = field(default_factory=list)
    """Newer generations of pending rows."""
    restore: list[NewJob] = field(default_factory=list)
    """Next rows of cron lines that have none."""
    statuses: list[StatusWrite] = field(default_factory=list)


def reconcile(resources: Iterable[Resource], rows: Mapping[str, Sequence[Job]], *, now: datetime) -> Actions:
    """Decide what has to be done for some resources.

    Args:
        resources: Those to look at.
        rows: By uid, each one's unfinished rows and its newest finished one, oldest first; none is no entry.
        now: The moment, for cron ticks and conditions.
    """
    actions = Actions()
    for resource in resources:
        mine = rows.get(resource.uid, ())
        if resource.job is not None and _write_rows(resource, resource.job, mine, actions, now):
            continue
        is_cron = any(row.cron_schedule for row in mine) if resource.job is None else bool(resource.job.cron_schedule)
        previous = resource.status or {}
        status = status_of(
            mine,
            is_cron=is_cron,
            generation=resource.generation,
            problems=resource.problems,
            previous=previous,
            now=now,
        )
        if status != resource.status:
            is_urgent = _without_progress(status) != _without_progress(previous)
            actions.statuses.append(StatusWrite(resource.uid, resource.namespace, resource.name, status, is_urgent))
    return actions


def _write_rows(resource: Resource, job: NewJob, rows: Sequence[Job], actions: Actions, now: datetime) -> bool:
    """Decide on a resource's rows; whether there is something to write."""
    if not rows and not resource.is_recorded:
        actions.submit.append(job)
        return True
    outdated = [row for row in rows if row.state is JobState.PENDING and _is_older(row, resource)]
    if outdated:
        # The latest row of the line, where an earlier one or a retry waits beside it.
        row = next((row for row in reversed(outdated) if row.cron_key), outdated[-1])
        actions.update.append(updated(job, row, rows, now))
        return True
    if job.cron_schedule is not None and not any(row.cron_key and not row.state.is_final for row in rows):
        actions.restore.append(restored(job, rows, now))
        return True
    return False


def _is_older(row: Job, resource: Resource) -> bool:
    # Not one of a newer generation: another operator may have seen what this one's watch has yet to bring.
    return row.resource_generation is None or row.resource_generation < resource.generation


def updated(job: NewJob, row: Job, rows: Sequence[Job], now: datetime) -> NewJob:
    """A newer generation of a pending row; a cron job's tick stays where its schedule stays."""
    if job.cron_schedule is None or (job.due is not None and job.due > now):
        return job
    if row.cron_key and (row.cron_schedule, row.time_zone) == (job.cron_schedule, job.time_zone):
        return replace(job, due=row.due)
    return restored(job, rows, now)


def restored(job: NewJob, rows: Sequence[Job], now: datetime) -> NewJob:
    """The next row of a cron line that lost it: never a tick again that a run, or a cancellation, has used up."""
    if job.due is not None and job.due > now:
        return job
    used = [row.tick for row in rows if row.tick is not None and row.state.is_final]
    schedule = CronSchedule.parse(job.cron_schedule or "", job.time_zone, identity=job.cron_key or "")
    return replace(job, due=schedule.next_after(max([now, *used])))


def _without_progress(status: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name != "progress"}
