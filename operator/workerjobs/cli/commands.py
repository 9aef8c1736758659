"""All commands under one name, each imported when it is used: no command waits for what another one needs."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from workerjobs.cli.examples import EXAMPLES

SECTIONS: dict[str, dict[str, str]] = {
    "Jobs": {
        "submit": "submit:submit",
        "apply": "apply:apply",
        "list": "jobs:list_jobs",
        "show": "jobs:show",
        "watch": "watch:watch",
        "logs": "logs:show_logs",
        "cancel": "cancel:cancel",
        "retry": "retry:retry",
        "export": "export:export",
        "cron": "cron:cron",
    },
    "Queue": {
        "top": "top:top",
        "explain": "explain:explain",
        "workers": "limits:workers",
        "types": "job_types:list_types",
        "pause": "limits:pause",
        "resume": "limits:resume",
        "pauses": "limits:pauses",
        "limit": "limits:limit",
        "pool": "pool:pool",
        "chain": "chains:chain",
    },
    "Roles": {
        "dev": "dev:dev",
        "worker": "roles:worker",
        "operator": "roles:operate",
        "server": "roles:serve",
    },
    "Setting up": {
        "migrate": "roles:migrate",
        "adopt": "adopt:adopt",
        "doctor": "doctor:doctor",
        "token": "tokens:token",
        "ticket": "roles:ticket",
        "completion": "completion:completion",
    },
}
"""The commands by what they are for: ``module of workerjobs.cli:function``, or its Typer where it has subcommands."""
HOMES = {name: home for section in SECTIONS.values() for name, home in section.items()}


class Commands(TyperGroup):
    """The group of all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the commands, in the order of the help."""
        return list(HOMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; None where there is none."""
        if cmd_name not in HOMES:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of some arguments, or name the nearest one."""
        if args[0] not in HOMES and not args[0].startswith("-") and not ctx.resilient_parsing:
            from workerjobs.domain.words import did_you_mean

            ctx.fail(f"There is no command {args[0]!r}.{did_you_mean(args[0], HOMES)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a value of the wrong kind is named."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            from workerjobs.cli.bad_values import reword

            reword(error)
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the help's lists of commands."""
        for title, section in SECTIONS.items():
            limit = formatter.width - 6 - max(map(len, HOMES))
            rows = [(name, self.get_command(ctx, name).get_short_help_str(limit)) for name in section]
            with formatter.section(title):
                formatter.write_dl(rows)


def _load(name: str) -> Any:
    module, _, attribute = HOMES[name].partition(":")
    found = getattr(import_module(f"workerjobs.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, **getattr(found, EXAMPLES, {}))(found)
        found = single
    made = typer.main.get_command(found)
    made.name = name
    return made


commands = typer.Typer(
    name="workerjobs",
    cls=Commands,
    help="Background jobs in a Postgres table, run in child processes, declared with kubectl apply.",
    epilog="DATABASE_URL names the database; without it an embedded Postgres serves. With --server (WORKERJOBS_SERVER) "
    "or --context, commands ask a server, or the one in a cluster, instead.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: what rich needs for its boxes takes longer to import than most commands take to run.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from workerjobs import version

        typer.echo(f"workerjobs {version()}")
        raise typer.Exit


@commands.callback()
def _main(
    ctx: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Work at this server. [env: WORKERJOBS_SERVER]", show_default=False),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            help="What it is shown; better in the environment. [env: WORKERJOBS_TOKEN]",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Work at the server in the cluster of this context of the kubeconfig; '' is its current one.",
            show_default=False,
        ),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(metavar="[NAMESPACE/]NAME", help="Its Service, where several are installed.", show_default=False),
    ] = None,
) -> None:
    from workerjobs.cli.places import Where, choose

    choose(Where(server, token, context, service, ctx.invoked_subcommand or "This"))
