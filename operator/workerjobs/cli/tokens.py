"""Tokens of the HTTP API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs.cli.moments import iso
from workerjobs.cli.output import Format, FormatOption, moment, print_json, print_table
from workerjobs.cli.stores import on_tokens
from workerjobs.domain.tokens import MAX_TOKEN_NAME, PERSON, Scope, hash_token, make_token
from workerjobs.errors import InvalidInputError

if TYPE_CHECKING:
    from workerjobs.ports.api import ApiToken

token = typer.Typer(
    help="Tokens with which programs and people use the HTTP API.", no_args_is_help=True, rich_markup_mode=None
)

NameArgument = Annotated[str, typer.Argument(help="What it is for; shown in the audit.", show_default=False)]


@token.command("create")
def create(
    name: NameArgument,
    scope: Annotated[Scope, typer.Option(help="Whether it may only look, or change things as well.")] = Scope.READ,
    days: Annotated[
        float | None, typer.Option(min=0.001, max=36_500, help="How long it is valid.", show_default="for ever")
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make a token and print it. It can't be shown again: the database keeps its hash alone."""
    if not 0 < len(name) <= MAX_TOKEN_NAME or not name.isprintable() or not name.strip():
        raise InvalidInputError(f"The name is {name!r}: give a text of up to {MAX_TOKEN_NAME} characters")
    if name in RESERVED or name.startswith(PERSON):
        raise InvalidInputError(f"The name {name} means something else in the audit: give another one")
    made = make_token()
    lasts = None if days is None else timedelta(days=days)
    stored = on_tokens(lambda store: store.create_token(name, scope, hash_token(made), lasts))
    if output is Format.JSON:
        print_json({**_as_json(stored), "token": made})
        return
    typer.echo(made)
    until = "for ever" if stored.expires_at is None else f"until {iso(stored.expires_at)}"
    typer.echo(f"The token {name} ({scope}) is valid {until}; keep it, it is not shown again", err=True)


RESERVED = ("server", "loopback")
"""What the audit calls those who use none of these tokens."""


@token.command("list")
def list_tokens(output: FormatOption = Format.TABLE) -> None:
    """List tokens, also those that are over; never what they are."""
    found = on_tokens(lambda store: store.tokens())
    if output is Format.JSON:
        print_json([_as_json(each) for each in found])
    elif found:
        now = datetime.now(UTC)
        print_table(
            ("NAME", "SCOPE", "STATE", "CREATED", "USED", "EXPIRES"),
            [
                (
                    each.name,
                    each.scope,
                    _state(each, now),
                    moment(each.created_at, now),
                    moment(each.last_used_at, now) if each.last_used_at is not None else "never",
                    moment(each.expires_at, now) if each.expires_at is not None else "never",
                )
                for each in found
            ],
        )
    else:
        typer.echo("No tokens.", err=True)


@token.command("revoke")
def revoke(name: NameArgument) -> None:
    """End a token at once."""
    on_tokens(lambda store: store.revoke_token(name))
    typer.echo(f"The token {name} is revoked")


def _state(stored: ApiToken, now: datetime) -> str:
    if stored.revoked_at is not None:
        return "revoked"
    return "expired" if stored.expires_at is not None and stored.expires_at <= now else "valid"


def _as_json(stored: ApiToken) -> dict[str, Any]:
    return {
        "id": stored.id,
        "name": stored.name,
        "scope": stored.scope,
        "createdAt": iso(stored.created_at),
        "expiresAt": iso(stored.expires_at),
        "lastUsedAt": iso(stored.last_used_at),
        "revokedAt": iso(stored.revoked_at),
    }
