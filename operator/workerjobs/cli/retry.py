"""Running finished jobs again."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from workerjobs.cli import names
from workerjobs.cli.examples import with_examples
from workerjobs.cli.hints import did_you_mean
from workerjobs.cli.jobs import PoolOption, SinceOption, TagOption, TypeOption, UntilOption, existing, pages, query_of
from workerjobs.cli.output import Format, FormatOption, print_json
from workerjobs.cli.places import at_place
from workerjobs.domain.job import Job, JobState
from workerjobs.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from workerjobs.ports.places import Place

BATCH = 1_000
"""Jobs run again in one transaction."""
MOST = 100_000


@with_examples(
    "workerjobs retry 4711",
    "workerjobs retry --failed --type sendReport --since 1h",
    "workerjobs retry --failed --since 2h --until 1h --yes",
)
def retry(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID…", help="Finished jobs to run again.", autocompletion=names.newest_jobs),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All that failed, and that no retry and no run by hand followed.")
    ] = False,
    job_type: TypeOption = None,
    tag: TagOption = None,
    pool: PoolOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST, help="With --failed: the newest.")] = MOST,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which they would be.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run finished jobs again, now: each as a new job.

    Those named by ids are run all or none. With --failed, what is found is counted and asked for first; what was
    removed meanwhile is said, with exit code 1. As after any submit, pending jobs of their tags are cancelled.
    """
    filters = {"--type": job_type, "--tag": tag, "--pool": pool, "--since": since, "--until": until}
    if failed == bool(job_ids):
        raise InvalidInputError("Name the jobs to run again by their ids, or give --failed, with --type, --since, …")
    if given := [name for name, value in filters.items() if value is not None and not failed]:
        raise InvalidInputError(f"{given[0]} needs --failed")
    problems: list[str] = []
    chosen: Sequence[int] = job_ids or []
    if failed:
        query = query_of(state=JobState.FAILED, job_type=job_type, tag=tag, pool=pool, since=since, until=until)

        async def find(place: Place) -> tuple[list[tuple[int, str]], str]:
            found = [
                (job.id, job.type) async for page in pages(place, replace(query, is_last=True), limit) for job in page
            ]
            near = "" if found or job_type is None else did_you_mean(job_type, await names.types_at(place))
            return found, near

        found, hint = at_place(find)
        chosen = [job_id for job_id, _ in reversed(found)]
        if not found:
            typer.echo("[]" if output is Format.JSON else f"No such job failed.{hint}", err=output is not Format.JSON)
            return
        counts = ", ".join(f"{count} {name}" for name, count in Counter(name for _, name in found).most_common())
        told = f"{len(found)} failed job{'s' if len(found) > 1 else ''} ({counts})"
        if not dry_run and not yes:
            if not sys.stdin.isatty():
                raise InvalidInputError(f"{told} would run again: give --yes, or --dry-run to see them")
            typer.confirm(f"Run {told} again?", abort=True, err=True)
    if dry_run:
        if output is Format.JSON:
            print_json(list(chosen))
        else:
            typer.echo(f"Would run {told if failed else f'{len(chosen)} jobs'} again: {_shown(chosen)}")
        return

    async def run(place: Place) -> tuple[dict[int, int], list[Job]]:
        done: dict[int, int] = {}
        if not failed:
            batch = list(dict.fromkeys(chosen))
            done = dict(zip(batch, await place.retry(batch), strict=True))
        for start in range(0, len(chosen) if failed else 0, BATCH):
            done |= await _as_far_as_possible(place, chosen[start : start + BATCH], problems)
        return done, await existing(place, list(done.values())) if output is Format.JSON else []

    done, jobs = at_place(run)
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
    elif failed:
        typer.echo(f"{len(done)} jobs run again: {_shown(list(done.values()))}")
    else:
        for old, new in done.items():
            typer.echo(f"Job {old} runs again as job {new}")
    for problem in problems:
        typer.echo(f"Error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


async def _as_far_as_possible(place: Place, job_ids: Sequence[int], problems: list[str]) -> dict[int, int]:
    """Run jobs again; where one can't be, the others by themselves."""
    try:
        return dict(zip(job_ids, await place.retry(job_ids), strict=True))
    except (NotFoundError, InvalidInputError) as error:
        if len(job_ids) == 1:
            problems.append(str(error))
            return {}
    middle = len(job_ids) // 2
    return await _as_far_as_possible(place, job_ids[:middle], problems) | await _as_far_as_possible(
        place, job_ids[middle:], problems
    )


def _shown(ids: Sequence[int], most: int = 20) -> str:
    text = ", ".join(map(str, ids[:most]))
    return f"{text}, …" if len(ids) > most else text
