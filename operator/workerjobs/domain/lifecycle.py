"""What happens to a job when its run ended: how it is settled, and which row follows it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from workerjobs.domain.cron import cron_key_of, next_tick
from workerjobs.domain.job import ConcurrencyPolicy, Job
from workerjobs.domain.json_text import MAX_NESTING, NestedTooDeepError, encode_json
from workerjobs.errors import InvalidScheduleError, ResultRefusedError

MAX_RESCUES = 5
"""A job whose worker was lost this often fails; it is likely what kills them."""
RESULT_LIMIT_BYTES = 1024 * 1024
"""Largest result, as UTF-8 JSON."""
REPLACED_RESULT = '{"error": "Job cancelled due to new job being created"}'
"""What a pending job is cancelled with when a new one of its tag is stored."""
MAX_ERROR_LENGTH = 2000
"""Characters of an error kept in the row; the whole of it, with its traceback, is in the log."""

_OVERLAPPING = (ConcurrencyPolicy.ALLOW, ConcurrencyPolicy.REPLACE)


class Outcome(msgspec.Struct, frozen=True):
    """How one run of a job ended."""

    success: bool
    result_json: str
    """What the job returned; after a failure ``{"error": …}``."""
    started: float | None = None
    """When its function was called, in seconds since the epoch on the database's clock; None: when it was claimed."""
    finished: float | None = None
    """When it ended, likewise; None: when it is settled."""

    @property
    def seconds(self) -> float:
        """How long it took, where that is known; 0 otherwise."""
        return 0.0 if self.started is None or self.finished is None else max(0.0, self.finished - self.started)

    @classmethod
    def failure(cls, error: str, started: float | None = None, finished: float | None = None) -> Outcome:
        """The outcome of a run that failed; ``error`` is shortened and made storable."""
        text = error.replace("\x00", "\ufffd").encode(errors="replace").decode().strip() or "Unknown error"
        if len(text) > MAX_ERROR_LENGTH:
            text = text[: MAX_ERROR_LENGTH - 1] + "…"
        return cls(False, encode_json({"error": text}), started, finished)


def encode_result(result: object) -> str:
    """Write what a job returned as the JSON that its row stores.

    Raises:
        ResultRefusedError: It can't be stored; with the reason.
    """
    try:
        result_json = encode_json(result)
    except NestedTooDeepError:
        raise ResultRefusedError(f"The job's result is nested deeper than {MAX_NESTING} levels") from None
    except ValueError as error:
        raise ResultRefusedError(f"The job's result is not JSON that can be stored: {error}") from None
    # A character has four bytes at most.
    if len(result_json) > RESULT_LIMIT_BYTES // 4 and (size := len(result_json.encode())) > RESULT_LIMIT_BYTES:
        limit = f"at most {RESULT_LIMIT_BYTES:,} are stored (1 MiB)"
        raise ResultRefusedError(f"The job's result has {size:,} bytes of JSON: {limit}")
    return result_json


def lost_too_often(job: Job) -> str:
    """The error of a job that is likely what kills its workers, with how the last one was lost where that is known."""
    how = f": {job.lost_reason}" if job.lost_reason else ""
    return f"Worker lost {MAX_RESCUES} times while running this job{how}"


class FollowUpKind(StrEnum):
    """Why a row follows another one."""

    RETRY = "retry"
    CRON = "cron"


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A row to insert when a job is settled: a copy of it, but for what stands here."""

    kind: FollowUpKind
    due: datetime
    attempt: int
    cron_key: str | None
    """Only the next run of a cron line belongs to the line; a retry does not, so one line stays one line."""
    traceparent: str | None = None
    """Of a retry: the span of the run that it follows. None: what the row carries, as the next run of a cron line."""
    tag: str | None = None
    """Of a retry: its tag. Whether it is still wanted is not known while somebody stores another job of that tag."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A run of a cron line that begins, where the line does not wait for its end."""

    job_id: int
    fencing_token: int
    next_run: FollowUp
    replaces: bool
    """Whether the line's older runs are asked to cancel."""


class Settlement(msgspec.Struct, frozen=True):
    """One finished run, ready to be stored; the fencing token refuses it where the lease was lost."""

    job_id: int
    fencing_token: int
    outcome: Outcome
    follow_ups: tuple[FollowUp, ...] = ()
    problem: str | None = None
    """Why no next cron run could be made; for the log."""

    @property
    def retried_tag(self) -> str | None:
        """The tag of the retry that follows, where it has one."""
        return next((each.tag for each in self.follow_ups if each.tag is not None), None)

    def without_retry(self) -> Settlement:
        """The same end of a run that is not tried again."""
        kept = tuple(each for each in self.follow_ups if each.kind is not FollowUpKind.RETRY)
        return msgspec.structs.replace(self, follow_ups=kept)


def begin(job: Job, *, now: datetime) -> Beginning | None:
    """Decide what is stored before a claimed job is started; None: nothing.

    The runs of a cron line may overlap where its policy is Allow or Replace: the next row is there before this run
    begins. That row may be due already, where the line catches up with missed ticks.

    Args:
        job: The claimed row, with its fencing token.
        now: The database's clock when it was claimed.
    """
    if job.cron_schedule is None or job.concurrency_policy not in _OVERLAPPING or job.fencing_token is None:
        return None
    try:
        next_run = _next_run(job, now)
    except (InvalidScheduleError, ValueError):
        # Written past every check. Settling says so.
        return None
    return Beginning(job.id, job.fencing_token, next_run, replaces=job.concurrency_policy == ConcurrencyPolicy.REPLACE)


def settle(job: Job, outcome: Outcome, *, now: datetime) -> Settlement:
    """Decide what is stored for a run that ended, and which rows follow.

    A cron job goes on after success and after failure; the store leaves the next row out where `begin` brought it. A
    failed job with retries left gets a new row as well: retries are copies outside the cron line. A job that was
    cancelled while it ran is not retried.

    Args:
        job: The claimed row, with its fencing token, and with the run's own traceparent where it was traced.
        outcome: How the run ended.
        now: The database's clock when the run ended.
    """
    if job.fencing_token is None:
        raise ValueError("a job without a lease can't be settled")
    if outcome.success and job.cron_schedule is None:
        return Settlement(job.id, job.fencing_token, outcome)
    follow_ups: list[FollowUp] = []
    problem = None
    if job.cron_schedule is not None:
        try:
            follow_ups.append(_next_run(job, now))
        except (InvalidScheduleError, ValueError) as error:
            problem = f"The cron job ends here, as its schedule has no next tick: {error}"
    if not outcome.success and not job.cancel_requested and (delay := retry_delay(job)) is not None:
        follow_ups.append(FollowUp(FollowUpKind.RETRY, now + delay, job.attempt + 1, None, job.traceparent, job.tag))
    return Settlement(job.id, job.fencing_token, outcome, tuple(follow_ups), problem)


def retry_delay(job: Job) -> timedelta | None:
    """How long after a failure the job is tried again; None: it is not.

    With a retry policy the delay grows by its factor and the limit counts retries. Without one,
    ``autoRescheduleOnFailure`` tries again for ever, always after the same delay (as QuickDapp does).
    """
    if job.retry_limit is None:
        return (
            timedelta(milliseconds=job.auto_reschedule_on_failure_delay_ms) if job.auto_reschedule_on_failure else None
        )
    if job.attempt > job.retry_limit:
        return None
    initial = job.retry_initial_delay_ms or 0
    longest = job.retry_max_delay_ms if job.retry_max_delay_ms is not None else initial
    try:
        delay = min(initial * (job.retry_factor or 1.0) ** (job.attempt - 1), longest)
    except OverflowError:
        delay = longest
    if math.isnan(delay):  # a factor that SQL wrote
        delay = longest
    if job.retry_jitter:
        # Drawn from the row: the same one gives the same delay whoever asks, and each retry is a row of its own.
        part = min(1.0, max(0.0, job.retry_jitter))
        delay *= 1 - part * random.Random(f"{job.id}:{job.attempt}").random()  # noqa: S311  # no secret
    return timedelta(milliseconds=delay)


def _next_run(job: Job, now: datetime) -> FollowUp:
    return FollowUp(FollowUpKind.CRON, next_tick(job, now=now), attempt=1, cron_key=cron_key_of(job))
