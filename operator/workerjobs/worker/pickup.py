"""Claiming: due jobs go to free children, at once when there are some, and exactly when they become due."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import begin
from workerjobs.ports.jobs import JobStore, Lease
from workerjobs.ports.notices import DueNotice
from workerjobs.worker.duty import Duty
from workerjobs.worker.looks import LimitedLooks
from workerjobs.worker.running import job_facts

log = logging.getLogger(__name__)

POLL_SECONDS = 30.0
"""A look at the table that does not depend on announcements, for rows that were written past the triggers."""

LOCKED_SECONDS = (0.001, 1.0)
"""How soon to look again at due rows that others hold locked: first, and at most."""


class Takers(Protocol):
    """Who runs claimed jobs."""

    is_plenty: bool
    """The last claim found as many jobs as it wanted."""

    def count_wanted(self) -> int:
        """How many jobs to claim now."""
        ...


class Pickup(Duty):
    """Claims as many jobs as the children can take.

    Args:
        store: The table.
        owner: Whom the leases belong to.
        pool: Whose jobs.
        lease: How long a claim holds without a renewal.
        takers: Who wants jobs.
        types: The job types that are known here.
        asked: The moment of asking, as the store wants it of those who judge others by their leases.
        leases: What this owner's claims have brought it and it still holds.
        run: Starts claimed jobs.
        on_paused: Told when nothing is being claimed any more after `pause`.
        on_claimed: Told how many seconds each statement that claims took.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        owner: str,
        pool: str,
        lease: timedelta,
        takers: Takers,
        types: Callable[[], Sequence[str]],
        asked: Callable[[], datetime | None],
        leases: Callable[[], Sequence[Lease]],
        run: Callable[[Sequence[Job]], None],
        on_paused: Callable[[], None] = lambda: None,
        on_claimed: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        super().__init__()
        self._store = store
        self._owner = owner
        self._pool = pool
        self._lease = lease
        self._takers = takers
        self._types = types
        self._asked = asked
        self._leases = leases
        self._run_jobs = run
        self._on_paused = on_paused
        self._on_claimed = on_claimed
        self._is_to_pause = False
        self._is_claiming = False
        self._locked_seconds = LOCKED_SECONDS[0]
        self._looks = LimitedLooks()
        self._limited_types: set[str] = set()
        """Types that have had a limit of their own."""
        self._next_look: float | None = None
        """When to look for jobs without being told, where the last look left none that is due; None: it may have left
        some."""
        self._announced: int | None = None
        """The only job that may be due since."""
        self._may_have_strays = False
        """A claim's answer was lost: it may have leased rows."""

    async def step(self) -> float | None:
        """Claim until no child wants more or no job is due; returns how long to sleep."""
        if self._may_have_strays:
            strays = await self._store.release_strays(self._owner, self._leases())
            self._may_have_strays = False
            if strays:
                log.warning("Gave back %s jobs that were claimed as the connection was lost", len(strays))
        self._is_claiming = True
        try:
            return await self._claim()
        except Exception:
            # Whatever it was, a claim that took effect may not have come here.
            self._may_have_strays = True
            raise
        finally:
            self._is_claiming = False
            if self._is_to_pause:
                self._on_paused()

    def pause(self) -> None:
        """Claim no more; a claim that is under way comes to its end."""
        self._is_to_pause = True
        if self.is_paused:
            self._on_paused()

    def resume(self) -> None:
        """Claim again."""
        self._is_to_pause = False
        self.limits_changed()

    @property
    def is_paused(self) -> bool:
        """Nothing is claimed, nor will be; rows whose claim's answer was lost are given back first."""
        return self._is_to_pause and not self._is_claiming and not self._may_have_strays

    async def _claim(self) -> float | None:
        if (seconds := await self._claim_announced()) is not None:
            return seconds
        self._next_look = None
        seconds = await self._claim_due()
        if seconds is not None:
            self._next_look = self._now() + seconds
        return seconds

    async def _claim_announced(self) -> float | None:
        """Claim the job that was announced to an idle worker; returns how long to sleep, None: look for what is due."""
        job_id, self._announced = self._announced, None
        if job_id is None or self._next_look is None or not self._may_claim or self._takers.count_wanted() <= 0:
            return None
        began = self._now()
        jobs = await self._store.claim_announced(self._owner, self._pool, job_id, self._lease, self._types())
        self._on_claimed(self._now() - began)
        await self._begin(jobs)
        # Another worker may have it; or it is locked, and may be to be had a moment later.
        return max(0.0, self._next_look - self._now()) if jobs else None

    async def _claim_due(self) -> float | None:
        while self._may_claim and (wanted := self._takers.count_wanted()) > 0:
            types = self._types()
            unlimited = await self._claim_limited(wanted, types)
            jobs = await self._claim_plain(unlimited, types) if unlimited else []
            await self._begin(jobs)
            if jobs:
                self._locked_seconds = LOCKED_SECONDS[0]
                self._looks.claimed(self._now())
            self._takers.is_plenty = len(jobs) == unlimited
            if not self._takers.is_plenty:
                return min(await self._wait_seconds(types), self._looks.seconds(self._now()))
            if self._awake.is_set():
                # Told while it claimed: what that was about is seen in the next round.
                self._awake.clear()
        # No child wants any: the next one that does wakes this.
        return None

    @property
    def _may_claim(self) -> bool:
        return not self._is_stopping and not self._is_to_pause

    async def _begin(self, jobs: Sequence[Job]) -> None:
        """Start claimed jobs; the next row of a cron line whose runs may overlap is there before its run is.

        Where the connection is lost meanwhile, none of them was started, and they are given back as strays.
        """
        lines = {job.id: job for job in jobs if job.concurrency_policy is not None}
        beginnings = [begun for job in lines.values() if (begun := begin(job, now=job.started or job.due)) is not None]
        if beginnings:
            for job_id, reason in (await self._store.begin(beginnings)).items():
                # Tried again when it is settled.
                log.error("The next row of this cron job was refused: %s", reason, extra=job_facts(lines[job_id]))
        self._run_jobs(jobs)

    async def _wait_seconds(self, types: Sequence[str]) -> float:
        due_in = await self._store.next_due(self._pool, types)
        if due_in is None:
            return POLL_SECONDS
        if due_in.total_seconds() > 0:
            return min(POLL_SECONDS, due_in.total_seconds())
        # Due, and yet not to be had: someone holds the row locked, for a moment or for long.
        self._locked_seconds = min(LOCKED_SECONDS[1], 2 * self._locked_seconds)
        return self._locked_seconds

    async def _claim_plain(self, wanted: int, types: Sequence[str]) -> Sequence[Job]:
        began = self._now()
        jobs = await self._store.claim(self._owner, self._pool, wanted, self._lease, types)
        self._on_claimed(self._now() - began)
        return jobs

    async def _claim_limited(self, wanted: int, types: Sequence[str]) -> int:
        """Claim jobs under limits, where some may start; returns how many others to claim."""
        if self._looks.seconds(self._now()) > 0:
            return wanted
        after = self._looks.begin(self._now())
        began = self._now()
        claim = await self._store.claim_limited(
            self._owner, self._pool, wanted, self._lease, types, after, self._asked()
        )
        self._on_claimed(self._now() - began)
        self._looks.end(claim, self._now())
        self._limited_types.update(job.type for job in claim.jobs if job.concurrency_key is None)
        await self._begin(claim.jobs)
        return claim.unlimited

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def notice(self, notice: DueNotice) -> None:
        """Something is or becomes due."""
        if notice.pool != self._pool or (notice.job_type is not None and notice.job_type not in self._types()):
            return
        if notice.seconds <= 0:
            is_only_news = self._next_look is not None and not self._awake.is_set()
            self.wake()
            self._announced = notice.job_id if is_only_news else None
        elif notice.seconds < POLL_SECONDS:
            asyncio.get_running_loop().call_later(notice.seconds, self.wake)

    def wake(self) -> None:
        """Make the next step look at the whole table."""
        self._announced = None
        super().wake()

    def place_freed(self) -> None:
        """A child has nothing to do: where jobs may have been left for want of one, look for them."""
        if self._next_look is None:
            self.wake()

    def is_limited(self, job: Job) -> bool:
        """Whether a job's end may let others start, as they share a limit."""
        return job.concurrency_key is not None or job.type in self._limited_types

    def limits_changed(self) -> None:
        """Jobs under limits may have become free to start."""
        self._looks.want()
        self.wake()
