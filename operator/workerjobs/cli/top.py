"""The queue as it is now, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs.cli.examples import with_examples
from workerjobs.cli.output import Format, FormatOption, console, print_json, span
from workerjobs.cli.places import at_place

if TYPE_CHECKING:
    from rich.console import RenderableType

    from workerjobs.ports.api import QueueCount, RecentRuns
    from workerjobs.ports.places import Place
    from workerjobs.ports.workers import WorkerStatus


@dataclass(frozen=True)
class Picture:
    """What one look finds."""

    workers: Sequence[WorkerStatus]
    queues: Sequence[QueueCount]
    recent: Sequence[RecentRuns]


@with_examples("workerjobs top", "workerjobs top --once", "workerjobs top -o json | jq .waiting")
def top(
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between looks.")] = 2,
    once: Annotated[
        bool, typer.Option("--once", help="Look once; so too with -o json, and without a terminal.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show workers, what runs and waits by pool and type, and how runs went of late; until Ctrl-C."""
    if output is Format.JSON:
        print_json(_as_json(at_place(_look)))
    elif once or not sys.stdout.isatty():
        console().print(_draw(at_place(_look)))
    else:
        # The way to end it, and no failure.
        with contextlib.suppress(KeyboardInterrupt):
            at_place(lambda place: _live(place, interval))


async def _look(place: Place) -> Picture:
    return Picture(await place.workers(), await place.queues(), await place.recent_runs())


async def _live(place: Place, interval: float) -> None:
    from rich.live import Live
    from rich.text import Text

    from workerjobs.cli.watch import UNAVAILABLE

    with Live(console=console(), auto_refresh=False, screen=True) as live:
        while True:
            try:
                live.update(_draw(await _look(place)), refresh=True)
            except UNAVAILABLE as error:
                live.update(Text(str(error), style="red"), refresh=True)
            await asyncio.sleep(interval)


def _totals(picture: Picture) -> dict[str, Any]:
    oldest = [each.oldest_seconds for each in picture.queues if each.oldest_seconds is not None]
    return {
        "workers": len(picture.workers),
        "draining": sum(each.is_draining for each in picture.workers),
        "children": sum(each.children for each in picture.workers),
        "running": sum(each.running for each in picture.queues),
        "waiting": sum(each.waiting for each in picture.queues),
        "later": sum(each.later for each in picture.queues),
        "oldestSeconds": max(oldest, default=None),
    }


def _as_json(picture: Picture) -> dict[str, Any]:
    pools = sorted({each.pool for each in picture.workers} | {each.pool for each in picture.queues})
    return _totals(picture) | {
        "pools": [
            {"pool": pool}
            | _totals(
                Picture(
                    [each for each in picture.workers if each.pool == pool],
                    [each for each in picture.queues if each.pool == pool],
                    [],
                )
            )
            for pool in pools
        ],
        "queues": [
            {
                "pool": each.pool,
                "type": each.type,
                "running": each.running,
                "waiting": each.waiting,
                "later": each.later,
                "oldestSeconds": each.oldest_seconds,
            }
            for each in picture.queues
        ],
        "recent": [
            {
                "type": each.type,
                "runs": each.runs,
                "failed": each.failed,
                "meanSeconds": each.mean_seconds,
                "p95Seconds": each.p95_seconds,
            }
            for each in picture.recent
        ],
    }


def _draw(picture: Picture) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    said = _as_json(picture)
    oldest = "" if said["oldestSeconds"] is None else f", the oldest for {span(said['oldestSeconds'])}"
    head = Text(
        f"{said['workers']} workers, {said['children']} children   {said['running']} running   "
        f"{said['waiting']} waiting{oldest}   {said['later']} later\n"
    )
    recent = {each["type"]: each for each in said["recent"]}
    types = {each["type"]: {"pool": "", "running": 0, "waiting": 0, "later": 0} for each in said["recent"]}
    rows = said["queues"] + [
        {"type": name, **counts} for name, counts in types.items() if name not in {q["type"] for q in said["queues"]}
    ]
    return Group(
        head,
        _table(
            ("POOL", "WORKERS", "DRAINING", "CHILDREN", "RUNNING", "WAITING", "LATER", "OLDEST"),
            [
                (
                    each["pool"],
                    *(str(each[name]) for name in ("workers", "draining", "children", "running", "waiting", "later")),
                    "" if each["oldestSeconds"] is None else span(each["oldestSeconds"]),
                )
                for each in said["pools"]
            ],
        ),
        Text(),
        _table(
            ("TYPE", "POOL", "RUNNING", "WAITING", "LATER", "RUNS", "FAILED", "MEAN", "P95"),
            [
                (
                    each["type"],
                    each["pool"],
                    *(str(each[name]) for name in ("running", "waiting", "later")),
                    *_recent_cells(recent.get(each["type"])),
                )
                for each in rows
            ],
        ),
    )


def _recent_cells(recent: dict[str, Any] | None) -> tuple[str, ...]:
    if recent is None:
        return ("", "", "", "")
    return (
        str(recent["runs"]),
        str(recent["failed"]),
        f"{recent['meanSeconds']:.3f}s",
        f"{recent['p95Seconds']:.3f}s",
    )


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True, justify="left" if name in ("POOL", "TYPE") else "right")
    for row in rows:
        table.add_row(*row)
    return table
