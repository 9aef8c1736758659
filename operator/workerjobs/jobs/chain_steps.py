"""Steps of a watched chain: ranges of blocks in short transactions, and filters that handle their logs in them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence

from workerjobs.domain.blocks import BlockRef, Header, split_by_logs
from workerjobs.domain.events import DecodedLog
from workerjobs.errors import ChainHandlerError
from workerjobs.jobs.chain_filters import ChainFilter
from workerjobs.ports.chains import ChainRange, ChainStep, ChainTransaction

log = logging.getLogger(__name__)

MAX_LOGS = 5_000
"""Logs in one transaction, which stays far below a second."""
HANDLER_PATIENCE_SECONDS = 60.0
"""So long a filter's function that raises is tried again. After that the logs that it raises for are given up."""


def split_range(
    chain: str, begins_at: BlockRef, found: ChainRange, *, final_number: int, head: Header, filters: Sequence[str] = ()
) -> Iterator[tuple[ChainStep, list[DecodedLog]]]:
    """Make steps of blocks that were read, several where they have very many logs.

    Args:
        chain: Its name.
        begins_at: The cursor that they were read from.
        found: What was read.
        final_number: The chain's newest block that can't be undone any more.
        head: The chain's newest block.
        filters: Those with a cursor of their own that it was read for.

    Yields:
        Steps in their order, each with its logs.
    """
    counts: dict[int, int] = {}
    for each in found.logs:
        counts[each.block_number] = counts.get(each.block_number, 0) + 1
    first = found.headers[0].number
    for begin, end in split_by_logs(counts, first, found.headers[-1].number, MAX_LOGS):
        headers = found.headers[begin - first : end - first + 1]
        logs = [each for each in found.logs if begin <= each.block_number <= end]
        step = ChainStep(
            chain,
            begins_at,
            headers,
            [each for each in found.undecodable if begin <= each.block_number <= end],
            [each for each in found.addresses if begin <= each[2] <= end],
            len(logs),
            final_number,
            head,
            filters,
        )
        yield step, logs
        begins_at = headers[-1].ref


def handling(
    filters: Sequence[ChainFilter], logs: Sequence[DecodedLog], failing_seconds: float | None
) -> Callable[[ChainTransaction], Awaitable[None]]:
    """Make what handles logs inside of a transaction.

    Args:
        filters: Their order is the one in which they are called.
        logs: Of all of them, in the order of the chain.
        failing_seconds: For how long one of their functions has raised; None: it did not.

    Returns:
        It raises `ChainHandlerError` where a function does, and patience is not lost yet.
    """
    by_filter: dict[str, list[DecodedLog]] = {}
    for each in logs:
        by_filter.setdefault(each.filter, []).append(each)
    has_patience = failing_seconds is None or failing_seconds < HANDLER_PATIENCE_SECONDS
    handle_some = _handle_together if has_patience else _handle_apart

    async def handle(transaction: ChainTransaction) -> None:
        for each in filters:
            if found := by_filter.get(each.query.name):
                await handle_some(each, found, transaction)

    return handle


async def _handle_together(watched: ChainFilter, logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
    try:
        async with transaction.part():
            await watched.handle(logs, transaction)
    except Exception as error:
        raise ChainHandlerError(
            f"The chain filter {watched.query.name} failed for blocks {logs[0].block_number} to "
            f"{logs[-1].block_number}, and is tried again for {HANDLER_PATIENCE_SECONDS:g} s before logs are given "
            f"up: {_reason(error)}"
        ) from error


async def _handle_apart(watched: ChainFilter, logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
    """Halve what the function raises for, until only those logs are left out that it can't handle."""
    try:
        async with transaction.part():
            await watched.handle(logs, transaction)
    except Exception as error:  # noqa: BLE001  # whatever a function may raise
        if len(logs) == 1:
            log.error("%s: the chain filter %s gave up a log: %s", logs[0].chain, watched.query.name, error)
            transaction.give_up(logs[0], f"its handler failed: {_reason(error)}")
            return
        middle = len(logs) // 2
        await _handle_apart(watched, logs[:middle], transaction)
        await _handle_apart(watched, logs[middle:], transaction)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
