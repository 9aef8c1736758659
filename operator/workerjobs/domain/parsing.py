"""Reading a job from what a person or program wrote: a mapping with the table's camelCase names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from workerjobs.domain.job import JobState, NewJob, RetryPolicy
from workerjobs.domain.words import did_you_mean
from workerjobs.errors import InvalidInputError

_FIELDS = {
    "type": "type",
    "data": "data",
    "userId": "user_id",
    "tag": "tag",
    "due": "due",
    "cronSchedule": "cron_schedule",
    "timeZone": "time_zone",
    "catchUp": "catch_up",
    "concurrencyPolicy": "concurrency_policy",
    "persistent": "persistent",
    "priority": "priority",
    "pool": "pool",
    "timeoutMs": "timeout_ms",
    "removeDelay": "remove_delay_ms",
    "autoRescheduleOnFailure": "auto_reschedule_on_failure",
    "autoRescheduleOnFailureDelay": "auto_reschedule_on_failure_delay_ms",
    "retry": "retry",
    "concurrencyKey": "concurrency_key",
    "concurrencyLimit": "concurrency_limit",
    "rateLimit": "rate_limit",
    "ratePeriod": "rate_period_ms",
    "traceparent": "traceparent",
}
_RETRY_FIELDS = {
    "limit": "limit",
    "initialDelay": "initial_delay_ms",
    "factor": "factor",
    "maxDelay": "max_delay_ms",
    "jitter": "jitter",
}


def as_new_job(job: NewJob | Mapping[str, Any]) -> NewJob:
    """Take a job as programs give it: a `NewJob`, or a mapping for `parse_job`.

    Raises:
        InvalidInputError: As `parse_job`; or it is neither.
    """
    if isinstance(job, NewJob):
        return job
    if not isinstance(job, Mapping):
        raise InvalidInputError(f"a job is a {type(job).__name__}: give a NewJob or a mapping such as {{'type': …}}")
    return parse_job(job)


def parse_job(job: Mapping[str, Any]) -> NewJob:
    """Make a `NewJob` of a mapping; snake_case names (those of `NewJob`) are taken as well, None means not given.

    Values are not checked here, but by `workerjobs.domain.job_checks.check_job` when the job is submitted.

    Raises:
        InvalidInputError: Unknown names, each with the nearest known one; a missing type; a due that is no moment.
    """
    problems: list[str] = []
    values = _renamed(job, _FIELDS, "", problems)
    if "type" not in values:
        problems.append("type is missing: give the job's type")
    if isinstance(values.get("due"), str):
        try:
            values["due"] = parse_moment(values["due"])
        except ValueError as error:
            problems.append(f"due is {values['due']!r}: {error}")
    if isinstance(values.get("retry"), Mapping):
        retry = _renamed(values["retry"], _RETRY_FIELDS, "retry.", problems)
        if "limit" in retry:
            values["retry"] = RetryPolicy(**retry)
        else:
            problems.append("retry.limit is missing: give the number of retries")
    elif values.get("retry") is not None and not isinstance(values["retry"], RetryPolicy):
        problems.append(f"retry is {values['retry']!r}: give an object such as {{'limit': 3}}")
    if problems:
        raise InvalidInputError(problems)
    return NewJob(**values)


def parse_moment(text: str) -> datetime:
    """Read an ISO 8601 moment; one without a zone is UTC.

    Raises:
        ValueError: With a sentence that says what is accepted.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("give a moment such as 2030-01-31T08:00:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def read_states(texts: Iterable[str]) -> tuple[JobState, ...]:
    """Read states of jobs, each text one or several with commas between them.

    >>> read_states(["failed,running", "failed"])
    (<JobState.FAILED: 'failed'>, <JobState.RUNNING: 'running'>)

    Raises:
        InvalidInputError: With a sentence that says what is accepted.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    for name in names:
        if name not in set(JobState):
            hint = did_you_mean(name, JobState)
            raise InvalidInputError(f"there is no state {name[:50]!r}.{hint} There are {', '.join(JobState)}")
    return tuple(JobState(name) for name in dict.fromkeys(names))


def unknown_name(name: object, known: Iterable[str]) -> str:
    """Say that a field does not exist, and which one may have been meant."""
    accepted = sorted(known)
    nearest = difflib.get_close_matches(str(name), accepted, n=1)
    return f"unknown field {name!r}: " + (
        f"did you mean {nearest[0]}?" if nearest else f"accepted: {', '.join(accepted)}"
    )


def _renamed(given: Mapping[str, Any], names: Mapping[str, str], path: str, problems: list[str]) -> dict[str, Any]:
    by_any_name = {**names, **{python_name: python_name for python_name in names.values()}}
    values = {}
    for name, value in given.items():
        if name not in by_any_name:
            problems.append(f"{path}{unknown_name(name, names)}" if path else unknown_name(name, names))
        elif value is not None:
            values[by_any_name[name]] = value
    return values


assert {field.name for field in fields(NewJob)} >= set(_FIELDS.values())
