"""What handlers do for the logs of a step: collected, and stored in the transaction that moves the cursor."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from msgspec import Struct
from psycopg.rows import dict_row

from workerjobs.domain.events import DecodedLog, UndecodableLog
from workerjobs.domain.job import NewJob
from workerjobs.domain.job_checks import check_job
from workerjobs.storage.arrays import number_array, text_array
from workerjobs.storage.statements import fetch
from workerjobs.storage.steps import perform
from workerjobs.storage.submitting import submitting


class _Effect(Struct, frozen=True, gc=False):
    """What one log led to."""

    log: DecodedLog
    place: int
    """Which one it is of those that its handler did for the log."""
    user_id: int | None = None
    data_json: str | None = None
    job: NewJob | None = None

    @property
    def key(self) -> tuple[str, int, str, int]:
        """Which one it is in its chain."""
        return (self.log.block_hash, self.log.log_index, self.log.filter, self.place)


class LogEffects:
    """Collects what handlers do for logs; see `ChainTransaction`."""

    def __init__(self, chain: str, connection: psycopg.AsyncConnection[Any]) -> None:
        self._chain = chain
        self._connection = connection
        self._effects: list[_Effect] = []
        self._saved = 0
        """So many of them are stored."""
        self._places: Counter[tuple[str, int, str]] = Counter()
        self.given_up: list[UndecodableLog] = []
        """Logs that go to the dead letters."""

    @property
    def connection(self) -> psycopg.AsyncConnection[Any]:
        """See `ChainTransaction.connection`."""
        return self._connection

    @asynccontextmanager
    async def part(self) -> AsyncIterator[None]:
        """See `ChainTransaction.part`."""
        effects, given_up = len(self._effects), len(self.given_up)
        try:
            async with self._connection.transaction():
                yield
                await self.save()
        except BaseException:
            for effect in self._effects[effects:]:
                self._places[effect.key[:3]] -= 1
            del self._effects[effects:], self.given_up[given_up:]
            self._saved = min(self._saved, effects)
            raise

    async def users_of_wallets(self, wallets: Iterable[str]) -> dict[str, int]:
        """See `ChainTransaction.users_of_wallets`."""
        values = {"wallets": text_array({wallet.lower() for wallet in wallets})}
        rows = await fetch(self._connection, "chain/users_of_wallets", values, dict_row)
        return {row["wallet"]: row["user_id"] for row in rows}

    def notify(self, log: DecodedLog, user_id: int, data: Mapping[str, Any]) -> None:
        """See `ChainTransaction.notify`."""
        # Postgres can't read NUL in JSON, and whoever deploys a contract may put it into a name.
        text = _json(data).replace("\\u0000", "\\ufffd")
        self._effects.append(_Effect(log, self._place(log), user_id, text))

    def enqueue(self, log: DecodedLog, job: NewJob) -> None:
        """See `ChainTransaction.enqueue`."""
        check_job(job, now=datetime.now(UTC))
        self._effects.append(_Effect(log, self._place(log), job=job))

    def give_up(self, log: DecodedLog, reason: str) -> None:
        """See `ChainTransaction.give_up`."""
        self.given_up.append(
            UndecodableLog(
                log.filter,
                log.address,
                log.block_number,
                log.block_hash,
                log.transaction_hash,
                log.log_index,
                log.topics,
                log.data,
                reason,
            )
        )

    def _place(self, log: DecodedLog) -> int:
        key = (log.block_hash, log.log_index, log.filter)
        place = self._places[key]
        self._places[key] = place + 1
        return place

    async def save(self) -> None:
        """Store the effects that are not stored yet, and submit their jobs."""
        # In the order of the chain, whatever the order of the handlers: so are the ids of notifications.
        effects = sorted(
            self._effects[self._saved :], key=lambda effect: (effect.log.block_number, effect.log.log_index)
        )
        if not effects:
            return
        values = {
            "chain": self._chain,
            "first": effects[0].log.block_number,
            "last": effects[-1].log.block_number,
            "filters": text_array({effect.log.filter for effect in effects}),
        }
        known = {
            (row["block_hash"], row["log_index"], row["filter"], row["place"]): row["holds"]
            for row in await fetch(self._connection, "chain/known_effects", values, dict_row)
        }
        if known:
            await self._store("chain/restore_effects", [effect for effect in effects if known.get(effect.key) is False])
            effects = [effect for effect in effects if effect.key not in known]
        await self._store("chain/save_effects", effects)
        self._saved = len(self._effects)

    async def _store(self, statement: str, effects: Sequence[_Effect]) -> None:
        if not effects:
            return
        jobs = [effect.job for effect in effects if effect.job is not None]
        stored = iter(await perform(self._connection, submitting(jobs)) if jobs else [])
        logs = [effect.log for effect in effects]
        values = {
            "chain": self._chain,
            "block_numbers": number_array([log.block_number for log in logs]),
            "block_hashes": text_array([log.block_hash for log in logs]),
            "log_indexes": number_array([log.log_index for log in logs]),
            "filters": text_array([log.filter for log in logs]),
            "places": number_array([effect.place for effect in effects]),
            "transaction_hashes": text_array([log.transaction_hash for log in logs]),
            "user_ids": number_array([effect.user_id for effect in effects]),
            "data": text_array([effect.data_json for effect in effects]),
            "job_ids": number_array([None if effect.job is None else next(stored).id for effect in effects]),
        }
        await fetch(self._connection, statement, values, dict_row)


def _json(data: Mapping[str, Any]) -> str:
    try:
        return msgspec.json.encode(data).decode()
    except OverflowError:
        # msgspec (0.22) writes no numbers of more than 64 bits, and those of chains have 256.
        return json.dumps(data, ensure_ascii=False)
