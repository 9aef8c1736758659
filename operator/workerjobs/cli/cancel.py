"""Cancelling jobs: some, or all that a filter finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from workerjobs.cli import names
from workerjobs.cli.bulk import DryRunOption, YesOption, changed, found
from workerjobs.cli.examples import with_examples
from workerjobs.cli.jobs import (
    PoolOption,
    SinceOption,
    StateOption,
    TypeOption,
    UntilOption,
    existing,
    given_states,
    query_of,
)
from workerjobs.cli.output import Format, FormatOption, print_json
from workerjobs.cli.places import at_place
from workerjobs.errors import InvalidInputError
from workerjobs.ports.api import BulkChange

if TYPE_CHECKING:
    from workerjobs.domain.job import Job
    from workerjobs.ports.api import Cancelled
    from workerjobs.ports.jobs import JobQuery
    from workerjobs.ports.places import Place


@with_examples(
    "workerjobs cancel 4711 4712",
    "workerjobs cancel --tag nightly",
    "workerjobs cancel --type sendReport --state pending --since 1h",
)
def cancel(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID…", help="Jobs to cancel.", autocompletion=names.newest_jobs, show_default=False),
    ] = None,
    state: StateOption = None,
    job_type: TypeOption = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", help="All unfinished jobs with this tag; alone, it asks nothing.", show_default=False),
    ] = None,
    pool: PoolOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Cancel jobs: pending ones at once, running ones are stopped by their worker.

    With --type, --pool, --state, --since or --until, all unfinished ones that these find are counted and asked for
    first. Cancelling the pending run of a cron job ends the cron job. Exit code 1 if some could not be cancelled; the
    others are all the same.
    """
    filters = (state, job_type, pool, since, until)
    is_filtered = any(each is not None for each in filters) or (tag is not None and dry_run)
    if is_filtered and job_ids:
        raise InvalidInputError("Name the jobs to cancel by their ids, or by --tag, --type, …: not by both")
    if not is_filtered and dry_run:
        raise InvalidInputError("--dry-run needs --type, --pool, --tag, --state, --since or --until")
    if not is_filtered and not job_ids and tag is None:
        raise InvalidInputError(
            "Name the jobs to cancel by their ids, or by --tag, --type, --pool, --state, --since, …"
        )
    if is_filtered:
        query = query_of(states=given_states(state), job_type=job_type, tag=tag, pool=pool, since=since, until=until)
        _cancel_found(query, output, dry_run=dry_run, yes=yes)
    else:
        _cancel_named(job_ids or [], tag, output)


def _cancel_found(query: JobQuery, output: Format, *, dry_run: bool, yes: bool) -> None:
    chosen = found(BulkChange.CANCEL, query, output, dry_run=dry_run, yes=yes)
    if chosen is None:
        return

    async def run(place: Place) -> tuple[list[int], list[int], list[Job]]:
        cancelled: list[int] = []
        stopping: list[int] = []

        async def once(part: JobQuery) -> int:
            done = await place.cancel_matching(part)
            cancelled.extend(done.cancelled)
            stopping.extend(done.stopping)
            return len(done.cancelled) + len(done.stopping)

        await changed(once, chosen)
        return cancelled, stopping, await existing(place, [*cancelled, *stopping] if output is Format.JSON else [])

    cancelled, stopping, jobs = at_place(run)
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
    else:
        typer.echo(f"{len(cancelled)} jobs cancelled, {len(stopping)} running ones will be stopped")


def _cancel_named(job_ids: Sequence[int], tag: str | None, output: Format) -> None:
    async def ask(place: Place) -> tuple[list[int], list[int], list[Job], list[str]]:
        done: list[Cancelled] = []
        if job_ids:
            done.append(await place.cancel(job_ids))
        if tag is not None:
            done.append(await place.cancel_tag(tag))
        cancelled = [job_id for each in done for job_id in each.cancelled]
        stopping = [job_id for each in done for job_id in each.stopping]
        problems = []
        for job_id in sorted({*job_ids} - {*cancelled, *stopping}):
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
