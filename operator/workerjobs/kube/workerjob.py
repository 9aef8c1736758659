"""The WorkerJob resource: from its manifest to a `NewJob`, and from its rows to its status. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from workerjobs.domain.job import MAX_MILLISECONDS, Job, JobState, NewJob, ResourceRef, RetryPolicy, job_problems
from workerjobs.domain.parsing import parse_moment, unknown_name
from workerjobs.errors import InvalidInputError

GROUP, VERSION, PLURAL, KIND = "quickdapp.xyz", "v1", "workerjobs", "WorkerJob"
API_VERSION = f"{GROUP}/{VERSION}"

RESULT_LIMIT_BYTES = 4096
"""What of a result is shown in the status; all of it is in the row."""

_SPEC_FIELDS = {
    "type": "type",
    "data": "data",
    "userId": "user_id",
    "tag": "tag",
    "due": "due",
    "cronSchedule": "cron_schedule",
    "timeZone": "time_zone",
    "persistent": "persistent",
    "priority": "priority",
    "timeoutSeconds": "timeout_ms",
    "removeDelaySeconds": "remove_delay_ms",
    "autoRescheduleOnFailure": "auto_reschedule_on_failure",
    "autoRescheduleOnFailureDelaySeconds": "auto_reschedule_on_failure_delay_ms",
    "retry": "retry",
}
_RETRY_FIELDS = {
    "limit": "limit",
    "initialDelaySeconds": "initial_delay_ms",
    "factor": "factor",
    "maxDelaySeconds": "max_delay_ms",
}
# What `job_problems` calls a field, to what the manifest calls it.
_FIELD_OF_PROBLEM = {
    "timeout": "timeoutSeconds",
    "removeDelay": "removeDelaySeconds",
    "autoRescheduleOnFailureDelay": "autoRescheduleOnFailureDelaySeconds",
    "retry.initialDelay": "retry.initialDelaySeconds",
    "retry.maxDelay": "retry.maxDelaySeconds",
    "cron": "cronSchedule",
    "time": "timeZone",
}

# Reasons of conditions.
ACCEPTED = "Accepted"  # The spec is valid and in the table.
INVALID_SPEC = "InvalidSpec"  # The spec passed the API server's checks and yet can't be used; the message says why.
JOB_RUNNING = "JobRunning"  # A worker's child runs it now.
NOT_RUNNING = "NotRunning"  # It waits, or it is finished.
JOB_SUCCEEDED = "JobSucceeded"  # The last run returned.
JOB_FAILED = "JobFailed"  # The last run failed and no retry follows.
JOB_CANCELLED = "JobCancelled"  # Cancelled by tag or by hand.
NOT_FINISHED = "NotFinished"  # The job's end is still to come.


def parse_workerjob(manifest: object, cluster_id: str, *, now: datetime | None = None) -> NewJob:
    """Read a WorkerJob manifest.

    Args:
        manifest: As parsed from YAML or JSON. Without a uid (a manifest that no API server saw) namespace and name
            identify it.
        cluster_id: Of the cluster that it is in.
        now: Used to see that a cron schedule has a tick to come; the machine's clock by default.

    Raises:
        InvalidInputError: Everything that is wrong, each with the path of its field.
    """
    if not isinstance(manifest, Mapping):
        raise InvalidInputError("it is no manifest: give an object with apiVersion, kind, metadata and spec")
    problems: list[str] = []
    if manifest.get("apiVersion") != API_VERSION:
        problems.append(f"apiVersion is {manifest.get('apiVersion')!r}: give {API_VERSION}")
    if manifest.get("kind") != KIND:
        problems.append(f"kind is {manifest.get('kind')!r}: give {KIND}")
    resource = _parse_resource(manifest.get("metadata"), cluster_id, problems)
    spec = manifest.get("spec")
    if not isinstance(spec, Mapping):
        problems.append("spec is missing: give an object with at least a type")
    if problems or not isinstance(spec, Mapping):
        raise InvalidInputError(problems)
    values = _renamed(spec, _SPEC_FIELDS, "spec.", problems)
    if "type" not in values:
        problems.append("spec.type is missing: give the job's type")
        values["type"] = "unknown"
    _parse_values(values, problems)
    job = NewJob(**values, resource=resource)
    if job.cron_schedule is not None:
        job = _with_cron_key(job, resource)
    problems += [_named_as_in_manifest(problem) for problem in job_problems(job, now=now or datetime.now(UTC))]
    if problems:
        raise InvalidInputError(problems)
    return job


def _parse_resource(metadata: object, cluster_id: str, problems: list[str]) -> ResourceRef:
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        problems.append("metadata.name is missing: give the resource a name")
        return ResourceRef(cluster_id, "default", "", "", 0)
    namespace = metadata.get("namespace") or "default"
    uid = metadata.get("uid") or f"{namespace}/{metadata['name']}"
    return ResourceRef(cluster_id, str(namespace), metadata["name"], str(uid), int(metadata.get("generation") or 0))


def _parse_values(values: dict[str, Any], problems: list[str]) -> None:
    """Turn a manifest's moments, seconds and retry policy into those of a `NewJob`, in place."""
    if isinstance(values.get("due"), str):
        try:
            values["due"] = parse_moment(values["due"])
        except ValueError as error:
            problems.append(f"spec.due is {values.pop('due')!r}: {error}")
    for field, name in (
        ("timeoutSeconds", "timeout_ms"),
        ("removeDelaySeconds", "remove_delay_ms"),
        ("autoRescheduleOnFailureDelaySeconds", "auto_reschedule_on_failure_delay_ms"),
    ):
        _to_milliseconds(values, name, f"spec.{field}", problems)
    retry = values.get("retry")
    if isinstance(retry, Mapping):
        retry = _renamed(retry, _RETRY_FIELDS, "spec.retry.", problems)
        for field, name in (("initialDelaySeconds", "initial_delay_ms"), ("maxDelaySeconds", "max_delay_ms")):
            _to_milliseconds(retry, name, f"spec.retry.{field}", problems)
        if "limit" not in retry:
            problems.append("spec.retry.limit is missing: give the number of retries")
        values["retry"] = RetryPolicy(**{"limit": 0, **retry})
    elif retry is not None:
        problems.append(f"spec.retry is {values.pop('retry')!r}: give an object such as {{limit: 3}}")


def _to_milliseconds(values: dict[str, Any], name: str, path: str, problems: list[str]) -> None:
    if name not in values:
        return
    seconds = values[name]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_MILLISECONDS / 1000:
        problems.append(f"{path} is {values.pop(name)!r}: give seconds from 0 to {MAX_MILLISECONDS // 1000}")
        return
    values[name] = round(seconds * 1000)


def _renamed(given: Mapping[str, Any], names: Mapping[str, str], path: str, problems: list[str]) -> dict[str, Any]:
    values = {}
    for name, value in given.items():
        if name not in names:
            problems.append(f"{path}: {unknown_name(name, names)}".replace(".:", ":"))
        elif value is not None:
            values[names[name]] = value
    return values


def _with_cron_key(job: NewJob, resource: ResourceRef) -> NewJob:
    return replace(job, cron_key=f"resource:{resource.cluster_id}:{resource.uid}")


def _named_as_in_manifest(problem: str) -> str:
    field, space, rest = problem.partition(" ")
    if field in ("cron", "time"):
        return f"spec.{_FIELD_OF_PROBLEM[field]}: {problem}"
    return f"spec.{_FIELD_OF_PROBLEM.get(field, field)}{space}{rest}"


def refused_status(
    problems: Sequence[str], generation: int, before: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The status of a resource whose spec can't be used."""
    message = "; ".join(problems)
    return {
        "state": "Invalid",
        "error": message[:RESULT_LIMIT_BYTES],
        "observedGeneration": generation,
        "conditions": _conditions([("Accepted", False, INVALID_SPEC, message[:RESULT_LIMIT_BYTES])], before, now),
    }


def status_of(job: NewJob, rows: Sequence[Job], before: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The status of a resource, from its rows.

    Args:
        job: What its spec asks for.
        rows: Its unfinished rows and its newest finished one, oldest first; not empty.
        before: The status that it has, whose condition times are kept where nothing changed.
        now: When conditions that change do so.

    Returns:
        The whole status, without nulls.
    """
    assert job.resource is not None
    newest = rows[-1]
    running = next((row for row in rows if row.state is JobState.RUNNING), None)
    waiting = next((row for row in rows if row.state is JobState.PENDING), None)
    ended = next((row for row in reversed(rows) if row.state.is_final), None)
    shown = running or ended or newest
    is_cron = job.cron_schedule is not None
    started = [row.started for row in rows if row.started is not None]
    if is_cron:
        state = "Running" if running is not None else "Scheduled"
    else:
        state = str(newest.state).capitalize()
    status: dict[str, Any] = {
        "state": state,
        "jobId": (running or newest).id if not is_cron else shown.id,
        "attempt": newest.attempt,
        "lastRun": _moment(max(started)) if started else None,
        "nextDue": _moment(waiting.due) if waiting is not None else None,
        "progress": shown.progress,
        "observedGeneration": job.resource.generation,
        "conditions": _conditions(_facts(state, running, ended, is_cron=is_cron), before, now),
    }
    if ended is not None and (is_cron or newest is ended):
        status["result"] = _cut(ended.result_json or "null")
        status["lastState"] = str(ended.state).capitalize()
        status["error"] = ended.error
    return {name: value for name, value in status.items() if value is not None}


def _facts(state: str, running: Job | None, ended: Job | None, *, is_cron: bool) -> list[tuple[str, bool, str, str]]:
    facts = [
        ("Accepted", True, ACCEPTED, ""),
        ("Running", running is not None, JOB_RUNNING if running is not None else NOT_RUNNING, ""),
    ]
    if is_cron:
        return facts
    is_final = state in ("Succeeded", "Failed", "Cancelled")
    reason = {"Succeeded": JOB_SUCCEEDED, "Failed": JOB_FAILED, "Cancelled": JOB_CANCELLED}.get(state, NOT_FINISHED)
    error = (ended.error or "") if ended is not None and is_final else ""
    return [
        *facts,
        ("Complete", state == "Succeeded", reason, ""),
        ("Failed", state in ("Failed", "Cancelled"), reason, error),
    ]


def _conditions(
    facts: Sequence[tuple[str, bool, str, str]], before: Mapping[str, Any], now: datetime
) -> list[dict[str, str]]:
    """Write conditions; one whose status did not change keeps the moment of its last change."""
    earlier = {condition.get("type"): condition for condition in before.get("conditions") or []}
    conditions = []
    for kind, value, reason, message in facts:
        status = "True" if value else "False"
        last = earlier.get(kind, {})
        since = last.get("lastTransitionTime") if last.get("status") == status else None
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastTransitionTime": since or _moment(now),
            }
        )
    return conditions


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cut(result_json: str) -> str:
    """A result as JSON text, cut where it is long: a status is for people, the row has all of it."""
    text = json.dumps(json.loads(result_json), ensure_ascii=False)
    encoded = text.encode()
    if len(encoded) <= RESULT_LIMIT_BYTES:
        return text
    return encoded[: RESULT_LIMIT_BYTES - 3].decode(errors="ignore") + "…"
