"""The relay: hears of notifications from the database and hands them to those who listen.

Where a listener is comes as a mark: a number below which the database's transactions are over, and whatever they wrote
was handed out. A listener that comes back says its last mark and gets what was written since: also by transactions that
had begun before it left, and which a plain highest id would miss.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from workerjobs.errors import DatabaseUnavailableError
from workerjobs.ports.messages import Message, Messages, MessageStore
from workerjobs.ports.notices import MarkNotice, NoticeSource, NotificationNotice, Reconnected

log = logging.getLogger(__name__)

QUEUE = 1_000
"""Messages that wait for a slow listener; with more, it is sent away and comes back for them."""
RETRY_SECONDS = 1.0
MARK_SECONDS = 1.0
"""Between marks while what was handed is not below one, as transactions that began before it are open."""


class TooManyListenersError(Exception):
    """No further listener is taken for now.

    Attributes:
        whose: The user's own are too many, or everybody's.
    """

    def __init__(self, whose: Literal["user", "all"]) -> None:
        self.whose = whose
        super().__init__(whose)


@dataclass(frozen=True, slots=True)
class Event:
    """What a listener is handed."""

    kind: Literal["notification", "broadcast", "reset", "mark"]
    mark: int
    """Where the listener is now."""
    message: Message | None = None


@dataclass(eq=False)
class Listener:
    """One connection of a user."""

    user_id: int
    mark: int = 0
    _queue: asyncio.Queue[Event | None] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    _seen: dict[tuple[bool, int], int] = field(default_factory=dict)
    _early: list[Message] | None = field(default_factory=list)
    """What came before `begin`; None after it."""

    def begin(self, mark: int | None, read: Messages) -> None:
        """Hand what was read since the mark that the listener came with, and then what came meanwhile."""
        assert self._early is not None
        early, self._early = self._early, None
        # One that is beyond now is of another server.
        self.mark = min(mark or 0, read.mark)
        if not read.is_complete:
            self.reset()
        for message in read.messages:
            self.hand(message)
        self._move(read.mark)
        for message in early:
            self.hand(message)

    def hand(self, message: Message) -> None:
        """Hand a message, unless this state of it was handed before."""
        if self._early is not None:
            self._early.append(message)
            return
        key = (message.user_id is None, message.id)
        if message.mark < self.mark or self._seen.get(key) == message.mark:
            return
        self._seen[key] = message.mark
        self._put(Event("broadcast" if message.user_id is None else "notification", self.mark, message))

    def advance(self, mark: int) -> None:
        """Note that everything below a mark was handed."""
        if mark > self.mark and self._early is None:
            self._move(mark)

    def reset(self) -> None:
        """Tell that something was missed that is not sent again."""
        if self._early is None:
            self._put(Event("reset", self.mark))

    def end(self) -> None:
        """Let `events` end after what waits."""
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def events(self, pause_seconds: float) -> AsyncIterator[Event | None]:
        """Yield what is handed until the end, and None whenever nothing was for so long."""
        while True:
            try:
                event = await asyncio.wait_for(self._queue.get(), pause_seconds)
            except TimeoutError:
                yield None
                continue
            if event is None:
                return
            yield event

    def _move(self, mark: int) -> None:
        self.mark = mark
        self._seen = {key: seen for key, seen in self._seen.items() if seen >= mark}
        self._put(Event("mark", mark))

    def _put(self, event: Event) -> None:
        if self._queue.full():
            # Its mark is not moved by what it does not get.
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(None)
            return
        self._queue.put_nowait(event)


class Relay:
    """All listeners of this server.

    Args:
        store: Where messages are.
        notices: Tells of new ones.
        limit: Listeners in all.
        limit_per_user: Listeners of one user.
    """

    def __init__(self, store: MessageStore, notices: NoticeSource, *, limit: int, limit_per_user: int) -> None:
        self._store = store
        self._notices = notices
        self._limit = limit
        self._limit_per_user = limit_per_user
        self._listeners: defaultdict[int, set[Listener]] = defaultdict(set)
        self._is_closed = False
        self._mark = 0
        self._handed = 0
        """Newest transaction whose messages were handed."""
        self._is_behind = asyncio.Event()
        """Set while the mark is not beyond what was handed."""
        self.listening = asyncio.Event()
        """Set once the database is being listened to."""

    @property
    def count(self) -> int:
        """Listeners now."""
        return sum(map(len, self._listeners.values()))

    @contextmanager
    def listener(self, user_id: int) -> Iterator[Listener]:
        """Take a listener; it hears nothing before `begin`.

        Raises:
            TooManyListenersError: There are too many.
        """
        if self.count >= self._limit or self._is_closed:
            raise TooManyListenersError("all")
        if len(self._listeners[user_id]) >= self._limit_per_user:
            raise TooManyListenersError("user")
        listener = Listener(user_id)
        self._listeners[user_id].add(listener)
        try:
            yield listener
        finally:
            self._listeners[user_id].discard(listener)
            if not self._listeners[user_id]:
                del self._listeners[user_id]

    async def begin(self, listener: Listener, mark: int | None) -> None:
        """Hand a listener what was written since a mark; None: it begins now.

        Raises:
            DatabaseUnavailableError: The database can't be asked.
        """
        await self.listening.wait()
        listener.begin(mark, await self._store.since(mark, [listener.user_id]))

    async def run(self) -> None:
        """Pass on what the database tells, until cancelled."""
        marking = asyncio.create_task(self._mark_later(), name="relay marks")
        try:
            await self._pass_on_all()
        finally:
            marking.cancel()

    async def _pass_on_all(self) -> None:
        async for notice in self._notices.notices():
            while True:
                try:
                    await self._pass_on(notice)
                    break
                except DatabaseUnavailableError as error:
                    log.warning("Notifications wait: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)

    async def _mark_later(self) -> None:
        """Ask for marks until one is beyond what was handed: the first one after it may come too early."""
        while True:
            await self._is_behind.wait()
            await asyncio.sleep(MARK_SECONDS)
            if self._mark > self._handed or not self._listeners:
                self._is_behind.clear()
                continue
            with suppress(DatabaseUnavailableError):
                await self._store.announce_mark()

    def close(self) -> None:
        """End all connections, and take no more."""
        self._is_closed = True
        for listener in self._everybody():
            listener.end()

    async def _pass_on(self, notice: object) -> None:
        match notice:
            case Reconnected():
                read = await self._store.since(self._mark or None, list(self._listeners))
                self._hand(read.messages)
                for listener in self._everybody():
                    if not read.is_complete:
                        listener.reset()
                    listener.advance(read.mark)
                self._mark = read.mark
                self.listening.set()
            case NotificationNotice(ids, is_broadcast):
                users = list(self._listeners)
                if users:
                    read_them = self._store.broadcasts_by_id(ids) if is_broadcast else self._store.by_id(ids, users)
                    if messages := await read_them:
                        self._hand(messages)
                        await self._store.announce_mark()
            case MarkNotice(mark):
                self._mark = max(self._mark, mark)
                for listener in self._everybody():
                    listener.advance(mark)

    def _hand(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._handed = max(self._handed, message.mark)
            self._is_behind.set()
            listeners = self._everybody() if message.user_id is None else self._listeners.get(message.user_id, ())
            for listener in list(listeners):
                listener.hand(message)

    def _everybody(self) -> list[Listener]:
        return [listener for listeners in self._listeners.values() for listener in listeners]
