"""What to do about WorkerJob resources: one pure function from what is known to what is to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workerjobs.domain.job import Job, NewJob
from workerjobs.errors import InvalidInputError
from workerjobs.kube.workerjob import parse_workerjob, refused_status, status_of


@dataclass(frozen=True, slots=True)
class StatusPatch:
    """A status to write."""

    namespace: str
    name: str
    uid: str
    status: dict[str, Any]


@dataclass(slots=True)
class Actions:
    """What is to be done, each kind for many resources at once."""

    submit: list[NewJob] = field(default_factory=list)
    """First rows. The store leaves out resources that had theirs, also when it is long gone."""
    restore: list[NewJob] = field(default_factory=list)
    """Cron jobs whose line has no row that waits or runs."""
    update: list[NewJob] = field(default_factory=list)
    """Specs newer than the row that waits."""
    patches: list[StatusPatch] = field(default_factory=list)
    """Statuses that changed."""


def reconcile(
    resources: Sequence[Mapping[str, Any]], rows: Mapping[str, Sequence[Job]], cluster_id: str, *, now: datetime
) -> Actions:
    """Compare resources with their rows.

    Idempotent: called again after its actions were carried out, it finds nothing to do.

    Args:
        resources: WorkerJobs as the API server has them, each with its status.
        rows: For each uid its unfinished rows and its newest finished one, oldest first; none where there are none.
        cluster_id: Of this cluster.
        now: For conditions that change, and for cron schedules.
    """
    actions = Actions()
    for resource in resources:
        metadata, before = resource["metadata"], resource.get("status") or {}
        try:
            job = parse_workerjob(resource, cluster_id, now=now)
        except InvalidInputError as error:
            status = refused_status(error.problems, int(metadata.get("generation") or 0), before, now)
        else:
            own = rows.get(metadata["uid"], ())
            _plan(job, own, actions)
            if not own:
                # Its row is on its way, or was removed long ago: then the status keeps what it says.
                continue
            status = status_of(job, own, before, now)
        if status != before:
            actions.patches.append(StatusPatch(metadata["namespace"], metadata["name"], metadata["uid"], status))
    return actions


def _plan(job: NewJob, rows: Sequence[Job], actions: Actions) -> None:
    assert job.resource is not None
    if not rows:
        actions.submit.append(job)
    if job.cron_schedule is not None and all(row.finished is not None or row.cron_key is None for row in rows):
        actions.restore.append(job)
    waiting = [row for row in rows if row.started is None and row.finished is None]
    if any(row.resource_generation != job.resource.generation for row in waiting):
        actions.update.append(job)
