"""A job as it is asked for (`NewJob`) and as it is stored (`Job`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

import msgspec

from workerjobs.tracing import trace_id_of


class JobState(StrEnum):
    """Where a job stands; derived from its row, never stored."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing will happen to this row any more."""
        return self not in (JobState.PENDING, JobState.RUNNING)


class CatchUp(StrEnum):
    """What becomes of a cron line's ticks that passed without a run, besides the row that waited meanwhile."""

    NONE = "none"
    """They are left out."""
    LATEST = "latest"
    """One run at once, for the latest of them."""
    ALL = "all"
    """One run for each, in their order, of at most the latest `workerjobs.domain.cron.MAX_CATCH_UP`."""


class ConcurrencyPolicy(StrEnum):
    """Whether a cron line's runs may overlap."""

    ALLOW = "Allow"
    """They may."""
    FORBID = "Forbid"
    """The next run waits for the last one's end; ticks that pass meanwhile are missed."""
    REPLACE = "Replace"
    """A run that begins asks the older ones to cancel."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when a failed job is tried again, as a new row each time."""

    limit: int
    """Retries after the first attempt, >= 0."""
    initial_delay_ms: int = 10_000
    """Delay before the first retry."""
    factor: float = 2.0
    """Each further delay is the last one times this, >= 1."""
    max_delay_ms: int = 3_600_000
    """No delay grows beyond this."""
    jitter: float = 0.0
    """Each delay is shortened by a random part of it up to this fraction, 0 to 1, so that jobs that failed together are
    not tried again together."""


FIRST_RUN = "initial"
"""Run key of a resource's run where the resource names none."""


@dataclass(frozen=True, slots=True)
class ResourceRef:
    """The custom resource (or local manifest) that a job comes from."""

    cluster_id: str
    namespace: str
    name: str
    uid: str
    generation: int
    """metadata.generation that the row was written from; a pending row of another one is brought up to date."""
    run_key: str = FIRST_RUN
    """Which of the runs that the resource asks for this is; each is stored once, ever."""
    is_beside_line: bool = False
    """A run beside the resource's cron line: its tag cancels nothing, the line's rows least of all."""
    is_suspended: bool = False
    """Whether its pending rows are held back."""
    is_cancelled: bool = False
    """Whether its unfinished runs are to end."""
    history_limit: int | None = None
    """How many finished rows are kept, whatever their age; None: as their removeDelay says."""
    ttl_seconds: int | None = None
    """How long after its end the resource is deleted; None: never."""

    @property
    def holds_back(self) -> bool:
        """Whether nothing of it is to be started for now."""
        return self.is_suspended or self.is_cancelled


@dataclass(slots=True, kw_only=True)
class NewJob:
    """A job to submit. Delays are milliseconds, as in the table; moments are timezone-aware.

    Not frozen, though nothing changes one: making it would take five times as long, and bulks have 100,000.
    """

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    user_id: int = 0
    """0 is the system."""
    tag: str | None = None
    """Submitting cancels every pending job of the same tag."""
    due: datetime | None = None
    """None means now, or the next tick of the cron schedule; a past moment runs at once."""
    cron_schedule: str | None = None
    time_zone: str | None = None
    """IANA name that the cron schedule is read in; None means UTC."""
    cron_key: str | None = None
    """Identity of the cron line; made up where a cron job names none."""
    catch_up: str = CatchUp.NONE
    """Of cron jobs: one of `CatchUp`."""
    concurrency_policy: str = ConcurrencyPolicy.FORBID
    """Of cron jobs: one of `ConcurrencyPolicy`."""
    persistent: bool = False
    """Never removed by removeOldWorkerJobs."""
    priority: int = 0
    """-32768 to 32767, higher first."""
    pool: str = "default"
    timeout_ms: int | None = None
    remove_delay_ms: int = 0
    """Kept this long after due; 0 means one hour."""
    auto_reschedule_on_failure: bool = False
    auto_reschedule_on_failure_delay_ms: int = 0
    retry: RetryPolicy | None = None
    concurrency_key: str | None = None
    """Jobs of one key share limits, across types, pools and workers."""
    concurrency_limit: int | None = None
    """At most so many jobs of the key run at once, >= 1."""
    rate_limit: int | None = None
    """So many jobs of the key start in each ``rate_period_ms`` in the long run, >= 1: as many at once, then evenly."""
    rate_period_ms: int | None = None
    traceparent: str | None = None
    data_from: Sequence[Mapping[str, Any]] = ()
    """Keys of Secrets and ConfigMaps that become fields of ``data`` when the job is run, see
    `workerjobs.domain.data_from`; of jobs of custom resources alone."""
    rescheduled_from_job: int | None = None
    """The row that it runs again."""
    resource: ResourceRef | None = None


class Job(msgspec.Struct, frozen=True):
    """A stored job: one row of the table, columns in snake_case. JSON columns are kept as their text.

    A struct and not a dataclass, and without keyword-only fields: a worker makes tens of thousands of them a second,
    each from a row of the same order (1.4 us instead of 17 us).
    """

    id: int
    type: str
    user_id: int
    data_json: str
    due: datetime
    started: datetime | None
    finished: datetime | None
    success: bool | None
    result_json: str | None
    cron_schedule: str | None
    persistent: bool
    tag: str | None
    remove_at: datetime | None
    remove_delay_ms: int
    auto_reschedule_on_failure: bool
    auto_reschedule_on_failure_delay_ms: int
    rescheduled_from_job: int | None
    created_at: datetime
    updated_at: datetime
    priority: int
    attempt: int
    rescues: int
    cron_key: str | None
    tick: datetime | None
    time_zone: str | None
    retry_limit: int | None
    retry_initial_delay_ms: int | None
    retry_factor: float | None
    retry_max_delay_ms: int | None
    timeout_ms: int | None
    pool: str
    lease_owner: str | None
    lease_deadline: datetime | None
    fencing_token: int | None
    cancel_requested: bool
    progress_json: str | None
    cluster_id: str | None
    namespace: str | None
    resource_name: str | None
    resource_uid: str | None
    resource_generation: int | None
    traceparent: str | None
    catch_up: str | None = None
    concurrency_policy: str | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    rate_limit: int | None = None
    rate_period_ms: int | None = None
    retry_jitter: float | None = None
    data_from_json: str | None = None
    lost_reason: str | None = None
    """How its last worker was lost; ``rescues`` counts them."""
    is_suspended: bool = False
    """Pending, and held back as its WorkerJob is suspended; ``due`` is when it would be due."""

    @property
    def data(self) -> dict[str, Any]:
        """The job's arguments."""
        return cast(dict[str, Any], json.loads(self.data_json))

    @property
    def result(self) -> Any:
        """What the job returned, or ``{"error": …}``; None while there is none."""
        return None if self.result_json is None else json.loads(self.result_json)

    @property
    def progress(self) -> dict[str, Any] | None:
        """The last progress that the job reported: current, total, message."""
        return None if self.progress_json is None else json.loads(self.progress_json)

    @property
    def state(self) -> JobState:
        """Where this job stands."""
        if self.finished is None:
            return JobState.PENDING if self.started is None else JobState.RUNNING
        if self.success:
            return JobState.SUCCEEDED
        return JobState.CANCELLED if self.started is None or self.cancel_requested else JobState.FAILED

    @property
    def error(self) -> str | None:
        """The short error of a job that failed or was cancelled."""
        result = self.result if self.success is False else None
        return str(result["error"]) if isinstance(result, dict) and "error" in result else None

    @property
    def log_facts(self) -> dict[str, object]:
        """What log records about this job carry; docs/logs.md lists it."""
        facts: dict[str, object] = {"job_id": self.id, "job_type": self.type, "attempt": self.attempt}
        if self.traceparent is not None and (trace_id := trace_id_of(self.traceparent)) is not None:
            facts["trace_id"] = trace_id
        return facts

    def to_dict(self) -> dict[str, Any]:
        """Every column under its camelCase name, JSON parsed, moments as ISO 8601; what ``-o json`` prints."""
        row: dict[str, Any] = {"state": str(self.state)}
        for field_name in self.__struct_fields__:
            value = getattr(self, field_name)
            name = column_name(field_name.removesuffix("_json"))
            if field_name.endswith("_json"):
                value = None if value is None else json.loads(value)
            elif isinstance(value, datetime):
                value = value.astimezone(UTC).isoformat()
            row[name] = value
        return row


# The origin system's column names leave the unit out; the Python names carry it.
_COLUMN_OF = {
    "removeDelayMs": "removeDelay",
    "autoRescheduleOnFailureDelayMs": "autoRescheduleOnFailureDelay",
    "retryInitialDelayMs": "retryInitialDelay",
    "retryMaxDelayMs": "retryMaxDelay",
    "ratePeriodMs": "ratePeriod",
}


def column_name(name: str) -> str:
    """The table's name of a field.

    >>> column_name("remove_delay_ms")
    'removeDelay'
    """
    first, *rest = name.split("_")
    camel_case = first + "".join(word.capitalize() for word in rest)
    return _COLUMN_OF.get(camel_case, camel_case)
