"""The cron jobs that watch chains. Apart from `workerjobs.jobs.watch_chain`, which needs more packages."""

from __future__ import annotations

from workerjobs.domain.cron import tag_line
from workerjobs.domain.job import NewJob
from workerjobs.settings import ChainSettings

SCHEDULE = "*/3 * * * * *"
RETRY_MS = 10_000


def watch_jobs(settings: ChainSettings, pool: str) -> list[NewJob]:
    """The built-in cron jobs: one for each chain, made once per database."""
    return [_watch_job(chain.name, pool) for chain in settings.chains]


def _watch_job(chain: str, pool: str) -> NewJob:
    tag = f"cron:watchChain:{chain}"
    return NewJob(
        type="watchChain",
        data={"chain": chain},
        pool=pool,
        tag=tag,
        cron_schedule=SCHEDULE,
        cron_key=tag_line(tag, SCHEDULE),
        auto_reschedule_on_failure=True,
        auto_reschedule_on_failure_delay_ms=RETRY_MS,
    )
