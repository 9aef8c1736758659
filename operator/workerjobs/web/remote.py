"""A server as the place where commands work: `Place` over its HTTP API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from workerjobs.domain.job import Job, NewJob, column_name
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.errors import InvalidInputError, NotFoundError, PlaceRefusedError, PlaceUnavailableError
from workerjobs.ports.api import (
    BulkChange,
    Cancelled,
    CronLine,
    FullPage,
    JobSummary,
    KnownType,
    Matching,
    QueueCount,
    RecentRuns,
)
from workerjobs.ports.jobs import JobQuery, LogLine, Pause, StoredLimit
from workerjobs.ports.places import Answer, Exchange
from workerjobs.ports.workers import WorkerStatus

T = TypeVar("T")

PAGE = 500
"""The most that the API lists at once."""
BULK = 5_000
"""The most ids that it takes at once."""


class ServerPlace:
    """`Place` over a server's HTTP API.

    Args:
        exchange: The way to it; closed with this.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def submit(self, job: NewJob) -> Job:
        """See `Place.submit`."""
        return read_job(await self._change("POST", "/jobs", write_job(job)))

    async def jobs(self, which: JobQuery) -> FullPage:
        """See `Place.jobs`."""
        query = {name: _text(value) for name, value in _write_query(which).items()}
        query["limit"] = str(min(which.limit, PAGE))
        body = await self._read("/jobs/full", **query)
        return FullPage([read_job(each) for each in body["jobs"]], body["next"])

    async def get(self, job_id: int) -> Job | None:
        """See `Place.get`."""
        answer = await self._ask("GET", f"/jobs/{job_id}", {})
        return None if answer.status == 404 else read_job(self._body(answer))

    async def history(self, job_id: int) -> list[JobSummary]:
        """See `Place.history`."""
        return [_read(JobSummary, each) for each in (await self._read(f"/jobs/{job_id}"))["history"]]

    async def logs(self, job_id: int, after: int) -> list[LogLine]:
        """See `Place.logs`."""
        body = await self._read(f"/jobs/{job_id}/logs", after=str(after), limit=str(PAGE))
        return [_read(LogLine, each | {"jobId": job_id}) for each in body["lines"]]

    async def cancel(self, job_ids: Sequence[int]) -> Cancelled:
        """See `Place.cancel`."""
        cancelled: list[int] = []
        stopping: list[int] = []
        for start in range(0, len(job_ids), BULK):
            body = await self._change("POST", "/jobs/cancel", {"ids": [*job_ids[start : start + BULK]]})
            cancelled += body["cancelled"]
            stopping += body["stopping"]
        return Cancelled(cancelled, stopping)

    async def cancel_tag(self, tag: str) -> Cancelled:
        """See `Place.cancel_tag`."""
        return Cancelled(**await self._change("POST", "/jobs/cancel", {"tag": tag}))

    async def retry(self, job_ids: Sequence[int]) -> list[int]:
        """See `Place.retry`."""
        if len(job_ids) > BULK:
            raise InvalidInputError(f"{len(job_ids)} jobs are too many: a server takes up to {BULK} at once")
        new: list[int] = (await self._change("POST", "/jobs/retry", {"ids": [*job_ids]}))["ids"]
        return new

    async def matching(self, change: BulkChange, which: JobQuery) -> Matching:
        """See `Place.matching`."""
        return _read(Matching, await self._change("POST", f"/jobs/{change}", _write_change(which) | {"dryRun": True}))

    async def cancel_matching(self, which: JobQuery) -> Cancelled:
        """See `Place.cancel_matching`."""
        return Cancelled(**await self._change("POST", "/jobs/cancel", _write_change(which)))

    async def retry_matching(self, which: JobQuery) -> list[int]:
        """See `Place.retry_matching`."""
        new: list[int] = (await self._change("POST", "/jobs/retry", _write_change(which)))["ids"]
        return new

    async def cron(self) -> list[CronLine]:
        """See `Place.cron`."""
        lines: list[CronLine] = []
        after: int | None = 0
        while after is not None:
            body = await self._read("/cron", after=str(after), limit=str(PAGE), ticks="0")
            lines += [_read(CronLine, each) for each in body["cron"]]
            after = body["next"]
        return lines

    async def trigger_cron(self, key: str) -> Job:
        """See `Place.trigger_cron`."""
        return read_job(await self._change("POST", "/cron/trigger", {"key": key}))

    async def pause_cron(self, key: str, reason: str | None) -> None:
        """See `Place.pause_cron`."""
        await self._change("POST", "/cron/pause", {"key": key, "reason": reason})

    async def resume_cron(self, key: str) -> bool:
        """See `Place.resume_cron`."""
        answer = await self._ask("POST", "/cron/resume", {}, {"key": key})
        if answer.status == 404 and "is not paused" in _detail(answer):
            return False
        self._body(answer)
        return True

    async def pause(self, kind: PauseKind, name: str, reason: str | None) -> None:
        """See `Place.pause`."""
        await self._change("PUT", _path(kind, name, "pause"), {"reason": reason})

    async def resume(self, kind: PauseKind, name: str) -> bool:
        """See `Place.resume`."""
        return await self._is_removed(_path(kind, name, "pause"))

    async def pauses(self) -> list[Pause]:
        """See `Place.pauses`."""
        return [_read(Pause, each) for each in (await self._read("/pauses"))["pauses"]]

    async def set_limit(
        self, kind: LimitKind, name: str, concurrency: int | None, rate_limit: int | None, rate_period_ms: int | None
    ) -> None:
        """See `Place.set_limit`."""
        given = {"concurrency": concurrency, "rateLimit": rate_limit, "ratePeriod": rate_period_ms}
        await self._change("PUT", _path(kind, name, "limit"), given)

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        """See `Place.remove_limit`."""
        return await self._is_removed(_path(kind, name, "limit"))

    async def limits(self) -> list[StoredLimit]:
        """See `Place.limits`."""
        found = (await self._read("/limits"))["limits"]
        return [_read(StoredLimit, each | {"ratePeriodMs": each["ratePeriod"]}) for each in found]

    async def workers(self) -> list[WorkerStatus]:
        """See `Place.workers`."""
        return [_read(WorkerStatus, each) for each in (await self._read("/workers"))["workers"]]

    async def types(self) -> list[KnownType]:
        """See `Place.types`."""
        return [_read(KnownType, each) for each in (await self._read("/types"))["types"]]

    async def queues(self) -> list[QueueCount]:
        """See `Place.queues`."""
        return [_read(QueueCount, each) for each in (await self._read("/statistics"))["queues"]]

    async def recent_runs(self) -> list[RecentRuns]:
        """See `Place.recent_runs`."""
        return [_read(RecentRuns, each) for each in (await self._read("/statistics"))["recent"]]

    async def close(self) -> None:
        """See `Place.close`."""
        await self._exchange.close()

    async def _read(self, path: str, **query: str) -> Any:
        return self._body(await self._ask("GET", path, query))

    async def _change(self, method: str, path: str, body: Any) -> Any:
        return self._body(await self._ask(method, path, {}, body))

    async def _is_removed(self, path: str) -> bool:
        answer = await self._ask("DELETE", path, {})
        if answer.status == 404:
            return False
        self._body(answer)
        return True

    async def _ask(self, method: str, path: str, query: Mapping[str, str], body: Any = None) -> Answer:
        return await self._exchange.ask(method, path, query, body)

    def _body(self, answer: Answer) -> Any:
        """Take an answer's body, or raise what it says.

        Raises:
            InvalidInputError: The input has to be corrected.
            NotFoundError: There is no such thing.
            PlaceRefusedError: The server does not let this token do that.
            PlaceUnavailableError: It can't serve now, or is none of ours.
        """
        if answer.status < 300:
            if answer.body is None and answer.status != 204:
                raise PlaceUnavailableError(f"{self._exchange.name} answers, but is no WorkerJobs server")
            return answer.body
        detail = _detail(answer)
        if answer.status == 401:
            raise PlaceRefusedError(
                f"{self._exchange.name} wants a valid token: set WORKERJOBS_TOKEN (workerjobs token create makes one)"
            )
        if answer.status in (400, 409, 413, 422):
            raise InvalidInputError((answer.body or {}).get("errors") or detail)
        if answer.status == 404 and answer.body is not None:
            raise NotFoundError(detail)
        if answer.status == 404:
            raise PlaceUnavailableError(f"{self._exchange.name} is no WorkerJobs server of this release")
        if answer.status < 500 and answer.status != 429:
            raise PlaceRefusedError(f"{self._exchange.name} refuses: {detail}")
        raise PlaceUnavailableError(f"{self._exchange.name} can't serve now: {detail}")


def _detail(answer: Answer) -> str:
    said = answer.body.get("detail") if isinstance(answer.body, dict) else None
    return str(said or f"HTTP status {answer.status}")


def _path(kind: PauseKind | LimitKind, name: str, what: str) -> str:
    return f"/{kind}s/{quote(name, safe='')}/{what}"


def _write_query(which: JobQuery) -> dict[str, Any]:
    """Write what a query says, but for its limit; JSON can hold it."""
    given = {each.name: value for each in fields(which) if (value := getattr(which, each.name)) not in (None, False)}
    del given["limit"]
    states = given.pop("states")
    written: dict[str, Any] = {"state": [str(state) for state in states]} if states else {}
    for name, value in given.items():
        written[column_name(name)] = value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
    return written


def _write_change(which: JobQuery) -> dict[str, Any]:
    return {"where": _write_query(which), "limit": min(which.limit, BULK)}


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return "true" if value is True else str(value)


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _read(kind: type[T], given: Mapping[str, Any]) -> T:
    return msgspec.convert({_snake(name): value for name, value in given.items()}, kind)


def read_job(given: Mapping[str, Any]) -> Job:
    """Read a job as `Job.to_dict` and the API write it."""
    values: dict[str, Any] = {}
    for name in Job.__struct_fields__:
        column = column_name(name.removesuffix("_json"))
        if column in given:
            value = given[column]
            is_null = value is None and name != "data_json"
            values[name] = json.dumps(value, ensure_ascii=False) if name.endswith("_json") and not is_null else value
    return msgspec.convert(values, Job)


def write_job(job: NewJob) -> dict[str, Any]:
    """Write a job as the API takes it; fields that say nothing are left out."""
    usual = NewJob(type=job.type)
    left_out = ("retry", "resource", "cron_key", "data_from", "rescheduled_from_job")
    given: dict[str, Any] = {"type": job.type}
    for each in fields(NewJob):
        value = getattr(job, each.name)
        if each.name not in left_out and value != getattr(usual, each.name):
            given[column_name(each.name)] = value.isoformat() if isinstance(value, datetime) else value
    if job.retry is not None:
        given["retry"] = {
            "limit": job.retry.limit,
            "initialDelay": job.retry.initial_delay_ms,
            "factor": job.retry.factor,
            "maxDelay": job.retry.max_delay_ms,
            "jitter": job.retry.jitter,
        }
    return given
