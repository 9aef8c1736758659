"""Applying WorkerJob manifests without a cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from workerjobs import app
from workerjobs.cli.output import Format, FormatOption, print_json
from workerjobs.cli.places import needs_database
from workerjobs.errors import InvalidInputError
from workerjobs.settings.reading import database_url

if TYPE_CHECKING:
    from workerjobs.cli.manifest_files import Document
    from workerjobs.domain.job import NewJob


def apply(
    filenames: Annotated[
        list[str], typer.Option("--filename", "-f", help="Manifest file, folder of them, or - ; repeatable.")
    ],
    output: FormatOption = Format.TABLE,
) -> None:
    """Put WorkerJob manifests, the same that kubectl applies, into the table, without a cluster.

    A manifest's job runs once, however often it is applied; a cron job goes on. Applying a changed manifest changes
    its pending job. Exit code 1 if a manifest was wrong; the others are applied all the same.
    """
    from workerjobs.cli.manifest_files import read_documents

    documents = read_documents(filenames)
    jobs, problems, skipped = parse_documents(documents)
    needs_database()
    with app.database(database_url()) as url:
        applied = asyncio.run(app.apply_locally(url, jobs))
    if output is Format.JSON:
        print_json(
            [{"name": each.name, "action": each.action, "jobId": each.job_id, "state": each.state} for each in applied]
        )
    else:
        for each in applied:
            row = f" (job {each.job_id}, {each.state})" if each.job_id is not None else ""
            typer.echo(f"workerjob/{each.name} {each.action}{row}")
    for sentence in skipped:
        typer.echo(sentence, err=True)
    for problem in problems:
        typer.echo(f"Error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def parse_documents(documents: list[Document]) -> tuple[list[NewJob], list[str], list[str]]:
    """Sort documents into jobs, problems (with their place), and notes on what only a cluster can apply."""
    from workerjobs.kube.workerjob import LOCAL_CLUSTER, parse_workerjob

    jobs: list[NewJob] = []
    problems: list[str] = []
    skipped: list[str] = []
    places: dict[str, str] = {}
    for document in documents:
        if document.problem is not None:
            problems.append(f"{document.place}: {document.problem}")
            continue
        content = document.content
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind is not None and kind != "WorkerJob":
            skipped.append(f"{document.place}: skipped, as a {kind} needs a cluster")
            continue
        try:
            job = parse_workerjob(content, LOCAL_CLUSTER)
        except InvalidInputError as error:
            problems += [f"{document.place}: {problem}" for problem in error.problems]
            continue
        assert job.resource is not None
        if (earlier := places.get(job.resource.uid)) is not None:
            problems.append(f"{document.place}: {job.resource.uid} stands at {earlier} already")
            continue
        places[job.resource.uid] = document.place
        jobs.append(job)
    return jobs, problems, skipped
