"""Filters that begin at a block of their own: which of them to go on with, and how far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workerjobs.domain.blocks import BlockRef


@dataclass(frozen=True, slots=True)
class Backfill:
    """What to process next."""

    filters: tuple[str, ...]
    begins_at: BlockRef
    """The last block that they were processed for; without a hash where none was read yet."""
    last: int
    """The newest block to process them for."""


def plan_backfill(cursors: Mapping[str, BlockRef], chain: BlockRef) -> Backfill | None:
    """Choose the filters that are furthest behind, up to where they meet others or the chain's cursor.

    So filters that began apart are soon read together, and each block is read once for all that are at it.

    Args:
        cursors: How far filters are, by name.
        chain: The chain's cursor.

    >>> plan_backfill({"a": BlockRef(3, "x"), "b": BlockRef(7, "y"), "c": BlockRef(9, "z")}, BlockRef(9, "z"))
    Backfill(filters=('a',), begins_at=BlockRef(number=3, hash='x'), last=7)
    """
    behind = {name: block for name, block in cursors.items() if block.number < chain.number}
    if not behind:
        return None
    number = min(block.number for block in behind.values())
    group = {name: block.hash for name, block in behind.items() if block.number == number}
    last = min((block.number for block in behind.values() if block.number > number), default=chain.number)
    return Backfill(tuple(sorted(group)), BlockRef(number, max(group.values())), last)
