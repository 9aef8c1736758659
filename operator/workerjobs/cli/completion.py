"""The script that completes commands, options and names in a shell."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from workerjobs.cli.examples import with_examples


class Shell(StrEnum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


@with_examples(
    "source <(workerjobs completion bash)",
    "workerjobs completion zsh > ~/.zfunc/_workerjobs",
)
def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.", show_default=False)]) -> None:
    """Print a script that completes commands, options, and names of types, pools and cron jobs in a shell.

    Names are read from where commands work: DATABASE_URL, WORKERJOBS_SERVER, or the options on the line.
    """
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="workerjobs", complete_var="_WORKERJOBS_COMPLETE", shell=shell))
