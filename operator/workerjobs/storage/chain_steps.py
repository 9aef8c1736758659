"""What a step along a chain changes, beside the chain's cursor: each in the transaction that its caller began."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from workerjobs.domain.blocks import BlockRef, Header
from workerjobs.domain.events import UndecodableLog
from workerjobs.ports.chains import ChainStep, ChainTransaction
from workerjobs.storage.arrays import number_array, text_array
from workerjobs.storage.chain_effects import LogEffects
from workerjobs.storage.queries import query
from workerjobs.storage.statements import fetch

SETTING = "chain_last_processed_block_{chain}"
"""The key that QuickDapp's own server reads."""


async def are_at(connection: psycopg.AsyncConnection[Any], step: ChainStep) -> bool:
    """Whether the filters of a step that have cursors are where it begins; the chain's cursor has to be locked."""
    if not step.filters:
        return True
    values = {
        "chain": step.chain,
        "filters": text_array(step.filters),
        "number": step.begins_at.number,
        "hash": step.begins_at.hash,
    }
    return len(await fetch(connection, "chain/filters_at", values, dict_row)) == len(step.filters)


async def process(
    connection: psycopg.AsyncConnection[Any], step: ChainStep, handle: Callable[[ChainTransaction], Awaitable[None]]
) -> int:
    """Do what a step's logs ask for, and move the filters along; returns how many logs went to the dead letters."""
    transaction = LogEffects(step.chain, connection)
    if step.logs:
        await handle(transaction)
        await transaction.save()
    letters = [*step.undecodable, *transaction.given_up]
    await _save_dead_letters(connection, step.chain, letters)
    if step.addresses:
        found = {
            "chain": step.chain,
            "filters": text_array(each[0] for each in step.addresses),
            "addresses": text_array(each[1] for each in step.addresses),
            "block_numbers": number_array(each[2] for each in step.addresses),
        }
        await connection.execute(query("chain/save_addresses"), found)
    if step.filters:
        last = step.headers[-1]
        place = {
            "chain": step.chain,
            "filters": text_array(step.filters),
            "number": last.number,
            "hash": last.hash,
        }
        await connection.execute(query("chain/move_filters"), place)
    return len(letters)


async def save_blocks(connection: psycopg.AsyncConnection[Any], step: ChainStep, final: int) -> None:
    """Remember the hashes of blocks that may still be undone."""
    kept = [header for header in step.headers if header.number >= final]
    await connection.execute(query("chain/save_blocks"), block_values(step.chain, kept))


async def save_setting(connection: psycopg.AsyncConnection[Any], chain: str, number: int) -> None:
    """Keep the key that QuickDapp's own server reads."""
    values = {"key": SETTING.format(chain=chain), "value": str(number)}
    await connection.execute(query("chain/save_setting"), values)


async def _save_dead_letters(
    connection: psycopg.AsyncConnection[Any], chain: str, letters: Sequence[UndecodableLog]
) -> None:
    if letters:
        values = {
            "chain": chain,
            "filters": text_array(each.filter for each in letters),
            "block_numbers": number_array(each.block_number for each in letters),
            "block_hashes": text_array(each.block_hash for each in letters),
            "transaction_hashes": text_array(each.transaction_hash for each in letters),
            "log_indexes": number_array(each.log_index for each in letters),
            "addresses": text_array(each.address for each in letters),
            "topics": text_array(",".join(each.topics) for each in letters),
            "data": text_array(each.data for each in letters),
            "reasons": text_array(each.reason.replace("\x00", "\ufffd") for each in letters),
        }
        await connection.execute(query("chain/save_dead_letters"), values)


def block_values(chain: str, headers: Sequence[Header | BlockRef]) -> dict[str, Any]:
    """Give the values that ``chain/save_blocks`` takes."""
    return {
        "chain": chain,
        "numbers": number_array(header.number for header in headers),
        "hashes": text_array(header.hash for header in headers),
    }
