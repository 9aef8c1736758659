"""What the table tells about the work and the workers of pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from workerjobs.domain.scaling import Backlog


@dataclass(frozen=True, slots=True)
class PoolQuestion:
    """Which jobs some workers could run."""

    pool: str
    due_soon: timedelta
    """Jobs due within so long count as due soon."""
    namespaces: tuple[str, ...] = ()
    """Only those of WorkerJobs in these; empty: all."""


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What a worker runs of one type."""

    owner: str
    type: str
    running: int
    newest_seconds: float
    """How long ago the last of them began."""


@dataclass(frozen=True, slots=True)
class ShownPool:
    """A WorkerPool as its operator sees it."""

    uid: str
    namespace: str
    name: str
    pool: str
    """Whose jobs its workers run."""
    desired: int
    replicas: int
    ready: int
    reason: str
    """Why so many are desired, as its status has it."""
    message: str


class PoolStore(Protocol):
    """What the tables know of pools of workers; errors as in `JobStore`."""

    async def backlogs(self, questions: Sequence[PoolQuestion]) -> list[Backlog]:
        """Read the unfinished jobs of each question, all at one moment; a paused pool has none, but those that run.

        At most 10,000 waiting jobs of a type are counted.
        """
        ...

    async def loads(self, pools: Sequence[str]) -> list[WorkerLoad]:
        """Read what workers of some pools run."""

    async def show_pools(self, cluster_id: str, namespaces: Sequence[str], pools: Sequence[ShownPool]) -> None:
        """Write what is seen of the WorkerPools of some namespaces of a cluster, all where none is named.

        Others of these namespaces are forgotten.
        """
        ...
