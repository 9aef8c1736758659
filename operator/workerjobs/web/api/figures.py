"""Figures of the queue, who asks, and who did what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request

from workerjobs.ports.api import QueueCount, RecentRuns
from workerjobs.ports.workers import WorkerStatus
from workerjobs.web.api import schemas
from workerjobs.web.api.jobs import LEASE
from workerjobs.web.api.stores import StoreOfRequest

router = APIRouter(tags=["figures"])


@router.get("/me", summary="Who asks")
async def show_caller(request: Request) -> schemas.Me:
    """Tell whom this server takes the caller for, and what that allows."""
    return schemas.Me.model_validate(request.state.caller)


@router.get("/statistics", summary="Figures of the queue")
async def show_statistics(store: StoreOfRequest) -> schemas.Statistics:
    """Count what waits and runs, by pool and type, and how runs went of late."""
    return statistics_of(await store.queues(), await store.recent_runs(), await store.workers(LEASE))


def statistics_of(
    queues: Sequence[QueueCount], recent: Sequence[RecentRuns], workers: Sequence[WorkerStatus]
) -> schemas.Statistics:
    """Put together what is known of the queue."""
    return schemas.Statistics(
        waiting=sum(each.waiting for each in queues),
        later=sum(each.later for each in queues),
        running=sum(each.running for each in queues),
        oldest_seconds=max((each.oldest_seconds for each in queues if each.oldest_seconds is not None), default=None),
        workers=len(workers),
        children=sum(each.children for each in workers),
        queues=[schemas.QueueCount.model_validate(each) for each in queues],
        recent=[schemas.RecentRuns.model_validate(each) for each in recent],
    )


@router.get("/audit", summary="Who did what")
async def list_audit(query: Annotated[schemas.AuditQuery, Query()], store: StoreOfRequest) -> schemas.Audit:
    """List what was done through this API, newest first; kept for 90 days. Data of jobs is not part of it."""
    entries = await store.audit(query.before, query.limit)
    return schemas.Audit(
        entries=[schemas.AuditEntry.model_validate(each) for each in entries],
        next=entries[-1].id if len(entries) == query.limit else None,
    )
