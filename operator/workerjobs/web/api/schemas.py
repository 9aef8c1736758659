"""What goes in and out, as JSON: the table's words in camelCase. Durations that name no unit are milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from workerjobs.domain import job as domain
from workerjobs.domain.job import JobState
from workerjobs.domain.job_checks import MAX_LIMIT, MAX_MILLISECONDS, MAX_NAME
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.domain.parsing import parse_moment, read_states
from workerjobs.domain.tokens import Scope
from workerjobs.errors import InvalidInputError

MAX_ID = 2**63 - 1
MAX_PAGE = 500
MAX_BULK = 5_000
USUAL_REASON = "Job cancelled"

Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f]+$")]
Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Milliseconds = Annotated[int, Field(ge=0, le=MAX_MILLISECONDS)]
PositiveMilliseconds = Annotated[int, Field(ge=1, le=MAX_MILLISECONDS)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
Moment = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class Input(BaseModel):
    """What is sent; names that are not known are refused."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)


class Query(BaseModel):
    """What stands behind the question mark of a URL."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class Output(BaseModel):
    """What is answered: each name always, and no other ones."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        from_attributes=True,
        extra="forbid",
        json_schema_serialization_defaults_required=True,
    )


# --- jobs


class Retry(Input):
    """How often and when a failed job is tried again."""

    limit: int = Field(ge=0, le=1_000_000, description="Retries after the first attempt.")
    initial_delay: Milliseconds = Field(10_000, description="Before the first retry.")
    factor: float = Field(2, ge=1, le=1000, description="Each further delay is the last one times this.")
    max_delay: Milliseconds = Field(3_600_000, description="No delay grows beyond this.")
    jitter: float = Field(0, ge=0, le=1, description="The part of a delay that chance may take off.")


class NewJob(Input):
    """A job to submit."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "sendReport", "data": {"to": ["ada"]}, "retry": {"limit": 3}}]}
    )

    type: Name = Field(description="Which function runs.")
    data: dict[str, Any] = Field(
        {},
        description="Its arguments. Where live workers know the type, these are checked by its schema (GET /types).",
    )
    user_id: int = Field(0, ge=0, le=2**31 - 1, description="The user that it is for; 0 is the system.")
    tag: Name | None = Field(None, description="Cancels every pending job of the same tag.")
    due: str | None = Field(
        None,
        description="When to run, ISO 8601, UTC where it has no zone; now, or the schedule's next tick, if not given.",
        json_schema_extra={"format": "date-time"},
    )
    cron_schedule: str | None = Field(
        None,
        max_length=200,
        description="Run again and again: five or six fields, seconds first with six; or @hourly, …",
    )
    time_zone: str | None = Field(None, max_length=100, description="IANA name; UTC if not given.")
    catch_up: domain.CatchUp | None = Field(None, strict=False, description="Which missed ticks of a schedule are run.")
    concurrency_policy: domain.ConcurrencyPolicy | None = Field(
        None, strict=False, description="Whether runs of a schedule may overlap; Forbid if not given."
    )
    persistent: bool = Field(False, description="Keep it for ever once finished.")
    priority: int = Field(0, ge=-(2**15), le=2**15 - 1, description="Higher runs first.")
    pool: Name = Field("default", description="Whose workers run it.")
    timeout_ms: PositiveMilliseconds | None = Field(None, description="It is stopped after so long.")
    remove_delay: Milliseconds = Field(0, description="How long after `due` it is kept; 0 is one hour.")
    auto_reschedule_on_failure: bool = Field(False, description="After a failure it runs again, any number of times.")
    auto_reschedule_on_failure_delay: Milliseconds = 0
    retry: Retry | None = None
    concurrency_key: Name | None = Field(None, description="Jobs of one key share limits.")
    concurrency_limit: Limit | None = Field(None, description="So many jobs of the key run at once.")
    rate_limit: Limit | None = Field(None, description="So many jobs of the key start in each ratePeriod.")
    rate_period: PositiveMilliseconds | None = None
    traceparent: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        description="W3C trace context of whoever submits it.",
    )


class NewJobs(Input):
    """Jobs to submit, all or none."""

    jobs: list[NewJob] = Field(min_length=1, max_length=MAX_BULK)


class JobIds(Output):
    """Ids of jobs."""

    ids: list[int] = Field(description="In the order in which they were given.")


Warnings = Annotated[
    list[str],
    Field(
        description="What may be a mistake, though all was stored: a type that no live worker of the job's pool knows, "
        "with names that are like it. Unless one that does has come by then, such a job fails."
    ),
]


class SubmittedJobs(JobIds):
    """Ids of jobs that were submitted."""

    warnings: Warnings = []


class CancelJob(Input):
    """Why a job is cancelled."""

    reason: Reason = Field(USUAL_REASON, description="Becomes the error of a job that was still pending.")


class JobChange(Input):
    """What to change of a pending job; what is not given stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"due": None}, {"priority": 10, "pool": "urgent"}]})

    due: str | None = Field(
        None,
        description="When to run, ISO 8601, UTC where it has no zone; null: now.",
        json_schema_extra={"format": "date-time"},
    )
    priority: int | None = Field(None, ge=-(2**15), le=2**15 - 1, description="Higher runs first.")
    pool: Name | None = Field(None, description="Whose workers run it.")


class Cancelled(Output):
    """What became of jobs that were to be cancelled; those that were finished are in neither list."""

    cancelled: list[int] = Field(description="Were pending, and are cancelled.")
    stopping: list[int] = Field(description="Are running, and will be stopped by their worker.")


def _read_states(given: Any) -> Any:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return given
    try:
        return list(read_states(texts))
    except InvalidInputError as error:
        raise ValueError(str(error)) from None


def _read_moment(given: Any) -> datetime:
    if not isinstance(given, str):
        raise ValueError("give a moment such as 2030-01-31T08:00:00Z")
    return parse_moment(given)


States = Annotated[list[JobState], BeforeValidator(_read_states)]
Since = Annotated[datetime, BeforeValidator(_read_moment), WithJsonSchema({"type": "string", "format": "date-time"})]


class JobConditions(BaseModel):
    """What jobs are found by; all conditions hold."""

    states: States = Field([], alias="state", description="How far they are: one of these.")
    type: Name | None = Field(None, description="Of this job type.")
    tag: Name | None = Field(None, description="With this tag.")
    pool: Name | None = Field(None, description="Of this pool.")
    user_id: int | None = Field(None, ge=0, le=2**31 - 1, description="For this user; 0 is the system.")
    namespace: Name | None = Field(None, description="Of the WorkerJob resource that it comes from.")
    cron_key: Name | None = Field(None, description="Runs of this cron job.")
    since: Since | None = Field(None, description="Ended then or later; of unfinished ones: made then or later.")
    until: Since | None = Field(None, description="Ended, or made, before.")


class JobListQuery(JobConditions, Query):
    """Which jobs; all conditions hold. `state` may be given several times, or hold several with commas."""

    is_last: bool = Field(False, description="Only jobs that no retry and no run by hand followed.")
    before: Id | None = Field(None, description="Only smaller ids: `next` of the page before this one.")
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="At most so many in a page.")


class WhichJobs(JobConditions, Input):
    """Which jobs to change; all conditions hold, and at least one besides `before` is given."""

    before: Id | None = Field(None, description="Only smaller ids: `before` of a dry run, for what that counted.")


class SomeJobs(Input):
    """Which jobs: by their ids, or all that a filter finds."""

    ids: Annotated[list[Id] | None, Field(min_length=1, max_length=MAX_BULK)] = None
    where: Annotated[WhichJobs | None, Field(description="A filter.")] = None
    limit: Annotated[
        int | None,
        Field(ge=1, le=MAX_BULK, description=f"With `where`: at most so many, the oldest first; {MAX_BULK} if none."),
    ] = None
    dry_run: Annotated[bool, Field(description="With `where`: only count what would be changed.")] = False


class RetryJobs(SomeJobs):
    """Which jobs to run again; `where` finds failed ones unless it names cancelled ones in `state`."""


class CancelJobs(SomeJobs):
    """Which jobs to cancel; `tag` alone takes all unfinished ones of it, of whatever number."""

    tag: Name | None = None
    reason: Reason = USUAL_REASON


class MatchingJobs(Output):
    """What would be changed: the answer to a dry run."""

    count: int = Field(description="Counted up to 100,000.")
    types: dict[str, int] = Field(description="How many of each job type.")
    cron_jobs: int = Field(description="How many are the current run of a cron job, which ends when that is cancelled.")
    ids: list[int] = Field(description="The first of them, as many as `limit`.")
    before: int | None = Field(
        description="Give it in `where` so that only what was counted is changed; null: nothing was found."
    )


class JobSummary(Output):
    """A job without its data and result."""

    id: int
    state: JobState
    type: str
    user_id: int
    tag: str | None
    pool: str
    priority: int
    attempt: int = Field(description="1 is the first.")
    due: Moment
    started: Moment | None
    finished: Moment | None
    cancel_requested: bool
    progress: Any = Field(description="`current`, `total` and `message`, as far as the job tells them.")
    error: str | None = Field(description="Of a job that failed or was cancelled; its first 500 characters.")
    cron_schedule: str | None
    cron_key: str | None
    rescheduled_from_job: int | None = Field(description="The run before this one.")
    namespace: str | None
    resource_name: str | None
    created_at: Moment
    updated_at: Moment


class JobList(Output):
    """A page of jobs, newest first."""

    jobs: list[JobSummary]
    next: int | None = Field(
        description="Give it as `before` to get the next page; null: there is none. Of rare jobs a page may have few, "
        "or none, and a next one all the same: one look goes through 100,000 rows at most."
    )


class Job(Output):
    """A job with all that is known of it."""

    id: int
    state: JobState
    type: str
    user_id: int
    data: Any
    tag: str | None
    pool: str
    priority: int
    due: Moment
    started: Moment | None
    finished: Moment | None
    success: bool | None
    result: Any = Field(description='What it returned; after a failure `{"error": …}`.')
    progress: Any
    attempt: int
    rescues: int = Field(description="How often its worker was lost.")
    lost_reason: str | None = Field(description="How, the last time.")
    cancel_requested: bool
    persistent: bool
    remove_at: Moment | None
    remove_delay: int
    auto_reschedule_on_failure: bool
    auto_reschedule_on_failure_delay: int
    rescheduled_from_job: int | None
    retry_limit: int | None
    retry_initial_delay: int | None
    retry_factor: float | None
    retry_max_delay: int | None
    retry_jitter: float | None
    timeout_ms: int | None
    cron_schedule: str | None
    cron_key: str | None
    tick: Moment | None
    time_zone: str | None
    catch_up: str | None
    concurrency_policy: str | None
    concurrency_key: str | None
    concurrency_limit: int | None
    rate_limit: int | None
    rate_period: int | None
    lease_owner: str | None = Field(description="The worker that runs it.")
    lease_deadline: Moment | None
    fencing_token: int | None = Field(description="Of its run: a number that grows with each run of any job.")
    cluster_id: str | None
    namespace: str | None
    resource_name: str | None
    resource_uid: str | None
    resource_generation: int | None
    data_from: Any = Field(description="Which keys of Secrets and ConfigMaps its data is completed from; never values.")
    traceparent: str | None
    is_suspended: bool = Field(
        description="Pending, and held back: its WorkerJob is suspended, or its cron job paused."
    )
    created_at: Moment
    updated_at: Moment


class SubmittedJob(Job):
    """A job that was submitted."""

    warnings: Warnings = []


class FullJobList(Output):
    """A page of jobs with all that is known of them, newest first."""

    jobs: list[Job]
    next: int | None = Field(description="As in the list of jobs.")


class JobWithHistory(Job):
    """A job, and the runs that it belongs to."""

    history: list[JobSummary] = Field(
        description="Runs that led to this one, this one, and those that followed it (retries, runs by hand, runs of a "
        "cron job), oldest first; 50 in each direction."
    )


class LogQuery(Query):
    """Which lines."""

    after: int = Field(0, ge=0, le=MAX_ID, description="`next` of the page before this one, or the last line's id.")
    limit: int = Field(100, ge=1, le=MAX_PAGE, description="At most so many in a page.")


class LogLine(Output):
    """Something that a job logged or printed."""

    id: int
    at: Moment
    level: str
    message: str


class LogLines(Output):
    """A page of lines, in their order."""

    lines: list[LogLine]
    next: int | None = Field(description="Give it as `after` to get the next page; null: there is none now.")


# --- cron


class CronQuery(Query):
    """Which cron jobs."""

    after: int = Field(0, ge=0, le=MAX_ID, description="`next` of the page before this one.")
    limit: int = Field(100, ge=1, le=MAX_PAGE, description="At most so many in a page.")
    ticks: int = Field(5, ge=0, le=50, description="How many coming ticks to tell of each.")


Key = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1_000, pattern=r"^[^\x00]+$")]


class CronLineName(Input):
    """Which cron job."""

    key: Key = Field(description="Its `key` in the list of cron jobs.")


class CronPause(CronLineName):
    """Which cron job is paused, and why."""

    reason: Reason | None = Field(None, description="For those who see the pause.")


class CronJob(JobSummary):
    """A cron job, by its run that is pending or running."""

    key: str = Field(description="What it is called, whichever of its runs is the current one.")
    time_zone: str | None
    catch_up: str | None
    concurrency_policy: str | None
    tick: Moment | None = Field(description="The tick that this run is for.")
    is_suspended: bool
    next_ticks: list[Moment] = Field(description="Coming ticks; of a suspended job none.")
    last_states: list[JobState] = Field(description="How its last runs ended, newest first, at most ten.")


class CronList(Output):
    """A page of cron jobs."""

    cron: list[CronJob]
    next: int | None = Field(description="Give it as `after` to get the next page; null: there is none.")


# --- limits


class LimitRequest(Input):
    """What to limit: jobs at once, starts in a period, or both. What is not given is not limited."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"concurrency": 4}, {"rateLimit": 100, "ratePeriod": 3_600_000}]}
    )

    concurrency: int | None = Field(None, ge=0, le=MAX_LIMIT, description="So many run at once; 0 lets none start.")
    rate_limit: Limit | None = Field(None, description="So many start in each ratePeriod.")
    rate_period: PositiveMilliseconds | None = Field(None, description="Goes with rateLimit.")


class TypeOrKeyLimit(Output):
    """The limit of a job type, or of a concurrency key."""

    kind: LimitKind
    name: str
    concurrency: int | None = Field(description="So many run at once; null: any number.")
    rate_limit: int | None = Field(description="So many start in each ratePeriod; null: any number.")
    rate_period: int | None
    running: int = Field(description="Jobs that run under it now.")


class LimitList(Output):
    """All limits that are set."""

    limits: list[TypeOrKeyLimit]


# --- workers, pools, types


class Worker(Output):
    """A worker that lives."""

    owner: str
    pool: str
    host: str
    pid: int
    version: str
    children: int
    running: int
    is_draining: bool
    drain_reasons: list[str]
    types: list[str]
    namespace: str | None
    pod_name: str | None
    pod_uid: str | None
    started: Moment
    seen: Moment


class WorkerList(Output):
    """All workers that live."""

    workers: list[Worker]


class PauseRequest(Input):
    """Why something is paused."""

    reason: Reason | None = Field(None, description="For those who see the pause.")


class Pause(Output):
    """Something whose jobs are not started for now; running ones go on."""

    kind: PauseKind
    name: str
    reason: str | None
    paused_at: Moment


class PauseList(Output):
    """All that is paused."""

    pauses: list[Pause]


class Pool(Output):
    """A pool: its workers, and the jobs that wait for them."""

    name: str
    workers: int
    draining: int = Field(description="Of the workers, those that take no more jobs.")
    children: int = Field(description="Jobs that the workers run at once, at most.")
    running: int
    waiting: int = Field(description="Due and not started; counted up to 100,000 of a type and priority, as `later`.")
    later: int = Field(description="Not due yet.")
    oldest_seconds: float | None = Field(description="For how long the oldest of those that wait has been due.")
    types: list[str] = Field(description="That its workers know.")
    pause: Pause | None


class PoolList(Output):
    """All pools that have workers, unfinished jobs or a pause."""

    pools: list[Pool]


class WorkerPool(Output):
    """A WorkerPool of a Kubernetes cluster, as its operator sees it."""

    uid: str
    namespace: str
    name: str
    pool: str = Field(description="Whose jobs its pods run.")
    desired: int = Field(description="How many pods there should be.")
    replicas: int = Field(description="How many there are.")
    ready: int = Field(description="Of these, those that are ready.")
    reason: str = Field(description="Why so many are desired, in a word.", examples=["ScaleUp"])
    message: str = Field(description="Why, in a sentence.")
    workers: int = Field(description="Workers of the pool that live, wherever they run.")
    pause: Pause | None = Field(description="The pool's.")


class WorkerPoolList(Output):
    """All WorkerPools of the clusters that work on this database."""

    worker_pools: list[WorkerPool]


class JobType(Output):
    """A job type that live workers know."""

    type: str
    pools: list[str]
    # Not "schema": pydantic has a method of that name.
    data_schema: dict[str, Any] = Field(alias="schema", description="JSON Schema of its data.")
    is_paused: bool


class JobTypeList(Output):
    """All job types that live workers know."""

    types: list[JobType]


# --- figures, audit


class QueueCount(Output):
    """The unfinished jobs of a type in a pool."""

    pool: str
    type: str
    waiting: int
    later: int
    running: int
    oldest_seconds: float | None


class RecentRuns(Output):
    """How runs of a type went of late."""

    type: str
    runs: int
    failed: int = Field(description="Of these, as well those that were cancelled while they ran.")
    mean_seconds: float
    p95_seconds: float
    last_finished: Moment


class Statistics(Output):
    """Figures of the queue."""

    waiting: int = Field(description="Due and not started; counted up to 100,000 of a type and priority, as `later`.")
    later: int = Field(description="Not due yet.")
    running: int
    oldest_seconds: float | None = Field(description="For how long the oldest of those that wait has been due.")
    workers: int
    children: int
    queues: list[QueueCount]
    recent: list[RecentRuns] = Field(description="Of the newest 2,000 jobs, those that are finished.")


class Me(Output):
    """Who asks."""

    actor: str = Field(description="As in the audit.", examples=["dashboard"])
    scope: Scope = Field(description="read: may look; write: may change things as well.")


class AuditQuery(Query):
    """Which entries."""

    before: Id | None = Field(None, description="`next` of the page before this one.")
    limit: int = Field(100, ge=1, le=MAX_PAGE, description="At most so many in a page.")


class AuditEntry(Output):
    """Something that somebody did through this API."""

    id: int
    at: Moment
    actor: str = Field(
        description="The token's name; user:NAME: signed in by a proxy; server: WORKERJOBS_SERVER_TOKEN; loopback: no "
        "token was needed."
    )
    token_id: int | None
    address: str | None
    action: str
    details: dict[str, Any]


class Audit(Output):
    """A page of the audit, newest first."""

    entries: list[AuditEntry]
    next: int | None
