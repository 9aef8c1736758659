"""What scaling asks of the table, and what it shows there: `PoolStore`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict

from psycopg.rows import class_row, dict_row

from workerjobs.domain.scaling import Backlog, Demand
from workerjobs.ports.pools import PoolQuestion, ShownPool, WorkerLoad
from workerjobs.storage.arrays import text_array
from workerjobs.storage.statements import Statements

MOST_COUNTED = 10_000
"""Waiting jobs of a type are counted up to this: more of them ask for no more workers than there may be."""
RUNS_MEASURED = 2000
"""How many of the newest rows durations are read from."""


class PostgresPoolStore(Statements):
    """How much waits in pools, who works for them, and why they are as large as they are."""

    async def backlogs(self, questions: Sequence[PoolQuestion]) -> list[Backlog]:
        """See `PoolStore.backlogs`."""
        if not questions:
            return []
        values = {
            "pools": text_array(each.pool for each in questions),
            "ahead": [each.due_soon for each in questions],
            "namespaces": text_array(",".join(each.namespaces) for each in questions),
            "most": MOST_COUNTED,
            "sample": RUNS_MEASURED,
        }
        demands: dict[int, list[Demand]] = defaultdict(list)
        for row in await self._rows("backlogs", values, dict_row):
            demands[row.pop("number")].append(Demand(**row))
        return [Backlog(tuple(demands[number])) for number in range(1, len(questions) + 1)]

    async def loads(self, pools: Sequence[str]) -> list[WorkerLoad]:
        """See `PoolStore.loads`."""
        return await self._rows("loads", {"pools": text_array(pools)}, class_row(WorkerLoad))

    async def show_pools(self, cluster_id: str, namespaces: Sequence[str], pools: Sequence[ShownPool]) -> None:
        """See `PoolStore.show_pools`."""
        values = {
            "cluster_id": cluster_id,
            "namespaces": list(namespaces),
            "uids": text_array(each.uid for each in pools),
            "shown": json.dumps([asdict(each) for each in pools]),
        }
        await self._execute("show_pools", values)
