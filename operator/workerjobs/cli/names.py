"""Names that the shell completes (Tab), read from where commands work. Whatever goes wrong, nothing is suggested."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import typer

from workerjobs.domain.job import JobState
from workerjobs.errors import WorkerJobsError

if TYPE_CHECKING:
    from workerjobs.ports.places import Place

SECONDS = 2.0
"""A person waits at the key."""


def job_types(ctx: typer.Context, incomplete: str) -> list[str]:
    """Types that live workers know, and those of jobs that wait."""
    return _suggest(ctx, incomplete, types_at)


def pools(ctx: typer.Context, incomplete: str) -> list[str]:
    """Pools that have workers or jobs."""
    return _suggest(ctx, incomplete, pools_at)


def cron_jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Cron jobs, by the shortest name that is theirs alone."""
    from workerjobs.cli.cron_names import short_names

    async def ask(place: Place) -> Iterable[str]:
        return short_names(await place.cron())

    return _suggest(ctx, incomplete, ask)


def states(incomplete: str) -> list[str]:
    """States of jobs; after a comma one more."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{state}" for state in JobState if state.startswith(last)]


def newest_jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the newest jobs."""
    from workerjobs.ports.jobs import JobQuery

    async def ask(place: Place) -> Iterable[str]:
        return [str(job.id) for job in (await place.jobs(JobQuery(limit=50))).jobs]

    return _suggest(ctx, incomplete, ask)


async def types_at(place: Place) -> set[str]:
    """Types that live workers know, and those of unfinished jobs."""
    return {each.type for each in await place.types()} | {each.type for each in await place.queues()}


async def pools_at(place: Place) -> set[str]:
    """Pools of live workers, and those of unfinished jobs."""
    return {each.pool for each in await place.workers()} | {each.pool for each in await place.queues()}


def _suggest(ctx: typer.Context, incomplete: str, ask: Callable[[Place], Awaitable[Iterable[str]]]) -> list[str]:
    import asyncio

    from workerjobs.cli.places import Where, at_place, choose, chosen
    from workerjobs.settings.reading import database_url

    async def in_time(place: Place) -> Iterable[str]:
        async with asyncio.timeout(SECONDS):
            return await ask(place)

    with contextlib.suppress(WorkerJobsError, TimeoutError):
        given: dict[str, Any] = ctx.find_root().params
        choose(Where(given.get("server"), given.get("token"), given.get("context"), given.get("service")))
        where = chosen()
        # No server is started for a key.
        if where.is_cluster or where.at_server is not None or database_url() is not None:
            return sorted(name for name in at_place(in_time) if name.startswith(incomplete))
    return []
