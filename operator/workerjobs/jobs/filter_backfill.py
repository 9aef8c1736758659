"""Filters that begin at a block of their own: each catches up behind the chain's cursor, and then moves along with it.

The chain's cursor does not wait for them: it goes on, and they are processed range by range between. What is due to a
filter is known by its cursor alone, so that a worker that does not know the filter can't make it lose anything.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from workerjobs.domain.backfill import Backfill, plan_backfill
from workerjobs.domain.blocks import BlockRef, ChainChangedError, Heads
from workerjobs.domain.chains import Chain
from workerjobs.errors import ChainHandlerError
from workerjobs.jobs.chain_filters import ChainFilter
from workerjobs.jobs.chain_steps import handling, split_range
from workerjobs.ports.chains import ChainCursor, ChainRange, ChainReader, ChainStore, FilterCursor

log = logging.getLogger(__name__)

REST_SECONDS = 5.0
"""How long after a failure of a filter's function it is tried again."""


@dataclass(slots=True)
class FilterBackfill:
    """Catches up for the filters of one chain that have a start block."""

    chain: Chain
    store: ChainStore
    reader: ChainReader
    filters: Sequence[ChainFilter]
    blocks: int = 0
    """Processed by it."""
    is_behind: bool = False
    _rests_until: float = field(default=0.0, init=False)

    async def level_filters(self, cursor: ChainCursor) -> set[str]:
        """Which of them are level with the chain's cursor, and move along with it; new ones begin."""
        return {each.filter for each in await self._cursors() if each.ref == cursor.ref}

    async def step(self, heads: Heads) -> bool:
        """Read one range for those that are furthest behind, and process it; returns whether anything was."""
        self.is_behind = False
        if not self.filters or time.monotonic() < self._rests_until:
            return False
        cursors = {each.filter: each for each in await self._cursors()}
        cursor = await self.store.cursor(self.chain.name)
        if cursor is None:
            return False
        plan = plan_backfill({name: each.ref for name, each in cursors.items()}, cursor.ref)
        if plan is None:
            return False
        failing = [each.failing_seconds for name, each in cursors.items() if name in plan.filters]
        try:
            has_moved = await self._process(plan, heads, max((each or 0.0 for each in failing), default=0.0))
        except ChainHandlerError as error:
            # Others wait for nothing: the chain's own cursor goes on.
            log.error("%s: %s", self.chain.name, error)
            await self.store.fail_filters(self.chain.name, plan.filters, str(error))
            self._rests_until = time.monotonic() + REST_SECONDS
            return False
        self.is_behind = has_moved
        return has_moved

    async def _cursors(self) -> list[FilterCursor]:
        """How far they are; those that are new, or ask for something else than before, begin."""
        if not self.filters:
            return []
        queries = {each.query.name: each.query for each in self.filters}
        found = await self._read_cursors(queries)
        begun = {each.filter for each in found if each.query == queries[each.filter].text}
        if new := [query for name, query in queries.items() if name not in begun]:
            await self.store.begin_filters(self.chain.name, new)
            found = await self._read_cursors(queries)
        return found

    async def _read_cursors(self, names: Container[str]) -> list[FilterCursor]:
        return [each for each in await self.store.filter_cursors(self.chain.name) if each.filter in names]

    async def _process(self, plan: Backfill, heads: Heads, failing_seconds: float) -> bool:
        filters = [each for each in self.filters if each.query.name in plan.filters]
        found = await self._read(plan, filters)
        if found is None:
            return False
        steps = split_range(
            self.chain.name,
            plan.begins_at,
            found,
            final_number=heads.final(self.chain.finality_blocks),
            head=heads.latest,
            filters=plan.filters,
        )
        for step, logs in steps:
            if not await self.store.backfill(step, handling(filters, logs, failing_seconds)):
                log.debug("%s: filters or the chain moved meanwhile", self.chain.name)
                return False
            self.blocks += len(step.headers)
        return True

    async def _read(self, plan: Backfill, filters: Sequence[ChainFilter]) -> ChainRange | None:
        name, parent = self.chain.name, plan.begins_at
        if parent.number >= 0 and not parent.hash:
            (header,) = await self.reader.headers([parent.number])
            if header is None:
                return None
            parent = header.ref
        queries = [each.query for each in filters]
        addresses = await self.store.addresses(name) if any(query.factory for query in queries) else {}
        before: BlockRef | None = parent if parent.number >= 0 else None
        try:
            return await self.reader.read(before, plan.last, queries, addresses)
        except ChainChangedError as error:
            # The chain's own cursor finds a reorganisation, and undoes what it took of these filters as well.
            log.info("%s: %s", name, error)
            return None
