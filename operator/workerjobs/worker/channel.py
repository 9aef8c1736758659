"""A child's channel, as its supervisor sees it: what it says, and the results that it puts into shared memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import cast

import msgspec

from workerjobs.worker.messages import Finished, FrameReader, FromChild, read_child_frame, result_decoder
from workerjobs.worker.results import Results

log = logging.getLogger(__name__)


class Channel(asyncio.Protocol):
    """A child's stream of frames, and the results that it puts beside it."""

    def __init__(
        self,
        results: Results,
        on_data: Callable[[], None],
        on_results: Callable[[list[Finished]], None],
        on_message: Callable[[FromChild], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._results = results
        self._result_frames = FrameReader()
        self._is_taking = False
        self._apart = 0
        """Results that came over the channel itself."""
        self._on_data = on_data
        self._on_results = on_results
        self._on_message = on_message
        self._on_closed = on_closed
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take the messages that are complete now."""
        self._on_data()
        try:
            for body in self._frames.feed(data):
                position, self._apart, message = read_child_frame(body)
                self._take_results(self._results.take(position))
                if isinstance(message, Finished):
                    self._on_results([message])
                else:
                    self._on_message(message)
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("A child's channel was disturbed: %s", error)
            self.close()

    def take_results(self, *, is_over: bool = False) -> None:
        """Take what results there are, in their order.

        Args:
            is_over: The child is gone, and nothing more comes over the channel. Otherwise results wait that may come
                after one that the channel is still to bring.
        """
        if self._is_taking:
            # Whoever takes them now is telling of one, and goes on with the others in their order.
            return
        self._on_data()
        try:
            self._take_results(self._results.take_all(None if is_over else self._apart))
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("A child's results were disturbed: %s", error)
            self.close()

    def _take_results(self, data: bytes) -> None:
        results: list[Finished] = []
        self._is_taking = True
        try:
            # What came before something that is no result counts.
            results.extend(result_decoder.decode(body) for body in self._result_frames.feed(data))
        finally:
            if results:
                self._on_results(results)
            self._is_taking = False

    def connection_lost(self, error: Exception | None) -> None:
        """The child is gone, or closed its end."""
        self.closed.set()
        self._on_closed()

    def write(self, data: bytes) -> None:
        """Send; what the child does not take now waits in this process."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """Say that nothing more comes: the child ends once it has nothing left to do."""
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):
                self._transport.write_eof()

    def close(self) -> None:
        """Close this end."""
        if self._transport is not None:
            self._transport.abort()
