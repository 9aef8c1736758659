"""Where commands work: at the database, at a server, or at the server in a cluster.

What is said on the command line wins over WORKERJOBS_SERVER, and that over DATABASE_URL.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from workerjobs import app
from workerjobs.errors import InvalidInputError
from workerjobs.settings.reading import database_url

if TYPE_CHECKING:
    from workerjobs.ports.places import Place

T = TypeVar("T")

OPTIONS = ("--server", "--token", "--context", "--service")
"""Options of all commands, each with a value."""
CURRENT = ""
"""As the context: the kubeconfig's current one."""


@dataclass(frozen=True, slots=True)
class Where:
    """What was said of where to work; None: nothing."""

    server: str | None = None
    token: str | None = None
    context: str | None = None
    service: str | None = None
    command: str = "This"
    """The command that works there, for sentences."""

    @property
    def is_cluster(self) -> bool:
        """Whether a cluster was named."""
        return self.context is not None or self.service is not None

    @property
    def kube_context(self) -> str | None:
        """The kubeconfig's context; None: its current one."""
        return self.context or None

    @property
    def at_server(self) -> str | None:
        """The server's URL, where commands work at one."""
        return None if self.is_cluster else self.server or os.environ.get("WORKERJOBS_SERVER", "").strip() or None

    @property
    def shown_token(self) -> str | None:
        """What a server is shown."""
        return self.token or os.environ.get("WORKERJOBS_TOKEN", "").strip() or None


_where = Where()


def choose(where: Where) -> None:
    """Say where this command works."""
    global _where
    if where.server is not None and where.is_cluster:
        raise InvalidInputError("--server and --context (or --service) exclude each other: each names where to work")
    _where = where


def chosen() -> Where:
    """Where this command works."""
    return _where


def first(arguments: Sequence[str]) -> list[str]:
    """Move the options of all commands before the command, where the parser expects them.

    >>> first(["list", "--state", "failed", "--server", "http://x", "--", "--token"])
    ['--server', 'http://x', 'list', '--state', 'failed', '--', '--token']
    """
    ours: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for each in rest:
        if each == "--":
            others += [each, *rest]
        elif each in OPTIONS:
            ours += [each, *[value for value in [next(rest, None)] if value is not None]]
        elif each.partition("=")[0] in OPTIONS:
            ours.append(each)
        else:
            others.append(each)
    return ours + others


def at_place(ask: Callable[[Place], Awaitable[T]]) -> T:
    """Ask the place where this command works."""
    import asyncio

    where = _where

    async def run(opened: AbstractAsyncContextManager[Place]) -> T:
        async with opened as place:
            return await ask(place)

    if where.is_cluster:
        return asyncio.run(run(app.cluster_place(where.kube_context, where.service, where.shown_token)))
    if (url := where.at_server) is not None:
        return asyncio.run(run(app.server_place(url, where.shown_token)))
    with app.database(database_url()) as url:
        return asyncio.run(run(app.database_place(url)))


def needs_database() -> None:
    """Refuse a command that works at the database alone where another place was asked for.

    Raises:
        InvalidInputError: It was, on the command line; or in the environment, without a database beside it.
    """
    command = _where.command
    if _where.server is not None or _where.is_cluster:
        raise InvalidInputError(
            f"{command} works at the database alone: run `workerjobs {command}` with DATABASE_URL, without {_said()}"
        )
    if _where.at_server is not None and database_url() is None:
        raise InvalidInputError(
            f"{command} works at the database alone, and WORKERJOBS_SERVER is set: set DATABASE_URL as well"
        )


def _said() -> str:
    given = {"--server": _where.server, "--context": _where.context, "--service": _where.service}
    return " and ".join(name for name, value in given.items() if value is not None)
