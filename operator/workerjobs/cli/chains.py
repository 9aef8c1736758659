"""Watched chains: how far they are, what they are watched for, what could not be read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs import app
from workerjobs.cli.moments import iso
from workerjobs.cli.output import Format, FormatOption, moment, print_json, print_table
from workerjobs.cli.places import needs_database
from workerjobs.cli.stores import on_chains
from workerjobs.domain.job import column_name
from workerjobs.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from workerjobs.domain.declared_filters import DeclaredFilter
    from workerjobs.ports.chains import ChainStore

chain = typer.Typer(
    help="Watched chains: their progress, filters and dead letters.", no_args_is_help=True, rich_markup_mode=None
)
filters = typer.Typer(help="Filters that are declared as data.", no_args_is_help=True, rich_markup_mode=None)
chain.add_typer(filters, name="filter")

ChainArgument = Annotated[str, typer.Argument(help="Its name in WEB3_SUPPORTED_CHAINS.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(help="The filter's name.", show_default=False)]


@chain.command("status")
def status(output: FormatOption = Format.TABLE) -> None:
    """Show how far chains are processed, and how their endpoints do."""
    found, endpoints, cursors = on_chains(lambda store: _status(store))
    if output is Format.JSON:
        print_json(
            [
                {
                    **_json(each),
                    "endpoints": [_json(endpoint) for endpoint in endpoints if endpoint["chain"] == each["chain"]],
                    "filters": [_json(cursor) for cursor in cursors if cursor["chain"] == each["chain"]],
                }
                for each in found
            ]
        )
        return
    if not found:
        typer.echo("No chain was watched yet.", err=True)
        return
    now = datetime.now(UTC)
    print_table(
        ("CHAIN", "BLOCK", "HEAD", "LAG", "LOGS", "REORGS", "UNDECODABLE", "UPDATED", "CONDITION"),
        [
            (
                each["chain"],
                str(each["number"]),
                str(each["head_number"]),
                str(each["head_number"] - each["number"]),
                str(each["logs"]),
                str(each["reorgs"]),
                str(each["undecodable"]),
                moment(each["updated_at"], now),
                each["condition"] or "",
            )
            for each in found
        ],
    )
    for each in found:
        if each["message"]:
            typer.echo(each["message"], err=True)
    print_table(
        ("ENDPOINT", "CHAIN", "HEAD", "LATENCY", "RANGE", "REQUESTS", "ERRORS", "TROUBLE"),
        [
            (
                each["endpoint"],
                each["chain"],
                str(each["head_number"] or ""),
                "" if each["latency_ms"] is None else f"{each['latency_ms']:.0f} ms",
                str(each["range_limit"] or ""),
                str(each["requests"]),
                ", ".join(f"{kind} {count}" for kind, count in sorted(each["errors"].items())),
                each["trouble"] or "",
            )
            for each in endpoints
        ],
    )
    if cursors:
        print_table(
            ("FILTER", "CHAIN", "BLOCK", "BEHIND", "TROUBLE"),
            [
                (each["filter"], each["chain"], str(each["number"]), str(each["behind"]), each["message"] or "")
                for each in cursors
            ],
        )


async def _status(store: ChainStore) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Chains, endpoints, and filters with a start block of their own."""
    cursors = [asdict(each) for each in await store.filter_cursors()]
    return [dict(each) for each in await store.chains()], [dict(each) for each in await store.endpoints()], cursors


@chain.command("rewind")
def rewind(
    name: ChainArgument,
    block: Annotated[int, typer.Argument(min=-1, help="The last block that stays processed.", show_default=False)],
) -> None:
    """Undo what blocks after one led to, and process them anew from the chain as it is now."""
    from workerjobs.settings import chain_settings, database_url

    needs_database()
    settings = chain_settings()
    described = settings.find(name)
    with app.database(database_url()) as url:
        revoked = asyncio.run(app.rewind_chain(url, described, block))
    typer.echo(f"{name} goes on after block {block}; {revoked} effects were undone")


@chain.command("dead-letters")
def dead_letters(
    name: ChainArgument,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 50,
    output: FormatOption = Format.TABLE,
) -> None:
    """List logs that could not be decoded or handled, newest first."""
    found = on_chains(lambda store: store.dead_letters(name, limit))
    if output is Format.JSON:
        print_json([_json(each) for each in found])
    elif found:
        print_table(
            ("BLOCK", "LOG", "FILTER", "CONTRACT", "TRANSACTION", "REASON"),
            [
                (
                    str(each["block_number"]),
                    str(each["log_index"]),
                    each["filter"],
                    each["address"],
                    each["transaction_hash"],
                    each["reason"],
                )
                for each in found
            ],
        )
    else:
        typer.echo("There are none.", err=True)


@filters.command("apply")
def apply_filters(
    filename: Annotated[str, typer.Option("--filename", "-f", help="A YAML file with filters.", show_default=False)],
) -> None:
    """Declare the filters of a file; each sees blocks from its fromBlock on, or those to come."""
    from workerjobs.jobs.chain_filters import read_filters

    declared = read_filters(filename)

    async def store_all(store: ChainStore) -> None:
        for each in declared:
            await store.declare_filter(each)

    on_chains(store_all)
    for each in declared:
        typer.echo(f"chain filter {each.name} applied")


@filters.command("set")
def set_filter(
    name: NameArgument,
    event: Annotated[str, typer.Option(help="As in Solidity.", show_default=False)],
    action: Annotated[str, typer.Option(help="enqueue, notify or webhook.", show_default=False)],
    options: Annotated[str, typer.Option(help="What the action needs, as JSON.")] = "{}",
    address: Annotated[list[str] | None, typer.Option(help="A contract; any without.", show_default=False)] = None,
    from_block: Annotated[
        int | None, typer.Option(min=0, help="The first block; those to come without.", show_default=False)
    ] = None,
    on: Annotated[
        str | None, typer.Option("--chain", help="Where; on every chain without.", show_default=False)
    ] = None,
) -> None:
    """Declare one filter, in place of the one of its name."""
    from workerjobs.domain.declared_filters import read_filter

    try:
        parsed = json.loads(options)
    except ValueError as error:
        raise InvalidInputError(f"--options is no JSON: {error}") from None
    document = {"name": name, "event": event, "action": action, "options": parsed, "addresses": address, "chain": on}
    document["fromBlock"] = from_block
    declared = read_filter({key: value for key, value in document.items() if value is not None})
    on_chains(lambda store: store.declare_filter(declared))
    typer.echo(f"chain filter {name} applied")


@filters.command("remove")
def remove_filter(name: NameArgument) -> None:
    """Remove a declared filter, and how far it was; what it led to stays."""
    if not on_chains(lambda store: store.remove_filter(name)):
        raise NotFoundError(f"There is no declared chain filter {name}")
    typer.echo(f"chain filter {name} removed")


@filters.command("list")
def list_filters(output: FormatOption = Format.TABLE) -> None:
    """List the declared filters."""
    found = on_chains(lambda store: store.filters())
    if output is Format.JSON:
        print_json([_filter_json(each) for each in found])
    elif found:
        print_table(
            ("NAME", "CHAIN", "EVENT", "CONTRACTS", "FROM", "ACTION"),
            [
                (
                    each.name,
                    each.chain or "every",
                    each.event,
                    "a factory's" if each.factory else ", ".join(each.addresses or ["any"]),
                    "" if each.from_block is None else str(each.from_block),
                    each.action if each.enabled else f"{each.action} (off)",
                )
                for each in found
            ],
        )
    else:
        typer.echo("No chain filters are declared.", err=True)


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the names of its columns in the table, and moments as text."""
    return {column_name(name): iso(value) if isinstance(value, datetime) else value for name, value in row.items()}


def _filter_json(declared: DeclaredFilter) -> dict[str, Any]:
    return {column_name(name): getattr(declared, name) for name in declared.__slots__}
