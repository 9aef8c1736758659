"""Cron jobs: when they run next, and how they went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from workerjobs.domain.cron import cron_key_of, next_ticks
from workerjobs.domain.limits import PauseKind
from workerjobs.ports.api import CronLine
from workerjobs.web.api import schemas
from workerjobs.web.api.stores import StoreOfRequest
from workerjobs.web.dashboard.charts import WIDTH
from workerjobs.web.dashboard.rendering import pages_of
from workerjobs.web.dashboard.spans import Span

router = APIRouter()

PAGE = 40
MOST_TICKS = 24
"""Of a cron job, drawn one by one; of more, those alone, and a band."""
MARKS = 6

Ahead = Literal[Span.HOUR, Span.DAY, Span.WEEK, Span.MONTH]


@dataclass(frozen=True, slots=True)
class Lane:
    """A cron job's line in the calendar."""

    job: schemas.CronJob
    ticks: Sequence[tuple[float, datetime]]
    """Where, and when."""
    band: tuple[float, float] | None
    """From where to where it runs too often to be drawn: x and width."""


def lane(line: CronLine, now: datetime, length: timedelta) -> Lane:
    """Draw a cron job's coming ticks."""
    ticks = next_ticks(line, MOST_TICKS, now=now)
    shown = [(round((tick - now) / length * WIDTH, 2), tick) for tick in ticks if now <= tick < now + length]
    is_dense = len(shown) == MOST_TICKS
    return Lane(
        schemas.CronJob(**asdict(line), key=cron_key_of(line), next_ticks=ticks[:5]),
        [] if is_dense else shown,
        (shown[0][0], round(WIDTH - shown[0][0], 2)) if is_dense else None,
    )


@router.get("/cron")
async def show_cron(
    request: Request,
    store: StoreOfRequest,
    span: Ahead = Span.DAY,
    after: Annotated[int, Query(ge=0, le=schemas.MAX_ID)] = 0,
) -> Response:
    """Show cron jobs in a calendar of their coming ticks, and how their last runs ended."""
    lines = await store.cron_lines(after, PAGE)
    now, length = datetime.now(UTC), span.length
    return pages_of(request).show(
        request,
        "cron.html",
        area="cron",
        lanes=[lane(line, now, length) for line in lines],
        pauses={pause.name: pause for pause in await store.pauses() if pause.kind == PauseKind.CRON},
        span=span,
        spans=get_args(Ahead),
        marks=[now + length * index / MARKS for index in range(MARKS + 1)],
        next=lines[-1].id if len(lines) == PAGE else None,
        is_first=after == 0,
    )
