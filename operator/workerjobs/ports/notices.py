"""What the database announces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DueNotice:
    """Something in a pool is or becomes due."""

    pool: str
    seconds: float
    """From the moment of the notice, >= 0."""
    job_type: str | None = field(default=None, compare=False)
    """The type of all of them, where they have one."""
    job_id: int | None = field(default=None, compare=False)
    """The row, where it is a single one, without limits."""


@dataclass(frozen=True, slots=True)
class LimitedNotice:
    """Jobs of a pool that are under a limit may have become free to start."""

    pool: str


@dataclass(frozen=True, slots=True)
class SettingsNotice:
    """Pauses or limits changed."""


@dataclass(frozen=True, slots=True)
class PlanNotice:
    """A cron row waits for its first tick."""


@dataclass(frozen=True, slots=True)
class CancelNotice:
    """A running job should stop."""

    job_id: int


@dataclass(frozen=True, slots=True)
class ResourceNotice:
    """A row of a custom resource changed."""

    cluster_id: str
    uid: str


@dataclass(frozen=True, slots=True)
class NotificationNotice:
    """Notifications or broadcasts were written or changed."""

    ids: tuple[int, ...]
    is_broadcast: bool


@dataclass(frozen=True, slots=True)
class MarkNotice:
    """Whatever transactions below the mark announced was heard before this."""

    mark: int


@dataclass(frozen=True, slots=True)
class Reconnected:
    """Listening began (again), or is not possible: anything may have been missed before."""


@dataclass(frozen=True, slots=True)
class WorkerNotice:
    """A worker is asked to do something."""

    owner: str


Notice = (
    DueNotice
    | LimitedNotice
    | SettingsNotice
    | PlanNotice
    | CancelNotice
    | ResourceNotice
    | WorkerNotice
    | NotificationNotice
    | MarkNotice
    | Reconnected
)


class NoticeSource(Protocol):
    """Delivers what the database announces."""

    @property
    def is_listening(self) -> bool:
        """Whether it hears what is announced at this moment; may be asked from any thread."""
        ...

    def notices(self) -> AsyncIterator[Notice]:
        """Yield notices for ever; `Reconnected` first, and again whenever some may have been missed."""
        ...
