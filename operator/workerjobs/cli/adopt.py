"""Taking over QuickDapp's table of jobs."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from workerjobs import app
from workerjobs.cli.output import Format, FormatOption, print_json
from workerjobs.cli.places import needs_database
from workerjobs.settings.reading import database_direct_url, database_url


def adopt(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look whether it can be done, and say what would be.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Take over QuickDapp's table worker_jobs: its rows move into WorkerJobs' table, a view takes its place.

    One transaction: it happens as a whole or not at all. Stop QuickDapp's workers first.
    """
    needs_database()
    with app.database(database_url()) as url:
        adoption = app.adopt(database_direct_url() or url, dry_run=dry_run)
    if output is Format.JSON:
        print_json(dataclasses.asdict(adoption) | {"dry_run": dry_run})
        return
    if adoption.was_done:
        typer.echo("worker_jobs was adopted already.")
    else:
        states = ", ".join(f"{count} {state}" for state, count in adoption.rows.items())
        verb = "Would adopt" if dry_run else "Adopted"
        typer.echo(f"{verb} worker_jobs with {sum(adoption.rows.values())} rows{f' ({states})' if states else ''}")
    if adoption.renumbered:
        count = len(adoption.renumbered)
        typer.echo(f"{'Would give' if dry_run else 'Gave'} new ids to {count} rows of WorkerJobs that had the same")
    for name in adoption.created:
        typer.echo(f"{'Would create' if dry_run else 'Created'} {name}")
