"""What every child of a worker is told, and how it reaches the children."""

from __future__ import annotations

import os

import msgspec

from workerjobs.settings import Isolation

CONFIGURATION_VARIABLE = "WORKERJOBS_CHILD"
"""Environment variable that carries the `Configuration` from the supervisor through the nursery to the children."""


class Configuration(msgspec.Struct, frozen=True):
    """What every child of a worker is told."""

    job_modules: tuple[str, ...] = ()
    log_level: str = "info"
    database_url: str | None = None
    storage: str = ""
    """Module that opens connections for jobs (`workerjobs.ports.for_jobs.StorageForJobs`); the app names it."""
    isolation: Isolation = "warm"
    """fresh: also for types that do not ask for it."""
    memory_mib: int | None = None
    """What a job may take whose type says nothing of it."""
    has_chains: bool = False
    """Whether jobs on chains can run here."""
    traces: bool = False
    """Whether runs are spans of traces that are exported from here."""
    error_hook: str | None = None
    """What is told of jobs that fail, as "module:function"."""
    sealed: str | None = None
    """Folder that no job may read; the nursery gives up access to it before it forks the first child."""


def inherited() -> Configuration:
    """Read what the supervisor told this process; without that, the defaults."""
    text = os.environ.get(CONFIGURATION_VARIABLE, "")
    return msgspec.json.decode(text, type=Configuration) if text else Configuration()
