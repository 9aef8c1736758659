"""Cron jobs and their coming ticks."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query

from workerjobs.domain.cron import cron_key_of
from workerjobs.domain.schedule import CronSchedule
from workerjobs.errors import InvalidScheduleError
from workerjobs.ports.api import CronLine
from workerjobs.web.api import schemas
from workerjobs.web.api.stores import StoreOfRequest

router = APIRouter(prefix="/cron", tags=["cron"])


@router.get("", summary="List cron jobs")
async def list_cron(query: Annotated[schemas.CronQuery, Query()], store: StoreOfRequest) -> schemas.CronList:
    """List cron jobs with their coming ticks and how their last runs ended."""
    lines = await store.cron_lines(query.after, query.limit)
    now = datetime.now(UTC)
    return schemas.CronList(
        cron=[schemas.CronJob(**asdict(line), next_ticks=next_ticks(line, query.ticks, now=now)) for line in lines],
        next=lines[-1].id if len(lines) == query.limit else None,
    )


def next_ticks(line: CronLine, count: int, *, now: datetime) -> list[datetime]:
    """Tell the coming ticks of a cron job, first the one that its pending run waits for.

    Args:
        line: Its unfinished run.
        count: How many.
        now: The moment.
    """
    if line.is_suspended or line.cron_schedule is None or count == 0:
        return []
    try:
        schedule = CronSchedule.parse(line.cron_schedule, line.time_zone, identity=cron_key_of(line))
        # A run that waits for its tick, and that SQL did not leave without one.
        is_planned = line.started is None and line.tick is not None and line.due > now
        ticks = [line.due if is_planned else schedule.next_after(now)]
        while len(ticks) < count:
            ticks.append(schedule.next_after(ticks[-1]))
    except (InvalidScheduleError, ValueError):
        # Written past every check; a worker says so when the run ends.
        return []
    return ticks
