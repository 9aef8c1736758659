"""Limits and pauses that were set: their part of `JobStore`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from psycopg.rows import class_row, scalar_row

from workerjobs.domain.job_checks import check_name, limit_problems
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.errors import InvalidInputError
from workerjobs.ports.jobs import Pause, StoredLimit
from workerjobs.storage.arrays import number_array, text_array
from workerjobs.storage.statements import Statements


class PostgresLimitStore(Statements):
    """Limits of types and keys, and pauses of pools and types; claims look at both."""

    async def pause(self, kind: PauseKind, name: str, reason: str | None = None) -> Pause:
        """See `JobStore.pause`."""
        check_name(name)
        values = {"kind": str(kind), "name": name, "reason": reason}
        (paused,) = await self._rows("pause", values, class_row(Pause))
        return paused

    async def resume(self, kind: PauseKind, name: str) -> bool:
        """See `JobStore.resume`."""
        return bool(await self._rows("resume", {"kind": str(kind), "name": name}, scalar_row))

    async def pauses(self) -> list[Pause]:
        """See `JobStore.pauses`."""
        return await self._rows("pauses", {}, class_row(Pause))

    async def declare_limits(self, concurrency: Mapping[str, int]) -> None:
        """See `JobStore.declare_limits`."""
        values = {"names": text_array(concurrency), "concurrencies": number_array(concurrency.values())}
        await self._execute("declare_limits", values)

    async def set_limit(
        self,
        kind: LimitKind,
        name: str,
        concurrency: int | None = None,
        rate_limit: int | None = None,
        rate_period_ms: int | None = None,
    ) -> None:
        """See `JobStore.set_limit`."""
        if problems := limit_problems(name, concurrency, rate_limit, rate_period_ms):
            raise InvalidInputError(problems)
        values = {
            "kind": str(kind),
            "name": name,
            "concurrency": concurrency,
            "rate_limit": rate_limit,
            "rate_period_ms": rate_period_ms,
        }
        await self._execute("set_limit", values)

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        """See `JobStore.remove_limit`."""
        return bool(await self._rows("remove_limit", {"kind": str(kind), "name": name}, scalar_row))

    async def limits(self, lease: timedelta) -> list[StoredLimit]:
        """See `JobStore.limits`."""
        return await self._rows("limits", {"lease": lease, "asked": None}, class_row(StoredLimit))
