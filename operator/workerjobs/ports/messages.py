"""Notifications and broadcasts, for those who pass them on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """A notification to a user, or a broadcast, as it is stored now."""

    id: int
    user_id: int | None
    """None: a broadcast."""
    data_json: str
    is_read: bool
    created_at: datetime
    updated_at: datetime
    mark: int
    """The transaction that wrote it last: of two messages, the one that was written again later has a higher one."""


@dataclass(frozen=True, slots=True)
class Messages:
    """What was read since a mark."""

    messages: Sequence[Message]
    """Oldest first."""
    mark: int
    """Whatever transactions below this wrote is among them, or was written before the other mark."""
    is_complete: bool
    """False: there were more than may be read at once, or the mark is of another server."""


class MessageStore(Protocol):
    """Notifications and broadcasts, for those who pass them on; raises `DatabaseUnavailableError`."""

    async def since(self, mark: int | None, user_ids: Sequence[int]) -> Messages:
        """Read what was written since a mark; without one, nothing but the mark of now."""
        ...

    async def by_id(self, ids: Sequence[int], user_ids: Sequence[int]) -> list[Message]:
        """Read notifications, those of some users alone."""
        ...

    async def broadcasts_by_id(self, ids: Sequence[int]) -> list[Message]:
        """Read broadcasts."""
        ...

    async def announce_mark(self) -> None:
        """Have a `MarkNotice` delivered to everybody: it comes after what was announced until now."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...
