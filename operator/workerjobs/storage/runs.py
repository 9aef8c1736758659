"""What becomes of claimed jobs: the leases, reports and ends of `JobStore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row, scalar_row

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import MAX_RESCUES, Beginning, Settlement
from workerjobs.ports.jobs import Lease, LogLine, Progress, Renewal, Rescue, Settled
from workerjobs.storage.arrays import flag_array, moment_array, number_array, text_array
from workerjobs.storage.connection import is_refusal
from workerjobs.storage.rows import struct_row
from workerjobs.storage.statements import Statements, fetch

MOST_TAGS = 500
"""Retries under tags that one transaction settles: Postgres has room for some thousands of locks in all."""


class PostgresRunStore(Statements):
    """Keeps leases, gives them back, and stores what runs report and how they end."""

    async def renew(self, leases: Sequence[Lease], lease: timedelta) -> Renewal:
        """See `JobStore.renew`."""
        rows = await self._rows("renew", _leases(leases) | {"lease": lease}, dict_row)
        return Renewal(
            held=frozenset(row["id"] for row in rows),
            cancel_requested=frozenset(row["id"] for row in rows if row["cancel_requested"]),
        )

    async def release(self, begun: Sequence[Lease], unbegun: Sequence[Lease] = ()) -> list[int]:
        """See `JobStore.release`."""
        flags = [True] * len(begun) + [False] * len(unbegun)
        values = _leases([*begun, *unbegun]) | {"begun": flag_array(flags)}
        return [row["id"] for row in await self._rows("release", values, dict_row)]

    async def release_strays(self, owner: str, leases: Sequence[Lease]) -> list[int]:
        """See `JobStore.release_strays`."""
        values = {"owner": owner, "tokens": number_array(lease.fencing_token for lease in leases)}
        return [row["id"] for row in await self._rows("release_strays", values, dict_row)]

    async def rescue(self, owner: str, lease: timedelta, limit: int, *, asked: datetime | None = None) -> Rescue:
        """See `JobStore.rescue`."""
        values = {"owner": owner, "lease": lease, "limit": limit, "asked": asked, "max_rescues": MAX_RESCUES}
        jobs = await self._rows("rescue", values, struct_row(Job))
        return Rescue(
            released=tuple(job for job in jobs if job.started is None),
            taken=tuple(job for job in jobs if job.started is not None),
        )

    async def save_progress(self, reports: Sequence[Progress]) -> None:
        """See `JobStore.save_progress`."""
        values = {
            "ids": number_array(report.job_id for report in reports),
            "tokens": number_array(report.fencing_token for report in reports),
            "progress": text_array(report.progress_json for report in reports),
        }
        await self._execute("save_progress", values)

    async def save_logs(self, lines: Sequence[LogLine]) -> None:
        """See `JobStore.save_logs`."""
        values = {
            "ids": number_array(line.job_id for line in lines),
            "ats": [line.at for line in lines],
            "levels": text_array(line.level for line in lines),
            "messages": text_array(line.message for line in lines),
        }
        await self._execute("save_logs", values)

    async def begin(self, beginnings: Sequence[Beginning]) -> dict[int, str]:
        """See `JobStore.begin`.

        A batch that the database refuses is taken one by one.
        """
        if not beginnings:
            return {}
        try:
            await self._execute("begin", _begin_values(beginnings))
        except psycopg.Error as error:
            if not is_refusal(error):
                raise
            if len(beginnings) > 1:
                refused: dict[int, str] = {}
                for each in beginnings:
                    refused |= await self.begin([each])
                return refused
            return {beginnings[0].job_id: str(error).strip().splitlines()[0]}
        return {}

    async def settle(self, settlements: Sequence[Settlement], *, postpones: bool = True) -> Settled:
        """See `JobStore.settle`.

        A batch that the database refuses is halved until the refused settlement stands alone. Those with retries under
        tags are batches of their own, and locked first.
        """
        stored: set[int] = set()
        postponed: set[int] = set()
        refused: dict[int, str] = {}
        without_follow_up: dict[int, str] = {}
        under_tags = [each for each in settlements if each.retried_tag is not None]
        others = [each for each in settlements if each.retried_tag is None]
        batches = [under_tags[n : n + MOST_TAGS] for n in range(0, len(under_tags), MOST_TAGS)]
        batches += [others] if others else []
        while batches:
            batch = batches.pop()
            if batch[0].retried_tag is None:
                reason = await self._settle_batch(batch, stored)
            else:
                reason = await self._settle_under_tags(batch, stored, postponed if postpones else None)
            if reason is None:
                continue
            if len(batch) > 1:
                middle = len(batch) // 2
                batches += [batch[middle:], batch[:middle]]
                continue
            (single,) = batch
            alone = Settlement(single.job_id, single.fencing_token, single.outcome)
            if single.follow_ups and await self._settle_batch([alone], stored) is None:
                without_follow_up[single.job_id] = reason
            else:
                refused[single.job_id] = reason
        stale = {each.job_id for each in settlements} - stored - postponed - refused.keys()
        return Settled(frozenset(stored), refused, frozenset(stale), without_follow_up, frozenset(postponed))

    async def _settle_under_tags(
        self, batch: Sequence[Settlement], stored: set[int], postponed: set[int] | None
    ) -> str | None:
        """Settle a batch whose retries have tags, but for those of which others store jobs right now.

        Neither side sees what the other has not committed: without the lock a retry and the job that is to replace it
        would both stay pending. It is tried and not waited for, as callers may leave their transactions open for long.
        Where a job that replaces it is there already, no retry follows, whatever they do: no stream of them can hold up
        the run's end.
        """
        ids = number_array(each.job_id for each in batch)
        tags = text_array(each.retried_tag for each in batch)
        try:
            async with self._transaction() as connection:
                # Rows first, each kind of lock in a statement of its own: who has changed a row and stores a job of its
                # tag in one transaction would wait for a tag that is locked here, and this for the row.
                rows = await fetch(connection, "lock_runs", {"ids": ids}, dict_row)
                replaced = {row["id"] for row in rows if row["is_replaced"]}
                # The statement after that sees what the last holders committed.
                free = await fetch(connection, "try_lock_tags", {"tags": tags}, scalar_row)
                ready = [
                    each.without_retry() if each.job_id in replaced else each
                    for each in batch
                    if postponed is None or each.retried_tag in free or each.job_id in replaced
                ]
                settled = await fetch(connection, *_settling(ready), scalar_row) if ready else []
        except (psycopg.Error, UnicodeError) as error:
            return _refusal(error)
        stored.update(settled)
        if postponed is not None:
            postponed.update({each.job_id for each in batch} - {each.job_id for each in ready})
        return None

    async def _settle_batch(self, batch: Sequence[Settlement], stored: set[int]) -> str | None:
        """Settle a batch in one statement; returns the database's reason where it refuses."""
        try:
            stored.update(await self._rows(*_settling(batch), scalar_row))
        except (psycopg.Error, UnicodeError) as error:
            return _refusal(error)
        return None


def _leases(leases: Sequence[Lease]) -> dict[str, Any]:
    return {
        "ids": number_array(lease.job_id for lease in leases),
        "tokens": number_array(lease.fencing_token for lease in leases),
    }


def _settling(batch: Sequence[Settlement]) -> tuple[str, dict[str, Any]]:
    """The statement that settles a batch, and its values."""
    values: dict[str, Any] = {
        "ids": number_array(each.job_id for each in batch),
        "tokens": number_array(each.fencing_token for each in batch),
        "successes": flag_array(each.outcome.success for each in batch),
        "results": text_array(each.outcome.result_json for each in batch),
        "starteds": moment_array(each.outcome.started for each in batch),
        "finisheds": moment_array(each.outcome.finished for each in batch),
    }
    follow_ups = [(each, follow_up) for each in batch for follow_up in each.follow_ups]
    if not follow_ups:
        return "settle", values
    values |= {
        "follow_ids": [each.job_id for each, _ in follow_ups],
        "follow_tokens": [each.fencing_token for each, _ in follow_ups],
        "follow_kinds": [str(follow_up.kind) for _, follow_up in follow_ups],
        "follow_dues": [follow_up.due for _, follow_up in follow_ups],
        "follow_attempts": [follow_up.attempt for _, follow_up in follow_ups],
        "follow_cron_keys": [follow_up.cron_key for _, follow_up in follow_ups],
        "follow_traceparents": [follow_up.traceparent for _, follow_up in follow_ups],
    }
    return "settle_following", values


def _refusal(error: psycopg.Error | UnicodeError) -> str:
    """Why the database, or the driver, refuses what it was to store; what says nothing about that is raised again."""
    if isinstance(error, psycopg.Error) and not is_refusal(error):
        # Nothing is wrong with these results: a missing table or privilege must not fail the jobs.
        raise error
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _begin_values(beginnings: Sequence[Beginning]) -> dict[str, Any]:
    next_runs = [each.next_run for each in beginnings]
    return {
        "ids": number_array(each.job_id for each in beginnings),
        "tokens": number_array(each.fencing_token for each in beginnings),
        "follow_kinds": [str(run.kind) for run in next_runs],
        "follow_dues": [run.due for run in next_runs],
        "follow_attempts": [run.attempt for run in next_runs],
        "follow_cron_keys": [run.cron_key for run in next_runs],
        "replaced_keys": [each.next_run.cron_key for each in beginnings if each.replaces],
    }
