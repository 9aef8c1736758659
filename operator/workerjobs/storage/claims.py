"""Which jobs a worker gets: the claims of `JobStore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from psycopg.rows import dict_row

from workerjobs.domain.job import Job
from workerjobs.ports.jobs import FIRST_PLACE, LimitedClaim, LimitedPlace
from workerjobs.storage.arrays import text_array
from workerjobs.storage.limited import claim_limited
from workerjobs.storage.rows import struct_row
from workerjobs.storage.statements import Statements


class PostgresClaimStore(Statements):
    """Leases due jobs, of one worker's pool and namespaces."""

    def __init__(self, url: str, application_name: str, namespaces: Sequence[str] = ()) -> None:
        super().__init__(url, application_name)
        self._namespaces = text_array(namespaces) if namespaces else None

    async def claim(
        self,
        owner: str,
        pool: str,
        limit: int,
        lease: timedelta,
        types: Sequence[str] | None = None,
        *,
        now: datetime | None = None,
    ) -> list[Job]:
        """See `JobStore.claim`; a test may give ``now`` to find rows due by then."""
        values = self._claim_values(owner, pool, limit, lease, types) | {"now": now}
        # In the binary protocol: five moments a row are costly to write as text and to read.
        return _in_order(await self._rows("claim", values, struct_row(Job), binary=True))

    async def claim_announced(
        self, owner: str, pool: str, job_id: int, lease: timedelta, types: Sequence[str]
    ) -> list[Job]:
        """See `JobStore.claim_announced`."""
        values = self._claim_values(owner, pool, 1, lease, types) | {"id": job_id}
        return await self._rows("claim_announced", values, struct_row(Job), binary=True)

    async def claim_limited(
        self,
        owner: str,
        pool: str,
        limit: int,
        lease: timedelta,
        types: Sequence[str],
        after: LimitedPlace = FIRST_PLACE,
        asked: datetime | None = None,
    ) -> LimitedClaim:
        """See `JobStore.claim_limited`."""
        values = self._claim_values(owner, pool, limit, lease, types) | {"asked": asked}
        async with self._connected() as connection:
            return await claim_limited(connection, values, after)

    async def claim_unknown(
        self,
        owner: str,
        pool: str,
        limit: int,
        lease: timedelta,
        types: Sequence[str],
        asked: datetime | None = None,
    ) -> list[Job]:
        """See `JobStore.claim_unknown`."""
        values = self._claim_values(owner, pool, limit, lease, types) | {"asked": asked}
        return await self._rows("claim_unknown", values, struct_row(Job))

    async def next_due(self, pool: str, types: Sequence[str] | None = None) -> timedelta | None:
        """See `JobStore.next_due`."""
        values = {"pool": pool, "types": None if types is None else text_array(types), "namespaces": self._namespaces}
        seconds = (await self._rows("next_due", values, dict_row))[0]["seconds"]
        return None if seconds is None else timedelta(seconds=seconds)

    def _claim_values(
        self, owner: str, pool: str, limit: int, lease: timedelta, types: Sequence[str] | None
    ) -> dict[str, Any]:
        return {
            "owner": owner,
            "pool": pool,
            "limit": limit,
            "lease": lease,
            "types": None if types is None else text_array(types),
            "namespaces": self._namespaces,
        }


def _in_order(jobs: list[Job]) -> list[Job]:
    """Sort as claims do; what an UPDATE returns has no order."""
    jobs.sort(key=attrgetter("due", "id"))
    jobs.sort(key=attrgetter("priority"), reverse=True)
    return jobs
