"""The roles that run until they are stopped, and the migration they depend on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs import app, logs
from workerjobs.cli.places import needs_database

if TYPE_CHECKING:
    from workerjobs.settings import WorkerSettings

CountOption = Annotated[
    str | None,
    typer.Option(
        "--count", "-c", envvar="WORKER_COUNT", help='Child processes: a number, "cpus" or "auto".', show_default="cpus"
    ),
]
ModulesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--jobs",
        "-j",
        help="Module, .py file, or folder of them, with @job functions; repeatable. [env: WORKER_JOB_MODULES]",
    ),
]


def worker(count: CountOption = None, jobs: ModulesOption = None) -> None:
    """Run jobs: a supervisor with its child processes, until SIGTERM.

    SIGTERM (or Ctrl-C) lets running jobs finish for WORKER_GRACE_SECONDS, then gives them back; a second one hurries.
    """
    settings = settings_with(count, jobs)
    logs.configure(settings.log_level)
    with app.database(settings.database_url) as url:
        _run(app.run_worker(settings, url, on_started=lambda supervisor: stop_on_signals(supervisor.stop)))


def operate() -> None:
    """Mirror WorkerJob resources of a Kubernetes cluster into the table, and scale the workers."""
    from workerjobs.settings import operator_settings

    settings = operator_settings()
    logs.configure(settings.log_level)
    with app.database(settings.database_url) as url:
        _run(app.run_operator(settings, url, on_started=stop_on_signals))


def serve() -> None:
    """Serve the HTTP API, and notifications to browsers over server-sent events and web sockets."""
    from workerjobs.settings import server_settings

    settings = server_settings()
    logs.configure(settings.log_level)

    def started(url: str, stop: Callable[[], None]) -> None:
        typer.echo(f"Serving at {url}", err=True)
        stop_on_signals(stop)

    with app.database(settings.database_url) as url:
        _run(app.run_server(settings, url, on_started=started))


def ticket(
    user_id: Annotated[int, typer.Argument(help="Id in the table users.")],
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long it can be used to connect.")] = 60,
) -> None:
    """Make a ticket with which a browser may listen to a user's notifications.

    It is signed with WORKERJOBS_TICKET_SECRET or WORKERJOBS_SERVER_TOKEN, which must be the server's.
    """
    from workerjobs.settings import ticket_secret

    typer.echo(app.make_ticket(user_id, ticket_secret(), seconds))


def migrate(
    quickdapp: Annotated[
        bool, typer.Option("--quickdapp", help="Also make the view worker_jobs and QuickDapp's other tables.")
    ] = False,
) -> None:
    """Create or update WorkerJobs' tables in the database; harmless when they are current."""
    from workerjobs.settings import database_direct_url, database_url

    needs_database()
    with app.database(database_url()) as url:
        direct = database_direct_url() or url
        done = [f"Applied {name}" for name in asyncio.run(app.wait_to_migrate(direct, 0))]
        if quickdapp:
            done += [f"Created {name}" for name in app.install_quickdapp(direct)]
    typer.echo("\n".join(done) or "The database is up to date.")


def _run(role: Coroutine[Any, Any, None]) -> None:
    """Run a role to its end. While it still waits for its database, a signal ends it.

    By default SIGTERM ends no process that is PID 1 of its container.
    """

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        stop_on_signals(task.cancel)
        await role

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(run())


def stop_on_signals(stop: Callable[[], object]) -> None:
    """Call ``stop`` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def settings_with(count: str | None, jobs: list[str] | None) -> WorkerSettings:
    """The environment's settings with flags put over them; both are checked by the same rules."""
    from workerjobs.settings import worker_settings

    given = dict(os.environ)
    if count is not None:
        given["WORKER_COUNT"] = count
    if jobs:
        given["WORKER_JOB_MODULES"] = ",".join(jobs)
    return worker_settings(given)
