"""removeOldWorkerJobs: removes finished jobs past their time."""

from __future__ import annotations

from typing import Any

from workerjobs.domain.cron import tag_line
from workerjobs.domain.job import NewJob
from workerjobs.jobs.context import JobContext

BATCH = 5_000
"""Rows a statement; keeps transactions short beside running claims."""

# As QuickDapp's server writes it (packages/variant-web3/src/server/workers/worker.ts), so that its row and this one are
# the same line.
_TAG, _SCHEDULE = "cron:removeOldWorkerJobs", "0 0 * * * *"

REMOVE_OLD_WORKER_JOBS = NewJob(
    type="removeOldWorkerJobs",
    tag=_TAG,
    cron_schedule=_SCHEDULE,
    cron_key=tag_line(_TAG, _SCHEDULE),
    auto_reschedule_on_failure=True,
    auto_reschedule_on_failure_delay_ms=60_000,
)
"""The built-in cron job: hourly, tried again a minute after a failure; made once per database."""


async def remove_old_worker_jobs(data: dict[str, Any], context: JobContext) -> dict[str, int]:
    """Delete finished jobs whose removeAt has passed, in bounded batches; persistent ones stay."""
    store = await context.open_store()
    removed = 0
    try:
        while True:
            batch = await store.prune(BATCH)
            removed += batch
            context.progress(removed, message=f"{removed} removed")
            if batch < BATCH:
                await store.remove_unused()
                return {"removed": removed}
    finally:
        await store.close()
