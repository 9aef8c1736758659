"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from workerjobs.domain.job import Job, JobState

if TYPE_CHECKING:
    # Imported where something is drawn: -o json does without.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPE_WIDTH = 180
"""Columns where no terminal says how many there are."""

_COLOURS = {
    JobState.PENDING: "blue",
    JobState.RUNNING: "yellow",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "magenta",
}


class Format(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("-o", "--output", help="A table for people, or JSON for programs.")]


def console() -> Console:
    """Standard output, as wide as the terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print lines for people."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name not in (names[-1], "NAME"))
    for row in rows:
        table.add_row(*row)
    console().print(table)


def coloured_state(job: Job) -> Text:
    """A job's state in its colour; one that is held back is suspended."""
    from rich.text import Text

    return Text("suspended" if job.is_suspended else str(job.state), style=_COLOURS[job.state])


def jobs_table(jobs: Sequence[Job], width: int, *, title: str | None = None) -> Table:
    """Jobs as rows, one line each; what a narrow terminal has no room for is left out."""
    from rich.table import Table

    now = datetime.now(UTC)
    columns: list[tuple[str, int, Callable[[Job], str | Text]]] = [
        ("ID", 0, lambda job: str(job.id)),
        ("TYPE", 100, lambda job: job.type),
        ("NAME", 0, lambda job: job.resource_name or job.tag or ("" if width >= 100 else job.type)),
        ("STATE", 0, coloured_state),
        ("DUE", 120, lambda job: moment(job.due, now)),
        ("STARTED", 90, lambda job: moment(job.started, now)),
        ("TOOK", 70, lambda job: duration(job, now)),
        ("PROGRESS", 0, progress_bar),
        ("RESULT", 60, result_line),
    ]
    shown = [column for column in columns if width >= column[1]]
    table = Table(title=title, box=None, pad_edge=False, header_style="bold", title_justify="left")
    for name, _, cell in shown:
        justify: Literal["left", "right"] = "right" if name in ("ID", "TOOK") else "left"
        # The result takes what room is left; cutting a state or an id would hide what matters.
        minimum = None if name == "RESULT" else max([len(name), *(len(cell(job)) for job in jobs)])
        limited = None if minimum is None else min(minimum, 28)
        table.add_column(name, no_wrap=True, overflow="ellipsis", justify=justify, min_width=limited)
    for job in jobs:
        table.add_row(*(cell(job) for _, _, cell in shown))
    return table


def moment(value: datetime | None, now: datetime) -> str:
    """A moment as people say it: how long ago, or in how long."""
    if value is None:
        return ""
    seconds = (value - now).total_seconds()
    return f"in {span(seconds)}" if seconds > 0.5 else f"{span(-seconds)} ago"


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def duration(job: Job, now: datetime) -> str:
    """How long the run took, or has taken so far."""
    if job.started is None:
        return ""
    seconds = ((job.finished or now) - job.started).total_seconds()
    return f"{max(0.0, seconds):.2f}s" if seconds < 100 else span(seconds)


def progress_bar(job: Job, width: int = 10) -> str:
    """A bar and a percentage where the total is known, the bare count otherwise."""
    progress = job.progress
    if not progress:
        return ""
    current, total = progress.get("current") or 0, progress.get("total")
    if not total:
        return f"{current:g}"
    share = min(1.0, max(0.0, current / total))
    return f"{'━' * round(share * width):╌<{width}} {share:4.0%}"


def result_line(job: Job) -> str:
    """The result or error in one line."""
    if job.result_json is None:
        return ""
    return job.error if job.error is not None else json.dumps(job.result, ensure_ascii=False)
