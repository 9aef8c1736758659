"""What a job logged and printed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs.cli.examples import with_examples
from workerjobs.cli.jobs import IdArgument
from workerjobs.cli.moments import iso
from workerjobs.cli.output import Format, FormatOption
from workerjobs.cli.places import at_place
from workerjobs.errors import NotFoundError

if TYPE_CHECKING:
    from workerjobs.ports.jobs import LogLine
    from workerjobs.ports.places import Place

INTERVAL_SECONDS = 0.5
LAST_SECONDS = 1.5
"""How long after a job's end its last lines may still come: its worker stores them every half second."""


class Level(StrEnum):
    """How much a line matters, from the least."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@with_examples(
    "workerjobs logs 4711", "workerjobs logs -f 4711", "workerjobs logs 4711 --level warn -o json | jq .message"
)
def show_logs(
    job_id: IdArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last so many.", show_default="all")] = None,
    level: Annotated[Level, typer.Option(help="Only lines that matter so much.")] = Level.TRACE,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Say when, before each line.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show what a job logged and printed, as far as its worker keeps it: WORKER_KEEP_LOGS lines of each run.

    Each run is a job of its own: `workerjobs show` tells which one a retry follows. With -o json a line each.
    """
    wanted = [*Level][[*Level].index(level) :]

    def say(line: LogLine) -> None:
        if line.level not in wanted:
            return
        moment = iso(line.at)
        if output is Format.JSON:
            said: dict[str, Any] = {"at": moment, "level": line.level, "message": line.message}
            typer.echo(json.dumps(said, ensure_ascii=False))
        else:
            typer.echo(f"{moment} {line.message}" if timestamps else line.message)

    if not at_place(lambda place: _show(place, job_id, tail, follow, say)) and output is not Format.JSON:
        typer.echo(f"No lines of job {job_id} are kept.", err=True)


async def _show(place: Place, job_id: int, tail: int | None, follow: bool, say: Callable[[LogLine], None]) -> bool:
    """Say lines; returns whether there were any."""
    job = await place.get(job_id)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}")
    held: list[LogLine] = []
    after = 0
    while lines := await place.logs(job_id, after):
        after = lines[-1].id
        for line in lines:
            if tail is None:
                say(line)
            else:
                held = [*held, line][-tail:] if tail else []
    for line in held:
        say(line)
    any_yet = after > 0
    ended_at: float | None = None
    while follow and (ended_at is None or time.monotonic() - ended_at < LAST_SECONDS):
        if ended_at is None and (job is None or job.state.is_final):
            ended_at = time.monotonic()
        lines = await place.logs(job_id, after)
        for line in lines:
            say(line)
            after = line.id
        any_yet = any_yet or bool(lines)
        if not lines:
            await asyncio.sleep(INTERVAL_SECONDS)
        if ended_at is None:
            job = await place.get(job_id)
    return any_yet
