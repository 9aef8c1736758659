"""The table of jobs, as workers and those who submit know it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from workerjobs.domain.data_schema import Schema
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.domain.lifecycle import Beginning, Settlement
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.domain.planning import Plan, UnplannedRun
from workerjobs.ports.workers import DrainReason, WorkerOrders, WorkerRecord, WorkerStatus


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed row that its owner still holds."""

    job_id: int
    fencing_token: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal of leases found."""

    held: frozenset[int]
    """Ids whose lease goes on; those missing were lost to a rescuer and must be stopped."""
    cancel_requested: frozenset[int]
    """Of those, ids that someone wants cancelled."""


@dataclass(frozen=True, slots=True)
class Rescue:
    """What a rescue of expired leases did."""

    released: tuple[Job, ...]
    """Pending again, for anyone."""
    taken: tuple[Job, ...]
    """Lost too often, or cancelled meanwhile: leased to the rescuer, who settles them."""


LimitedPlace = tuple[str, str]
"""A job type and a key of it: where a look at jobs under limits ended."""
FIRST_PLACE: LimitedPlace = ("", "")


@dataclass(frozen=True, slots=True)
class LimitedClaim:
    """What a claim under limits found."""

    jobs: tuple[Job, ...]
    unlimited: int
    """Of the rows asked for, so many are left to jobs without limits, as far as these come first."""
    retry_seconds: float | None
    """When to look again without being told: 0: now, more may start, or another claim was in the way; None: no need."""
    after: LimitedPlace
    """Where the next look should begin; `FIRST_PLACE` after all keys were seen."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pool or job type whose jobs are not started for now."""

    kind: PauseKind
    name: str
    reason: str | None
    paused_at: datetime


@dataclass(frozen=True, slots=True)
class StoredLimit:
    """What was set for a job type or a key; None: without limit."""

    kind: LimitKind
    name: str
    concurrency: int | None
    rate_limit: int | None
    rate_period_ms: int | None
    running: int
    """Jobs that run under it now."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is."""

    job_id: int
    fencing_token: int
    progress_json: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something that a job logged or printed."""

    job_id: int
    at: datetime
    level: str
    """One of `workerjobs.logs.LEVELS`."""
    message: str
    id: int = 0
    """Of the stored line; lines of a job are in the order of these."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a batch of settlements."""

    stored: frozenset[int]
    """Ids settled as asked."""
    refused: dict[int, str]
    """Ids settled as failed, as the database refused their result; with its reason."""
    stale: frozenset[int]
    """Ids whose lease belongs to someone else now; nothing was changed."""
    without_follow_up: dict[int, str]
    """Ids settled without the row that should follow, as the database refused that; with its reason."""
    postponed: frozenset[int] = frozenset()
    """Ids not settled yet: an open transaction stores a job of their tag, and its end decides about their retry."""


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs; what is None or empty means any."""

    states: Sequence[JobState] = ()
    type: str | None = None
    tag: str | None = None
    pool: str | None = None
    user_id: int | None = None
    namespace: str | None = None
    cron_key: str | None = None
    since: datetime | None = None
    """Only those that ended then or later; of unfinished ones, that were made then or later."""
    until: datetime | None = None
    """Only those that ended, or were made, before."""
    is_last: bool = False
    """Only those that no retry and no run by hand followed."""
    before: int | None = None
    """Only those with a smaller id."""
    limit: int = 50


class JobStore(Protocol):
    """The table of jobs.

    Every method is one transaction. All raise `DatabaseUnavailableError` when the connection is lost; a statement may
    then have taken effect or not, and every method can be called again.
    """

    async def submit(self, jobs: Sequence[NewJob]) -> list[Job]:
        """Store jobs, cancelling pending ones of the same tags; returns them in the order given.

        Jobs of a custom resource are stored once per resource, ever; those stored before are left out.

        Raises:
            InvalidInputError: A job can't be stored; none was.
        """
        ...

    async def submit_bulk(self, jobs: Iterable[NewJob | Mapping[str, Any]]) -> int:
        """Store very many jobs, all or none; returns how many. As `submit`, but for jobs of custom resources.

        Raises:
            InvalidInputError: Some can't be stored, each named by its index; none was.
        """
        ...

    async def ensure_cron(self, jobs: Sequence[NewJob]) -> list[Job]:
        """Store those cron jobs (`NewJob.cron_key` set) whose line has no unfinished row; their tags cancel nothing."""
        ...

    async def place(self, jobs: Sequence[NewJob], lease: timedelta | None = None) -> int:
        """Move waiting rows of built-in jobs to the jobs' pools; returns how many.

        Args:
            jobs: With ``cron_key``, or with a ``resource``, by which their rows are found.
            lease: How long a worker counts as alive that does not show itself: only rows move that no live worker of
                their pool runs, and only to where one does. None: all move.
        """
        ...

    async def unplanned(self, limit: int) -> list[UnplannedRun]:
        """Read cron rows that were scheduled in SQL and wait for their first tick, one of each line."""
        ...

    async def plan(self, plans: Sequence[Plan]) -> list[Job]:
        """Store first ticks; returns the rows that had none until now. Those that another worker plans are left out."""
        ...

    async def claim(
        self, owner: str, pool: str, limit: int, lease: timedelta, types: Sequence[str] | None = None
    ) -> list[Job]:
        """Lease up to ``limit`` due jobs that no limit concerns: highest priority first, then by due moment, then id.

        Args:
            owner: Whom the leases belong to.
            pool: Whose jobs.
            limit: How many at most.
            lease: How long they hold without a renewal.
            types: The job types that the owner knows; None means all. Jobs of paused types and pools stay.
        """
        ...

    async def claim_announced(
        self, owner: str, pool: str, job_id: int, lease: timedelta, types: Sequence[str]
    ) -> list[Job]:
        """Lease the job of an announcement, if `claim` could, without a search; empty: it is not to be had now."""
        ...

    async def claim_limited(
        self,
        owner: str,
        pool: str,
        limit: int,
        lease: timedelta,
        types: Sequence[str],
        after: LimitedPlace = FIRST_PLACE,
        asked: datetime | None = None,
    ) -> LimitedClaim:
        """Lease up to ``limit`` due jobs that are under the limits of a key or a type, as far as these allow.

        Jobs without limits that come before them by priority, due moment and id are counted and left to `claim`. Of
        very many keys one call looks at some; the next call goes on ``after`` these. Where the call comes long after
        it was ``asked`` (the database's clock; None: now), as `rescue` has it, expired leases count as well.
        """
        ...

    async def claim_unknown(
        self,
        owner: str,
        pool: str,
        limit: int,
        lease: timedelta,
        types: Sequence[str],
        asked: datetime | None = None,
    ) -> list[Job]:
        """Lease due jobs whose type neither is among ``types`` nor known to any live worker of the pool.

        ``asked`` as in `claim_limited`: long after it, workers count that did not show themselves for a while.
        """
        ...

    async def next_due(self, pool: str, types: Sequence[str] | None = None) -> timedelta | None:
        """How long until the earliest pending job that `claim` would take is due; zero: now; None: there is none."""
        ...

    async def show_worker(self, worker: WorkerRecord) -> WorkerOrders:
        """Note that a worker lives, and which job types it knows; returns what it is asked to do."""
        ...

    async def remove_worker(self, owner: str) -> None:
        """Forget a worker that has ended."""
        ...

    async def schemas_of(self, pool: str, job_type: str, lease: timedelta) -> list[Schema]:
        """Read what live workers ask of the data of a type; one that takes anything says ``{"type": "object"}``.

        Args:
            pool: Whose workers.
            job_type: The type.
            lease: How long a worker counts as alive that does not show itself.

        Returns:
            JSON Schemas, those of the newest worker first; empty where none knows the type.
        """
        ...

    async def renew(self, leases: Sequence[Lease], lease: timedelta) -> Renewal:
        """Prolong leases, also expired ones that nobody rescued yet."""
        ...

    async def begin(self, beginnings: Sequence[Beginning]) -> dict[int, str]:
        """Insert the next rows of cron lines whose claimed runs may overlap, before these are started.

        Each in the same statement that marks its run as followed: settling it adds no other, and a run that was claimed
        and not begun gets its next row from whoever claims it again. Older runs that one replaces are asked to cancel.

        Returns:
            What the database refused, with its reason, by the run's id.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement], *, postpones: bool = True) -> Settled:
        """Store how runs ended, with the rows that follow; one refused result fails only its own job.

        Never waits for others that store jobs of the same tags.

        Args:
            settlements: How runs ended.
            postpones: Whether what depends on others that store jobs now is left out; else a retry is stored, and may
                stay pending beside a job that was to replace it.
        """
        ...

    async def release(self, begun: Sequence[Lease], unbegun: Sequence[Lease] = ()) -> list[int]:
        """Give jobs back unfinished, pending for others at once; returns the ids given back.

        Args:
            begun: Of jobs whose function was called.
            unbegun: Of others: for the rates that they are under they have not started.
        """
        ...

    async def release_strays(self, owner: str, leases: Sequence[Lease]) -> list[int]:
        """Give back what an owner claimed without learning of it, as the answer was lost; ``leases`` it knows."""
        ...

    async def rescue(self, owner: str, lease: timedelta, limit: int, *, asked: datetime | None = None) -> Rescue:
        """Take jobs from workers whose lease ran out.

        Does nothing until the server has been up for one full lease: after an outage, owners get that long to renew.

        Args:
            owner: Who rescues.
            lease: How long leases hold.
            limit: At most so many.
            asked: When the rescuer decided to, on the database's clock; if that was a third of a lease ago when the
                database hears of it, there was an outage between, and nothing is done.
        """
        ...

    async def save_progress(self, reports: Sequence[Progress]) -> None:
        """Store how far running jobs are; stale tokens change nothing."""
        ...

    async def save_logs(self, lines: Sequence[LogLine]) -> None:
        """Store what jobs logged."""
        ...

    async def cancel(self, job_ids: Sequence[int], reason: str = "Job cancelled") -> list[Job]:
        """Cancel pending jobs and ask running ones to stop; returns those that were not finished."""
        ...

    async def cancel_tag(self, tag: str, reason: str = "Job cancelled") -> list[Job]:
        """Cancel all unfinished jobs of a tag, as `cancel` does."""
        ...

    async def retry(self, job_ids: Sequence[int]) -> list[Job]:
        """Run finished jobs again, now, each as a new row that names the old one; returns the new ones.

        Raises:
            NotFoundError: There is none of some id; nothing was stored.
            InvalidInputError: Some are not finished; nothing was stored.
        """
        ...

    async def prune(self, limit: int) -> int:
        """Remove up to ``limit`` finished rows past their time; returns how many."""
        ...

    async def workers(self, lease: timedelta) -> list[WorkerStatus]:
        """Read the workers that showed themselves within a lease."""
        ...

    async def drain_workers(self, owners: Sequence[str], reason: DrainReason) -> list[str]:
        """Ask workers to take no more jobs and finish those that they run; they hear of it at once.

        Several parts may ask, each for its own reason; one works again when no reason is left.

        Returns:
            Owners that were not asked for this reason before.
        """
        ...

    async def undrain_workers(self, owners: Sequence[str], reason: DrainReason) -> list[str]:
        """Take a reason to drain back; returns the owners that had it."""
        ...

    async def acknowledge_revocation(self, owner: str) -> None:
        """Say that a worker whose pod is gone has stopped its jobs."""
        ...

    async def pause(self, kind: PauseKind, name: str, reason: str | None = None) -> Pause:
        """Start no more jobs of a pool or type, from the next claim on; running ones go on."""
        ...

    async def resume(self, kind: PauseKind, name: str) -> bool:
        """End a pause; workers are woken. False where there was none."""
        ...

    async def pauses(self) -> list[Pause]:
        """Read all pauses."""
        ...

    async def declare_limits(self, concurrency: Mapping[str, int]) -> None:
        """Limit how many jobs of types run at once, as their code says; limits that were set by hand stay."""
        ...

    async def set_limit(
        self,
        kind: LimitKind,
        name: str,
        concurrency: int | None = None,
        rate_limit: int | None = None,
        rate_period_ms: int | None = None,
    ) -> None:
        """Limit the jobs of a type or key, in place of what was set before.

        Raises:
            InvalidInputError: Nothing is limited, or a number is out of its range.
        """
        ...

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        """Remove what was set for a type or key; what jobs say of their key stays. False where nothing was set."""
        ...

    async def limits(self, lease: timedelta) -> list[StoredLimit]:
        """Read what was set for types and keys."""
        ...

    async def remove_unused(self) -> None:
        """Forget workers that vanished long ago, and concurrency keys that nothing uses."""
        ...

    async def get(self, job_id: int) -> Job | None:
        """Read one job."""
        ...

    async def list(self, which: JobQuery) -> list[Job]:
        """Read jobs, newest first."""
        ...

    async def now(self) -> datetime:
        """The database's clock."""
        ...

    async def close(self) -> None:
        """Give the connection back; the store can't be used afterwards."""
        ...
