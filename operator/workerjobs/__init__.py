"""WorkerJobs: background jobs that live in a Postgres table and run in child processes.

What job authors and programs need is importable from here; each name is loaded when it is first used, so that a child
process that imports `job` does not load the supervisor or a database driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workerjobs.lazy import loader

if TYPE_CHECKING:
    from workerjobs.client import broadcast, cancel, notify, retry, schedule, submit, submit_many, unschedule
    from workerjobs.domain.job import Job, JobState, NewJob, RetryPolicy
    from workerjobs.errors import InvalidInputError, WorkerJobsError
    from workerjobs.jobs.context import JobContext
    from workerjobs.jobs.registry import job
    from workerjobs.manager import WorkerManager

__all__ = [
    "InvalidInputError",
    "Job",
    "JobContext",
    "JobState",
    "NewJob",
    "RetryPolicy",
    "WorkerJobsError",
    "WorkerManager",
    "broadcast",
    "cancel",
    "job",
    "notify",
    "retry",
    "schedule",
    "submit",
    "submit_many",
    "unschedule",
]

_HOME_OF = {
    "InvalidInputError": "workerjobs.errors",
    "Job": "workerjobs.domain.job",
    "JobContext": "workerjobs.jobs.context",
    "JobState": "workerjobs.domain.job",
    "NewJob": "workerjobs.domain.job",
    "RetryPolicy": "workerjobs.domain.job",
    "WorkerJobsError": "workerjobs.errors",
    "WorkerManager": "workerjobs.manager",
    "broadcast": "workerjobs.client",
    "cancel": "workerjobs.client",
    "job": "workerjobs.jobs.registry",
    "notify": "workerjobs.client",
    "retry": "workerjobs.client",
    "schedule": "workerjobs.client",
    "submit": "workerjobs.client",
    "submit_many": "workerjobs.client",
    "unschedule": "workerjobs.client",
}


def version() -> str:
    """This release's version."""
    from importlib.metadata import version as version_of

    return version_of("workerjobs")


__getattr__ = loader(__name__, _HOME_OF)
