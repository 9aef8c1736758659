"""Waiting for jobs with their progress."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs.cli import CANCELLED, FAILED, TIMED_OUT, names
from workerjobs.cli.examples import with_examples
from workerjobs.cli.output import Format, FormatOption, console, print_json, progress_bar, result_line
from workerjobs.cli.places import at_place
from workerjobs.domain.job import Job, JobState
from workerjobs.errors import (
    ClusterUnavailableError,
    DatabaseUnavailableError,
    NotFoundError,
    PlaceUnavailableError,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from workerjobs.ports.places import Place

INTERVAL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
"""How long a place may not be to be asked, before that is the end."""
UNAVAILABLE = (DatabaseUnavailableError, PlaceUnavailableError, ClusterUnavailableError)


@dataclass
class Watched:
    """A job that is waited for, by its newest run."""

    asked: int
    """The id that was given."""
    job: Job

    @property
    def is_over(self) -> bool:
        """Nothing more will happen."""
        return self.job.state.is_final


@with_examples(
    "workerjobs watch 4711",
    "workerjobs watch 4711 4712 --timeout 600 && echo done",
    "workerjobs submit sendReport -o json | jq .id | xargs workerjobs watch",
)
def watch(
    job_ids: Annotated[
        list[int],
        typer.Argument(metavar="ID…", help="Jobs.", autocompletion=names.newest_jobs, show_default=False),
    ],
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Give up after so many seconds.", show_default="never")
    ] = None,
    this_run: Annotated[
        bool, typer.Option("--this-run", help="Do not wait for the retries of a job that fails.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Wait until jobs have ended, with their progress; a failed job that is tried again goes on with its retry.

    Exit code 0 if all succeeded, 1 if one failed, 3 if one was cancelled and none failed, 124 if the time was up.
    """
    view = _view(output)

    async def ask(place: Place) -> tuple[list[Watched], bool]:
        watched = await _begin(place, job_ids)
        with view:
            return watched, await wait_for(place, watched, timeout, follows=not this_run, show=view.show)

    watched, is_done = at_place(ask)
    if output is Format.JSON:
        print_json([each.job.to_dict() for each in watched])
    else:
        for each in watched:
            typer.echo(_end_of(each) if each.is_over else f"Job {each.job.id} is {each.job.state}")
    if not is_done:
        typer.echo(f"Error: not done after {timeout:g} s", err=True)
        raise typer.Exit(TIMED_OUT)
    if code := exit_code([each.job for each in watched]):
        raise typer.Exit(code)


def exit_code(jobs: Sequence[Job]) -> int:
    """How jobs ended, for scripts."""
    states = {job.state for job in jobs}
    return FAILED if JobState.FAILED in states else CANCELLED if JobState.CANCELLED in states else 0


async def wait_for(
    place: Place,
    watched: Sequence[Watched],
    seconds: float | None,
    *,
    follows: bool,
    show: Callable[[Sequence[Watched]], None] = lambda watched: None,
) -> bool:
    """Wait until jobs have ended; False where the time was up first.

    Args:
        place: Where they are.
        watched: Brought up to date as they change.
        seconds: How long at most; None: for ever.
        follows: Whether a job that failed goes on with its retry.
        show: Called after each look.

    Raises:
        NotFoundError: One was removed before it could be seen finished.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    last_seen = time.monotonic()
    while True:
        try:
            for each in watched:
                await _look(place, each, follows)
            last_seen = time.monotonic()
        except UNAVAILABLE:
            # A server that is being replaced, a database that fails over: the job goes on meanwhile.
            if time.monotonic() - last_seen > PATIENCE_SECONDS:
                raise
        show(watched)
        if all(each.is_over for each in watched):
            return True
        if deadline is not None and time.monotonic() >= deadline:
            return False
        await asyncio.sleep(INTERVAL_SECONDS)


async def _begin(place: Place, job_ids: Sequence[int]) -> list[Watched]:
    watched = []
    for job_id in dict.fromkeys(job_ids):
        if (job := await place.get(job_id)) is None:
            raise NotFoundError(f"There is no job {job_id}")
        watched.append(Watched(job_id, job))
    return watched


async def _look(place: Place, each: Watched, follows: bool) -> None:
    if not each.is_over:
        latest = await place.get(each.job.id)
        if latest is None:
            raise NotFoundError(f"Job {each.job.id} was removed before it could be seen finished")
        each.job = latest
    while follows and each.job.state is JobState.FAILED:
        # Stored in the transaction that stored the failure.
        later = [run for run in await place.history(each.job.id) if run.rescheduled_from_job == each.job.id]
        follower = next((run for run in later if run.cron_key is None), None)
        latest = None if follower is None else await place.get(follower.id)
        if latest is None:
            return
        each.job = latest


def _end_of(each: Watched) -> str:
    job = each.job
    attempt = f" as job {job.id}, attempt {job.attempt}" if job.id != each.asked else ""
    return f"Job {each.asked} {job.state}{attempt}: {result_line(job)}"


def _view(output: Format) -> _Lines | _Bars:
    if output is Format.JSON:
        return _Lines(is_silent=True)
    return _Bars() if sys.stdout.isatty() else _Lines()


class _Lines(AbstractContextManager["_Lines"]):
    """A line for each change of a job's state, attempt or progress in tenths."""

    def __init__(self, *, is_silent: bool = False) -> None:
        self._is_silent = is_silent
        self._said: dict[int, object] = {}

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, watched: Sequence[Watched]) -> None:
        for each in watched:
            job = each.job
            said = (job.id, job.state, progress_bar(job)[:10])
            if self._is_silent or each.is_over or self._said.get(each.asked) == said:
                continue
            self._said[each.asked] = said
            attempt = f", attempt {job.attempt}" if job.attempt > 1 else ""
            typer.echo(f"Job {job.id} is {job.state}{attempt} {progress_bar(job)} {_message(job)}".rstrip())


class _Bars(AbstractContextManager["_Bars"]):
    """A bar for each job, on a terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> _Bars:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}", markup=False),
            console=console(),
            transient=True,
        )
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._progress is not None
        self._progress.stop()

    def show(self, watched: Sequence[Watched]) -> None:
        assert self._progress is not None
        for each in watched:
            job, progress = each.job, each.job.progress or {}
            if each.asked not in self._tasks:
                self._tasks[each.asked] = self._progress.add_task("", total=None, message="")
            done = {"completed": 1, "total": 1} if job.state is JobState.SUCCEEDED else {}
            values: dict[str, Any] = {"completed": progress.get("current") or 0, "total": progress.get("total")} | done
            attempt = f" (attempt {job.attempt})" if job.attempt > 1 else ""
            self._progress.update(
                self._tasks[each.asked],
                description=f"{job.id} {job.type}{attempt} {job.state}",
                message=_message(job),
                **values,
            )


def _message(job: Job) -> str:
    return str((job.progress or {}).get("message") or "")
