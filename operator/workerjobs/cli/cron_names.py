"""How people name cron jobs: by key, id, WorkerJob, tag or type, whichever is one job's alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workerjobs.domain.cron import cron_key_of
from workerjobs.domain.words import did_you_mean
from workerjobs.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from workerjobs.ports.api import CronLine


def name_of(line: CronLine) -> str:
    """What people call a cron job: its WorkerJob, tag or type; it may not be the only one of that name."""
    return line.resource_name or line.tag or line.type


def short_names(lines: Sequence[CronLine]) -> list[str]:
    """A name for each cron job that is its alone."""
    counts = Counter(name_of(line) for line in lines)
    return [name_of(line) if counts[name_of(line)] == 1 else cron_key_of(line) for line in lines]


def find_line(lines: Sequence[CronLine], name: str) -> CronLine:
    """Find the cron job that somebody names.

    Raises:
        NotFoundError: There is none.
        InvalidInputError: There are several.
    """
    for matches in (
        lambda line: cron_key_of(line) == name,
        lambda line: str(line.id) == name,
        lambda line: name in (line.resource_name, f"{line.namespace}/{line.resource_name}"),
        lambda line: line.tag == name,
        lambda line: line.type == name,
    ):
        # A line may have a run that goes on beside the next one.
        found = {cron_key_of(line): line for line in lines if matches(line)}
        if len(found) > 1:
            raise InvalidInputError(f"Several cron jobs are called {name}: give one of the keys {', '.join(found)}")
        if found:
            return next(iter(found.values()))
    raise NotFoundError(f"There is no cron job {name}.{did_you_mean(name, short_names(lines))}")
