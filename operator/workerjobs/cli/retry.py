"""Running finished jobs again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workerjobs.cli import names
from workerjobs.cli.bulk import MOST, DryRunOption, YesOption, changed, found, shown
from workerjobs.cli.examples import with_examples
from workerjobs.cli.jobs import PoolOption, SinceOption, TagOption, TypeOption, UntilOption, existing, query_of
from workerjobs.cli.output import Format, FormatOption, print_json
from workerjobs.cli.places import at_place
from workerjobs.domain.job import Job, JobState
from workerjobs.errors import InvalidInputError
from workerjobs.ports.api import BulkChange

if TYPE_CHECKING:
    from workerjobs.ports.jobs import JobQuery
    from workerjobs.ports.places import Place


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
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST, help="With --failed: the oldest.")] = MOST,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run finished jobs again, now: each as a new job.

    Those named by ids are run all or none. With --failed, what is found is counted and asked for first. Pending jobs of
    their tags are cancelled, but for the next runs of cron jobs.
    """
    filters = {"--type": job_type, "--tag": tag, "--pool": pool, "--since": since, "--until": until}
    if failed == bool(job_ids):
        raise InvalidInputError("Name the jobs to run again by their ids, or give --failed, with --type, --since, …")
    if given := [name for name, value in filters.items() if value is not None and not failed]:
        raise InvalidInputError(f"{given[0]} needs --failed")
    if job_ids:
        _retry_named(list(dict.fromkeys(job_ids)), output, dry_run=dry_run)
        return
    query = query_of(states=[JobState.FAILED], job_type=job_type, tag=tag, pool=pool, since=since, until=until)
    chosen = found(BulkChange.RETRY, query, output, dry_run=dry_run, yes=yes, most=limit)
    if chosen is None:
        return

    async def run(place: Place) -> tuple[list[int], list[Job]]:
        new: list[int] = []

        async def once(part: JobQuery) -> int:
            done = await place.retry_matching(part)
            new.extend(done)
            return len(done)

        await changed(once, chosen)
        return new, await existing(place, new) if output is Format.JSON else []

    new, jobs = at_place(run)
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
    else:
        typer.echo(f"{len(new)} jobs run again: {shown(new, len(new))}")
    if len(new) < chosen.limit:
        missing = chosen.limit - len(new)
        typer.echo(f"{missing} of those counted were run again by somebody else or removed meanwhile.", err=True)


def _retry_named(job_ids: list[int], output: Format, *, dry_run: bool) -> None:
    if dry_run:
        if output is Format.JSON:
            print_json(job_ids)
        else:
            typer.echo(f"Would run {len(job_ids)} jobs again: {shown(job_ids, len(job_ids))}")
        return

    async def run(place: Place) -> tuple[list[int], list[Job]]:
        new = await place.retry(job_ids)
        return new, await existing(place, new) if output is Format.JSON else []

    new_ids, jobs = at_place(run)
    if output is Format.JSON:
        print_json([job.to_dict() for job in jobs])
    else:
        for old, new in zip(job_ids, new_ids, strict=True):
            typer.echo(f"Job {old} runs again as job {new}")
