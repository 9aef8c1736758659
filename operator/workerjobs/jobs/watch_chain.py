"""watchChain: follows a chain, and does what filters ask for each of its logs exactly once.

Gather: what is the chain's head, what was processed. Decide: read on, or undo. Apply: one short transaction moves the
cursor together with everything that its blocks led to; nothing is asked of an endpoint inside of one. Whoever else
processes the same chain meanwhile moves the cursor, and the transaction then does nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from workerjobs.domain.blocks import BlockRef, ChainChangedError, Header, Heads, common_ancestor
from workerjobs.domain.chains import Chain
from workerjobs.domain.declared_filters import DeclaredFilter
from workerjobs.domain.schedule import CronSchedule
from workerjobs.errors import ChainError, ChainHandlerError, ChainUnavailableError, InvalidInputError
from workerjobs.jobs.chain_filters import ChainFilter, from_declaration, read_filters, registered_filters
from workerjobs.jobs.chain_steps import handling, split_range
from workerjobs.jobs.context import JobContext
from workerjobs.jobs.filter_backfill import FilterBackfill
from workerjobs.jobs.token_filters import token_filters
from workerjobs.ports.chains import ChainCursor, ChainRange, ChainReader, ChainStore
from workerjobs.settings import ChainSettings, chain_settings

if TYPE_CHECKING:
    from workerjobs.ports.chains import OpenChainReader

log = logging.getLogger(__name__)

READER_FOR_JOBS = "workerjobs.chain.for_jobs"
"""What opens a chain; imported when the first job watches one (`workerjobs.ports.chains.OpenChainReader`)."""
MIN_PAUSE_SECONDS = 0.05
BACKFILL_SECONDS = 30.0
"""A run that still catches up ends then, and the next one goes on."""
END_SECONDS = 0.2
"""So long before its next tick a run ends."""
PATIENCE_SECONDS = 5.0
"""How long a run waits for endpoints that ask for patience."""
SHOW_SECONDS = 5.0
"""How often it is noted how far the chain is."""
SEARCH_BLOCKS = 200
"""Blocks that are compared at once to find where a reorganisation began."""
REORG_BEYOND_FINALITY = "ReorgBeyondFinality"
"""The chain dropped a block that it had called final."""
HANDLER_FAILING = "HandlerFailing"
"""The function of a filter raises; its logs are tried again for a while."""


async def watch_chain(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Process a chain's new blocks, and follow its head until shortly before the job's next tick.

    Data: chain (one of WEB3_SUPPORTED_CHAINS; without it, the first of them).
    """
    settings = chain_settings()
    chain = settings.find(data.get("chain"))
    seconds, pool = await _seconds_to_follow(context)
    ends = time.monotonic() + seconds
    store = await context.open_chain_store()
    reader = None
    try:
        filters = usable_filters(settings, chain, await store.filters(), pool)
        opener = cast("OpenChainReader", importlib.import_module(READER_FOR_JOBS))
        reader = await opener.open_reader(chain, seconds=PATIENCE_SECONDS)
        watch = ChainWatch(chain, store, reader, filters)
        await watch.follow(ends, is_cancelled=lambda: context.cancelled)
        return watch.summary()
    finally:
        if reader is not None:
            await reader.close()
        await store.close()


async def _seconds_to_follow(context: JobContext) -> tuple[float, str]:
    """How long until shortly before the next tick of the job's row (0 where it is no cron job), and the row's pool."""
    jobs = await context.open_store()
    try:
        row, now = await jobs.get(context.job_id), await jobs.now()
    finally:
        await jobs.close()
    if row is None or row.cron_schedule is None:
        return 0.0, "default" if row is None else row.pool
    schedule = CronSchedule.parse(row.cron_schedule, row.time_zone, identity=row.cron_key or "")
    following = schedule.next_after(now)
    # One that began late follows until the tick after that, which it would miss otherwise.
    if (following - now).total_seconds() < 2 * END_SECONDS:
        following = schedule.next_after(following)
    return (following - now).total_seconds() - END_SECONDS, row.pool


def usable_filters(
    settings: ChainSettings, chain: Chain, stored: Sequence[DeclaredFilter], pool: str
) -> list[ChainFilter]:
    """Put together what a chain is watched for: built in, registered by modules, declared in a file and in the table.

    Args:
        settings: With the file.
        chain: Which chain.
        stored: Those in the table.
        pool: Where webhooks are delivered, unless a filter says so: one whose workers know the type.

    Raises:
        InvalidSettingsError: The file can't be read.
    """
    filters = [*token_filters(settings.factory_address), *registered_filters()]
    in_file = [] if settings.filters_file is None else read_filters(settings.filters_file)
    for declared in [*in_file, *stored]:
        try:
            if declared.enabled:
                filters.append(from_declaration(declared, pool))
        except InvalidInputError as error:
            # Written to the table past the command that checks it; the others must go on.
            log.error("%s", error)
    found: dict[str, ChainFilter] = {}
    for each in filters:
        if each.chain not in (None, chain.name):
            continue
        if each.query.name in found:
            log.error("Two chain filters are called %s: the first one is used", each.query.name)
            continue
        found[each.query.name] = each
    return [*found.values()]


@dataclass(slots=True)
class Counts:
    """What a run did."""

    blocks: int = 0
    logs: int = 0
    undecodable: int = 0
    reorgs: int = 0
    revoked: int = 0


@dataclass(slots=True)
class ChainWatch:
    """Processes one chain."""

    chain: Chain
    store: ChainStore
    reader: ChainReader
    filters: Sequence[ChainFilter]
    counts: Counts = field(default_factory=Counts)
    cursor: ChainCursor | None = None
    heads: Heads | None = None
    _shown: float = 0.0
    _is_behind: bool = False
    backfill: FilterBackfill = field(init=False)

    def __post_init__(self) -> None:
        own = [each for each in self.filters if each.query.from_block is not None]
        self.backfill = FilterBackfill(self.chain, self.store, self.reader, own)

    def summary(self) -> dict[str, Any]:
        """The run's result."""
        return {
            "chain": self.chain.name,
            "block": None if self.cursor is None else self.cursor.number,
            "head": None if self.heads is None else self.heads.latest.number,
            "blocks": self.counts.blocks,
            "logs": self.counts.logs,
            "undecodable": self.counts.undecodable,
            "backfilled": self.backfill.blocks,
            "reorgs": self.counts.reorgs,
            "revoked": self.counts.revoked,
        }

    async def follow(self, ends: float, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Process until a moment of the monotonic clock; while it is far behind, for `BACKFILL_SECONDS` at least."""
        backfill_ends = time.monotonic() + BACKFILL_SECONDS
        try:
            while True:
                has_moved = await self.step(backfill_ends)
                now = time.monotonic()
                if is_cancelled() or (now >= ends and not (self._is_behind and now < backfill_ends)):
                    return
                await self._show()
                if not has_moved:
                    assert self.heads is not None
                    await self.reader.pause(self.heads.latest.number, max(MIN_PAUSE_SECONDS, ends - now))
        finally:
            await self._show(now_or_never=True)

    async def _show(self, *, now_or_never: bool = False) -> None:
        if now_or_never or time.monotonic() - self._shown >= SHOW_SECONDS:
            self._shown = time.monotonic()
            await self.store.show(
                self.chain.name, None if self.heads is None else self.heads.latest, self.reader.health()
            )

    async def step(self, ends: float = float("inf")) -> bool:
        """Look once, and process or undo what there is; returns whether anything was.

        Args:
            ends: On the monotonic clock; no further range is begun after that.

        Raises:
            ChainUnavailableError: No endpoint answers.
            ChainError: The chain dropped blocks that it had called final.
        """
        self._is_behind = False
        cursor = self.cursor = await self.store.cursor(self.chain.name)
        self.heads = await self.reader.heads(0 if cursor is None else cursor.number)
        if cursor is None:
            cursor = self.cursor = await self._start(self.heads)
        if cursor.chain_id != self.chain.chain_id:
            raise ChainError(
                f"{self.chain.name} was watched as chain {cursor.chain_id}, and is {self.chain.chain_id} now: give it "
                "another name"
            )
        has_moved = await self._step_cursor(cursor, self.heads, ends)
        # After the cursor, whose head nobody waits for.
        has_caught_up = await self.backfill.step(self.heads)
        self._is_behind = self._is_behind or self.backfill.is_behind
        return has_moved or has_caught_up

    async def _step_cursor(self, cursor: ChainCursor, heads: Heads, ends: float) -> bool:
        try:
            if heads.latest.number <= cursor.number:
                # The chain did not grow, and may be another one all the same.
                return await self._undo(cursor) if await self._has_changed(cursor, heads.latest) else False
            target = heads.target(self.chain.confirmations)
            return target > cursor.number and await self._process(cursor, target, ends)
        except ChainChangedError as error:
            log.info("%s: %s", self.chain.name, error)
            return await self._undo(cursor)

    # --- reading on

    async def _process(self, cursor: ChainCursor, target: int, ends: float) -> bool:
        """Read and commit range by range; the next one is read while one is committed."""
        level = await self.backfill.level_filters(cursor)
        filters = [each for each in self.filters if each.query.from_block is None or each.query.name in level]
        queries = [each.query for each in filters]
        addresses = await self.store.addresses(self.chain.name) if any(query.factory for query in queries) else {}
        known: dict[str, set[str]] = {name: set(found) for name, found in addresses.items()}

        def read(parent: BlockRef) -> asyncio.Task[ChainRange | None]:
            before = None if parent.number < 0 else parent
            return asyncio.create_task(self.reader.read(before, target, queries, known))

        parent, has_moved = cursor.ref, False
        task: asyncio.Task[ChainRange | None] | None = read(parent)
        try:
            while task is not None:
                found = await task
                task = None
                if found is None:
                    return has_moved
                for name, address, _ in found.addresses:
                    known.setdefault(name, set()).add(address)
                last = found.headers[-1].ref
                if last.number < target and time.monotonic() < ends:
                    task = read(last)
                if not await self._commit(parent, found, filters, sorted(level)):
                    log.debug("%s: another worker processed it meanwhile", self.chain.name)
                    return has_moved
                parent, has_moved = last, True
            self._is_behind = parent.number < target
            return has_moved
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _commit(
        self, parent: BlockRef, found: ChainRange, filters: Sequence[ChainFilter], level: Sequence[str]
    ) -> bool:
        """Commit a range, in parts where it has very many logs."""
        assert self.heads is not None
        final = self.heads.final(self.chain.finality_blocks)
        steps = split_range(self.chain.name, parent, found, final_number=final, head=self.heads.latest, filters=level)
        for step, logs in steps:
            try:
                has_committed = await self.store.commit(step, handling(filters, logs, self._failing_seconds()))
            except ChainHandlerError as error:
                await self.store.set_condition(self.chain.name, HANDLER_FAILING, str(error))
                raise
            if not has_committed:
                return False
            self.counts.blocks += len(step.headers)
            self.counts.logs += len(logs)
            self.counts.undecodable += len(step.undecodable)
        return True

    def _failing_seconds(self) -> float | None:
        cursor = self.cursor
        return cursor.condition_seconds if cursor is not None and cursor.condition == HANDLER_FAILING else None

    # --- beginning

    async def _start(self, heads: Heads) -> ChainCursor:
        name, latest = self.chain.name, heads.latest
        before = latest.number - 1 if self.chain.from_block is None else self.chain.from_block - 1
        earlier = await self.store.earlier_cursor(name)
        if earlier is not None and earlier <= latest.number:
            before = earlier
        before = min(before, latest.number)
        block = Header(-1, "", "", 0, "0x0")
        if before >= 0:
            (found,) = await self.reader.headers([before])
            if found is None:
                raise ChainUnavailableError(f"No endpoint of {name} knows block {before}, where watching begins")
            block = found
        log.info("%s is watched from block %s on", name, block.number + 1)
        await self.store.start(name, self.chain.chain_id, block, heads.final(self.chain.finality_blocks), latest)
        cursor = await self.store.cursor(name)
        assert cursor is not None
        return cursor

    # --- undoing

    async def _has_changed(self, cursor: ChainCursor, latest: Header) -> bool:
        """Whether the newest block is another one than was processed in its place; a lagging endpoint's is not."""
        if latest.number == cursor.number:
            return latest.hash != cursor.hash
        stored = {block.number: block.hash for block in await self.store.blocks(self.chain.name)}
        if latest.number in stored:
            return stored[latest.number] != latest.hash
        # Below what is remembered: a chain that began anew, or an endpoint that is far behind.
        return await self._has_begun_anew(cursor, latest)

    async def _has_begun_anew(self, cursor: ChainCursor, latest: Header) -> bool:
        return self.chain.is_development and latest.number < cursor.final_number

    async def _undo(self, cursor: ChainCursor) -> bool:
        """Undo down to the newest processed block that is still part of the chain; returns whether anything was.

        Only a block that the chain has in another form proves a reorganisation: one that an endpoint does not know may
        be news to it.
        """
        assert self.heads is not None
        stored = await self.store.blocks(self.chain.name)
        is_proven = await self._has_begun_anew(cursor, self.heads.latest)
        for begin in range(0, len(stored), SEARCH_BLOCKS):
            part = stored[begin : begin + SEARCH_BLOCKS]
            headers = await self.reader.headers([block.number for block in part if block.number >= 0])
            canonical = {header.number: header.hash for header in headers if header is not None}
            canonical.setdefault(-1, "")
            ancestor = common_ancestor(part, canonical)
            above = [block for block in part if ancestor is None or block.number > ancestor.number]
            is_proven = is_proven or any(canonical.get(block.number, block.hash) != block.hash for block in above)
            if ancestor is not None:
                if not is_proven:
                    return False
                return await self._rewind(cursor, ancestor)
        if not is_proven:
            return False
        if stored and stored[-1].number > cursor.final_number:
            # Watching began near the head, and even that block is another one now: nothing was processed up to it.
            (header,) = await self.reader.headers([stored[-1].number])
            return header is not None and await self._rewind(cursor, header.ref)
        return await self._beyond_finality(cursor)

    async def _rewind(self, cursor: ChainCursor, to: BlockRef) -> bool:
        depth = cursor.number - to.number
        revoked = await self.store.rewind(self.chain.name, cursor.ref, to)
        if revoked is None:
            return False
        await self.store.count_reorg(self.chain.name, depth)
        self.counts.reorgs += 1
        self.counts.revoked += revoked
        log.warning(
            "%s was reorganised: %s blocks down to %s, and %s effects, were undone",
            self.chain.name,
            depth,
            to.number,
            revoked,
        )
        return True

    async def _beyond_finality(self, cursor: ChainCursor) -> bool:
        name = self.chain.name
        if self.chain.is_development:
            return await self._begin_anew(cursor)
        message = (
            f"{name} dropped block {cursor.final_number}, which it had called final. Nothing is processed until "
            "somebody decides: see whether the endpoints are on the right chain, then "
            f"`workerjobs chain rewind {name} BLOCK`"
        )
        await self.store.set_condition(name, REORG_BEYOND_FINALITY, message)
        raise ChainError(message)

    async def _begin_anew(self, cursor: ChainCursor) -> bool:
        """Follow a development chain whose node was started anew: what the old one led to is undone."""
        assert self.heads is not None
        before = min(cursor.start_number - 1, self.heads.latest.number - 1)
        to = BlockRef(-1, "")
        if before >= 0:
            (found,) = await self.reader.headers([before])
            if found is None:
                return False
            to = found.ref
        log.warning("%s began anew: it is processed from block %s on", self.chain.name, to.number + 1)
        return await self._rewind(cursor, to)
