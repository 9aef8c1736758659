"""What a WorkerJob's status says, read from its rows: pure, and the same for the same rows, whoever reads them when."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from workerjobs.domain.job import Job, JobState
from workerjobs.kube.conditions import condition as _condition
from workerjobs.kube.conditions import conditions_of as _conditions_of
from workerjobs.kube.conditions import moment_text as _moment
from workerjobs.kube.conditions import timed as _timed
from workerjobs.ports.resources import RunCounts

RESULT_LIMIT_BYTES = 4096
"""A result of more JSON is cut in the status; the table has the whole."""
ERROR_LIMIT = 1000
"""Characters of an error in the status."""

# States that no row has.
SCHEDULED = "Scheduled"  # a cron job between its runs
SUSPENDED = "Suspended"  # nothing is started for now
INVALID = "Invalid"  # the spec is refused

# Condition reasons.
SPEC_ACCEPTED = "SpecAccepted"  # the table has, or had, the job as this generation wants it
SPEC_REFUSED = "SpecRefused"  # the spec has to be corrected
TYPE_UNKNOWN = "TypeUnknown"  # no worker has a function for the type
JOB_RUNNING = "JobRunning"  # a worker has leased a row
JOB_WAITING = "JobWaiting"  # a row is pending
RETRY_WAITING = "RetryWaiting"  # a run failed, and the row that tries again is pending
JOB_RECURS = "JobRecurs"  # a cron job has no end
JOB_SUCCEEDED = "JobSucceeded"
JOB_FAILED = "JobFailed"
JOB_CANCELLED = "JobCancelled"
NO_JOB = "NoJob"  # there is no row: not yet, or the spec is refused, or someone removed them
JOB_SUSPENDED = "JobSuspended"  # by suspend, or a cron job by cancel
JOB_RESUMED = "JobResumed"
NOT_SUSPENDED = "NotSuspended"  # and never was
ROWS_REMOVED = "RowsRemoved"  # someone removed the rows before their end was seen

_FINAL_REASONS = {
    JobState.SUCCEEDED: JOB_SUCCEEDED,
    JobState.FAILED: JOB_FAILED,
    JobState.CANCELLED: JOB_CANCELLED,
}
_FINAL_STATES = {state.capitalize() for state in _FINAL_REASONS}
_NO_COUNTS = RunCounts()
_REMOVED = "The job's rows were removed from the table"


def status_of(
    rows: Sequence[Job],
    *,
    is_cron: bool,
    generation: int,
    problems: Sequence[str],
    previous: Mapping[str, Any],
    now: datetime,
    unknown_type: str | None = None,
    held_by: str | None = None,
    counts: RunCounts = _NO_COUNTS,
) -> dict[str, Any]:
    """Build a WorkerJob's whole status.

    Args:
        rows: Its unfinished rows and its newest finished one, oldest first.
        is_cron: Whether its spec, as far as it is accepted, has a cron schedule.
        generation: ``metadata.generation`` of the spec.
        problems: Why the spec is refused; empty where it is accepted.
        previous: The status so far. Conditions keep their ``lastTransitionTime`` while they do not change, and where no
            row is left it goes on saying what became of the job.
        now: The moment of a condition's change.
        unknown_type: A sentence, where no worker knows the type.
        held_by: ``suspend`` or ``cancel``, where pending rows are held back for it.
        counts: How its runs ended.

    Returns:
        The status as JSON. The same as ``previous`` where nothing changed.
    """
    if not rows and not problems:
        return _without_rows(previous, generation=generation, held_by=held_by, counts=counts, now=now)
    running = _newest(rows, JobState.RUNNING)
    waiting = min(
        (row for row in rows if row.state is JobState.PENDING), key=lambda row: (row.due, row.id), default=None
    )
    finished = next((row for row in reversed(rows) if row.state.is_final), None)
    shown = running or (finished or waiting if is_cron else waiting or finished)

    status: dict[str, Any] = {"state": _state(running, waiting, finished, is_cron=is_cron, is_held=bool(held_by))}
    if problems:
        status["state"] = INVALID
    if shown is not None:
        status |= {"jobId": shown.id, "attempt": shown.attempt}
    if (last_run := _last_run(rows, previous)) is not None:
        status["lastRun"] = last_run
    if waiting is not None and not held_by:
        status["nextDue"] = _moment(waiting.due)
    if running is not None and (progress := _progress(running)):
        status["progress"] = progress
    if finished is not None:
        status |= _result(finished)
    status |= _counts(counts)
    status["observedGeneration"] = generation
    status["conditions"] = _timed(
        [
            _accepted(problems, has_rows=bool(rows), unknown_type=unknown_type),
            _running(running, waiting, finished, is_held=bool(held_by)),
            _complete(running, waiting, finished, is_cron=is_cron),
            _failed(running, waiting, finished, is_cron=is_cron),
            _suspended(held_by, previous),
        ],
        previous,
        now,
    )
    return status


def ended_at(rows: Sequence[Job], previous: Mapping[str, Any]) -> datetime | None:
    """When a one-time job came to its end; None where it has not. Where its rows are gone its status tells."""
    if rows:
        return None if any(not row.state.is_final for row in rows) else rows[-1].finished
    ends = [
        each["lastTransitionTime"]
        for name, each in _conditions_of(previous).items()
        if name in ("Complete", "Failed") and each["status"] == "True"
    ]
    return datetime.fromisoformat(ends[0]) if ends else None


def _without_rows(
    previous: Mapping[str, Any], *, generation: int, held_by: str | None, counts: RunCounts, now: datetime
) -> dict[str, Any]:
    """Say what is left to say of a one-time job whose rows someone removed from the table; it does not run again."""
    status = {name: value for name, value in previous.items() if name not in ("nextDue", "progress")} | _counts(counts)
    ended = status.get("state") in _FINAL_STATES
    if not ended:
        status["state"] = JobState.CANCELLED.capitalize()
    earlier = _conditions_of(previous)
    conditions = [
        _accepted([], has_rows=False),
        _condition("Running", False, NO_JOB, _REMOVED),
        _condition("Complete", False, ROWS_REMOVED, _REMOVED),
        _condition("Failed", not ended, ROWS_REMOVED, _REMOVED),
        _suspended(held_by, previous),
    ]
    for index, each in enumerate(conditions):
        if ended and each["type"] in ("Complete", "Failed") and each["type"] in earlier:
            conditions[index] = {name: earlier[each["type"]][name] for name in each}
    return status | {"observedGeneration": generation, "conditions": _timed(conditions, previous, now)}


def _newest(rows: Sequence[Job], state: JobState) -> Job | None:
    return next((row for row in reversed(rows) if row.state is state), None)


def _counts(counts: RunCounts) -> dict[str, Any]:
    return {} if counts == _NO_COUNTS else {"counts": asdict(counts)}


def _state(running: Job | None, waiting: Job | None, finished: Job | None, *, is_cron: bool, is_held: bool) -> str:
    if running is not None:
        return "Running"
    if is_held and (is_cron or waiting is not None):
        return SUSPENDED
    if is_cron:
        return SCHEDULED
    if waiting is not None or finished is None:
        return "Pending"
    return finished.state.capitalize()


def _last_run(rows: Sequence[Job], previous: Mapping[str, Any]) -> str | None:
    # Rows of earlier runs may be gone by now, or the newest row may have been cancelled before it ran.
    started = [_moment(row.started) for row in rows if row.started is not None]
    if isinstance(previous.get("lastRun"), str):
        started.append(previous["lastRun"])
    return max(started, default=None)


def _progress(job: Job) -> dict[str, Any]:
    reported = job.progress if isinstance(job.progress, dict) else {}
    progress = {
        name: reported[name]
        for name in ("current", "total", "message")
        if isinstance(reported.get(name), str if name == "message" else int | float)
    }
    current, total = progress.get("current"), progress.get("total")
    if current is not None and total is not None and total > 0:
        progress["percent"] = max(0, min(100, int(100 * current / total)))
    return progress


def _result(job: Job) -> dict[str, Any]:
    """What the last finished run left; a result of null is left out, as a status can't hold it."""
    found: dict[str, Any] = {}
    text = job.result_json
    if text is not None and len(encoded := text.encode()) > RESULT_LIMIT_BYTES:
        found = {"result": encoded[:RESULT_LIMIT_BYTES].decode(errors="ignore") + "…", "resultCut": True}
    elif text is not None and (value := _as_kubernetes_reads(text)) is not None:
        found = {"result": value}
    if job.error is not None:
        found["error"] = job.error if len(job.error) <= ERROR_LIMIT else job.error[: ERROR_LIMIT - 1] + "…"
    return found


def _as_kubernetes_reads(text: str) -> Any:
    """Parse a result; one with a number that no float64 holds, which the API server refuses, stays text."""

    def parse_number(number: str) -> int | float:
        value = float(number)
        if math.isinf(value):
            raise OverflowError
        return int(number) if number.lstrip("-").isdigit() else value

    try:
        return json.loads(text, parse_int=parse_number, parse_float=parse_number)
    except OverflowError:
        return text


def _accepted(problems: Sequence[str], *, has_rows: bool, unknown_type: str | None = None) -> dict[str, str]:
    if not problems and unknown_type is not None:
        return _condition("Accepted", False, TYPE_UNKNOWN, unknown_type)
    if not problems:
        return _condition("Accepted", True, SPEC_ACCEPTED, "The spec is accepted")
    rest = "; what an earlier generation asked for goes on" if has_rows else ""
    return _condition("Accepted", False, SPEC_REFUSED, "; ".join(problems) + rest)


def _running(running: Job | None, waiting: Job | None, finished: Job | None, *, is_held: bool) -> dict[str, str]:
    if running is not None:
        return _condition("Running", True, JOB_RUNNING, f"Job {running.id} runs, attempt {running.attempt}")
    if waiting is not None and is_held:
        return _condition("Running", False, JOB_SUSPENDED, f"Job {waiting.id} is held back")
    if waiting is not None:
        return _condition("Running", False, JOB_WAITING, f"Job {waiting.id} is due at {_moment(waiting.due)}")
    if finished is not None:
        return _condition("Running", False, _FINAL_REASONS[finished.state], f"Job {finished.id} has {finished.state}")
    return _condition("Running", False, NO_JOB, "There is no job")


def _complete(running: Job | None, waiting: Job | None, finished: Job | None, *, is_cron: bool) -> dict[str, str]:
    if is_cron:
        return _condition("Complete", False, JOB_RECURS, "A cron job has no end")
    if running is not None:
        return _condition("Complete", False, JOB_RUNNING, f"Job {running.id} runs")
    if waiting is not None:
        return _condition("Complete", False, JOB_WAITING, f"Job {waiting.id} is pending")
    if finished is None:
        return _condition("Complete", False, NO_JOB, "There is no job")
    succeeded = finished.state is JobState.SUCCEEDED
    return _condition("Complete", succeeded, _FINAL_REASONS[finished.state], f"Job {finished.id} has {finished.state}")


def _failed(running: Job | None, waiting: Job | None, finished: Job | None, *, is_cron: bool) -> dict[str, str]:
    """A one-time job has failed when nothing will try it again; of a cron job it is the last run that counts."""
    if finished is None:
        reason = JOB_RUNNING if running is not None else JOB_WAITING if waiting is not None else NO_JOB
        return _condition("Failed", False, reason, "No run has ended")
    told = f"Job {finished.id} has {finished.state}" + (f": {_brief(finished.error)}" if finished.error else "")
    if finished.state is JobState.SUCCEEDED:
        return _condition("Failed", False, JOB_SUCCEEDED, told)
    if is_cron:
        return _condition("Failed", finished.state is JobState.FAILED, _FINAL_REASONS[finished.state], told)
    if running is not None or waiting is not None:
        return _condition("Failed", False, JOB_RUNNING if running else RETRY_WAITING, f"{told}; it is tried again")
    # Cancelled as well: who waits for Complete or Failed should not wait for ever.
    return _condition("Failed", True, _FINAL_REASONS[finished.state], told)


def _suspended(held_by: str | None, previous: Mapping[str, Any]) -> dict[str, str]:
    if held_by is not None:
        return _condition("Suspended", True, JOB_SUSPENDED, f"Nothing is started until {held_by} is false")
    before = _conditions_of(previous).get("Suspended")
    if before is None or before["reason"] == NOT_SUSPENDED:
        return _condition("Suspended", False, NOT_SUSPENDED, "The job is not suspended")
    return _condition("Suspended", False, JOB_RESUMED, "The job goes on")


def _brief(error: str | None) -> str:
    text = error or ""
    return text if len(text) <= 200 else text[:199] + "…"
