"""The job types that can be submitted, and what their data looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs.cli.examples import with_examples
from workerjobs.cli.output import Format, FormatOption, console, print_json, print_table
from workerjobs.cli.places import at_place, chosen
from workerjobs.cli.roles import ModulesOption

if TYPE_CHECKING:
    from workerjobs.domain.data_schema import Schema
    from workerjobs.jobs.registry import JobDescription, JobOptions


@with_examples("workerjobs types --jobs my_jobs.py", "workerjobs types --live -o json | jq '.[].schema'")
def list_types(
    jobs: ModulesOption = None,
    live: Annotated[
        bool, typer.Option("--live", help="Those that live workers know; so too with --server or --context.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """List job types: where they are, and what their data has to be; with -o json as JSON Schema.

    They are those of --jobs (or WORKER_JOB_MODULES), of installed packages, and the built-in ones. Exit code 1 if a
    module could not be imported; the others are listed all the same.
    """
    if live or (jobs is None and (chosen().is_cluster or chosen().server is not None)):
        _list_live(output)
        return
    from workerjobs.jobs.registry import Registry
    from workerjobs.settings import job_modules

    registry = Registry(jobs or job_modules())
    registry.import_modules()
    found = registry.descriptions(load=True).values()
    if output is Format.JSON:
        print_json([_as_json(each) for each in found])
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("TYPE", "WHERE", "ARGUMENTS", "DESCRIPTION"):
            table.add_column(column, no_wrap=column == "TYPE", overflow="fold")
        for each in found:
            table.add_row(each.type, each.where, _arguments(each.schema), each.description)
        console().print(table, markup=False)
    for name, error in registry.failures.items():
        typer.echo(f"Error: {name} can't be imported: {type(error).__name__}: {error}", err=True)
    if registry.failures:
        raise typer.Exit(1)


def _list_live(output: Format) -> None:
    found = at_place(lambda place: place.types())
    if output is Format.JSON:
        print_json(
            [
                {"type": each.type, "pools": each.pools, "isPaused": each.is_paused, "schema": each.schema}
                for each in found
            ]
        )
    elif found:
        print_table(
            ("TYPE", "POOLS", "STATE", "ARGUMENTS"),
            [
                (each.type, ", ".join(each.pools), "paused" if each.is_paused else "", _arguments(each.schema))
                for each in found
            ],
        )
    else:
        typer.echo("No worker lives.", err=True)


def _as_json(description: JobDescription) -> dict[str, Any]:
    return {
        "type": description.type,
        "where": description.where,
        "description": description.description,
        "schema": description.schema,
        "options": _options_as_json(description.options),
    }


def _options_as_json(options: JobOptions) -> dict[str, Any]:
    retry = options.retry
    return {
        "isolation": options.isolation,
        "memoryMib": options.memory_mib,
        "timeoutSeconds": options.timeout_seconds,
        "concurrency": options.concurrency,
        "retry": None
        if retry is None
        else {
            "limit": retry.limit,
            "initialDelay": retry.initial_delay_ms,
            "factor": retry.factor,
            "maxDelay": retry.max_delay_ms,
        },
    }


def _arguments(schema: Schema) -> str:
    """The fields of a job's data in one line: what must be given, and what is taken where it is not."""
    from workerjobs.domain.data_schema import ANY_OBJECT

    if schema == ANY_OBJECT:
        return "any"
    required = schema.get("required", ())
    return ", ".join(_argument(name, each, name in required) for name, each in schema.get("properties", {}).items())


def _argument(name: str, schema: object, is_required: bool) -> str:
    from workerjobs.domain.data_schema import shown

    if is_required or not isinstance(schema, Mapping):
        return name
    return f"{name}={shown(schema['default'])}" if "default" in schema else f"{name}?"
