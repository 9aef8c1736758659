"""What the HTTP API reads and changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from workerjobs.domain.data_schema import Schema
from workerjobs.domain.job import Job, JobState
from workerjobs.errors import InvalidInputError
from workerjobs.ports.jobs import JobQuery, JobStore, LogLine, Pause
from workerjobs.ports.pools import ShownPool


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as lists show it: without its data and result, which may be large. JSON and moments as Python has them."""

    id: int
    state: str
    type: str
    user_id: int
    tag: str | None
    pool: str
    priority: int
    attempt: int
    due: datetime
    started: datetime | None
    finished: datetime | None
    cancel_requested: bool
    progress: Any
    error: str | None
    """Its first 500 characters."""
    cron_schedule: str | None
    cron_key: str | None
    rescheduled_from_job: int | None
    namespace: str | None
    resource_name: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class CronLine(JobSummary):
    """The unfinished row of a cron job."""

    time_zone: str | None
    catch_up: str | None
    concurrency_policy: str | None
    tick: datetime | None
    is_suspended: bool
    last_states: list[str]
    """How its last runs ended, newest first, at most ten."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some of the jobs that a query finds, newest first."""

    jobs: Sequence[JobSummary]
    before: int | None
    """Where the next page begins; None: there is none. A page may have few jobs, or none, and a next one all the same:
    one look goes through a hundred thousand rows at most."""


@dataclass(frozen=True, slots=True)
class FullPage:
    """A `JobPage` of jobs with all that is known of them."""

    jobs: Sequence[Job]
    before: int | None


@dataclass(frozen=True, slots=True)
class QueueCount:
    """The unfinished jobs of a type in a pool, as far as they were counted."""

    pool: str
    type: str
    waiting: int
    """Due and not started."""
    later: int
    """Not due yet."""
    running: int
    oldest_seconds: float | None
    """For how long the oldest of the waiting ones has been due."""


@dataclass(frozen=True, slots=True)
class RecentRuns:
    """How the newest runs of a type went."""

    type: str
    runs: int
    failed: int
    mean_seconds: float
    p95_seconds: float
    last_finished: datetime


@dataclass(frozen=True, slots=True)
class ThroughputSlot:
    """The runs that ended within a slot of time."""

    start: datetime
    succeeded: int
    failed: int
    cancelled: int
    """Also those that were cancelled before they ran."""
    wait_p95_seconds: float | None
    """From when they were due to their start; None: none of them ran."""
    run_p95_seconds: float | None

    @property
    def ended(self) -> int:
        """All of them."""
        return self.succeeded + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class Throughput:
    """How runs ended of late, over slots of time; those without any are left out."""

    since: datetime
    """The start of the first slot."""
    step: timedelta
    count: int
    """Slots."""
    known_since: datetime | None
    """As only the newest 20,000 rows are looked at, what was made before is left out; None: all were looked at."""
    slots: Sequence[ThroughputSlot]


@dataclass(frozen=True, slots=True)
class KnownType:
    """A job type that live workers know."""

    type: str
    pools: list[str]
    schema: Schema
    """What its data must look like, as JSON Schema."""
    is_paused: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    actor: str
    """The token's name."""
    scope: str
    """One of `workerjobs.domain.tokens.Scope`."""
    token_id: int | None = None


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What is known of a token, but for the token."""

    id: int
    name: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that somebody did."""

    id: int
    at: datetime
    actor: str
    token_id: int | None
    address: str | None
    action: str
    details: Mapping[str, Any]


class BulkChange(StrEnum):
    """What can be done to all jobs that a filter finds."""

    CANCEL = "cancel"
    """Pending and running ones, but for those that are being stopped already."""
    RETRY = "retry"
    """Failed and cancelled ones that no retry and no run by hand followed, and whose WorkerJob was not deleted."""


STATES_OF_CHANGE: Mapping[BulkChange, Sequence[JobState]] = {
    BulkChange.CANCEL: (JobState.PENDING, JobState.RUNNING),
    BulkChange.RETRY: (JobState.FAILED, JobState.CANCELLED),
}
"""The states of jobs that can be changed."""


def check_states(change: BulkChange, states: Sequence[JobState], name: str) -> None:
    """Refuse states whose jobs a change does nothing to.

    Args:
        change: What is to be done.
        states: Those that were given; none: all that can be changed.
        name: What they are called where they were given.

    Raises:
        InvalidInputError: With those that are accepted.
    """
    possible = STATES_OF_CHANGE[change]
    if wrong := [state for state in states if state not in possible]:
        raise InvalidInputError(f"{name}: {change} does nothing to {wrong[0]} jobs: give some of {', '.join(possible)}")


@dataclass(frozen=True, slots=True)
class Matching:
    """Jobs that a change by filter would reach."""

    count: int
    """Counted up to 100,000, as are the following."""
    types: Mapping[str, int]
    """How many of each type."""
    cron_jobs: int
    """How many are the pending or running run of a cron job."""
    ids: Sequence[int]
    """The first that would be changed, as many as the query's limit."""
    before: int | None
    """As the query's: what was submitted since is not among those counted; None: there is none."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of jobs that were to be cancelled; those that were finished are in neither."""

    cancelled: Sequence[int]
    """Were pending."""
    stopping: Sequence[int]
    """Are running, and will be stopped by their worker."""


def cancelled_of(jobs: Sequence[Job]) -> Cancelled:
    """Say what became of jobs, by how they are now."""
    return Cancelled([job.id for job in jobs if job.state.is_final], [job.id for job in jobs if not job.state.is_final])


class BulkStore(Protocol):
    """What can be done with the jobs that a filter finds, the oldest first, up to its limit."""

    async def matching(self, change: BulkChange, which: JobQuery) -> Matching:
        """Count the jobs that a change would reach; nothing is done."""
        ...

    async def cancel_matching(self, which: JobQuery, reason: str = "Job cancelled") -> Cancelled:
        """Cancel jobs, as `JobStore.cancel` does."""
        ...

    async def retry_matching(self, which: JobQuery) -> dict[int, int]:
        """Run jobs again, as `JobStore.retry` does; returns the new ids by the old ones."""
        ...


class CronStore(Protocol):
    """What can be done with cron lines, each named by its key (`workerjobs.domain.cron.cron_key_of`).

    All raise `NotFoundError` where no cron job has the key.
    """

    async def trigger_cron(self, key: str) -> Job:
        """Run a line's job now, beside the line, whose ticks stay as they are; returns the new row."""
        ...

    async def pause_cron(self, key: str, reason: str | None = None) -> Pause:
        """Start no more runs of a line; what runs goes on."""
        ...

    async def resume_cron(self, key: str) -> bool:
        """End a line's pause: it goes on with its next tick. False where there was none."""
        ...


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What was asked under an Idempotency-Key, and what was answered."""

    fingerprint: str
    answer: Mapping[str, Any] | None
    """None: nothing yet, the key is new."""


class RecordingStore(JobStore, CronStore, BulkStore, Protocol):
    """The table inside of one transaction."""

    async def change_pending(
        self, job_id: int, *, due: datetime | None, is_now: bool, priority: int | None, pool: str | None
    ) -> Job | None:
        """Change a pending job that no resource declares; None where it is no such job.

        Args:
            job_id: Which.
            due: When to run; None leaves it, or means the database's now.
            is_now: Whether it is due now.
            priority: None leaves it.
            pool: None leaves it.
        """
        ...

    async def delete_finished(self, job_id: int) -> bool:
        """Delete a finished job that no resource declares; returns whether there was one."""
        ...

    async def use_key(self, actor: str, key: str, fingerprint: str) -> KeptAnswer:
        """Take a caller's key for a request, or find what was asked under it less than a day ago.

        Waits for another transaction that takes it.
        """
        ...

    async def keep_answer(self, actor: str, key: str, answer: Mapping[str, Any]) -> None:
        """Keep what is answered under a key."""
        ...

    async def record(self, caller: Caller, address: str | None, action: str, details: Mapping[str, Any]) -> None:
        """Note who does this."""
        ...


class ApiStore(JobStore, CronStore, BulkStore, Protocol):
    """What the HTTP API reads and writes; errors as in `JobStore`."""

    def transaction(self) -> AbstractAsyncContextManager[RecordingStore]:
        """Begin a transaction: what is done inside happens with what is recorded of it, or not at all."""
        ...

    async def page(self, which: JobQuery) -> JobPage:
        """Read jobs, newest first, at a cost that does not grow with the table."""
        ...

    async def full_page(self, which: JobQuery) -> FullPage:
        """Read jobs as `page` does, with their data and results."""
        ...

    async def summary(self, job_id: int) -> JobSummary | None:
        """Read a job as `page` shows it."""
        ...

    async def history(self, job_id: int, most: int) -> list[JobSummary]:
        """Read the runs that led to a job, itself, and those that followed it; up to so many in each direction."""
        ...

    async def job_logs(self, job_id: int, after: int, limit: int) -> list[LogLine]:
        """Read the lines that are kept of a job, those after one, in their order."""
        ...

    async def last_job_logs(self, job_id: int, before: int, limit: int) -> list[LogLine]:
        """Read the last lines that are kept of a job, of those before one, in their order."""
        ...

    async def cron_lines(self, after: int, limit: int) -> list[CronLine]:
        """Read the unfinished rows of cron jobs, by id."""
        ...

    async def job_types(self, lease: timedelta, job_type: str | None = None) -> list[KnownType]:
        """Read the types that live workers know, or one of them."""
        ...

    async def queues(self) -> list[QueueCount]:
        """Count the unfinished jobs of each pool and type, each kind up to 100,000 of a type and priority."""
        ...

    async def recent_runs(self) -> list[RecentRuns]:
        """Read how runs of late went."""
        ...

    async def throughput(self, step: timedelta, count: int) -> Throughput:
        """Read how runs of late ended, in slots of time up to now."""
        ...

    async def worker_pools(self) -> list[ShownPool]:
        """Read WorkerPools as their operators see them."""
        ...

    async def newest_id(self) -> int:
        """The highest id of a job; 0 where there is none."""
        ...

    async def seen(self, known: Sequence[int], last: int) -> list[JobSummary]:
        """Read some known jobs, the running ones, and those made after one; the latter two up to 1,000 each."""
        ...

    async def use_token(self, token_hash: str) -> Caller | None:
        """Find who shows a token, by its hash; None where it is not valid."""
        ...

    async def audit(self, before: int | None, limit: int) -> list[AuditEntry]:
        """Read who did what, newest first."""
        ...


class TokenStore(Protocol):
    """Tokens of the HTTP API; errors as in `JobStore`."""

    async def create_token(self, name: str, scope: str, token_hash: str, lasts: timedelta | None) -> ApiToken:
        """Store a token by its hash.

        Raises:
            InvalidInputError: Another one has the name.
        """
        ...

    async def tokens(self) -> list[ApiToken]:
        """Read all tokens, also those that are over."""
        ...

    async def revoke_token(self, name: str) -> ApiToken:
        """End a token at once.

        Raises:
            NotFoundError: None has the name.
        """
        ...
