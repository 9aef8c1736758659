"""Looking at jobs, cancelling them and running them again."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from workerjobs.cli.output import Format, FormatOption, coloured_state, console, jobs_table, print_json, progress_bar
from workerjobs.cli.stores import on_store
from workerjobs.domain.job import Job, JobState
from workerjobs.errors import InvalidInputError, NotFoundError
from workerjobs.ports.jobs import JobFilter, JobStore

MAX_LIST = 10_000


def list_jobs(
    state: Annotated[JobState | None, typer.Option("--state", "-s", help="Only jobs in this state.")] = None,
    job_type: Annotated[str | None, typer.Option("--type", "-t", help="Only jobs of this type.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MAX_LIST, help="At most so many.")] = 50,
    output: FormatOption = Format.TABLE,
) -> None:
    """List jobs, newest first."""
    jobs = on_store(lambda store: store.list(JobFilter(state=state, type=job_type, tag=tag, limit=limit)))
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
    elif jobs:
        screen = console()
        screen.print(jobs_table(jobs, screen.width))
    else:
        typer.echo("No jobs.", err=True)


def show(
    job_id: Annotated[int, typer.Argument(metavar="ID", help="The job's id.")], output: FormatOption = Format.TABLE
) -> None:
    """Show one job with all that is known of it."""
    job = on_store(lambda store: store.get(job_id))
    if job is None:
        raise NotFoundError(f"There is no job {job_id}")
    if output is Format.JSON:
        print_json(job.to_dict())
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("state", coloured_state(job))
    for name, value in job.to_dict().items():
        if name == "progress" and value:
            value = f"{progress_bar(job)} {value.get('message') or ''}"
        if name != "state" and value not in (None, "", False):
            table.add_row(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2))
    console().print(table)


def cancel(
    job_ids: Annotated[list[int] | None, typer.Argument(metavar="ID…", help="Jobs to cancel.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Cancel all unfinished jobs with this tag.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Cancel jobs: pending ones at once, running ones are stopped by their worker.

    Cancelling the pending run of a cron job ends the cron job.
    """
    if not job_ids and tag is None:
        raise InvalidInputError("Name the jobs to cancel by their ids, or by --tag")

    async def run(store: JobStore) -> tuple[list[Job], list[str]]:
        cancelled = await store.cancel(job_ids or [])
        problems = []
        for job_id in sorted(set(job_ids or []) - {job.id for job in cancelled}):
            job = await store.get(job_id)
            problems.append(f"There is no job {job_id}" if job is None else f"Job {job_id} has {job.state} already")
        if tag is not None:
            cancelled += await store.cancel_tag(tag)
        return cancelled, problems

    jobs, problems = on_store(run)
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
    else:
        for job in jobs:
            typer.echo(
                f"Job {job.id} cancelled" if job.state.is_final else f"Job {job.id} is running and will be stopped"
            )
        if not jobs and not problems:
            typer.echo(f"No unfinished job has the tag {tag}.", err=True)
    for problem in problems:
        typer.echo(f"Error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def retry(
    job_ids: Annotated[list[int], typer.Argument(metavar="ID…", help="Finished jobs to run again.")],
    output: FormatOption = Format.TABLE,
) -> None:
    """Run finished jobs again, now: each as a new job, all of them or none.

    As after any submit, pending jobs of their tags are cancelled.
    """
    jobs = on_store(lambda store: store.retry(job_ids))
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
        return
    for job in jobs:
        typer.echo(f"Job {job.rescheduled_from_job} runs again as job {job.id}")
