"""Writing jobs out, page by page: memory does not grow with their number."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from workerjobs.cli.examples import with_examples
from workerjobs.cli.jobs import (
    PoolOption,
    SinceOption,
    StateOption,
    TagOption,
    TypeOption,
    UntilOption,
    given_states,
    pages,
    query_of,
)
from workerjobs.cli.places import at_place
from workerjobs.domain.job import Job, column_name
from workerjobs.domain.words import did_you_mean
from workerjobs.errors import InvalidInputError

if TYPE_CHECKING:
    from workerjobs.ports.places import Place

FIELDS = ("state", *(column_name(name.removesuffix("_json")) for name in Job.__struct_fields__))
"""What `Job.to_dict` writes."""


class ExportFormat(StrEnum):
    """How to write jobs."""

    JSONL = "jsonl"
    CSV = "csv"


@with_examples(
    "workerjobs export --since 7d > week.jsonl",
    "workerjobs export --type sendReport --format csv --fields id,state,started,finished,result --to reports.csv",
)
def export(
    state: StateOption = None,
    job_type: TypeOption = None,
    tag: TagOption = None,
    pool: PoolOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="The newest.", show_default="all")] = None,
    format: Annotated[  # noqa: A002  # the option's name
        ExportFormat, typer.Option("--format", "-f", help="A JSON object a line, or CSV with a line of names first.")
    ] = ExportFormat.JSONL,
    fields: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Which, in this order.", show_default="all")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="A file, replaced once all is written.", show_default="standard output")
    ] = None,
) -> None:
    """Write jobs with their data and results, newest first, as many as there are.

    JSON within CSV is JSON text, and moments are ISO 8601 in UTC.
    """
    chosen = _read_fields(fields)
    query = query_of(states=given_states(state), job_type=job_type, tag=tag, pool=pool, since=since, until=until)

    async def ask(place: Place) -> int:
        count = 0
        with _opened(to) as file:
            write = _writer(format, chosen, file)
            async for page in pages(place, query, limit):
                write(page)
                count += len(page)
        return count

    count = at_place(ask)
    if to is not None:
        typer.echo(f"{count} jobs written to {to}", err=True)


def _read_fields(text: str | None) -> Sequence[str]:
    if text is None:
        return FIELDS
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    accepted = f" There are {', '.join(FIELDS)}"
    unknown = [
        f"--fields: there is no {name}.{did_you_mean(name, FIELDS) or accepted}"
        for name in chosen
        if name not in FIELDS
    ]
    if unknown or not chosen:
        raise InvalidInputError(unknown or f"--fields names none: give some of {', '.join(FIELDS)}")
    return chosen


def _writer(kind: ExportFormat, names: Sequence[str], file: TextIO) -> Any:
    """Make what writes pages of jobs."""
    if kind is ExportFormat.CSV:
        rows = csv.writer(file)
        rows.writerow(names)

    def write(page: Sequence[Job]) -> None:
        for job in page:
            values = job.to_dict()
            if kind is ExportFormat.CSV:
                rows.writerow([_cell(values[name]) for name in names])
            else:
                file.write(json.dumps({name: values[name] for name in names}, ensure_ascii=False) + "\n")

    return write


def _cell(value: Any) -> Any:
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """Open the place to write to; a file is there as a whole, or as it was."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise InvalidInputError(f"--to: {path} can't be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
