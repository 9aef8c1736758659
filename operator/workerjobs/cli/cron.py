"""Cron jobs: looking at them, running one now, pausing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs.cli import names
from workerjobs.cli.cron_names import find_line, name_of
from workerjobs.cli.examples import examples
from workerjobs.cli.moments import iso
from workerjobs.cli.output import Format, FormatOption, moment, print_json, print_table
from workerjobs.cli.places import at_place
from workerjobs.domain.cron import cron_key_of, next_ticks
from workerjobs.domain.limits import PauseKind
from workerjobs.errors import NotFoundError

if TYPE_CHECKING:
    from workerjobs.ports.api import CronLine
    from workerjobs.ports.places import Place

cron = typer.Typer(
    help="Cron jobs: their ticks, running one now, pausing.", no_args_is_help=True, rich_markup_mode=None
)

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Its key, id, WorkerJob, tag or type, whichever is its alone.",
        show_default=False,
        autocompletion=names.cron_jobs,
    ),
]
MARKS = {"succeeded": "✓", "failed": "✗", "cancelled": "–"}


@cron.command("list", **examples("workerjobs cron list", "workerjobs cron list -o json | jq '.[].nextTicks[0]'"))
def list_cron(output: FormatOption = Format.TABLE) -> None:
    """List cron jobs with their next tick and how their last runs ended, newest first."""
    lines = at_place(lambda place: place.cron())
    now = datetime.now(UTC)
    if output is Format.JSON:
        print_json([_as_json(line, 5, now) for line in lines])
    elif lines:
        print_table(
            ("ID", "SCHEDULE", "ZONE", "STATE", "NEXT", "LAST", "TYPE", "NAME"),
            [
                (
                    str(line.id),
                    line.cron_schedule or "",
                    line.time_zone or "UTC",
                    "paused" if line.is_suspended else line.state,
                    moment(next(iter(next_ticks(line, 1, now=now)), None), now),
                    "".join(MARKS.get(state, "?") for state in line.last_states),
                    line.type,
                    name_of(line),
                )
                for line in lines
            ],
        )
    else:
        typer.echo("No cron jobs.", err=True)


@cron.command("next", **examples("workerjobs cron next nightly-report -n 10"))
def coming(
    name: NameArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="So many ticks.")] = 5,
    output: FormatOption = Format.TABLE,
) -> None:
    """Tell the coming ticks of a cron job, in its time zone."""
    from zoneinfo import ZoneInfo

    line = at_place(lambda place: _find(place, name))
    now = datetime.now(UTC)
    ticks = next_ticks(line, count, now=now)
    if output is Format.JSON:
        print_json([iso(tick) for tick in ticks])
    elif ticks:
        zone = ZoneInfo(line.time_zone or "UTC")
        print_table(("TICK", "IN"), [(tick.astimezone(zone).isoformat(), moment(tick, now)) for tick in ticks])
    else:
        said = "it is paused" if line.is_suspended else "its schedule can't be read"
        typer.echo(f"{name_of(line)} has no coming tick: {said}.", err=True)


@cron.command("trigger", **examples("workerjobs cron trigger nightly-report", "workerjobs cron trigger 17 -o json"))
def trigger(name: NameArgument, output: FormatOption = Format.TABLE) -> None:
    """Run a cron job now, beside its ticks, as a job of its own; also one that is paused."""

    async def ask(place: Place) -> Any:
        line = await _find(place, name)
        return line, await place.trigger_cron(cron_key_of(line))

    line, job = at_place(ask)
    if output is Format.JSON:
        print_json(job.to_dict())
    elif job.is_suspended:
        typer.echo(f"{name_of(line)} is stored as job {job.id}, and held back as its WorkerJob is suspended")
    else:
        typer.echo(f"{name_of(line)} runs now as job {job.id}")


@cron.command("pause", **examples("workerjobs cron pause nightly-report --reason 'the warehouse is being moved'"))
def pause(
    name: NameArgument,
    reason: Annotated[str | None, typer.Option(help="Why, for those who see the pause.", show_default=False)] = None,
) -> None:
    """Start no more runs of a cron job until it is resumed; one that runs goes on, and ticks meanwhile are missed."""

    async def ask(place: Place) -> CronLine:
        line = await _find(place, name)
        await place.pause_cron(cron_key_of(line), reason)
        return line

    typer.echo(f"The cron job {name_of(at_place(ask))} is paused")


@cron.command("resume", **examples("workerjobs cron resume nightly-report"))
def resume(name: NameArgument) -> None:
    """Let a paused cron job go on with its next tick."""
    was_paused, called = at_place(lambda place: resume_line(place, name))
    if not was_paused:
        raise NotFoundError(f"The cron job {called} is not paused")
    typer.echo(f"The cron job {called} is resumed")


async def resume_line(place: Place, name: str) -> tuple[bool, str]:
    """End a line's pause, also of one that is no more; returns whether there was one, and what the line is called."""
    if any(each.kind == PauseKind.CRON and each.name == name for each in await place.pauses()):
        return await place.resume_cron(name), name
    line = await _find(place, name)
    return await place.resume_cron(cron_key_of(line)), name_of(line)


async def _find(place: Place, name: str) -> CronLine:
    return find_line(await place.cron(), name)


def _as_json(line: CronLine, ticks: int, now: datetime) -> dict[str, Any]:
    return {
        "key": cron_key_of(line),
        "name": name_of(line),
        "id": line.id,
        "type": line.type,
        "state": line.state,
        "cronSchedule": line.cron_schedule,
        "timeZone": line.time_zone,
        "catchUp": line.catch_up,
        "concurrencyPolicy": line.concurrency_policy,
        "isSuspended": line.is_suspended,
        "tag": line.tag,
        "pool": line.pool,
        "namespace": line.namespace,
        "resourceName": line.resource_name,
        "nextTicks": [iso(tick) for tick in next_ticks(line, ticks, now=now)],
        "lastStates": line.last_states,
    }
