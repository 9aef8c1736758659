"""Cron jobs and their coming ticks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from workerjobs.domain.cron import cron_key_of, next_ticks
from workerjobs.domain.words import missing
from workerjobs.errors import NotFoundError
from workerjobs.ports.api import RecordingStore
from workerjobs.web.api import schemas
from workerjobs.web.api.stores import ChangeOfRequest, StoreOfRequest

router = APIRouter(prefix="/cron", tags=["cron"])

MISSING: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such cron job."}}


@router.get("", summary="List cron jobs")
async def list_cron(query: Annotated[schemas.CronQuery, Query()], store: StoreOfRequest) -> schemas.CronList:
    """List cron jobs with their coming ticks and how their last runs ended."""
    lines = await store.cron_lines(query.after, query.limit)
    now = datetime.now(UTC)
    return schemas.CronList(
        cron=[
            schemas.CronJob(**asdict(line), key=cron_key_of(line), next_ticks=next_ticks(line, query.ticks, now=now))
            for line in lines
        ],
        next=lines[-1].id if len(lines) == query.limit else None,
    )


@router.post("/trigger", status_code=201, summary="Run a cron job now", responses=MISSING)
async def trigger(which: schemas.CronLineName, change: ChangeOfRequest) -> schemas.Job:
    """Run a cron job now, as a job of its own beside its ticks; also one that is paused."""
    details: dict[str, object] = {"key": which.key}
    async with _changing(change, "cron.trigger", details) as inside:
        stored = await inside.trigger_cron(which.key)
        details["id"] = stored.id
    return schemas.Job(**stored.to_dict())


@router.post("/pause", summary="Pause a cron job", responses=MISSING)
async def pause(which: schemas.CronPause, change: ChangeOfRequest) -> schemas.Pause:
    """Start no more runs of a cron job; one that runs goes on. Again: the new reason counts."""
    async with _changing(change, "cron.pause", {"key": which.key, "reason": which.reason}) as inside:
        return schemas.Pause.model_validate(await inside.pause_cron(which.key, which.reason))


@router.post("/resume", status_code=204, summary="Resume a cron job", responses=MISSING)
async def resume(which: schemas.CronLineName, change: ChangeOfRequest) -> None:
    """Let a cron job go on with its next tick; 404 where it is not paused."""
    async with _changing(change, "cron.resume", {"key": which.key}) as inside:
        if not await inside.resume_cron(which.key):
            raise NotFoundError(f"The cron job {which.key} is not paused")


@asynccontextmanager
async def _changing(change: ChangeOfRequest, action: str, details: dict[str, object]) -> AsyncIterator[RecordingStore]:
    """Begin the transaction of a change; where there is no such cron job, say which one may have been meant."""
    try:
        async with change.transaction(action, details) as inside:
            yield inside
    except NotFoundError as error:
        lines = await change.store.cron_lines(0, schemas.MAX_PAGE)
        known = [cron_key_of(line) for line in lines]
        raise NotFoundError(missing(str(error), str(details["key"]), known)) from error
