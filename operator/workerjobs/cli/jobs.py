"""Looking at jobs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from workerjobs.cli import names
from workerjobs.cli.examples import with_examples
from workerjobs.cli.moments import read_since
from workerjobs.cli.output import Format, FormatOption, coloured_state, console, jobs_table, print_json, progress_bar
from workerjobs.cli.places import at_place
from workerjobs.domain.job import Job, JobState
from workerjobs.domain.parsing import read_states
from workerjobs.domain.words import did_you_mean
from workerjobs.errors import InvalidInputError, NotFoundError
from workerjobs.ports.jobs import JobQuery

if TYPE_CHECKING:
    from workerjobs.ports.places import Place

MAX_LIST = 10_000
PAGE = 500

StateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        "-s",
        metavar="STATE,…",
        help=f"Only jobs in these states: {', '.join(JobState)}. Several with commas, or one each.",
        show_default=False,
        autocompletion=names.states,
    ),
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
    "workerjobs list --state failed,cancelled --since 1h",
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
    query = query_of(states=given_states(state), job_type=job_type, tag=tag, pool=pool, since=since, until=until)

    async def ask(place: Place) -> tuple[list[Job], str]:
        jobs = [job async for page in pages(place, query, limit) for job in page]
        if jobs:
            return jobs, ""
        return jobs, await near_names(place, query)

    jobs, hint = at_place(ask)
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
    elif jobs:
        screen = console()
        screen.print(jobs_table(jobs, screen.width))
    else:
        typer.echo(f"No jobs.{hint}", err=True)


def given_states(texts: Sequence[str] | None) -> Sequence[JobState]:
    """Read --state."""
    try:
        return read_states(texts or [])
    except InvalidInputError as error:
        raise InvalidInputError(f"--state: {error}") from None


def query_of(
    *,
    states: Sequence[JobState] = (),
    job_type: str | None = None,
    tag: str | None = None,
    pool: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> JobQuery:
    """Read the options that say which jobs."""
    now = datetime.now(UTC)
    return JobQuery(
        states=states,
        type=job_type,
        tag=tag,
        pool=pool,
        since=read_since("--since", since, now=now),
        until=read_since("--until", until, now=now),
    )


async def near_names(place: Place, query: JobQuery) -> str:
    """Suggest the names that may have been meant where a query finds nothing."""
    hint = did_you_mean(query.type, await names.types_at(place)) if query.type is not None else ""
    return hint or (did_you_mean(query.pool, await names.pools_at(place)) if query.pool is not None else "")


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


async def existing(place: Place, job_ids: Sequence[int]) -> list[Job]:
    """Read jobs by their ids; those that are gone are left out."""
    found = [await place.get(job_id) for job_id in job_ids]
    return [job for job in found if job is not None]
