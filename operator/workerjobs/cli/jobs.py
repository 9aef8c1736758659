"""Looking at jobs and cancelling them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from workerjobs.cli import names
from workerjobs.cli.examples import with_examples
from workerjobs.cli.hints import did_you_mean
from workerjobs.cli.moments import read_since
from workerjobs.cli.output import Format, FormatOption, coloured_state, console, jobs_table, print_json, progress_bar
from workerjobs.cli.places import at_place
from workerjobs.domain.job import Job, JobState
from workerjobs.errors import InvalidInputError, NotFoundError
from workerjobs.ports.api import JobQuery

if TYPE_CHECKING:
    from workerjobs.ports.places import Cancelled, Place

MAX_LIST = 10_000
PAGE = 500

StateOption = Annotated[
    JobState | None, typer.Option("--state", "-s", help="Only jobs in this state.", show_default=False)
]
TypeOption = Annotated[
    str | None,
    typer.Option("--type", "-t", help="Only jobs of this type.", show_default=False, autocompletion=names.job_types),
]
TagOption = Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.", show_default=False)]
PoolOption = Annotated[
    str | None, typer.Option("--pool", help="Only jobs of this pool.", show_default=False, autocompletion=names.pools)
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="AGO|MOMENT",
        help="Only jobs that ended since (unfinished ones: were made since): 1h, 7d, 2030-01-31T08:00:00Z.",
        show_default=False,
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="AGO|MOMENT", help="Only jobs that ended before, as --since.", show_default=False),
]
IdArgument = Annotated[
    int, typer.Argument(metavar="ID", help="The job's id.", autocompletion=names.newest_jobs, show_default=False)
]


@with_examples(
    "workerjobs list --state failed --since 1h",
    "workerjobs list --type sendReport -n 500 -o json",
)
def list_jobs(
    state: StateOption = None,
    job_type: TypeOption = None,
    tag: TagOption = None,
    pool: PoolOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MAX_LIST, help="At most so many.")] = 50,
    output: FormatOption = Format.TABLE,
) -> None:
    """List jobs, newest first."""
    query = query_of(state=state, job_type=job_type, tag=tag, pool=pool, since=since, until=until)

    async def ask(place: Place) -> tuple[list[Job], str]:
        jobs = [job async for page in pages(place, query, limit) for job in page]
        if jobs:
            return jobs, ""
        hint = did_you_mean(job_type, await names.types_at(place)) if job_type is not None else ""
        return jobs, hint or (did_you_mean(pool, await names.pools_at(place)) if pool is not None else "")

    jobs, hint = at_place(ask)
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
    elif jobs:
        screen = console()
        screen.print(jobs_table(jobs, screen.width))
    else:
        typer.echo(f"No jobs.{hint}", err=True)


def query_of(
    *,
    state: JobState | None = None,
    job_type: str | None = None,
    tag: str | None = None,
    pool: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> JobQuery:
    """Read the options that say which jobs."""
    now = datetime.now(UTC)
    return JobQuery(
        state=state,
        type=job_type,
        tag=tag,
        pool=pool,
        since=read_since("--since", since, now=now),
        until=read_since("--until", until, now=now),
    )


async def pages(place: Place, query: JobQuery, limit: int | None = None) -> AsyncIterator[Sequence[Job]]:
    """Read jobs page by page, newest first: so many, or all."""
    left = limit
    before = query.before
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = await place.jobs(replace(query, before=before, limit=size))
        if page.jobs:
            yield page.jobs
        if page.before is None:
            return
        before = page.before
        left = None if left is None else left - len(page.jobs)


@with_examples(
    "workerjobs show 4711",
    "workerjobs show 4711 -o json | jq .result",
)
def show(job_id: IdArgument, output: FormatOption = Format.TABLE) -> None:
    """Show one job with all that is known of it."""
    job = at_place(lambda place: place.get(job_id))
    if job is None:
        raise NotFoundError(f"There is no job {job_id}")
    if output is Format.JSON:
        print_json(job.to_dict())
        return
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("state", coloured_state(job))
    for name, value in job.to_dict().items():
        if name == "progress" and value:
            value = f"{progress_bar(job)} {value.get('message') or ''}"
        if name != "state" and value not in (None, "", False):
            table.add_row(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2))
    console().print(table, markup=False)


@with_examples(
    "workerjobs cancel 4711 4712",
    "workerjobs cancel --tag nightly",
)
def cancel(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID…", help="Jobs to cancel.", autocompletion=names.newest_jobs, show_default=False),
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", help="Cancel all unfinished jobs with this tag.", show_default=False)
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Cancel jobs: pending ones at once, running ones are stopped by their worker.

    Cancelling the pending run of a cron job ends the cron job. Exit code 1 if some could not be cancelled; the others
    are all the same.
    """
    if not job_ids and tag is None:
        raise InvalidInputError("Name the jobs to cancel by their ids, or by --tag")

    async def ask(place: Place) -> tuple[list[int], list[int], list[Job], list[str]]:
        done: list[Cancelled] = []
        if job_ids:
            done.append(await place.cancel(job_ids))
        if tag is not None:
            done.append(await place.cancel_tag(tag))
        cancelled = [job_id for each in done for job_id in each.cancelled]
        stopping = [job_id for each in done for job_id in each.stopping]
        problems = []
        for job_id in sorted(set(job_ids or []) - {*cancelled, *stopping}):
            job = await place.get(job_id)
            problems.append(f"There is no job {job_id}" if job is None else f"Job {job_id} has {job.state} already")
        wanted = [*cancelled, *stopping] if output is Format.JSON else []
        return cancelled, stopping, await existing(place, wanted), problems

    cancelled, stopping, jobs, problems = at_place(ask)
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
    else:
        for job_id in cancelled:
            typer.echo(f"Job {job_id} cancelled")
        for job_id in stopping:
            typer.echo(f"Job {job_id} is running and will be stopped")
        if not cancelled and not stopping and not problems:
            typer.echo(f"No unfinished job has the tag {tag}.", err=True)
    for problem in problems:
        typer.echo(f"Error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


async def existing(place: Place, job_ids: Sequence[int]) -> list[Job]:
    """Read jobs by their ids; those that are gone are left out."""
    found = [await place.get(job_id) for job_id in job_ids]
    return [job for job in found if job is not None]
