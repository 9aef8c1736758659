"""Submitting one job from the shell."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs.cli import names
from workerjobs.cli.examples import with_examples
from workerjobs.cli.limits import read_rate
from workerjobs.cli.moments import iso
from workerjobs.cli.output import Format, FormatOption, print_json, result_line
from workerjobs.cli.places import at_place
from workerjobs.cli.watch import Watched, exit_code, wait_for
from workerjobs.domain.job import CatchUp, ConcurrencyPolicy, Job, NewJob, RetryPolicy
from workerjobs.domain.job_checks import MAX_MILLISECONDS, check_job
from workerjobs.domain.parsing import parse_moment
from workerjobs.domain.words import unknown_type
from workerjobs.errors import InvalidInputError

if TYPE_CHECKING:
    from workerjobs.ports.places import Place

_LONGEST_SECONDS = MAX_MILLISECONDS // 1000
_FARTHEST_SECONDS = 100 * 366 * 86_400
"""A delay beyond it would soon leave the years that moments have."""


@with_examples(
    'workerjobs submit sendReport --data \'{"to": ["ada"]}\'',
    "workerjobs submit sendReport --data @report.json --delay 60 --retries 3",
    "workerjobs submit cleanUp --cron '0 3 * * *' --time-zone Europe/Berlin --tag clean-up",
    "workerjobs submit sendReport --wait && echo sent",
)
def submit(
    job_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="The job's type.", autocompletion=names.job_types, show_default=False)
    ],
    data: Annotated[
        str,
        typer.Option("--data", "-d", help="Its data: a JSON object, @FILE with one, or - for standard input."),
    ] = "{}",
    due: Annotated[str | None, typer.Option(help="When to run: an ISO 8601 moment, UTC where it has no zone.")] = None,
    delay: Annotated[float | None, typer.Option(min=0, max=_FARTHEST_SECONDS, help="Run in so many seconds.")] = None,
    cron: Annotated[str | None, typer.Option(help="Run again and again: five or six fields, or @hourly, …")] = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA zone of the cron schedule.", show_default="UTC")] = None,
    catch_up: Annotated[CatchUp, typer.Option(help="Which missed ticks of the cron schedule to run.")] = CatchUp.NONE,
    concurrency_policy: Annotated[
        ConcurrencyPolicy, typer.Option(help="Whether runs of the cron schedule may overlap.", case_sensitive=False)
    ] = ConcurrencyPolicy.FORBID,
    tag: Annotated[str | None, typer.Option(help="Cancels pending jobs of the same tag.")] = None,
    user_id: Annotated[int, typer.Option(help="The user that it is for; 0 is the system.")] = 0,
    priority: Annotated[int, typer.Option(help="Higher runs first.")] = 0,
    pool: Annotated[str, typer.Option(help="Whose workers run it.")] = "default",
    timeout: Annotated[
        float | None, typer.Option(min=0.001, max=_LONGEST_SECONDS, help="Stop it after so many seconds.")
    ] = None,
    retries: Annotated[int | None, typer.Option(min=0, help="Try again so often after failures.")] = None,
    retry_delay: Annotated[
        float, typer.Option(min=0, max=_LONGEST_SECONDS, help="Seconds before the first retry; doubles each time.")
    ] = 10,
    retry_jitter: Annotated[
        float, typer.Option(min=0, max=1, help="The part of a retry's delay that chance may take off.")
    ] = 0,
    concurrency_key: Annotated[str | None, typer.Option(help="Jobs of one key share the limits that follow.")] = None,
    concurrency_limit: Annotated[int | None, typer.Option(min=1, help="So many jobs of the key run at once.")] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="STARTS/PERIOD", help="So many jobs of the key start in a period: 10/1m.")
    ] = None,
    persistent: Annotated[bool, typer.Option("--persistent", help="Keep it for ever once finished.")] = False,
    jobs: Annotated[
        list[str] | None,
        typer.Option(
            "--jobs", "-j", help="Check type and data against the @job functions of this module, file or folder."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for its end; exit code 1 if it failed, 3 if cancelled.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Submit a job."""
    if due is not None and delay is not None:
        raise InvalidInputError("--due and --delay exclude each other")
    rate_limit, rate_period_ms = read_rate(rate)
    job = NewJob(
        type=job_type,
        data=_read_data(data),
        due=_read_due(due, delay),
        cron_schedule=cron,
        time_zone=time_zone,
        catch_up=catch_up,
        concurrency_policy=concurrency_policy,
        tag=tag,
        user_id=user_id,
        priority=priority,
        pool=pool,
        timeout_ms=None if timeout is None else round(timeout * 1000),
        retry=None
        if retries is None
        else RetryPolicy(retries, initial_delay_ms=round(retry_delay * 1000), jitter=retry_jitter),
        concurrency_key=concurrency_key,
        concurrency_limit=concurrency_limit,
        rate_limit=rate_limit,
        rate_period_ms=rate_period_ms,
        persistent=persistent,
    )
    check_job(job, now=datetime.now(UTC))
    if jobs:
        _check(job, jobs)

    async def ask(place: Place) -> tuple[Job, str]:
        stored = await place.submit(job)
        if wait:
            watched = [Watched(stored.id, stored)]
            await wait_for(place, watched, None, follows=False)
            return watched[0].job, ""
        return stored, "" if jobs else await _unknown(place, job)

    stored, warning = at_place(ask)
    if output is Format.JSON:
        print_json(stored.to_dict())
    elif wait:
        typer.echo(f"Job {stored.id} {stored.state}: {result_line(stored)}")
    else:
        is_now = stored.due <= datetime.now(UTC)
        typer.echo(f"Job {stored.id} submitted, due {'now' if is_now else iso(stored.due)}")
    if warning:
        typer.echo(warning, err=True)
    if wait and (code := exit_code([stored])):
        raise typer.Exit(code)


async def _unknown(place: Place, job: NewJob) -> str:
    """Warn of a type that no live worker of the pool knows, where there are workers: the job would fail."""
    workers = await place.workers()
    return unknown_type(job.type, job.pool, {name for each in workers if each.pool == job.pool for name in each.types})


def _check(job: NewJob, modules: list[str]) -> None:
    from workerjobs.jobs.registry import Registry

    registry = Registry(modules)
    registry.import_modules()
    if registry.failures:
        raise InvalidInputError(
            [f"--jobs: {name} can't be imported: {type(e).__name__}: {e}" for name, e in registry.failures.items()]
        )
    registry.check(job.type, job.data)


def _read_data(text: str) -> dict[str, Any]:
    place = "--data"
    if text == "-":
        text, place = sys.stdin.read(), "standard input"
    elif text.startswith("@"):
        place = text[1:]
        try:
            text = Path(place).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"--data: {place} can't be read: {error}") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{place} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"{place} is not an object: give one, such as {{}}")
    return value


def _read_due(due: str | None, delay: float | None) -> datetime | None:
    if delay is not None:
        return datetime.now(UTC) + timedelta(seconds=delay)
    if due is None:
        return None
    try:
        return parse_moment(due)
    except ValueError as error:
        raise InvalidInputError(f"--due is {due!r}: {error}") from None
