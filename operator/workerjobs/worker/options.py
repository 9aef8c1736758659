"""How a supervisor works: what its caller chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from workerjobs.domain.job import NewJob
from workerjobs.ports.workers import PodIdentity

RESCUE_SECONDS = 4.0
"""How often expired leases are looked for; a lost worker's jobs run again within its lease and this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """What a supervisor works by."""

    children: int
    fewest_children: int | None = None
    """So many while there is little to do, and up to ``children`` as they are needed; None: always ``children``."""
    pool: str = "default"
    types: Sequence[str] = ()
    """Only jobs of these types are run; empty: of all that are known."""
    is_judge: bool = True
    """Whether to fail jobs of types that no live worker knows; not where others run the other jobs of the pool."""
    lease: timedelta = timedelta(seconds=15)
    renew_every: timedelta = timedelta(seconds=5)
    rescue_every: timedelta = timedelta(seconds=RESCUE_SECONDS)
    grace: timedelta = timedelta(seconds=20)
    """How long running jobs may go on after a stop was asked for."""
    log_lines: int = 1000
    """So many lines that a job logs are kept in the tables."""
    child_max_jobs: int = 0
    """About how many jobs a child runs before it is replaced; 0: any number."""
    child_max_mib: int = 0
    """Memory that a child may keep before it is replaced; 0: any."""
    builtin_jobs: Sequence[NewJob] = ()
    """Cron jobs that every database has, once. Rows of them that wait where no live worker runs them come here."""
    placed_jobs: Sequence[NewJob] = ()
    """Built-in jobs whose pool was chosen: their rows that wait in another one are moved in any case."""
    pod: PodIdentity | None = None
    """The pod that it is in; its operator then knows whose jobs are lost when the pod is."""
    jobs_at_start: Sequence[NewJob] = ()
    """Jobs that every database gets once, by their resources; they come here likewise."""
