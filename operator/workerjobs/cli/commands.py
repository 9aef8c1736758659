"""All commands under one name."""

from __future__ import annotations

from typing import Annotated

import typer

from workerjobs import version
from workerjobs.cli.adopt import adopt
from workerjobs.cli.apply import apply
from workerjobs.cli.chains import chain
from workerjobs.cli.dev import dev
from workerjobs.cli.doctor import doctor
from workerjobs.cli.job_types import list_types
from workerjobs.cli.jobs import cancel, list_jobs, retry, show
from workerjobs.cli.limits import limit, pause, pauses, resume, workers
from workerjobs.cli.pool import pool
from workerjobs.cli.roles import migrate, operate, serve, ticket, worker
from workerjobs.cli.submit import submit
from workerjobs.cli.tokens import token

commands = typer.Typer(
    name="workerjobs",
    help="Background jobs in a Postgres table, run in child processes, declared with kubectl apply. "
    "DATABASE_URL names the database; without it an embedded Postgres serves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"workerjobs {version()}")
        raise typer.Exit


@commands.callback()
def _main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


commands.command("dev")(dev)
commands.command("worker")(worker)
commands.command("operator")(operate)
commands.command("server")(serve)
commands.command("ticket")(ticket)
commands.command("migrate")(migrate)
commands.command("adopt")(adopt)
commands.command("doctor")(doctor)
commands.command("submit")(submit)
commands.command("apply")(apply)
commands.command("list")(list_jobs)
commands.command("show")(show)
commands.command("cancel")(cancel)
commands.command("retry")(retry)
commands.command("types")(list_types)
commands.command("workers")(workers)
commands.command("pause")(pause)
commands.command("resume")(resume)
commands.command("pauses")(pauses)
commands.add_typer(limit, name="limit")
commands.add_typer(pool, name="pool")
commands.add_typer(chain, name="chain")
commands.add_typer(token, name="token")
