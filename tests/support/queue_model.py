"""What the table of jobs promises, as plain Python over rows in memory: the model that the store is compared with.

It is written from the promises (docs/design.md, docs/scheduling.md) and not from the SQL, as simply as it gets: every
operation looks at all rows. Time is what ``now`` says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from workerjobs.domain.job import NewJob
from workerjobs.domain.lifecycle import MAX_RESCUES

HOURLY = "0 * * * *"
"""The schedule of every cron job in the model."""


@dataclass
class Row:
    """One row, with the fields of `Job` that anything here changes or reads."""

    type: str
    due: datetime
    created_at: datetime
    updated_at: datetime
    remove_at: datetime | None
    """None: said when it is finished; bulks are stored so."""
    id: int = 0
    """0: not known yet, as the database chose it."""
    priority: int = 0
    pool: str = "default"
    tag: str | None = None
    persistent: bool = False
    remove_delay_ms: int = 0
    started: datetime | None = None
    finished: datetime | None = None
    success: bool | None = None
    result: Any = None
    progress: Any = None
    attempt: int = 1
    rescues: int = 0
    rescheduled_from_job: int | None = None
    lease_owner: str | None = None
    lease_deadline: datetime | None = None
    fencing_token: int | None = None
    cancel_requested: bool = False
    cron_schedule: str | None = None
    cron_key: str | None = None
    tick: datetime | None = None
    auto_reschedule_on_failure: bool = False
    auto_reschedule_on_failure_delay_ms: int = 0
    retry_limit: int | None = None
    retry_initial_delay_ms: int | None = None
    retry_factor: float | None = None
    retry_max_delay_ms: int | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    rate_limit: int | None = None
    rate_period_ms: int | None = None

    @property
    def is_pending(self) -> bool:
        return self.started is None and self.finished is None

    @property
    def is_running(self) -> bool:
        return self.started is not None and self.finished is None

    @property
    def is_cancelled(self) -> bool:
        return self.finished is not None and not self.success and (self.started is None or self.cancel_requested)

    @property
    def order(self) -> tuple[int, datetime, int]:
        return (-self.priority, self.due, self.id)


@dataclass(frozen=True)
class Run:
    """A row as a worker claimed it."""

    id: int
    token: int


@dataclass
class QueueModel:
    """All rows, the clock, and what else decides."""

    now: datetime
    server_started: datetime
    rows: dict[int, Row] = field(default_factory=dict)
    paused_types: set[str] = field(default_factory=set)
    type_limits: dict[str, int] = field(default_factory=dict)
    next_starts: dict[str, datetime] = field(default_factory=dict)
    """Of keys with a rate."""
    new: list[Row] = field(default_factory=list)
    """Rows that the database is to have, under ids that it chose."""

    # --- asking

    def pending(self, pool: str, types: Collection[str]) -> list[Row]:
        return [
            row
            for row in self.rows.values()
            if row.is_pending and row.pool == pool and row.type in types and row.type not in self.paused_types
        ]

    def is_limited(self, row: Row) -> bool:
        return row.concurrency_key is not None or row.type in self.type_limits

    def claimable(self, pool: str, types: Collection[str]) -> list[Row]:
        """Due rows without limits, in the order of claims."""
        found = [row for row in self.pending(pool, types) if not self.is_limited(row) and row.due <= self.now]
        return sorted(found, key=lambda row: row.order)

    def next_due(self, pool: str, types: Collection[str]) -> timedelta | None:
        dues = [row.due for row in self.pending(pool, types) if not self.is_limited(row)]
        return min(max(min(dues) - self.now, timedelta(0)), timedelta(days=1)) if dues else None

    def holds(self, run: Run) -> Row | None:
        """The row of a run that still has its lease."""
        row = self.rows.get(run.id)
        return row if row is not None and row.is_running and row.fencing_token == run.token else None

    def cancellable(self) -> list[int]:
        return [row.id for row in self.rows.values() if row.finished is None]

    def finished(self) -> list[int]:
        return [row.id for row in self.rows.values() if row.finished is not None]

    # --- submitting

    def submit(self, jobs: Sequence[NewJob], *, cancels_by_tag: bool = True, is_bulk: bool = False) -> list[Row]:
        tags = {job.tag for job in jobs if job.tag is not None} if cancels_by_tag else set()
        self._replace_tags(tags, {job.tag for job in jobs if job.cron_schedule is not None} & tags)
        last = {job.tag: job for job in jobs}
        rows = [self._row(job) for job in jobs]
        for job, row in zip(jobs, rows, strict=True):
            if is_bulk:
                row.remove_at = None
            if job.tag in tags and last[job.tag] is not job:
                self._end_pending(row, "Job cancelled due to new job being created")
        return self._insert(rows)

    def ensure_cron(self, job: NewJob) -> list[Row]:
        if any(row.cron_key == job.cron_key and row.finished is None for row in self.rows.values()):
            return []
        return self.submit([job], cancels_by_tag=False)

    def retry(self, job_id: int) -> list[Row]:
        old = self.rows[job_id]
        self._replace_tags({old.tag} - {None}, spares_lines=True)
        return self._insert([self._copy(old, due=self.now, attempt=1)])

    def _row(self, job: NewJob) -> Row:
        due = job.due or self.now
        names = (
            "type priority pool tag persistent remove_delay_ms cron_schedule cron_key auto_reschedule_on_failure "
            "auto_reschedule_on_failure_delay_ms concurrency_key concurrency_limit rate_limit rate_period_ms"
        )
        row = Row(
            due=due,
            created_at=self.now,
            updated_at=self.now,
            remove_at=self._remove_at(due, job.remove_delay_ms),
            tick=due if job.cron_schedule else None,
            **{name: getattr(job, name) for name in names.split()},
        )
        if job.retry is not None:
            row.retry_limit, row.retry_initial_delay_ms = job.retry.limit, job.retry.initial_delay_ms
            row.retry_factor, row.retry_max_delay_ms = job.retry.factor, job.retry.max_delay_ms
        return row

    def _copy(self, row: Row, *, due: datetime, attempt: int, tick: datetime | None = None) -> Row:
        """A row that follows another one; only one with a tick belongs to the cron line."""
        return replace(
            row,
            id=0,
            due=due,
            attempt=attempt,
            rescheduled_from_job=row.id,
            created_at=self.now,
            updated_at=self.now,
            remove_at=self._remove_at(due, row.remove_delay_ms),
            started=None,
            finished=None,
            success=None,
            result=None,
            progress=None,
            rescues=0,
            lease_owner=None,
            lease_deadline=None,
            fencing_token=None,
            cancel_requested=False,
            cron_schedule=row.cron_schedule if tick else None,
            cron_key=row.cron_key if tick else None,
            tick=tick,
        )

    def _remove_at(self, due: datetime, delay_ms: int) -> datetime:
        return due + timedelta(milliseconds=delay_ms or 3_600_000)

    def _set_remove_at(self, row: Row) -> None:
        row.remove_at = row.remove_at or self._remove_at(row.due, row.remove_delay_ms)

    def _insert(self, rows: Iterable[Row]) -> list[Row]:
        """Never two rows for one tick, cancelled ones aside."""
        stored = []
        for row in rows:
            others = [*self.rows.values(), *self.new]
            if row.cron_key is None or not any(
                (other.cron_key, other.tick) == (row.cron_key, row.tick) and not other.is_cancelled for other in others
            ):
                self.new.append(row)
                stored.append(row)
        return stored

    def _replace_tags(
        self, tags: Collection[str | None], cron_tags: Collection[str | None] = (), *, spares_lines: bool = False
    ) -> None:
        for row in self.rows.values():
            is_spared = spares_lines and row.cron_schedule is not None
            if row.is_pending and row.tag is not None and row.tag in tags and not is_spared:
                self._end_pending(row, "Job cancelled due to new job being created")
            elif row.is_running and row.cron_schedule is not None and row.tag in cron_tags:
                # Another line takes the place of its own.
                self._set_remove_at(row)
                row.cron_schedule, row.updated_at = None, self.now

    def _end_pending(self, row: Row, error: str) -> None:
        self._set_remove_at(row)
        row.finished = row.updated_at = self.now
        row.success, row.result = False, {"error": error}

    # --- running

    def claim(self, rows: Iterable[Row], owner: str, lease: timedelta) -> None:
        for row in rows:
            assert row.is_pending
            row.started = row.updated_at = self.now
            row.lease_owner, row.lease_deadline, row.progress = owner, self.now + lease, None

    def admissible(self, pool: str, types: Collection[str], limit: int, lease: timedelta) -> tuple[list[Row], int]:
        """Which rows under limits start now, and how many of those asked for are left to rows without; notes starts."""
        candidates = sorted(
            (row for row in self.pending(pool, types) if self.is_limited(row)), key=lambda row: row.order
        )
        if not candidates:
            return [], limit
        is_new_server = self.now - self.server_started < lease
        live = [
            row
            for row in self.rows.values()
            if row.is_running and (is_new_server or (row.lease_deadline is not None and row.lease_deadline > self.now))
        ]
        next_starts = dict(self.next_starts)
        admitted: list[Row] = []
        for row in candidates:
            if row.due > self.now or len(admitted) == limit:
                continue
            taken = [*live, *admitted]
            key = row.concurrency_key
            of_type = sum(other.type == row.type for other in taken)
            of_key = sum(other.concurrency_key == key for other in taken)
            if row.type in self.type_limits and of_type >= self.type_limits[row.type]:
                continue
            if row.concurrency_limit is not None and of_key >= row.concurrency_limit:
                continue
            if key is not None and row.rate_limit is not None:
                if (start := self._start(row, next_starts.get(key))) is None:
                    continue
                next_starts[key] = start
            admitted.append(row)
        first = sorted([*admitted, *self.claimable(pool, types)[:limit]], key=lambda row: row.order)[:limit]
        chosen = [row for row in first if self.is_limited(row)]
        for row in chosen:
            if row.concurrency_key is not None and row.rate_limit is not None:
                start = self._start(row, self.next_starts.get(row.concurrency_key))
                assert start is not None
                self.next_starts[row.concurrency_key] = start
        return chosen, limit - len(chosen)

    def _start(self, row: Row, noted: datetime | None) -> datetime | None:
        """What a start under a rate leaves noted; None where it comes too early."""
        assert row.rate_period_ms is not None
        assert row.rate_limit is not None
        period = timedelta(milliseconds=row.rate_period_ms)
        interval = period / row.rate_limit
        # A whole period's starts may come at once, then one in each interval.
        if noted is not None and noted - self.now > period - interval:
            return None
        return max(noted or self.now, self.now) + interval

    def _give_back_start(self, row: Row) -> None:
        """For its rate, a job that was claimed and not begun has not started; as far as that can still be told."""
        if row.concurrency_key is None or row.rate_limit is None or row.rate_period_ms is None:
            return
        interval = timedelta(milliseconds=row.rate_period_ms) / row.rate_limit
        is_recent = row.started is not None and row.started + interval > self.now
        if is_recent and row.concurrency_key in self.next_starts:
            self.next_starts[row.concurrency_key] -= interval

    def renew(self, runs: Iterable[Run], lease: timedelta) -> dict[int, bool]:
        """Ids that are held, and whether each is to be cancelled."""
        found = [row for run in runs if (row := self.holds(run)) is not None]
        held = {row.id: row for row in found if not self._has_lost_its_permit(row)}
        for row in held.values():
            row.lease_deadline = self.now + lease
        return {job_id: row.cancel_requested for job_id, row in held.items()}

    def _has_lost_its_permit(self, row: Row) -> bool:
        """Whether a lease ran out, and another job of the row's key or type, of which only so many run, began since."""
        deadline = row.lease_deadline
        if deadline is None or deadline >= self.now:
            return False
        later = [
            other
            for other in self.rows.values()
            if other.is_running
            and other.lease_deadline is not None
            and other.lease_deadline > self.now
            and other.started is not None
            and other.started > deadline
        ]
        is_keys = row.concurrency_key is not None and row.concurrency_limit is not None
        return any(
            (is_keys and other.concurrency_key == row.concurrency_key)
            or (row.type in self.type_limits and other.type == row.type)
            for other in later
        )

    def report(self, run: Run, progress: Any) -> None:
        if (row := self.holds(run)) is not None:
            row.progress, row.updated_at = progress, self.now

    def release(self, runs: Iterable[Run], *, were_begun: bool = True) -> set[int]:
        held = [row for run in runs if (row := self.holds(run)) is not None]
        for row in held:
            if not were_begun:
                self._give_back_start(row)
            self._release(row)
        return {row.id for row in held}

    def strays(self, owner: str, known: Iterable[Run]) -> list[Run]:
        tokens = {run.token for run in known}
        return [
            Run(row.id, row.fencing_token)
            for row in self.rows.values()
            if row.is_running and row.lease_owner == owner and row.fencing_token and row.fencing_token not in tokens
        ]

    def release_strays(self, owner: str, known: Iterable[Run]) -> set[int]:
        strays = self.strays(owner, known)
        progress = {stray.id: self.rows[stray.id].progress for stray in strays}
        self.release(strays, were_begun=False)
        for job_id, kept in progress.items():
            # Nobody reports on a run that nobody knows of.
            self.rows[job_id].progress = kept
        return {stray.id for stray in strays}

    def _release(self, row: Row) -> None:
        row.started = row.lease_owner = row.lease_deadline = row.fencing_token = row.progress = None
        row.updated_at = self.now

    def rescue(self, owner: str, lease: timedelta, limit: int) -> tuple[set[int], list[Row]]:
        """Ids that are pending again, and rows that the rescuer has to settle."""
        if self.now - self.server_started <= lease:
            return set(), []
        lost = [
            row for row in self.rows.values() if row.is_running and row.lease_deadline and row.lease_deadline < self.now
        ]
        released, taken = set(), []
        for row in sorted(lost, key=lambda row: (row.lease_deadline, row.id))[:limit]:
            row.rescues += 1
            row.updated_at = self.now
            if row.rescues >= MAX_RESCUES or row.cancel_requested:
                row.lease_owner, row.lease_deadline = owner, self.now + lease
                taken.append(row)
            else:
                self._release(row)
                released.add(row.id)
        return released, taken

    def settle(self, ends: Sequence[tuple[Run, bool, Any]]) -> set[int]:
        """Store ends of runs, as (run, success, result), with the rows that follow; returns the ids stored."""
        held = [(row, success, result) for run, success, result in ends if (row := self.holds(run)) is not None]
        for row, success, result in held:
            self._set_remove_at(row)
            row.finished = row.updated_at = self.now
            row.success, row.result, row.lease_deadline = success, result, None
        newer = {row.id for row in self.rows.values() if row.is_pending}
        follow_ups: list[Row] = []
        for row, success, _ in held:
            if row.cron_schedule is not None:
                assert row.cron_schedule == HOURLY
                after = max(self.now, row.tick or row.due)
                tick = after.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
                follow_ups.append(self._copy(row, due=tick, attempt=1, tick=tick))
            is_replaced = row.tag is not None and any(
                self.rows[job_id].tag == row.tag and job_id > row.id for job_id in newer
            )
            if not success and not row.cancel_requested and not is_replaced and (delay := self._delay(row)) is not None:
                follow_ups.append(self._copy(row, due=self.now + delay, attempt=row.attempt + 1))
        self._insert(follow_ups)
        return {row.id for row, _, _ in held}

    def _delay(self, row: Row) -> timedelta | None:
        if row.retry_limit is None:
            delay = row.auto_reschedule_on_failure_delay_ms
            return timedelta(milliseconds=delay) if row.auto_reschedule_on_failure else None
        if row.attempt > row.retry_limit:
            return None
        assert row.retry_initial_delay_ms is not None
        assert row.retry_factor is not None
        assert row.retry_max_delay_ms is not None
        grown = row.retry_initial_delay_ms * row.retry_factor ** (row.attempt - 1)
        return timedelta(milliseconds=min(grown, row.retry_max_delay_ms))

    # --- managing

    def cancel(self, ids: Iterable[int]) -> set[int]:
        found = [self.rows[job_id] for job_id in ids if self.rows[job_id].finished is None]
        for row in found:
            row.cancel_requested, row.updated_at = True, self.now
            self._set_remove_at(row)
            if row.is_pending:
                self._end_pending(row, "Job cancelled")
        return {row.id for row in found}

    def unschedule(self, key: str) -> int:
        line = [row for row in self.rows.values() if row.cron_key == key and row.finished is None]
        for row in line:
            if row.is_running and row.cron_schedule is not None:
                row.cron_schedule, row.updated_at = None, self.now
        pending = [row for row in line if row.is_pending]
        for row in pending:
            self._end_pending(row, "Job cancelled")
        return len(pending)

    def prune(self, limit: int) -> int:
        old = [
            row
            for row in self.rows.values()
            if row.finished is not None and not row.persistent and row.remove_at and row.remove_at <= self.now
        ]
        old = sorted(old, key=lambda row: (row.remove_at, row.id))[:limit]
        for row in old:
            del self.rows[row.id]
        return len(old)
