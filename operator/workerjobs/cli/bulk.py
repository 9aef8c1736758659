"""Changing all jobs that a filter finds: count, ask, and change them part by part, wherever commands work."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from workerjobs.cli.jobs import near_names
from workerjobs.cli.output import Format, print_json
from workerjobs.cli.places import at_place
from workerjobs.errors import InvalidInputError
from workerjobs.ports.api import BulkChange, check_states

if TYPE_CHECKING:
    from workerjobs.ports.api import Matching
    from workerjobs.ports.jobs import JobQuery
    from workerjobs.ports.places import Place

MOST = 100_000
PART = 1_000
"""Jobs changed in one transaction."""
SHOWN = 20

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say which they would be.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]

_WORDS = {
    BulkChange.CANCEL: ("unfinished", "be cancelled", "Cancel {}", "Would cancel {}", "No such job is unfinished."),
    BulkChange.RETRY: ("failed", "run again", "Run {} again", "Would run {} again", "No such job failed."),
}


def found(
    change: BulkChange, query: JobQuery, output: Format, *, dry_run: bool, yes: bool, most: int = MOST
) -> JobQuery | None:
    """Count what a filter finds, and ask whether that is to be changed.

    Returns:
        The jobs to change: those that were counted, and none that were submitted since. None: nothing is to be done,
        and that was said.

    Raises:
        InvalidInputError: There is nobody to ask, or the states can't be changed so.
        typer.Abort: The answer was no.
    """
    adjective, would, ask, told_only, nothing = _WORDS[change]
    check_states(change, query.states, "--state")

    async def look(place: Place) -> tuple[Matching, str]:
        matching = await place.matching(change, replace(query, limit=min(most, PART)))
        return matching, "" if matching.count else await near_names(place, query)

    matching, hint = at_place(look)
    count = min(matching.count, most)
    if not count:
        typer.echo("[]" if output is Format.JSON else f"{nothing}{hint}", err=output is not Format.JSON)
        return None
    by_count = sorted(matching.types.items(), key=lambda item: (-item[1], item[0]))
    types = ", ".join(f"{number} {name}" for name, number in by_count)
    of_cron = f", {matching.cron_jobs} of cron jobs, which end with them" if matching.cron_jobs else ""
    which = f"the oldest {count} of {matching.count}" if count < matching.count else f"{count}"
    told = f"{which} {adjective} job{'s' if matching.count > 1 else ''} ({types}{of_cron})"
    if dry_run:
        if output is Format.JSON:
            print_json(list(matching.ids))
        else:
            typer.echo(f"{told_only.format(told)}: {shown(matching.ids, count)}")
        return None
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInputError(f"{told} would {would}: give --yes, or --dry-run to see them")
        typer.confirm(f"{ask.format(told)}?", abort=True, err=True)
    return replace(query, before=matching.before, limit=count)


async def changed(change_part: Callable[[JobQuery], Awaitable[int]], query: JobQuery) -> None:
    """Change what a query finds, part by part, until its limit is reached or no more is found.

    Args:
        change_part: Changes what it is given, and returns how many jobs that were.
        query: What was counted.
    """
    left = query.limit
    while left > 0:
        done = await change_part(replace(query, limit=min(left, PART)))
        if not done:
            return
        # It may be fewer than a part where there are more: jobs that start as they are to be cancelled are left out.
        left -= done


def shown(ids: Sequence[int], count: int) -> str:
    """Write the first of some ids."""
    text = ", ".join(map(str, ids[:SHOWN]))
    return f"{text}, …" if count > SHOWN else text
