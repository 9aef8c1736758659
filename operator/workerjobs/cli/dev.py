"""Everything that needs no cluster, in one process group: the embedded Postgres, its tables, workers, manifests."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs import app, logs
from workerjobs.cli.output import console, jobs_table, progress_bar, result_line
from workerjobs.cli.roles import CountOption, ModulesOption, settings_with, stop_on_signals
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.errors import DatabaseUnavailableError, InvalidInputError

if TYPE_CHECKING:
    from workerjobs.ports.jobs import JobStore
    from workerjobs.settings import WorkerSettings
    from workerjobs.worker.supervisor import Supervisor

SHOWN_JOBS = 30
REFRESH_SECONDS = 0.25
CRON_RUNS = 2
"""How often each cron job must have run before ``--until-done`` is content."""


def dev(
    filename: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="Manifests to apply at the start; repeatable.")
    ] = None,
    ephemeral: Annotated[
        bool,
        typer.Option("--ephemeral", help="Use a database of its own, gone afterwards, and not DATABASE_URL."),
    ] = False,
    until_done: Annotated[
        bool,
        typer.Option(
            "--until-done",
            help=f"End when the applied one-time jobs are finished and each cron job has run {CRON_RUNS} times.",
        ),
    ] = False,
    time_limit: Annotated[
        float, typer.Option(min=1, help="With --until-done: seconds after which it is given up, with exit code 1.")
    ] = 300,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the log alone, no jobs.")] = False,
    count: CountOption = None,
    jobs: ModulesOption = None,
) -> None:
    """Run WorkerJobs here without a cluster: database, tables and workers, until Ctrl-C.

    Without DATABASE_URL it runs on the embedded Postgres, which other workerjobs commands of this user then see too.
    """
    from workerjobs.cli.apply import parse_documents
    from workerjobs.cli.manifest_files import read_documents

    settings = settings_with(count, jobs)
    if ephemeral:
        settings = replace(settings, database_url=None, database_direct_url=None)
    manifests: list[NewJob] = []
    if filename:
        manifests, problems, _ = parse_documents(read_documents(filename))
        if problems:
            raise InvalidInputError(problems)
    on_terminal = sys.stdout.isatty() and not quiet
    # Beside a live table the log is for what goes wrong.
    logs.configure("error" if on_terminal and settings.log_level == "info" else settings.log_level)
    with app.throwaway_database() if ephemeral else app.database(settings.database_url) as url:
        if settings.database_url is not None:
            asyncio.run(app.wait_to_migrate(settings.database_direct_url or url, settings.database_wait_seconds))
        typer.echo(f"Database: {app.name_of(url)}", err=True)
        finished = asyncio.run(_run(settings, url, manifests, until_done, time_limit, quiet))
    if not finished:
        typer.echo(f"Error: not done after {time_limit:g} s", err=True)
        raise typer.Exit(1)


async def _run(
    settings: WorkerSettings, url: str, manifests: Sequence[NewJob], until_done: bool, time_limit: float, quiet: bool
) -> bool:
    """Work until stopped or done; False when the time was up first."""
    started: asyncio.Future[Supervisor] = asyncio.get_running_loop().create_future()
    worker = asyncio.create_task(app.run_worker(settings, url, on_started=started.set_result))
    started_or_ended: set[asyncio.Future[Any]] = {worker, started}
    await asyncio.wait(started_or_ended, return_when=asyncio.FIRST_COMPLETED)
    if worker.done():
        await worker
        return True
    from workerjobs.ports.jobs import JobQuery

    supervisor = started.result()
    stop_on_signals(supervisor.stop)
    watching = None
    try:
        if manifests:
            await supervisor.known_types()
        for applied in await app.apply_locally(url, manifests):
            typer.echo(f"workerjob/{applied.name} {applied.action} (job {applied.job_id})")
        async with app.open_store(url, "workerjobs dev") as store:
            view = None if quiet else _View()
            ids = {job.resource.uid for job in manifests if job.resource is not None} if until_done else None
            watching = asyncio.create_task(_watch(store, view, ids, time_limit))
            await asyncio.wait({watching, worker}, return_when=asyncio.FIRST_COMPLETED)
            finished = await watching if watching.done() else not until_done
            if until_done and not worker.done():
                supervisor.stop()
                await worker
            if view is not None and until_done:
                view.close()
                screen = console()
                screen.print(jobs_table(await store.list(JobQuery(limit=100)), screen.width, title="\nAll jobs"))
    finally:
        supervisor.stop()
        if watching is not None:
            watching.cancel()
            await asyncio.wait({watching})
        await worker
    return finished


async def _watch(store: JobStore, view: _View | None, uids: set[str] | None, time_limit: float) -> bool:
    """Show the jobs, and wait for those of some resources to be done; for ever without any."""
    from workerjobs.ports.jobs import JobQuery

    deadline = time.monotonic() + time_limit
    try:
        while uids is None or time.monotonic() < deadline:
            with contextlib.suppress(DatabaseUnavailableError):
                jobs = await store.list(JobQuery(limit=1000))
                if view is not None:
                    view.show(jobs)
                if uids is not None and _are_done([job for job in jobs if job.resource_uid in uids]):
                    return True
            await asyncio.sleep(REFRESH_SECONDS)
        return False
    finally:
        if view is not None:
            view.close()


def _are_done(jobs: Sequence[Job]) -> bool:
    one_time = [job for job in jobs if job.cron_schedule is None]
    lines = {job.resource_uid for job in jobs if job.cron_schedule is not None}
    runs = [job.resource_uid for job in jobs if job.cron_schedule is not None and job.state.is_final]
    return all(job.state.is_final for job in one_time) and all(runs.count(uid) >= CRON_RUNS for uid in lines)


class _View:
    """What happens to the jobs: a live table on a terminal, a line for each change elsewhere."""

    def __init__(self) -> None:
        from rich.live import Live

        self._console = console()
        self._live = None
        self._seen: dict[int, str] = {}
        if sys.stdout.isatty():
            # While it is shown, what goes to a terminal's standard error is written above it, the log as well.
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty()
            )
            self._live.start()
            logs.write_to(sys.stderr)

    def show(self, jobs: Sequence[Job]) -> None:
        if self._live is not None:
            self._live.update(jobs_table(jobs[:SHOWN_JOBS], self._console.width), refresh=True)
            return
        for job in reversed(jobs):
            line = self._line(job)
            if self._seen.get(job.id) != line:
                self._seen[job.id] = line
                self._console.print(f"{datetime.now(UTC):%H:%M:%S}  {line}", soft_wrap=True, markup=False)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            logs.write_to(sys.stderr)

    @staticmethod
    def _line(job: Job) -> str:
        detail = result_line(job)
        if job.state is JobState.RUNNING:
            detail = progress_bar(job)
        elif job.state is JobState.PENDING:
            detail = f"due {job.due.astimezone(UTC):%H:%M:%S}"
        return f"{job.id:>4}  {job.resource_name or job.type:<24} {job.state:<10} {detail}"
