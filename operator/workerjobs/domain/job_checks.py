"""What keeps a job, or a limit, from being stored as it is: sentences that name the field and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from workerjobs.domain.job import CatchUp, ConcurrencyPolicy, NewJob, RetryPolicy
from workerjobs.domain.json_text import MAX_NESTING, NestedTooDeepError, encode_json
from workerjobs.domain.schedule import CronSchedule
from workerjobs.errors import InvalidInputError, InvalidScheduleError

DATA_LIMIT_BYTES = 1024 * 1024
"""Largest `data` of a job, as UTF-8 JSON."""
MAX_MILLISECONDS = 2**31 - 1
"""Durations are Postgres ints of milliseconds: 24.8 days."""
MAX_LIMIT = 1_000_000
"""Largest limit, of jobs at once or of starts in a period."""
MAX_NAME = 250
"""Longest type, tag or pool name, in characters."""


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
