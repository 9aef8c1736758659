"""Pausing pools and job types, and limiting job types and concurrency keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs.cli import names
from workerjobs.cli.cron_names import find_line
from workerjobs.cli.examples import examples, with_examples
from workerjobs.cli.moments import iso
from workerjobs.cli.output import Format, FormatOption, moment, print_json, print_table
from workerjobs.cli.places import at_place
from workerjobs.domain.cron import cron_key_of
from workerjobs.domain.limits import LimitKind, PauseKind, parse_rate, rate_text
from workerjobs.domain.words import did_you_mean
from workerjobs.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from workerjobs.ports.jobs import Pause, StoredLimit
    from workerjobs.ports.places import Place

limit = typer.Typer(
    rich_markup_mode=None,
    help="Limit how many jobs of a type, or of a concurrency key, run at once and start in a period.",
    no_args_is_help=True,
)

PauseKindArgument = Annotated[PauseKind, typer.Argument(help="What it is.", show_default=False)]
LimitKindArgument = Annotated[LimitKind, typer.Argument(help="What it is.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(help="Its name.", show_default=False)]


def _names(ctx: typer.Context, incomplete: str) -> list[str]:
    kinds = {"pool": names.pools, "type": names.job_types, "cron": names.cron_jobs}
    return kinds[str(ctx.params.get("kind", "type"))](ctx, incomplete)


PausedArgument = Annotated[str, typer.Argument(help="Its name.", show_default=False, autocompletion=_names)]


@with_examples("workerjobs pause type sendReport --reason 'mail is down'", "workerjobs pause pool reports")
def pause(
    kind: PauseKindArgument,
    name: PausedArgument,
    reason: Annotated[str | None, typer.Option(help="Why, for those who see the pause.", show_default=False)] = None,
) -> None:
    """Start no more jobs of a type, pool or cron job, on all workers from their next claim on; running ones go on."""

    async def ask(place: Place) -> str:
        if kind is PauseKind.CRON:
            await place.pause_cron(cron_key_of(find_line(await place.cron(), name)), reason)
            return ""
        await place.pause(kind, name, reason)
        # It may be of jobs that are still to come, so this is no error.
        known = await (names.types_at(place) if kind is PauseKind.TYPE else names.pools_at(place))
        return did_you_mean(name, known)

    hint = at_place(ask)
    typer.echo(f"The {kind} {name} is paused")
    if hint:
        typer.echo(f"No worker and no job is of a {kind} {name} now.{hint}", err=True)


@with_examples("workerjobs resume type sendReport")
def resume(kind: PauseKindArgument, name: PausedArgument) -> None:
    """End a pause; workers start the jobs that waited at once."""

    async def ask(place: Place) -> tuple[bool, str]:
        if kind is PauseKind.CRON:
            from workerjobs.cli.cron import resume_line

            return (await resume_line(place, name))[0], ""
        if await place.resume(kind, name):
            return True, ""
        return False, did_you_mean(name, [each.name for each in await place.pauses() if each.kind == kind])

    was_paused, hint = at_place(ask)
    if not was_paused:
        raise NotFoundError(f"The {kind} {name} is not paused.{hint}" if hint else f"The {kind} {name} is not paused")
    typer.echo(f"The {kind} {name} is resumed")


@with_examples("workerjobs pauses")
def pauses(output: FormatOption = Format.TABLE) -> None:
    """List what is paused."""
    found = at_place(lambda place: place.pauses())
    if output is Format.JSON:
        print_json([_pause_json(each) for each in found])
    elif found:
        now = datetime.now(UTC)
        print_table(
            ("KIND", "NAME", "SINCE", "REASON"),
            [(each.kind, each.name, moment(each.paused_at, now), each.reason or "") for each in found],
        )
    else:
        typer.echo("Nothing is paused.", err=True)


@limit.command("set", **examples("workerjobs limit set type sendReport --concurrency 2 --rate 10/1m"))
def set_limit(
    kind: LimitKindArgument,
    name: NameArgument,
    concurrency: Annotated[
        int | None, typer.Option(min=0, help="So many run at once; 0 lets none start.", show_default="any number")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="STARTS/PERIOD",
            help="So many start in a period, such as 10/1m: 10 at once, then one every 6 s.",
            show_default="any",
        ),
    ] = None,
) -> None:
    """Set the limits of a type or key, in place of those set before."""
    starts, period_ms = read_rate(rate)
    at_place(lambda place: place.set_limit(kind, name, concurrency, starts, period_ms))
    typer.echo(f"The {kind} {name} is limited to {_limit_text(concurrency, starts, period_ms)}")


@limit.command("remove", **examples("workerjobs limit remove type sendReport"))
def remove_limit(kind: LimitKindArgument, name: NameArgument) -> None:
    """Remove the limits of a type or key; what jobs say of their own key stays."""
    if not at_place(lambda place: place.remove_limit(kind, name)):
        raise NotFoundError(f"No limit is set for the {kind} {name}")
    typer.echo(f"The {kind} {name} has no limit any more")


@limit.command("list", **examples("workerjobs limit list -o json"))
def list_limits(output: FormatOption = Format.TABLE) -> None:
    """List the limits that were set, with the jobs that run under them now."""
    found = at_place(lambda place: place.limits())
    if output is Format.JSON:
        print_json([_limit_json(each) for each in found])
    elif found:
        print_table(
            ("KIND", "NAME", "RUNNING", "AT ONCE", "RATE"),
            [
                (
                    each.kind,
                    each.name,
                    str(each.running),
                    "" if each.concurrency is None else str(each.concurrency),
                    _rate_text(each.rate_limit, each.rate_period_ms),
                )
                for each in found
            ],
        )
    else:
        typer.echo("No limits are set.", err=True)


@with_examples("workerjobs workers", "workerjobs workers -o json | jq '.[] | select(.isDraining)'")
def workers(output: FormatOption = Format.TABLE) -> None:
    """List the workers that live."""
    found = at_place(lambda place: place.workers())
    if output is Format.JSON:
        print_json(
            [
                {
                    "owner": each.owner,
                    "pool": each.pool,
                    "host": each.host,
                    "pid": each.pid,
                    "version": each.version,
                    "children": each.children,
                    "running": each.running,
                    "isDraining": each.is_draining,
                    "types": each.types,
                    "started": iso(each.started),
                    "seen": iso(each.seen),
                }
                for each in found
            ]
        )
    elif found:
        now = datetime.now(UTC)
        print_table(
            ("WORKER", "POOL", "STATE", "RUNNING", "CHILDREN", "VERSION", "STARTED", "SEEN", "TYPES"),
            [
                (
                    each.owner,
                    each.pool,
                    "draining" if each.is_draining else "working",
                    str(each.running),
                    str(each.children),
                    each.version,
                    moment(each.started, now),
                    moment(each.seen, now),
                    ", ".join(each.types),
                )
                for each in found
            ],
        )
    else:
        typer.echo("No workers.", err=True)


def read_rate(text: str | None) -> tuple[int | None, int | None]:
    """Read --rate into starts and milliseconds."""
    if text is None:
        return None, None
    try:
        return parse_rate(text)
    except ValueError as error:
        raise InvalidInputError(f"--rate is {text!r}: {error}") from None


def _rate_text(rate_limit: int | None, period_ms: int | None) -> str:
    return "" if rate_limit is None or period_ms is None else rate_text(rate_limit, period_ms)


def _limit_text(concurrency: int | None, rate_limit: int | None, period_ms: int | None) -> str:
    parts = [] if concurrency is None else [f"{concurrency} at once"]
    return " and ".join(parts + ([f"{rate} starts"] if (rate := _rate_text(rate_limit, period_ms)) else []))


def _limit_json(stored: StoredLimit) -> dict[str, Any]:
    return {
        "kind": stored.kind,
        "name": stored.name,
        "concurrency": stored.concurrency,
        "rateLimit": stored.rate_limit,
        "ratePeriod": stored.rate_period_ms,
        "running": stored.running,
    }


def _pause_json(paused: Pause) -> dict[str, Any]:
    return {"kind": paused.kind, "name": paused.name, "reason": paused.reason, "pausedAt": iso(paused.paused_at)}
