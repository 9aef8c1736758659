"""Pausing pools and job types, and limiting job types and concurrency keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from workerjobs.cli.output import Format, FormatOption, moment, print_json, print_table
from workerjobs.cli.stores import on_store
from workerjobs.domain.limits import LimitKind, PauseKind, parse_rate, rate_text
from workerjobs.errors import InvalidInputError, NotFoundError
from workerjobs.ports.jobs import Pause, StoredLimit
from workerjobs.settings import LEASE_SECONDS

LEASE = timedelta(seconds=LEASE_SECONDS)

limit = typer.Typer(
    help="Limit how many jobs of a type, or of a concurrency key, run at once and start in a period.",
    no_args_is_help=True,
)

PauseKindArgument = Annotated[PauseKind, typer.Argument(help="What it is.", show_default=False)]
LimitKindArgument = Annotated[LimitKind, typer.Argument(help="What it is.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(help="Its name.", show_default=False)]


def pause(
    kind: PauseKindArgument,
    name: NameArgument,
    reason: Annotated[str | None, typer.Option(help="Why, for those who see the pause.")] = None,
) -> None:
    """Start no more jobs of a type or pool, on all workers from their next claim on; running ones go on."""
    on_store(lambda store: store.pause(kind, name, reason))
    typer.echo(f"The {kind} {name} is paused")


def resume(kind: PauseKindArgument, name: NameArgument) -> None:
    """End a pause; workers start the jobs that waited at once."""
    if not on_store(lambda store: store.resume(kind, name)):
        raise NotFoundError(f"The {kind} {name} is not paused")
    typer.echo(f"The {kind} {name} is resumed")


def pauses(output: FormatOption = Format.TABLE) -> None:
    """List what is paused."""
    found = on_store(lambda store: store.pauses())
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


@limit.command("set")
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
    on_store(lambda store: store.set_limit(kind, name, concurrency, starts, period_ms))
    typer.echo(f"The {kind} {name} is limited to {_limit_text(concurrency, starts, period_ms)}")


@limit.command("remove")
def remove_limit(kind: LimitKindArgument, name: NameArgument) -> None:
    """Remove the limits of a type or key; what jobs say of their own key stays."""
    if not on_store(lambda store: store.remove_limit(kind, name)):
        raise NotFoundError(f"No limit is set for the {kind} {name}")
    typer.echo(f"The {kind} {name} has no limit any more")


@limit.command("list")
def list_limits(output: FormatOption = Format.TABLE) -> None:
    """List the limits that were set, with the jobs that run under them now."""
    found = on_store(lambda store: store.limits(LEASE))
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


def workers(output: FormatOption = Format.TABLE) -> None:
    """List the workers that live."""
    found = on_store(lambda store: store.workers(LEASE))
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
                    "started": _iso(each.started),
                    "seen": _iso(each.seen),
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
    return {"kind": paused.kind, "name": paused.name, "reason": paused.reason, "pausedAt": _iso(paused.paused_at)}


def _iso(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()
