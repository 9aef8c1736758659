"""Jobs with models, and jobs that work on their database; workers load this file by its path."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from workerjobs import JobContext, RetryPolicy, job

if TYPE_CHECKING:
    from collections.abc import Mapping


class Report(BaseModel):
    to: list[str] = Field(min_length=1)
    when: datetime
    copies: int = Field(default=1, ge=1)

    @field_validator("to")
    @classmethod
    def _have_signs(cls, value: list[str]) -> list[str]:
        if not all("@" in each for each in value):
            raise ValueError("every address needs an @")
        return value


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float = Field(gt=0)


class Square(BaseModel):
    kind: Literal["square"]
    side: float = Field(gt=0)


@job("sendReport", timeout_seconds=30, memory_mib=256, isolation="fresh", concurrency=2, retry=3)
def send_report(report: Report, context: JobContext) -> dict[str, Any]:
    """Send a report.

    To whoever wants it.
    """
    return {"to": report.to, "weekday": report.when.weekday(), "copies": report.copies, "job": context.job_id}


@job("sendReportAsync")
async def send_report_async(report: Report) -> int:
    return report.copies


@job("area")
def area(shape: Annotated[Circle | Square, Field(discriminator="kind")]) -> float:
    return shape.side**2 if isinstance(shape, Square) else 3 * shape.radius**2


@job("plain")
def plain(data: Mapping[str, Any]) -> str:
    """Annotated with a name that type checkers alone import."""
    return type(data).__name__


@job("wrongOwnData")
def wrong_own_data(data: dict[str, Any]) -> None:
    """Fail over another model than its own data."""
    Report.model_validate({"to": ["a@b"], "when": "soon"})


@job("slow", timeout_seconds=0.3, retry=RetryPolicy(1, initial_delay_ms=0))
def sleep(data: dict[str, Any]) -> None:
    time.sleep(600)


@job("connection")
def use_connection(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    connection = context.connection
    assert context.connection is connection
    connection.execute("create table if not exists seen (n int)")
    connection.execute("insert into seen values (%s)", [data["n"]])
    if data.get("leave open"):
        connection.execute("begin")
        connection.execute("insert into seen values (-1)")
    if data.get("fail"):
        raise RuntimeError("failed with a connection open")
    return {"pid": os.getpid(), "backend": connection.info.backend_pid}


@job("asyncConnection")
async def use_async_connection(data: dict[str, Any], context: JobContext) -> int:
    connection = await context.async_connection()
    assert await context.async_connection() is connection
    row = await (await connection.execute("select pg_backend_pid()")).fetchone()
    return int(row[0])


@job("watchCancelled")
def watch_cancelled(data: dict[str, Any], context: JobContext) -> None:
    """A thread of the job sees that it was asked to stop, while the function is interrupted."""
    seen = [context.cancelled]

    def watch() -> None:
        while not context.cancelled:
            time.sleep(0.005)
        seen.append(True)

    thread = threading.Thread(target=watch)
    thread.start()
    folder = Path(data["folder"])
    (folder / "started").touch()
    try:
        time.sleep(600)
    finally:
        thread.join()
        unfinished = folder / "unfinished"
        unfinished.write_text(json.dumps(seen))
        unfinished.rename(folder / "seen")
