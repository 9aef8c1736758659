"""Submitting, scheduling, cancelling and retrying, as operations for any connection (`workerjobs.storage.steps`).

What a submit means is a function in the database (``migrations/0003_sql_api.sql``), the same one for SQL callers. Here
its values are written; and bulks, which go by COPY past it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice, repeat
from operator import attrgetter, is_
from typing import Any

from psycopg.rows import dict_row, scalar_row, tuple_row

from workerjobs import tracing
from workerjobs.domain.job import Job, NewJob, column_name
from workerjobs.domain.job_checks import check_job, encode_data, field_problems
from workerjobs.domain.json_text import encode_json
from workerjobs.domain.lifecycle import REPLACED_RESULT
from workerjobs.domain.parsing import as_new_job
from workerjobs.domain.schedule import CronSchedule
from workerjobs.errors import InvalidInputError
from workerjobs.storage.rows import struct_row
from workerjobs.storage.steps import CopyIn, Statement, Steps, Work

MAX_PROBLEMS = 20
"""Problems of a bulk that are named; the others are counted."""
PART_JOBS = 1000
"""Jobs of a bulk that are checked, and rows that are given to the connection, at once."""

_SAME_NAMES = (
    "type",
    "user_id",
    "tag",
    "cron_schedule",
    "time_zone",
    "persistent",
    "priority",
    "pool",
    "timeout_ms",
    "remove_delay_ms",
    "auto_reschedule_on_failure",
    "auto_reschedule_on_failure_delay_ms",
    "concurrency_key",
    "concurrency_limit",
    "rate_limit",
    "rate_period_ms",
    "traceparent",
    "rescheduled_from_job",
)
"""Fields of `NewJob` that ``workerjobs.new_job`` has under the same name."""

_same_fields = attrgetter(*_SAME_NAMES)
_fields_but_data = attrgetter(*(each.name for each in fields(NewJob) if each.name != "data"))

_RESOURCE_COLUMNS = {
    "cluster_id": "cluster_id",
    "namespace": "namespace",
    "name": "resource_name",
    "uid": "resource_uid",
    "generation": "resource_generation",
}

_write_json = json.JSONEncoder(default=datetime.isoformat).encode


def submitting(jobs: Sequence[NewJob], *, cancels_by_tag: bool = True) -> Steps[list[Job]]:
    """Store checked jobs, and cancel what is pending under their tags.

    Args:
        jobs: In the order in which they come back; of those that share a tag, the last one stays pending.
        cancels_by_tag: False for follow-ups, which cancel nothing.
    """
    if not jobs:
        return []
    tags = {job.tag for job in jobs if job.tag is not None and cancels_by_tag}
    with tracing.submitting(jobs[0].type, len(jobs)) as traceparent:
        values = {"jobs": jobs_json(_traced(jobs, traceparent), datetime.now(UTC), tags), "replaced_tags": sorted(tags)}
        stored: list[Job] = yield Statement("submit", values, struct_row(Job))
    return stored


def submitting_one(given: NewJob | Mapping[str, Any]) -> Steps[Job]:
    """Check and store one job."""
    job = _checked(given)
    stored = yield from submitting([job])
    if not stored:
        raise taken_tick(job)
    return stored[0]


def taken_tick(job: NewJob) -> InvalidInputError:
    """Say why a cron job that names its line was not stored."""
    return InvalidInputError(f"The tick of {job.cron_key} is there already: use schedule to replace a cron job")


def scheduling(given: NewJob | Mapping[str, Any], key: str | None) -> Steps[Job]:
    """Check and store a cron job, in place of the one that its key has now."""
    job = _checked(given)
    if key is not None:
        job = replace(job, cron_key=key)
    if job.cron_schedule is None:
        raise InvalidInputError("cronSchedule is missing: give a schedule, or submit the job")
    if job.cron_key is None:
        return (yield from submitting_one(job))
    after = datetime.now(UTC)
    with tracing.submitting(job.type) as traceparent:
        (job,) = _traced([job], traceparent)
        while True:
            values = {"job": jobs_json([job], after, set())[1:-1]}
            stored: list[Job] = yield Statement("schedule", values, struct_row(Job))
            if stored:
                return stored[0]
            # A run of this very tick goes on, or is over already on the database's clock: the one after it.
            (_, tick, _), job = _timing(job, after), replace(job, due=None)
            assert tick is not None
            after = tick


def unscheduling(key: str) -> Steps[int]:
    """End the cron job of a key; returns how many pending rows were cancelled."""
    rows = yield Statement("unschedule", {"key": key}, dict_row)
    cancelled: int = rows[0]["cancelled"]
    return cancelled


def cancelling(job_ids: Sequence[int], reason: str) -> Steps[list[Job]]:
    """Cancel jobs; returns those that were not finished."""
    jobs: list[Job] = yield Statement("cancel", {"ids": list(job_ids), "reason": reason}, struct_row(Job))
    return jobs


def cancelling_tag(tag: str, reason: str) -> Steps[list[Job]]:
    """Cancel all unfinished jobs of a tag."""
    jobs: list[Job] = yield Statement("cancel_tag", {"tag": tag, "reason": reason}, struct_row(Job))
    return jobs


def retrying(job_ids: Sequence[int]) -> Steps[list[Job]]:
    """Run finished jobs again as new rows, all or none."""
    jobs: list[Job] = yield Statement("retry", {"ids": list(job_ids)}, struct_row(Job))
    return jobs


def notifying(user_id: int, data: Mapping[str, Any]) -> Steps[int]:
    """Write a notification to a user; returns its id."""
    rows: list[int] = yield Statement("notify", {"user_id": user_id, "data": _object(data)}, scalar_row)
    return rows[0]


def broadcasting(data: Mapping[str, Any]) -> Steps[int]:
    """Write a broadcast; returns its id."""
    rows: list[int] = yield Statement("broadcast", {"data": _object(data)}, scalar_row)
    return rows[0]


def _object(data: Mapping[str, Any]) -> str:
    try:
        return encode_json(data)
    except ValueError as error:
        raise InvalidInputError(f"The data can't be stored as JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Bulk:
    """Some checked jobs, ready for COPY: columns that someone gave, each with a value for every job."""

    columns: Mapping[str, Sequence[Any]]
    tags: Sequence[str]
    cron_tags: Sequence[str]
    """Those of cron jobs."""
    count: int


def submitting_bulk(given: Iterable[NewJob | Mapping[str, Any]]) -> Steps[int]:
    """Check many jobs and store them by COPY, all or none; returns how many.

    Jobs are checked and written a part at a time, while the database takes in the parts before: so both are at work.

    Raises:
        InvalidInputError: At least one can't be stored; each problem with the index of its job, from 0.
    """
    # Whatever the caller makes them from, perhaps by this very connection, is over before the first statement.
    (jobs,) = yield Work(lambda: given if isinstance(given, Sequence) else list(given))
    parts = prepare_bulk(jobs)
    (part,) = yield Work(lambda: next(parts, None))
    while part is not None:
        if part.tags:
            yield Statement("replace_tags", {"tags": part.tags, "cron_tags": part.cron_tags}, dict_row)
        ((table, now),) = yield Statement("jobs_table", {}, tuple_row)
        alike = _AlikeParts(part, parts, now)
        yield CopyIn(table, alike.names, alike.blocks())
        part = alike.next_part
    return len(jobs)


def prepare_bulk(given: Sequence[NewJob | Mapping[str, Any]]) -> Iterator[Bulk]:
    """Check many jobs and write their values, a part at a time.

    Raises:
        InvalidInputError: At least one can't be stored; each problem with the index of its job, from 0. Earlier parts
            were given before.
    """
    now = datetime.now(UTC)
    checked = _checked_jobs(given, now)
    while part := list(islice(checked, PART_JOBS)):
        if any(job.tag is not None for job, _, _ in part):
            # Of the jobs with one tag only the last stays pending: all that follow have to be known.
            part += checked
        jobs, data, fields_but_data = zip(*part, strict=True)
        yield _bulk_of(jobs, data, fields_but_data, now)


def _checked_jobs(
    given: Iterable[NewJob | Mapping[str, Any]], now: datetime
) -> Iterator[tuple[NewJob, str, Sequence[object]]]:
    """Check jobs; gives each with its data as JSON and its other fields, until one is refused: then only looks on."""
    problems: list[str] = []
    accepted: Sequence[object] = [object()]
    for index, each in enumerate(given):
        found = []
        try:
            job = as_new_job(each)
            fields_but_data = _fields_but_data(job)
            # Jobs of a bulk mostly differ in their data alone. Whether a value is the same one, and not whether it
            # equals: True is equal to 1 and no number here.
            if not all(map(is_, fields_but_data, accepted)):
                found = field_problems(job, now=now)
                accepted = [object()] if found else fields_but_data
            data = encode_data(job.data)
        except InvalidInputError as error:
            found += error.problems
        else:
            if job.resource is not None:
                found.append("it belongs to a custom resource, which is submitted by itself")
        if found:
            problems += [f"jobs[{index}]: {problem}" for problem in found]
        elif not problems:
            yield job, data, accepted
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise InvalidInputError([*problems[:MAX_PROBLEMS], *([f"and {more} more problems"] if more > 0 else [])])


def _bulk_of(
    jobs: Sequence[NewJob], data: Sequence[str], fields_but_data: Sequence[Sequence[object]], now: datetime
) -> Bulk:
    first = jobs[0]
    columns: dict[str, Sequence[Any]]
    tags = {job.tag for job in jobs if job.tag is not None}
    cron_tags = {job.tag for job in jobs if job.tag is not None and job.cron_schedule is not None}
    if not tags and first.cron_schedule is None and fields_but_data.count(fields_but_data[0]) == len(jobs):
        # All alike but for their data: one of them says what the columns hold.
        columns = {name: [*values] * len(jobs) for name, values in _given_columns(jobs[:1], now, tags).items()}
    else:
        columns = _given_columns(jobs, now, tags)
    return Bulk(columns | {"data": data}, sorted(tags), sorted(cron_tags), len(jobs))


def _given_columns(jobs: Sequence[NewJob], now: datetime, tags: set[str]) -> dict[str, Sequence[Any]]:
    """The columns that any job gives, but for the data."""
    columns = _columns(jobs, now, tags)
    return {name: values for name, values in columns.items() if values.count(_DEFAULTS.get(name)) < len(values)}


class _AlikeParts:
    """Parts of a bulk, one after another, that have the same columns: they go by one COPY.

    Args:
        first: The part that says which.
        parts: Those after it.
        now: The moment of the transaction.
    """

    def __init__(self, first: Bulk, parts: Iterator[Bulk], now: datetime) -> None:
        self._columns = _table_columns(first, now)
        self.names = list(self._columns)
        self.next_part: Bulk | None = first
        """The first part that has others, once the blocks were taken."""
        self._parts = parts
        self._now = now

    def blocks(self) -> Iterator[str]:
        """Write their rows in COPY's text format, a good many at a time."""
        columns = self._columns
        while list(columns) == self.names:
            yield from _copy_blocks(columns)
            self.next_part = next(self._parts, None)
            if self.next_part is None or self.next_part.tags:
                return
            columns = _table_columns(self.next_part, self._now)


def _table_columns(bulk: Bulk, now: datetime) -> dict[str, Sequence[Any]]:
    """What the columns of the table get, by their names there."""
    columns = {column_name(name): values for name, values in bulk.columns.items() if name != "is_superseded"}
    if "due" in columns:
        # COPY knows no default for single rows.
        columns["due"] = [now if due is None else due for due in columns["due"]]
    if superseded := bulk.columns.get("is_superseded"):
        columns["finished"] = [now if each else None for each in superseded]
        columns["success"] = [False if each else None for each in superseded]
        columns["result"] = [REPLACED_RESULT if each else None for each in superseded]
        # Rows that are settled or cancelled get it then; these are finished from the start.
        dues, delays = columns.get("due", repeat(now)), columns.get("removeDelay", repeat(0))
        columns["removeAt"] = [
            _remove_at(due, delay) if each else None for each, due, delay in zip(superseded, dues, delays, strict=False)
        ]
    return columns


def _traced(jobs: Sequence[NewJob], traceparent: str | None) -> Sequence[NewJob]:
    """Give jobs the span that submits them, where they name none."""
    if traceparent is None:
        return jobs
    return [job if job.traceparent else replace(job, traceparent=traceparent) for job in jobs]


def _remove_at(due: datetime, delay_ms: int) -> datetime:
    """When a job may be removed, as ``workerjobs.remove_at`` says."""
    try:
        return due + timedelta(milliseconds=delay_ms or 3_600_000)
    except OverflowError:
        return due


def jobs_json(jobs: Sequence[NewJob], now: datetime, replaced_tags: set[str]) -> str:
    """Write jobs as a JSON array of ``workerjobs.new_job``."""
    columns = _columns(jobs, now, replaced_tags)
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    # The data is written as it came, with its key order; the rest around it.
    written = (f'{_write_json(row)[:-1]},"data":{encode_json(job.data)}}}' for row, job in zip(rows, jobs, strict=True))
    return "[" + ",".join(written) + "]"


def _columns(jobs: Sequence[NewJob], now: datetime, replaced_tags: set[str]) -> dict[str, Sequence[Any]]:
    """The values of jobs but for their data, by the names of ``workerjobs.new_job``."""
    last = {job.tag: index for index, job in enumerate(jobs)} if replaced_tags else {}
    columns: dict[str, Sequence[Any]] = dict(zip(_SAME_NAMES, zip(*map(_same_fields, jobs), strict=True), strict=False))
    columns["due"] = [job.due for job in jobs]
    if (traceparent := tracing.current()) is not None:
        # Of a bulk; jobs submitted one by one name the span of that.
        columns["traceparent"] = [job.traceparent or traceparent for job in jobs]
    columns["is_superseded"] = [job.tag in replaced_tags and last[job.tag] != index for index, job in enumerate(jobs)]
    if any(columns.get("cron_schedule", ())):
        timings = [_timing(job, now) for job in jobs]
        columns |= dict(zip(("due", "tick", "cron_key"), zip(*timings, strict=True), strict=True))
        for name in ("catch_up", "concurrency_policy"):
            columns[name] = [None if job.cron_schedule is None else str(getattr(job, name)) for job in jobs]
    if any(job.retry for job in jobs):
        for name in ("limit", "initial_delay_ms", "factor", "max_delay_ms", "jitter"):
            columns[f"retry_{name}"] = [getattr(job.retry, name, None) for job in jobs]
    if any(job.data_from for job in jobs):
        columns["data_from"] = [list(job.data_from) or None for job in jobs]
    if any(job.resource for job in jobs):
        for name, column in _RESOURCE_COLUMNS.items():
            columns[column] = [getattr(job.resource, name, None) for job in jobs]
    return columns


def _timing(job: NewJob, now: datetime) -> tuple[datetime | None, datetime | None, str | None]:
    """Find a job's due moment, tick and cron key."""
    if job.cron_schedule is None:
        return job.due, None, None
    cron_key = job.cron_key or f"line:{uuid.uuid4()}"
    tick = job.due or CronSchedule.parse(job.cron_schedule, job.time_zone, identity=cron_key).next_after(now)
    return tick, tick, cron_key


def _checked(given: NewJob | Mapping[str, Any]) -> NewJob:
    job = as_new_job(given)
    check_job(job, now=datetime.now(UTC))
    return job


_DEFAULTS = {
    **{name: value for name, (value,) in _columns([NewJob(type="")], datetime.now(UTC), set()).items()},
    # Also where this is imported within a span.
    "traceparent": None,
}
"""What the table gives a column by itself."""


def _copy_blocks(columns: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Write rows in COPY's text format, a good many at a time."""
    lines = map("\t".join, zip(*(_copy_texts(name, values) for name, values in columns.items()), strict=False))
    while block := list(islice(lines, PART_JOBS)):
        yield "\n".join(chain(block, [""]))


def _copy_texts(name: str, values: Sequence[Any]) -> Iterable[str]:
    if name == "data":
        # JSON has none of the other characters that COPY wants escaped.
        return [text.replace("\\", "\\\\") for text in values]
    if values.count(values[0]) == len(values):
        return repeat(_copy_text(values[0]))
    return map(_copy_text, values)


def _copy_text(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    if value is None:
        return "\\N"
    return value.isoformat() if isinstance(value, datetime) else str(value)
