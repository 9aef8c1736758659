"""What the parts need of each other, as protocols: the rules and loops know these, never the adapter behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from workerjobs.domain.blocks import BlockRef, Header, Heads
from workerjobs.domain.chains import Chain
from workerjobs.domain.data_schema import Schema
from workerjobs.domain.declared_filters import DeclaredFilter
from workerjobs.domain.events import DecodedLog, LogQuery, UndecodableLog
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.domain.lifecycle import Beginning, Settlement
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.domain.planning import Plan, UnplannedRun
from workerjobs.domain.scaling import Backlog


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
class PodIdentity:
    """The pod that a worker runs in, as the downward API tells it."""

    uid: str
    namespace: str | None = None
    name: str | None = None
    cluster_id: str | None = None
    """Its cluster, where the pod knows; None: an operator that finds the pod notes it."""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as others see it."""

    owner: str
    pool: str
    host: str
    pid: int
    version: str
    children: int
    types: tuple[str, ...]
    schemas_json: str
    """What each type's data must look like, as JSON Schema: an object of them by type."""
    is_draining: bool
    """It takes no more jobs, and none is being claimed for it."""
    booted: datetime
    """When it began, by its own machine's clock: the kubelet stamps its container by the same one."""
    pod: PodIdentity | None = None


@dataclass(frozen=True, slots=True)
class WorkerOrders:
    """What a worker is asked to do."""

    drain_reasons: list[str]
    """Why it should take no more jobs; empty: it should work."""
    is_revoked: bool
    """Its pod is gone: others get its jobs, so it stops them at once and ends."""


class DrainReason(StrEnum):
    """Why workers are asked to take no more jobs; one may have several reasons at once."""

    SCALE_DOWN = "ScaleDown"
    """There are to be fewer of them."""
    NODE_GOING = "NodeGoing"
    """Their node is about to be removed, or can't be reached."""
    POD_GOING = "PodGoing"
    """Their pod is being deleted: they end as at SIGTERM, which a container that just began may not have heard."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker that lives."""

    owner: str
    pool: str
    host: str
    pid: int
    version: str
    children: int
    types: list[str]
    is_draining: bool
    started: datetime
    seen: datetime
    """When it last showed itself."""
    running: int
    """Jobs that it holds."""
    namespace: str | None
    """Of its pod; None outside of Kubernetes."""
    pod_name: str | None
    pod_uid: str | None
    drain_reasons: list[str]
    """Why it is asked to take no more jobs."""

    @property
    def is_drained(self) -> bool:
        """It takes no more jobs, and the last one has ended: to remove it interrupts nothing."""
        return self.is_draining and not self.running


@dataclass(frozen=True, slots=True)
class PodWorker:
    """A worker in a pod, also one that has not shown itself for long."""

    owner: str
    cluster_id: str | None
    """Whose pod it is; None: no operator has found the pod yet."""
    namespace: str | None
    pod_name: str | None
    pod_uid: str
    booted: datetime
    """By the clock of its node."""
    drain_reasons: list[str]
    revoked_seconds: float | None
    """How long ago it was asked to stop its jobs and end; None: it was not."""
    has_stopped: bool
    """It says that it has."""
    running: int
    """Jobs that it holds."""
    is_alive: bool
    """It showed itself within a lease."""


@dataclass(frozen=True, slots=True)
class LostWorker:
    """A worker that is known to have ended, and how."""

    owner: str
    reason: str
    """A sentence for people, such as ``Worker pod x was OOM-killed``."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """One operator's time as the leader: who wrote since another one began is refused."""

    lease: str
    """The Lease, and whose: ``cluster id/namespace/name``."""
    transitions: int
    """How often the Lease had changed hands."""
    holder: str


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


@dataclass(frozen=True, slots=True)
class DueNotice:
    """Something in a pool is or becomes due."""

    pool: str
    seconds: float
    """From the moment of the notice, >= 0."""
    job_type: str | None = field(default=None, compare=False)
    """The type of all of them, where they have one."""


@dataclass(frozen=True, slots=True)
class LimitedNotice:
    """Jobs of a pool that are under a limit may have become free to start."""

    pool: str


@dataclass(frozen=True, slots=True)
class SettingsNotice:
    """Pauses or limits changed."""


@dataclass(frozen=True, slots=True)
class PlanNotice:
    """A cron row waits for its first tick."""


@dataclass(frozen=True, slots=True)
class CancelNotice:
    """A running job should stop."""

    job_id: int


@dataclass(frozen=True, slots=True)
class ResourceNotice:
    """A row of a custom resource changed."""

    cluster_id: str
    uid: str


@dataclass(frozen=True, slots=True)
class NotificationNotice:
    """Notifications or broadcasts were written or changed."""

    ids: tuple[int, ...]
    is_broadcast: bool


@dataclass(frozen=True, slots=True)
class MarkNotice:
    """Whatever transactions below the mark announced was heard before this."""

    mark: int


@dataclass(frozen=True, slots=True)
class Reconnected:
    """Listening began (again), or is not possible: anything may have been missed before."""


@dataclass(frozen=True, slots=True)
class WorkerNotice:
    """A worker is asked to do something."""

    owner: str


Notice = (
    DueNotice
    | LimitedNotice
    | SettingsNotice
    | PlanNotice
    | CancelNotice
    | ResourceNotice
    | WorkerNotice
    | NotificationNotice
    | MarkNotice
    | Reconnected
)


class NoticeSource(Protocol):
    """Delivers what the database announces."""

    def notices(self) -> AsyncIterator[Notice]:
        """Yield notices for ever; `Reconnected` first, and again whenever some may have been missed."""
        ...


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; None means any."""

    state: JobState | None = None
    type: str | None = None
    tag: str | None = None
    limit: int = 100


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

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """Store how runs ended, with the rows that follow; one refused result fails only its own job."""
        ...

    async def release(self, leases: Sequence[Lease]) -> list[int]:
        """Give jobs back unfinished, pending for others at once; returns the ids given back."""
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

    async def list(self, which: JobFilter) -> list[Job]:
        """Read jobs, newest first."""
        ...

    async def now(self) -> datetime:
        """The database's clock."""
        ...

    async def close(self) -> None:
        """Give the connection back; the store can't be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class StoredResource:
    """What the database remembers of a custom resource."""

    namespace: str
    name: str
    uid: str


class Cluster(Protocol):
    """The Kubernetes API.

    All methods raise `ClusterUnavailableError` where it can't be reached or can't serve now, and `ClusterError` where
    it refuses.
    """

    async def cluster_id(self) -> str:
        """The uid of the namespace kube-system, which identifies a cluster."""
        ...

    async def serves_workerjobs(self) -> bool:
        """Whether the cluster tells its clients that it knows WorkerJobs."""
        ...

    async def workerjob_uids(self, namespaces: Sequence[str]) -> frozenset[str]:
        """List the WorkerJobs of the namespaces, of all where none is given; all or an error, never a part."""
        ...

    async def delete_workerjob(self, namespace: str, name: str, uid: str, version: int) -> None:
        """Delete a WorkerJob, unless it is gone or has changed since the version that it was seen at."""
        ...

    async def write_event(self, namespace: str, name: str, event: Mapping[str, Any]) -> None:
        """Create an Event (``events.k8s.io/v1``), or bring one of that name up to date."""
        ...

    async def write_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> int | None:
        """Replace a WorkerJob's status.

        Returns:
            The resource's version after that; None where it is gone, or another one has its name now.
        """
        ...

    async def list_nodes(self) -> list[Mapping[str, Any]]:
        """Read all nodes, as JSON."""
        ...


@dataclass(frozen=True, slots=True)
class PoolQuestion:
    """Which jobs some workers could run."""

    pool: str
    due_soon: timedelta
    """Jobs due within so long count as due soon."""
    namespaces: tuple[str, ...] = ()
    """Only those of WorkerJobs in these; empty: all."""


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What a worker runs of one type."""

    owner: str
    type: str
    running: int
    newest_seconds: float
    """How long ago the last of them began."""


class PoolStore(Protocol):
    """What the tables know of pools of workers; errors as in `JobStore`."""

    async def backlogs(self, questions: Sequence[PoolQuestion]) -> list[Backlog]:
        """Read the unfinished jobs of each question, all at one moment; a paused pool has none, but those that run.

        At most 10,000 waiting jobs of a type are counted.
        """
        ...

    async def loads(self, pools: Sequence[str]) -> list[WorkerLoad]:
        """Read what workers of some pools run."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watch tells of objects, as JSON."""

    objects: Sequence[Mapping[str, Any]]
    are_all: bool = False
    """These are all there are, of one moment."""
    are_deleted: bool = False
    """This is what they were when they were deleted."""


class PodCluster(Protocol):
    """The Kubernetes API, as workers in pods need it; errors as in `Cluster`. Objects are their JSON."""

    def watch_pods(self, namespace: str | None, selector: str) -> AsyncIterator[Seen]:
        """Tell of all pods that a label selector finds, and then of changes, for as long as it goes.

        Args:
            namespace: Whose pods; None: all.
            selector: Of labels, such as ``a=b,c=d``.

        Yields:
            All of them first; then each change, and nothing now and then, as a sign of life.
        """
        ...

    def watch_nodes(self) -> AsyncIterator[Seen]:
        """Tell of all nodes, as `watch_pods`."""
        ...

    async def find_pod(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Read a pod; None where there is none."""
        ...

    async def find_node(self, name: str) -> Mapping[str, Any] | None:
        """Read a node; None where there is none."""
        ...

    async def annotate_pod(
        self, namespace: str, name: str, uid: str, annotations: Mapping[str, str | None]
    ) -> Mapping[str, Any] | None:
        """Write annotations, None removes one; returns the pod, None where it is gone."""
        ...


class LeaseCluster(Protocol):
    """The Kubernetes API, as electing a leader needs it; errors as in `Cluster`."""

    async def find_lease(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Read a Lease; None where there is none."""
        ...

    async def write_lease(self, namespace: str, name: str, manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Make a Lease, or replace the one of the manifest's resourceVersion; None where someone else was faster."""
        ...


class PoolCluster(Cluster, PodCluster, Protocol):
    """The Kubernetes API, as pools of workers need it; errors as in `Cluster`. Objects are their JSON."""

    @property
    def usual_namespace(self) -> str:
        """The namespace of this pod, or of the user's current context."""
        ...

    async def list_workerpools(self, namespaces: Sequence[str]) -> list[Mapping[str, Any]]:
        """Read the WorkerPools of the namespaces, of all where none is given."""
        ...

    async def read_workerpool(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Read a WorkerPool; None where there is none."""
        ...

    async def write_pool_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> int | None:
        """Replace a WorkerPool's status; returns as `Cluster.write_status`."""
        ...

    async def apply_workerpool(self, manifest: Mapping[str, Any]) -> frozenset[str]:
        """Bring a WorkerPool to what a manifest says, as long as nobody else has said something else.

        Returns:
            The fields that somebody else has set, such as ``.spec.workerCount``: then nothing was changed.
        """
        ...

    async def patch_workerpool(self, namespace: str, name: str, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Change fields of a WorkerPool's spec, where None removes one; returns the pool, None where there is none."""
        ...

    async def find_deployment(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Read a Deployment; None where there is none."""
        ...

    async def apply_deployment(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make a Deployment, or bring it to what a manifest says, whoever changed that; returns it."""
        ...

    async def list_pods(self, namespace: str, selector: str) -> list[Mapping[str, Any]]:
        """Read the pods that a label selector finds."""
        ...


@dataclass(frozen=True, slots=True)
class RunCounts:
    """How the runs of a resource ended, ever, also those whose rows were removed."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    """Of these, runs that tried again what had failed."""
    lost: int = 0
    """How often a run lost its worker and was begun anew."""


@dataclass(frozen=True, slots=True)
class ResourceState:
    """What the database knows of a resource beside its rows."""

    run_keys: frozenset[str] = frozenset()
    """Runs that were stored; each is stored once, ever."""
    is_suspended: bool = False
    history_limit: int | None = None
    has_surplus: bool = False
    """It has more finished rows than its history limit allows."""
    counts: RunCounts = RunCounts()


class ResourceStore(Protocol):
    """What the table knows of custom resources; errors as in `JobStore`."""

    async def states_of(self, cluster_id: str, uids: Sequence[str]) -> dict[str, ResourceState]:
        """Read what is known of each of the resources; read their rows before, so that no end is missed."""
        ...

    async def suspend_resources(self, cluster_id: str, uids: Sequence[str]) -> None:
        """Hold back pending rows of resources, and what becomes pending from now on; what runs goes on."""
        ...

    async def resume_resources(self, cluster_id: str, ticks: Mapping[str, datetime | None]) -> None:
        """Let the rows of resources go on.

        Args:
            cluster_id: Whose resources.
            ticks: By uid, the next tick of cron lines, for those whose own tick has passed.
        """
        ...

    async def keep_history(self, cluster_id: str, limits: Mapping[str, int | None]) -> None:
        """Keep so many finished rows of resources, by uid, and remove older ones, a thousand of each at most."""
        ...

    async def rows_of(self, cluster_id: str, uids: Sequence[str]) -> dict[str, list[Job]]:
        """Read, for each resource, its unfinished rows and its newest finished one, oldest first."""
        ...

    async def recorded(self, cluster_id: str, namespaces: Sequence[str]) -> list[StoredResource]:
        """Read the resources whose first row was stored and whose deletion was not; no namespaces means all."""
        ...

    async def update_pending(self, cluster_id: str, jobs: Sequence[NewJob]) -> list[int]:
        """Bring pending rows of resources up to a newer generation; rows claimed meanwhile stay as they are."""
        ...

    async def remove_resources(self, cluster_id: str, uids: Sequence[str]) -> list[Job]:
        """Note that resources are gone: pending rows are cancelled, running ones asked to stop."""
        ...

    async def cancel_deleted(self, cluster_id: str) -> list[Job]:
        """Cancel what unfinished rows resources noted as gone still have: inserted while that was noted."""
        ...

    async def forget_deleted(self, cluster_id: str, after: timedelta) -> int:
        """Drop the notes on resources that have been gone for a while and have no rows left; returns how many."""
        ...


class JobData(Protocol):
    """Gives jobs the fields of their data that are in Secrets and ConfigMaps."""

    async def resolve(self, job: Job) -> str:
        """The data of a job, as JSON, with what its ``dataFrom`` names.

        Raises:
            InvalidInputError: Something is missing, or the job may not have it.
            ClusterUnavailableError: The API can't be reached now.
            ClusterError: There is none, or it refuses.
        """
        ...


class PodStore(Protocol):
    """What the table knows of workers in pods; errors as in `JobStore`."""

    async def pod_workers(self, cluster_id: str, lease: timedelta) -> list[PodWorker]:
        """Read the workers in pods of a cluster, and those whose cluster nobody has noted; oldest first."""
        ...

    async def adopt_workers(self, cluster_id: str, owners: Sequence[str]) -> None:
        """Note that a cluster has the pods of these workers."""
        ...

    async def revoke_workers(self, owners: Sequence[str]) -> list[str]:
        """Ask workers to stop their jobs at once and end; they hear of it, and say so when they have."""
        ...

    async def release_lost(self, lost: Sequence[LostWorker]) -> list[Job]:
        """Take the jobs of lost workers from them, and note why.

        Returns:
            Those rows: pending again (``started`` None), with one rescue more; or, where they were lost too often or
            are to be cancelled, still running under a lease that has ended, for the workers' rescue to settle.
        """
        ...

    async def pool_backlog(self, pool: str) -> dict[str, int]:
        """Count a pool's jobs: ``backlog`` are due and not started, ``running`` are started."""
        ...

    async def forget_workers(self, owners: Sequence[str]) -> None:
        """Remove the lines of workers that have ended."""
        ...


class StorageForJobs(Protocol):
    """What opens a job's own connections to its database; a module, loaded when the first job asks for one."""

    async def open_store(self, url: str) -> JobStore:
        """Open the table of jobs."""
        ...

    def connect_for_job(self, url: str) -> Any:
        """Open a `psycopg.Connection`."""
        ...

    async def connect_async_for_job(self, url: str) -> Any:
        """Open a `psycopg.AsyncConnection`."""
        ...

    async def open_chain_store(self, url: str) -> ChainStore:
        """Open the tables of watched chains."""
        ...

    def close_for_job(self, connection: Any) -> None:
        """Close either, without waiting for anything."""
        ...

    def remember_payment(
        self, connection: Any, chain_id: int, payment: SignedTransaction, instead_of: str | None
    ) -> SignedTransaction:
        """Note a payment on a chain before it is sent; one at a time.

        Args:
            connection: Of `connect_for_job`.
            chain_id: Of the chain.
            payment: What is about to be sent.
            instead_of: The hash of the noted one that it replaces, if any.

        Returns:
            What is noted now: an earlier payment, where that is another one than ``instead_of``.
        """
        ...


@dataclass(frozen=True, slots=True)
class ChainCursor:
    """How far a chain is processed."""

    chain: str
    chain_id: int
    number: int
    hash: str
    """Of the last processed block."""
    final_number: int
    """The newest processed block that can't be undone any more."""
    start_number: int
    """The first block that was, or would have been, processed."""
    condition: str | None
    """Why processing stands still until somebody decides."""
    message: str | None

    @property
    def ref(self) -> BlockRef:
        """The last processed block."""
        return BlockRef(self.number, self.hash)


@dataclass(frozen=True, slots=True)
class ChainRange:
    """Blocks in a row, with the logs in them that filters asked for."""

    headers: Sequence[Header]
    """Oldest first, never empty."""
    logs: Sequence[DecodedLog]
    """In the order of the chain."""
    undecodable: Sequence[UndecodableLog]
    addresses: Sequence[tuple[str, str, int]]
    """Contracts that factories made in it: the filter's name, the address, the block's number."""


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """How an endpoint did since this was last asked."""

    name: str
    head: int | None
    latency_ms: float | None
    range_limit: int | None
    """The widest range of blocks that it answers, as far as is known."""
    requests: int
    errors: Mapping[str, int]
    """By class."""
    trouble: str | None
    """Why it is left alone for now."""


class ChainReader(Protocol):
    """One chain, over all its endpoints.

    All methods raise `ChainUnavailableError` where no endpoint answers now.
    """

    async def heads(self, at_least: int = 0) -> Heads:
        """Read how far the chain is.

        Args:
            at_least: An endpoint behind this block is asked last.
        """
        ...

    async def headers(self, numbers: Sequence[int]) -> list[Header | None]:
        """Read blocks by number; None: there is none."""
        ...

    async def read(
        self, parent: BlockRef | None, last: int, queries: Sequence[LogQuery], addresses: Mapping[str, Iterable[str]]
    ) -> ChainRange | None:
        """Read the blocks that follow one, with their logs, as far as endpoints answer at once.

        Args:
            parent: The block before them; None: from the first block on.
            last: The newest that is wanted; the range may end before it.
            queries: Which logs.
            addresses: For queries with a factory, the contracts known so far, by the query's name.

        Returns:
            What was read and fits together; None where the endpoints know no further block yet.

        Raises:
            ChainChangedError: The chain changed while it was read, or ``parent`` is no part of it any more.
        """
        ...

    def health(self) -> list[EndpointHealth]:
        """Tell how the endpoints did since this was last asked."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class ChainTransaction(Protocol):
    """What handlers of logs work in: all they do is committed with the cursor, or not at all."""

    @property
    def connection(self) -> Any:
        """The `psycopg.AsyncConnection`, inside of the transaction; for a handler's own statements."""
        ...

    async def users_of_wallets(self, wallets: Iterable[str]) -> dict[str, int]:
        """Find the users who own wallets, by lower-case address."""
        ...

    def notify(self, log: DecodedLog, user_id: int, data: Mapping[str, Any]) -> None:
        """Make a notification for a user, once for this log."""
        ...

    def enqueue(self, log: DecodedLog, job: NewJob) -> None:
        """Submit a job, once for this log."""
        ...


@dataclass(frozen=True, slots=True)
class ChainStep:
    """Blocks to be noted as processed."""

    chain: str
    begins_at: BlockRef
    """The cursor that they were read from."""
    headers: Sequence[Header]
    undecodable: Sequence[UndecodableLog]
    addresses: Sequence[tuple[str, str, int]]
    logs: int
    final_number: int
    """The chain's newest block that can't be undone any more."""
    head: Header
    """The chain's newest block."""


class ChainStore(Protocol):
    """The tables of watched chains; errors as in `JobStore`."""

    async def cursor(self, chain: str) -> ChainCursor | None:
        """Read how far a chain is processed; None: it was never watched."""
        ...

    async def earlier_cursor(self, chain: str) -> int | None:
        """Read the block up to which QuickDapp's own server processed a chain."""
        ...

    async def start(self, chain: str, chain_id: int, block: Header, final_number: int, head: Header) -> None:
        """Begin to watch a chain after a block; nothing where it is watched already."""
        ...

    async def blocks(self, chain: str) -> list[BlockRef]:
        """Read the processed blocks that are remembered, newest first."""
        ...

    async def addresses(self, chain: str) -> dict[str, list[str]]:
        """Read the contracts that factories made, by filter."""
        ...

    async def commit(self, step: ChainStep, handle: Callable[[ChainTransaction], Awaitable[None]]) -> bool:
        """Process blocks: effects, hashes and the cursor in one transaction.

        Args:
            step: What was read.
            handle: Runs inside of the transaction.

        Returns:
            False where the cursor is not where the step began any more; nothing was done then.
        """
        ...

    async def rewind(self, chain: str, begins_at: BlockRef, to: BlockRef) -> int | None:
        """Undo what blocks above ``to`` led to; returns how many effects, None where the cursor has moved."""
        ...

    async def count_reorg(self, chain: str, depth: int) -> None:
        """Count a reorganisation that was undone."""
        ...

    async def set_condition(self, chain: str, condition: str, message: str) -> None:
        """Note why processing stands still; the next commit ends it."""
        ...

    async def show(self, chain: str, head: Header | None, endpoints: Sequence[EndpointHealth]) -> None:
        """Note how far the chain is and how its endpoints do."""
        ...

    async def filters(self) -> list[DeclaredFilter]:
        """Read the filters that are declared as data."""
        ...

    async def declare_filter(self, declared: DeclaredFilter) -> None:
        """Store a filter in place of the one of its name."""
        ...

    async def remove_filter(self, name: str) -> bool:
        """Remove a filter; False where there is none."""
        ...

    async def chains(self) -> list[Mapping[str, Any]]:
        """Read all watched chains."""
        ...

    async def endpoints(self) -> list[Mapping[str, Any]]:
        """Read how all endpoints do."""
        ...

    async def dead_letters(self, chain: str, limit: int) -> list[Mapping[str, Any]]:
        """Read logs that could not be decoded, newest first."""
        ...

    async def close(self) -> None:
        """Give the connection back."""
        ...


class OpenChainReader(Protocol):
    """What opens chains; a module, loaded when the first job asks for one."""

    async def open_reader(self, chain: Chain, *, seconds: float) -> ChainReader:
        """Open a chain.

        Args:
            chain: Which, with its endpoints.
            seconds: How long a call may wait for endpoints that ask for patience.
        """
        ...


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction that is signed, and sent or not; hexadecimal with 0x."""

    transaction_hash: str
    signed_transaction: str


@dataclass(frozen=True, slots=True)
class Payment(SignedTransaction):
    """A payment of coins that is signed and not yet sent."""

    fee: int
    """Wei that it costs at most, beside its value."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction that is in a block."""

    gas_used: int
    succeeded: bool


class ChainNode(Protocol):
    """A node of a chain, for jobs that write to it; `workerjobs.chain.node.Web3Node` says what each method does.

    All methods but ``name`` and ``wallet`` raise `ChainUnavailableError` where it does not answer, and
    `ChainRefusedError` where it answers with an error.
    """

    name: str

    @property
    def wallet(self) -> str | None:
        """The address that pays; None: no key is set."""
        ...

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Call a method of the node's JSON-RPC."""
        ...

    def chain_id(self) -> int:
        """Which chain the node is on."""
        ...

    def is_development_node(self) -> bool:
        """Whether it can be told to set code."""
        ...

    def code_hash(self, address: str) -> str | None:
        """Keccak-256 of the code at an address; None: there is none."""
        ...

    def nonce(self, address: str, *, with_pending: bool = False) -> int:
        """How many transactions an account has sent."""
        ...

    def balance(self, address: str, *, with_pending: bool = False) -> int:
        """What an account has, in wei; with what is on its way if that is more."""
        ...

    def block_gas_limit(self) -> int:
        """Gas that the newest block may hold."""
        ...

    def base_fee(self) -> int:
        """Wei a gas that the newest block burns; 0 on chains without a base fee."""
        ...

    def creation_gas(self, sender: str, code: str) -> int | None:
        """Gas that creating a contract takes; None: the node can't say."""
        ...

    def plan_payment(self, to: str, value: int) -> Payment:
        """Sign a payment from the wallet; nothing is sent."""
        ...

    def send(self, signed_transaction: str) -> None:
        """Send a signed transaction; one that the node knows already is no error."""
        ...

    def receipt(self, transaction_hash: str) -> Receipt | None:
        """What became of a transaction; None: it is in no block."""
        ...

    def set_code(self, address: str, code: str) -> None:
        """Put code at an address of a development node."""
        ...


class ChainWriters(Protocol):
    """What opens chains for jobs that write to them; a module, loaded when the first job asks for one."""

    def open_node(self, chain: Chain, private_key: str | None = None) -> ChainNode:
        """Find a node of a chain that answers."""
        ...

    def read_chain_id(self, node: ChainNode) -> int:
        """Ask Multicall3 through itself (``aggregate3``) which chain it is on."""
        ...

    def multicall3_transaction(self) -> MulticallTransaction:
        """Read the transaction that creates Multicall3, and the code that it leaves on the chain."""
        ...


@dataclass(frozen=True, slots=True)
class MulticallTransaction:
    """What puts Multicall3 on a chain. All are hexadecimal with 0x."""

    signed_transaction: str
    creation_code: str
    runtime_code: str


@dataclass(frozen=True, slots=True)
class Message:
    """A notification to a user, or a broadcast, as it is stored now."""

    id: int
    user_id: int | None
    """None: a broadcast."""
    data_json: str
    is_read: bool
    created_at: datetime
    updated_at: datetime
    mark: int
    """The transaction that wrote it last: of two messages, the one that was written again later has a higher one."""


@dataclass(frozen=True, slots=True)
class Messages:
    """What was read since a mark."""

    messages: Sequence[Message]
    """Oldest first."""
    mark: int
    """Whatever transactions below this wrote is among them, or was written before the other mark."""
    is_complete: bool
    """False: there were more than may be read at once, or the mark is of another server."""


class MessageStore(Protocol):
    """Notifications and broadcasts, for those who pass them on; raises `DatabaseUnavailableError`."""

    async def since(self, mark: int | None, user_ids: Sequence[int]) -> Messages:
        """Read what was written since a mark; without one, nothing but the mark of now."""
        ...

    async def by_id(self, ids: Sequence[int], user_ids: Sequence[int]) -> list[Message]:
        """Read notifications, those of some users alone."""
        ...

    async def broadcasts_by_id(self, ids: Sequence[int]) -> list[Message]:
        """Read broadcasts."""
        ...

    async def announce_mark(self) -> None:
        """Have a `MarkNotice` delivered to everybody: it comes after what was announced until now."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...
