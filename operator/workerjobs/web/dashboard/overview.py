"""The first page: how the queue does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from fastapi import APIRouter, Request
from starlette.responses import Response

from workerjobs.domain.job import JobState
from workerjobs.ports.api import QueueCount, RecentRuns
from workerjobs.ports.jobs import JobQuery
from workerjobs.web.api.figures import statistics_of
from workerjobs.web.api.jobs import LEASE
from workerjobs.web.api.pools import pools
from workerjobs.web.api.stores import StoreOfRequest
from workerjobs.web.dashboard.charts import ends_chart, latency_chart
from workerjobs.web.dashboard.rendering import pages_of
from workerjobs.web.dashboard.spans import Span

router = APIRouter()

SLOTS = 60
FEW = 6

Back = Literal[Span.QUARTER, Span.HOUR, Span.SIX_HOURS, Span.DAY]


@dataclass(frozen=True, slots=True)
class TypeLine:
    """A job type: what waits and runs of it, and how it went of late."""

    type: str
    waiting: int
    later: int
    running: int
    oldest_seconds: float | None
    recent: RecentRuns | None


@router.get("/")
async def overview(request: Request, store: StoreOfRequest, window: Back = Span.HOUR) -> Response:
    """Show how the queue does."""
    queues, recent = await store.queues(), await store.recent_runs()
    workers, pauses = await store.workers(LEASE), await store.pauses()
    shown = await store.throughput(window.length / SLOTS, SLOTS)
    ended = sum(slot.ended for slot in shown.slots)
    failures = await store.page(JobQuery(states=(JobState.FAILED,), limit=FEW))
    running = await store.page(JobQuery(states=(JobState.RUNNING,), limit=FEW))
    return pages_of(request).show(
        request,
        "overview.html",
        area="overview",
        statistics=statistics_of(queues, recent, workers),
        types=type_lines(queues, recent),
        pools=pools(workers, queues, pauses),
        pauses=pauses,
        shown=shown,
        ended=ended,
        failed=sum(slot.failed for slot in shown.slots),
        ends=ends_chart(shown),
        latency=latency_chart(shown),
        window=window,
        windows=get_args(Back),
        failures=failures.jobs,
        running=running.jobs,
    )


def type_lines(queues: Sequence[QueueCount], recent: Sequence[RecentRuns]) -> list[TypeLine]:
    """Put together what is known of each type: those that wait or run most come first."""
    by_type = {each.type: each for each in recent}
    lines = []
    for job_type in {each.type for each in queues} | by_type.keys():
        own = [each for each in queues if each.type == job_type]
        ages = [each.oldest_seconds for each in own if each.oldest_seconds is not None]
        lines.append(
            TypeLine(
                job_type,
                sum(each.waiting for each in own),
                sum(each.later for each in own),
                sum(each.running for each in own),
                max(ages, default=None),
                by_type.get(job_type),
            )
        )
    return sorted(lines, key=lambda line: (-line.waiting - line.running, line.type))
