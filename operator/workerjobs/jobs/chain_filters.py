"""Filters of logs: what a chain is watched for, and what becomes of it.

A plug-in is a function with `chain_filter`, in a module of WORKER_JOB_MODULES. Two filters are built in
(`workerjobs.jobs.token_filters`), and others can be declared as data (`workerjobs.domain.declared_filters`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from workerjobs.domain.declared_filters import DeclaredFilter, FilterAction, check_filter, read_filter
from workerjobs.domain.events import DecodedLog, FactorySource, LogQuery, parse_address, parse_event
from workerjobs.domain.job import NewJob, RetryPolicy
from workerjobs.errors import InvalidInputError, InvalidSettingsError

if TYPE_CHECKING:
    from workerjobs.ports.chains import ChainTransaction

LogHandler = Callable[[Sequence[DecodedLog], "ChainTransaction"], Awaitable[None]]
"""Called with logs in the order of the chain, many at a time, inside of the transaction that moves the cursor."""
WEBHOOK_RETRY = RetryPolicy(limit=10, initial_delay_ms=1_000, factor=3.0, max_delay_ms=3_600_000)


@dataclass(frozen=True, slots=True)
class ChainFilter:
    """What is watched for, and what is done with it."""

    query: LogQuery
    handle: LogHandler
    chain: str | None = None
    """None: every chain that is watched."""


_registered: dict[str, ChainFilter] = {}


def chain_filter(
    name: str,
    event: str,
    *,
    addresses: Sequence[str] | None = None,
    factory: FactorySource | None = None,
    from_block: int | None = None,
    chain: str | None = None,
) -> Callable[[LogHandler], LogHandler]:
    """Make an ``async`` function the handler of an event's logs.

    It is called with decoded logs and the transaction they are processed in. What it does through the transaction is
    committed with the cursor, happens once, and is undone where a reorganisation takes the log away; for statements of
    its own on ``transaction.connection`` it has to see to the latter itself.

    Args:
        name: Of the filter; effects are remembered under it.
        event: As in Solidity: ``Transfer(address indexed from, address indexed to, uint256 value)``.
        addresses: Contracts; None: any.
        factory: Adds the contracts that factories made.
        from_block: The first block whose logs it wants, also where the chain is processed further already: the filter
            then catches up by itself. None: those of blocks that are processed from now on.
        chain: Where; None: on every chain that is watched.

    Raises:
        InvalidInputError: The event, an address or the block can't be used.
        ValueError: Another function has the name already.
    """
    wanted = None if addresses is None else tuple(parse_address(each) for each in addresses)
    if from_block is not None and from_block < 0:
        raise InvalidInputError(f"from_block of the chain filter {name} is {from_block}: give the number of a block")
    query = LogQuery(name, parse_event(event), wanted, factory, from_block)

    def register(handle: LogHandler) -> LogHandler:
        earlier = _registered.get(name)
        if earlier is not None and earlier.handle.__qualname__ != handle.__qualname__:
            raise ValueError(f"Two functions for the chain filter {name!r}")
        _registered[name] = ChainFilter(query, handle, chain)
        return handle

    return register


def registered_filters() -> list[ChainFilter]:
    """The filters that modules have registered in this process."""
    return [*_registered.values()]


def from_declaration(declared: DeclaredFilter, pool: str = "default") -> ChainFilter:
    """Make a declared filter.

    Args:
        declared: What was declared.
        pool: Where its webhooks are delivered, unless its options say so.

    Raises:
        InvalidInputError: It can't be used; with everything that is wrong.
    """
    query = check_filter(declared)
    match FilterAction(declared.action):
        case FilterAction.ENQUEUE:
            handle = _enqueuing(declared)
        case FilterAction.NOTIFY:
            handle = _notifying(declared)
        case FilterAction.WEBHOOK:
            handle = _posting(declared, pool)
    return ChainFilter(query, handle, declared.chain)


def read_filters(path: str) -> list[DeclaredFilter]:
    """Read filters from a YAML file: a list of them, or a mapping with ``filters``.

    Raises:
        InvalidSettingsError: There is no such file, or something in it is wrong.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidSettingsError(f"the chain filters in {path} can't be read: {error}") from None
    entries = document.get("filters") if isinstance(document, Mapping) else document
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InvalidSettingsError(f"{path} holds no chain filters: give a list of them, or filters: with one")
    filters, problems = [], []
    for entry in entries:
        try:
            filters.append(read_filter(entry))
        except InvalidInputError as error:
            problems += error.problems
    if problems:
        raise InvalidSettingsError([f"{path}: {problem}" for problem in problems])
    return filters


def log_json(log: DecodedLog) -> dict[str, Any]:
    """A log as jobs, notifications and webhooks have it: numbers of its arguments as decimal strings."""
    return {
        "chain": log.chain,
        "filter": log.filter,
        "event": log.event,
        "address": log.address,
        "blockNumber": log.block_number,
        "blockHash": log.block_hash,
        "blockTime": log.block_time,
        "transactionHash": log.transaction_hash,
        "logIndex": log.log_index,
        "arguments": {name: _json_value(value) for name, value in log.arguments.items()},
    }


def _json_value(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, list):
        return [_json_value(each) for each in value]
    # What no database takes, and contracts may emit all the same.
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value


def _enqueuing(declared: DeclaredFilter) -> LogHandler:
    options = declared.options

    async def handle(logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
        for log in logs:
            data = {**options.get("data", {}), "log": log_json(log)}
            job = NewJob(
                type=options["type"],
                data=data,
                pool=options.get("pool", "default"),
                priority=options.get("priority", 0),
            )
            transaction.enqueue(log, job)

    return handle


def _notifying(declared: DeclaredFilter) -> LogHandler:
    parameter = declared.options["user"]
    data = declared.options.get("data", {})

    async def handle(logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
        users = await transaction.users_of_wallets({str(log.arguments[parameter]) for log in logs})
        for log in logs:
            user_id = users.get(str(log.arguments[parameter]))
            if user_id is not None:
                transaction.notify(log, user_id, {"type": declared.name, **data, **log_json(log)})

    return handle


def _posting(declared: DeclaredFilter, pool: str) -> LogHandler:
    options = declared.options
    pool = options.get("pool", pool)

    async def handle(logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
        for log in logs:
            data = {"url": options["url"], "secretEnv": options["secretEnv"], "body": log_json(log)}
            transaction.enqueue(log, NewJob(type="chainWebhook", data=data, pool=pool, retry=WEBHOOK_RETRY))

    return handle
