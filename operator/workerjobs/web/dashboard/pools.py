"""Pools, their workers, and the limits that jobs share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from workerjobs.ports.api import QueueCount, RecentRuns
from workerjobs.ports.workers import WorkerStatus
from workerjobs.web.api.jobs import LEASE
from workerjobs.web.api.pools import pools
from workerjobs.web.api.schemas import Pool
from workerjobs.web.api.stores import StoreOfRequest
from workerjobs.web.dashboard.rendering import pages_of
from workerjobs.web.dashboard.words import count, duration

router = APIRouter()


@router.get("/pools")
async def show_pools(request: Request, store: StoreOfRequest) -> Response:
    """Show pools and their workers: who is busy, idle, draining, and what waits for them."""
    workers, queues = await store.workers(LEASE), await store.queues()
    recent = {each.type: each for each in await store.recent_runs()}
    found = pools(workers, queues, await store.pauses())
    resources = await store.worker_pools()
    return pages_of(request).show(
        request,
        "pools.html",
        area="pools",
        pools=found,
        workers={each.name: [worker for worker in workers if worker.pool == each.name] for each in found},
        states=state_of,
        tallies={
            each.name: Counter(state_of(worker) for worker in workers if worker.pool == each.name) for each in found
        },
        said={each.name: outlook(each, queues, recent) for each in found},
        resources={each.name: [shown for shown in resources if shown.pool == each.name] for each in found},
        limits=await store.limits(LEASE),
    )


def state_of(worker: WorkerStatus) -> str:
    """What a worker does, in a word."""
    if worker.is_draining:
        return "draining"
    return "busy" if worker.running else "idle"


def outlook(pool: Pool, queues: Sequence[QueueCount], recent: Mapping[str, RecentRuns]) -> str:
    """Say how long the pool's workers have to do, and whether that is what they are for."""
    if pool.pause is not None:
        return "Paused: what waits goes on waiting."
    if not pool.children:
        return f"No worker: {count(pool.waiting)} waiting." if pool.waiting else "No worker, and nothing waits."
    takes = pool.children - pool.running
    if not pool.waiting:
        return f"{count(max(takes, 0))} of {count(pool.children)} places are free."
    known = [each for each in queues if each.pool == pool.name and each.waiting and each.type in recent]
    if not known:
        return f"{count(pool.waiting)} waiting for {count(pool.children)} places; how long they take is not known yet."
    seconds = sum(each.waiting * recent[each.type].mean_seconds for each in known) / pool.children
    return (
        f"{count(pool.waiting)} waiting for {count(pool.children)} places: "
        f"about {duration(seconds)} of work, as runs took of late."
    )
