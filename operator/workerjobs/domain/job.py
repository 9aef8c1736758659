"""A job as it is asked for (`NewJob`) and as it is stored (`Job`), and what a valid one looks like."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

import msgspec

from workerjobs.domain.schedule import CronSchedule
from workerjobs.errors import InvalidInputError, InvalidScheduleError
from workerjobs.tracing import trace_id_of

DATA_LIMIT_BYTES = 1024 * 1024
"""Largest `data` of a job, as UTF-8 JSON."""
MAX_NESTING = 100
"""Deepest `data` and `result`, in lists and objects inside each other. Postgres stores some thousands; readers of JSON,
Python's among them, stop earlier."""
MAX_MILLISECONDS = 2**31 - 1
"""Durations are Postgres ints of milliseconds: 24.8 days."""
MAX_LIMIT = 1_000_000
"""Largest limit, of jobs at once or of starts in a period."""
MAX_NAME = 250
"""Longest type, tag or pool name, in characters."""


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


def job_problems(job: NewJob, *, now: datetime) -> list[str]:
    """Say what keeps a job from being stored and run as it is, as `field_problems`, with those of its data."""
    problems = field_problems(job, now=now)
    try:
        encode_data(job.data)
    except InvalidInputError as error:
        problems += error.problems
    return problems


def field_problems(job: NewJob, *, now: datetime) -> list[str]:
    """Say what is wrong with a job but for its data, which `encode_data` looks at.

    Args:
        job: The job to look at; its fields may hold values of any type, as they come from users.
        now: Used to see that the cron schedule has a tick to come.

    Returns:
        One sentence for each problem, each naming the field, the value where it is short, and what is accepted.
    """
    problems = [
        *_name_problems("type", job.type, required=True),
        *_name_problems("tag", job.tag),
        *_name_problems("pool", job.pool, required=True),
        *_integer_problems("userId", job.user_id, 0, 2**31 - 1),
        *_integer_problems("priority", job.priority, -(2**15), 2**15 - 1),
        *_integer_problems("removeDelay", job.remove_delay_ms, 0, MAX_MILLISECONDS),
        *_integer_problems(
            "autoRescheduleOnFailureDelay", job.auto_reschedule_on_failure_delay_ms, 0, MAX_MILLISECONDS
        ),
        *_flag_problems("persistent", job.persistent),
        *_flag_problems("autoRescheduleOnFailure", job.auto_reschedule_on_failure),
    ]
    problems += _limit_problems(job)
    if job.timeout_ms is not None:
        problems += _integer_problems("timeout", job.timeout_ms, 1, MAX_MILLISECONDS)
    if job.due is not None and (not isinstance(job.due, datetime) or job.due.tzinfo is None):
        problems.append(f"due is {_shown(job.due)}: give a moment with a time zone, such as 2030-01-31T08:00:00Z")
    if job.retry is not None:
        problems += retry_problems(job.retry)
    if job.data_from and job.resource is None:
        problems.append("dataFrom needs a WorkerJob resource, whose namespace has the Secrets and ConfigMaps")
    return problems + _schedule_problems(job, now)


def retry_problems(retry: RetryPolicy) -> list[str]:
    """Say what is wrong with a retry policy, one sentence for each problem."""
    problems = [
        *_integer_problems("retry.limit", retry.limit, 0, 1_000_000),
        *_integer_problems("retry.initialDelay", retry.initial_delay_ms, 0, MAX_MILLISECONDS),
        *_integer_problems("retry.maxDelay", retry.max_delay_ms, 0, MAX_MILLISECONDS),
    ]
    factor = retry.factor
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= 1000:
        problems.append(f"retry.factor is {_shown(factor)}: give a number from 1 to 1000")
    jitter = retry.jitter
    if isinstance(jitter, bool) or not isinstance(jitter, int | float) or not 0 <= jitter <= 1:
        problems.append(f"retry.jitter is {_shown(jitter)}: give a number from 0 to 1")
    return problems


def limit_problems(name: object, concurrency: object, rate_limit: object, rate_period_ms: object) -> list[str]:
    """Say what keeps a limit from being set for a type or a key; sentences as in `job_problems`.

    Args:
        name: Of the type or key.
        concurrency: Jobs at once; 0 lets none start.
        rate_limit: Starts in a period.
        rate_period_ms: The period.
    """
    problems = _name_problems("name", name, required=True)
    if concurrency is None and rate_limit is None:
        problems.append("no limit is given: give jobs at once, starts in a period, or both")
    if concurrency is not None:
        problems += _integer_problems("concurrency", concurrency, 0, MAX_LIMIT)
    if rate_limit is not None:
        problems += _integer_problems("rate's starts", rate_limit, 1, MAX_LIMIT)
        problems += _integer_problems("rate's period (milliseconds)", rate_period_ms, 1, MAX_MILLISECONDS)
    return problems


def check_name(name: str) -> None:
    """See that a type's or pool's name could be one.

    Raises:
        InvalidInputError: It could not.
    """
    if problems := _name_problems("name", name, required=True):
        raise InvalidInputError(problems)


def check_job(job: NewJob, *, now: datetime) -> None:
    """Raise all of `job_problems` at once.

    Raises:
        InvalidInputError: The job can't be stored as it is.
    """
    if problems := job_problems(job, now=now):
        raise InvalidInputError(problems)


# json.dumps with arguments would make one each time.
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class NestedTooDeepError(ValueError):
    """A value is nested deeper than `MAX_NESTING` levels."""


def encode_json(value: object) -> str:
    """Write a value as the JSON that Postgres stores.

    Raises:
        NestedTooDeepError: It is nested too deep.
        ValueError: The value is not JSON, or JSON that Postgres refuses: NaN, infinities, NUL characters, lone
            surrogates; the message says which.
    """
    try:
        if _is_flat(value):
            text = _encode_flat(value).decode()
        elif _is_nested_too_deep(value):
            # Not left to the encoder: some libraries (py_ecc, which web3 loads) raise Python's limit of recursion past
            # what its stack holds, and the process would be gone.
            raise NestedTooDeepError(f"it is nested deeper than {MAX_NESTING} levels")
        else:
            text = _ENCODER.encode(value)
            text.encode()
    except UnicodeEncodeError:
        raise ValueError("a string holds half of a surrogate pair, which is no Unicode text") from None
    except TypeError as error:
        raise ValueError(str(error)) from None
    if "\\u0000" in text and _holds_nul(value):
        raise ValueError("a string holds a NUL character, which Postgres can't store")
    return text


def decode_json(text: str) -> Any:
    """Read JSON as `json.loads` does, at a fraction of the time.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return _decode_quickly(text)
    except msgspec.MsgspecError:
        # What only the standard library reads: a number too large for a float, half of a surrogate pair.
        return json.loads(text)


_decode_quickly = msgspec.json.Decoder().decode
_encode_flat = msgspec.json.Encoder().encode
_STRING = frozenset({str})
_PLAIN = frozenset({str, int, bool, type(None)})
"""What both encoders write alike; not floats, of which the quick one makes null where they are no JSON."""


def _is_flat(value: object) -> bool:
    """Whether a value is a plain one, or an object of plain ones: most data and results are."""
    if type(value) is dict:
        return _PLAIN.issuperset(map(type, value.values())) and _STRING.issuperset(map(type, value))
    return type(value) in _PLAIN


def _is_nested_too_deep(value: object) -> bool:
    """Whether a value has more than `MAX_NESTING` lists and objects inside each other."""
    if _is_flat(value):
        return False
    level = [value]
    for _ in range(MAX_NESTING + 1):
        # Each object once: a value that holds itself twice would double the level each time.
        level = list({id(each): each for each in level if isinstance(each, Mapping | list | tuple)}.values())
        if not level:
            return False
        level = [item for each in level for item in _items(each)]
    return True


def _holds_nul(value: object) -> bool:
    # Without recursion: what the JSON encoder could walk down may be too deep for Python functions.
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and "\x00" in each:
            return True
        waiting += _items(each)
        if isinstance(each, Mapping):
            waiting += each
    return False


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def encode_data(data: object) -> str:
    """Write a job's data as JSON.

    Raises:
        InvalidInputError: It is no object, too large, nested too deep, or not JSON that Postgres stores.
    """
    if type(data) is not dict and not isinstance(data, Mapping):
        raise InvalidInputError(f"data is {_shown(data)}: give an object, such as {{}}")
    try:
        text = encode_json(data)
    except NestedTooDeepError:
        raise InvalidInputError(f"data is nested deeper than {MAX_NESTING} levels") from None
    except ValueError as error:
        raise InvalidInputError(f"data can't be stored: {error}") from None
    # A character has four bytes at most.
    if len(text) > DATA_LIMIT_BYTES // 4 and (size := len(text.encode())) > DATA_LIMIT_BYTES:
        raise InvalidInputError(f"data has {size:,} bytes of JSON: at most {DATA_LIMIT_BYTES:,} are accepted (1 MiB)")
    return text


def _limit_problems(job: NewJob) -> list[str]:
    problems = _name_problems("concurrencyKey", job.concurrency_key)
    limits = {
        "concurrencyLimit": (job.concurrency_limit, MAX_LIMIT),
        "rateLimit": (job.rate_limit, MAX_LIMIT),
        "ratePeriod": (job.rate_period_ms, MAX_MILLISECONDS),
    }
    for name, (value, highest) in limits.items():
        if value is not None:
            problems += _integer_problems(name, value, 1, highest)
    if job.concurrency_key is None and (given := [name for name, (value, _) in limits.items() if value is not None]):
        problems.append(f"{given[0]} needs a concurrencyKey: the jobs that share a key share its limits")
    if (job.rate_limit is None) != (job.rate_period_ms is None):
        problems.append("rateLimit and ratePeriod (milliseconds) go together: so many starts in each period")
    return problems


def _schedule_problems(job: NewJob, now: datetime) -> list[str]:
    problems = [
        *_choice_problems("catchUp", job.catch_up, CatchUp),
        *_choice_problems("concurrencyPolicy", job.concurrency_policy, ConcurrencyPolicy),
    ]
    if job.cron_schedule is None:
        given = {
            "timeZone": job.time_zone is not None,
            "catchUp": job.catch_up != CatchUp.NONE,
            "concurrencyPolicy": job.concurrency_policy != ConcurrencyPolicy.FORBID,
        }
        return problems or [f"{name} needs a cronSchedule" for name, is_given in given.items() if is_given]
    return problems + _cron_problems(job, now)


def _cron_problems(job: NewJob, now: datetime) -> list[str]:
    if not isinstance(job.cron_schedule, str) or not isinstance(job.time_zone, str | None):
        return [f"cronSchedule is {_shown(job.cron_schedule)} with timeZone {_shown(job.time_zone)}: give text"]
    try:
        CronSchedule.parse(job.cron_schedule, job.time_zone, identity=job.cron_key or "").next_after(now)
    except InvalidScheduleError as error:
        return error.problems
    return []


def _name_problems(name: str, value: object, *, required: bool = False) -> list[str]:
    if value is None and not required:
        return []
    if not isinstance(value, str) or not value.strip():
        return [f"{name} is {_shown(value)}: give a text that is not empty"]
    if len(value) > MAX_NAME:
        return [f"{name} has {len(value)} characters: at most {MAX_NAME} are accepted"]
    if not value.isprintable():
        return [f"{name} is {_shown(value)}: control characters (NUL, line ends, …) are not accepted"]
    return []


def _integer_problems(name: str, value: object, low: int, high: int) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        return [f"{name} is {_shown(value)}: give a whole number from {low} to {high}"]
    return []


def _choice_problems(name: str, value: object, choices: type[StrEnum]) -> list[str]:
    if value in list(choices):
        return []
    return [f"{name} is {_shown(value)}: give one of {', '.join(choices)}"]


def _flag_problems(name: str, value: object) -> list[str]:
    return [] if isinstance(value, bool) else [f"{name} is {_shown(value)}: give true or false"]


def _shown(value: object) -> str:
    """Name a value in a sentence: NaN and friends by name, long ones cut."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "…"
