"""Pools and their workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Path

from workerjobs.domain.limits import PauseKind
from workerjobs.domain.words import missing
from workerjobs.errors import NotFoundError
from workerjobs.ports.api import ApiStore, QueueCount
from workerjobs.ports.jobs import Pause
from workerjobs.ports.workers import WorkerStatus
from workerjobs.web.api import schemas
from workerjobs.web.api.jobs import LEASE
from workerjobs.web.api.stores import ChangeOfRequest, StoreOfRequest

router = APIRouter(tags=["pools and types"])
last_router = APIRouter(tags=["pools and types"])
"""Comes after all others: a name may hold slashes, so that it would take what stands below a name for a part of it."""

PoolName = Annotated[schemas.Name, Path(alias="pool", description="The pool's name.", examples=["default"])]
TypeName = Annotated[schemas.Name, Path(alias="type", description="The job type.", examples=["sendReport"])]
Why = Annotated[schemas.PauseRequest | None, Body()]


@router.get("/workers", summary="List workers")
async def list_workers(store: StoreOfRequest) -> schemas.WorkerList:
    """List the workers that live: those that showed themselves within a lease."""
    found = await store.workers(LEASE)
    return schemas.WorkerList(workers=[schemas.Worker.model_validate(each) for each in found])


@router.get("/pools", summary="List pools")
async def list_pools(store: StoreOfRequest) -> schemas.PoolList:
    """List the pools that have workers, unfinished jobs, or a pause."""
    return schemas.PoolList(pools=pools(await store.workers(LEASE), await store.queues(), await store.pauses()))


@router.get("/workerpools", summary="List WorkerPools")
async def list_worker_pools(store: StoreOfRequest) -> schemas.WorkerPoolList:
    """List the WorkerPools of clusters: how many pods each should have and has, and why. Without a cluster: none."""
    workers = Counter(each.pool for each in await store.workers(LEASE))
    paused = {each.name: each for each in await store.pauses() if each.kind == PauseKind.POOL}
    return schemas.WorkerPoolList(
        worker_pools=[
            schemas.WorkerPool(**asdict(each), workers=workers[each.pool], pause=_pause_of(each.pool, paused))
            for each in await store.worker_pools()
        ]
    )


@router.get("/pauses", summary="List pauses")
async def list_pauses(store: StoreOfRequest) -> schemas.PauseList:
    """List the pools, types and cron jobs that are paused."""
    return schemas.PauseList(pauses=[schemas.Pause.model_validate(each) for each in await store.pauses()])


@router.get("/pools/{pool:path}/pause", summary="Show a pool's pause")
async def show_pool_pause(pool: PoolName, store: StoreOfRequest) -> schemas.Pause:
    """Show since when a pool is paused, and why; 404 where it is not."""
    return await _shown_pause(store, PauseKind.POOL, pool)


@router.put("/pools/{pool:path}/pause", summary="Pause a pool")
async def pause_pool(pool: PoolName, change: ChangeOfRequest, why: Why = None) -> schemas.Pause:
    """Start no more jobs of a pool; running ones go on. Again: the new reason counts."""
    return await _pause(PauseKind.POOL, pool, why, change)


@router.delete("/pools/{pool:path}/pause", status_code=204, summary="Resume a pool")
async def resume_pool(pool: PoolName, change: ChangeOfRequest) -> None:
    """End a pool's pause; 404 where there is none."""
    await _resume(PauseKind.POOL, pool, change)


@router.get("/types", summary="List job types")
async def list_types(store: StoreOfRequest) -> schemas.JobTypeList:
    """List the job types that live workers know, with the JSON Schema of their data."""
    return schemas.JobTypeList(types=[schemas.JobType.model_validate(each) for each in await store.job_types(LEASE)])


@router.get("/types/{type:path}/pause", summary="Show a type's pause")
async def show_type_pause(job_type: TypeName, store: StoreOfRequest) -> schemas.Pause:
    """Show since when a job type is paused, and why; 404 where it is not."""
    return await _shown_pause(store, PauseKind.TYPE, job_type)


@router.put("/types/{type:path}/pause", summary="Pause a job type")
async def pause_type(job_type: TypeName, change: ChangeOfRequest, why: Why = None) -> schemas.Pause:
    """Start no more jobs of a type; running ones go on. Again: the new reason counts."""
    return await _pause(PauseKind.TYPE, job_type, why, change)


@router.delete("/types/{type:path}/pause", status_code=204, summary="Resume a job type")
async def resume_type(job_type: TypeName, change: ChangeOfRequest) -> None:
    """End a type's pause; 404 where there is none."""
    await _resume(PauseKind.TYPE, job_type, change)


@last_router.get("/pools/{pool:path}", summary="Show a pool")
async def show_pool(pool: PoolName, store: StoreOfRequest) -> schemas.Pool:
    """Show a pool; 404 where it has no workers, no unfinished jobs and no pause."""
    known = {each.name: each for each in pools(await store.workers(LEASE), await store.queues(), await store.pauses())}
    if pool not in known:
        raise NotFoundError(missing(f"The pool {pool} has no workers, no unfinished jobs and no pause", pool, known))
    return known[pool]


@last_router.get("/types/{type:path}", summary="Show a job type")
async def show_type(job_type: TypeName, store: StoreOfRequest) -> schemas.JobType:
    """Show a job type with the JSON Schema of its data; 404 where no live worker knows it."""
    found = await store.job_types(LEASE, job_type)
    if not found:
        known = {each.type for each in await store.job_types(LEASE)}
        raise NotFoundError(missing(f"No live worker knows the type {job_type}", job_type, known))
    return schemas.JobType.model_validate(found[0])


def pools(workers: Sequence[WorkerStatus], queues: Sequence[QueueCount], pauses: Sequence[Pause]) -> list[schemas.Pool]:
    """Put together what is known of each pool, by name."""
    paused = {each.name: each for each in pauses if each.kind == PauseKind.POOL}
    names = {each.pool for each in workers} | {each.pool for each in queues} | paused.keys()
    return [
        _pool(
            name,
            [each for each in workers if each.pool == name],
            [each for each in queues if each.pool == name],
            _pause_of(name, paused),
        )
        for name in sorted(names)
    ]


def _pause_of(name: str, paused: Mapping[str, Pause]) -> schemas.Pause | None:
    return schemas.Pause.model_validate(paused[name]) if name in paused else None


def _pool(
    name: str, workers: Sequence[WorkerStatus], queues: Sequence[QueueCount], pause: schemas.Pause | None
) -> schemas.Pool:
    return schemas.Pool(
        name=name,
        workers=len(workers),
        draining=sum(each.is_draining for each in workers),
        children=sum(each.children for each in workers),
        running=sum(each.running for each in queues),
        waiting=sum(each.waiting for each in queues),
        later=sum(each.later for each in queues),
        oldest_seconds=max((each.oldest_seconds for each in queues if each.oldest_seconds is not None), default=None),
        types=sorted({job_type for each in workers for job_type in each.types}),
        pause=pause,
    )


async def _shown_pause(store: ApiStore, kind: PauseKind, name: str) -> schemas.Pause:
    paused = {each.name: each for each in await store.pauses() if each.kind == kind}
    if name not in paused:
        raise _not_paused(kind, name, paused)
    return schemas.Pause.model_validate(paused[name])


async def _pause(
    kind: PauseKind, name: str, why: schemas.PauseRequest | None, change: ChangeOfRequest
) -> schemas.Pause:
    reason = None if why is None else why.reason
    async with change.transaction(f"{kind}s.pause", {"name": name, "reason": reason}) as inside:
        return schemas.Pause.model_validate(await inside.pause(kind, name, reason))


async def _resume(kind: PauseKind, name: str, change: ChangeOfRequest) -> None:
    async with change.transaction(f"{kind}s.resume", {"name": name}) as inside:
        if not await inside.resume(kind, name):
            raise _not_paused(kind, name, [each.name for each in await inside.pauses() if each.kind == kind])


def _not_paused(kind: PauseKind, name: str, paused: Iterable[str]) -> NotFoundError:
    return NotFoundError(missing(f"The {kind} {name} is not paused", name, paused))
