"""Limits of job types and of concurrency keys: how many jobs run at once, and start in a period."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Path

from workerjobs.domain.limits import LimitKind
from workerjobs.domain.words import missing
from workerjobs.errors import InvalidInputError, NotFoundError
from workerjobs.ports.jobs import JobStore, StoredLimit
from workerjobs.web.api import schemas
from workerjobs.web.api.jobs import LEASE
from workerjobs.web.api.pools import TypeName
from workerjobs.web.api.stores import ChangeOfRequest, StoreOfRequest

router = APIRouter(tags=["limits"])

KeyName = Annotated[schemas.Name, Path(alias="key", description="The concurrency key.", examples=["customer-7"])]


@router.get("/limits", summary="List limits")
async def list_limits(store: StoreOfRequest) -> schemas.LimitList:
    """List the limits that are set for types and keys, with the jobs that run under each now.

    What jobs say of their own key (`concurrencyLimit`, `rateLimit`) is not among them; the stricter one counts.
    """
    return schemas.LimitList(limits=[_shown(each) for each in await store.limits(LEASE)])


@router.get("/types/{type:path}/limit", summary="Show a type's limit")
async def show_type_limit(job_type: TypeName, store: StoreOfRequest) -> schemas.TypeOrKeyLimit:
    """Show the limit of a job type; 404 where none is set."""
    return await _limit(store, LimitKind.TYPE, job_type)


@router.put("/types/{type:path}/limit", summary="Limit a type")
async def limit_type(
    job_type: TypeName, wanted: schemas.LimitRequest, change: ChangeOfRequest
) -> schemas.TypeOrKeyLimit:
    """Limit the jobs of a type, whatever their pool and key, in place of what was set before."""
    return await _set(LimitKind.TYPE, job_type, wanted, change)


@router.delete("/types/{type:path}/limit", status_code=204, summary="Remove a type's limit")
async def unlimit_type(job_type: TypeName, change: ChangeOfRequest) -> None:
    """Let the jobs of a type start without a limit of the type; 404 where none is set."""
    await _remove(LimitKind.TYPE, job_type, change)


@router.get("/keys/{key:path}/limit", summary="Show a key's limit")
async def show_key_limit(key: KeyName, store: StoreOfRequest) -> schemas.TypeOrKeyLimit:
    """Show the limit of a concurrency key; 404 where none is set from outside."""
    return await _limit(store, LimitKind.KEY, key)


@router.put("/keys/{key:path}/limit", summary="Limit a key")
async def limit_key(key: KeyName, wanted: schemas.LimitRequest, change: ChangeOfRequest) -> schemas.TypeOrKeyLimit:
    """Limit the jobs of a key, in place of what was set before; where jobs say more, the stricter counts."""
    return await _set(LimitKind.KEY, key, wanted, change)


@router.delete("/keys/{key:path}/limit", status_code=204, summary="Remove a key's limit")
async def unlimit_key(key: KeyName, change: ChangeOfRequest) -> None:
    """Remove what was set for a concurrency key; what its jobs say of themselves stays. 404 where none is set."""
    await _remove(LimitKind.KEY, key, change)


async def _limit(store: JobStore, kind: LimitKind, name: str) -> schemas.TypeOrKeyLimit:
    limits = {each.name: each for each in await store.limits(LEASE) if each.kind == kind}
    if name not in limits:
        raise _no_limit(kind, name, limits)
    return _shown(limits[name])


async def _set(
    kind: LimitKind, name: str, wanted: schemas.LimitRequest, change: ChangeOfRequest
) -> schemas.TypeOrKeyLimit:
    if (wanted.rate_limit is None) != (wanted.rate_period is None):
        raise InvalidInputError("rateLimit and ratePeriod go together: give both, so many starts in each period")
    details = {"name": name, **wanted.model_dump(by_alias=True, exclude_none=True)}
    async with change.transaction(f"{kind}s.limit", details) as inside:
        await inside.set_limit(kind, name, wanted.concurrency, wanted.rate_limit, wanted.rate_period)
        return await _limit(inside, kind, name)


async def _remove(kind: LimitKind, name: str, change: ChangeOfRequest) -> None:
    async with change.transaction(f"{kind}s.unlimit", {"name": name}) as inside:
        if not await inside.remove_limit(kind, name):
            raise _no_limit(kind, name, [each.name for each in await inside.limits(LEASE) if each.kind == kind])


def _shown(stored: StoredLimit) -> schemas.TypeOrKeyLimit:
    return schemas.TypeOrKeyLimit(
        kind=stored.kind,
        name=stored.name,
        concurrency=stored.concurrency,
        rate_limit=stored.rate_limit,
        rate_period=stored.rate_period_ms,
        running=stored.running,
    )


def _no_limit(kind: LimitKind, name: str, limited: Iterable[str]) -> NotFoundError:
    return NotFoundError(missing(f"No limit is set for the {kind} {name}", name, limited))
