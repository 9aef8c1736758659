"""Hearing of new blocks over WebSocket, so that nobody has to ask for them four times a second."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence

import aiohttp
import msgspec

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""How long after a lost connection the next endpoint is tried."""
HEARTBEAT_SECONDS = 10.0
ANSWER_SECONDS = 10.0


class _Head(msgspec.Struct):
    number: str


class _Parameters(msgspec.Struct):
    result: _Head


class _Message(msgspec.Struct):
    """An answer, or a new block."""

    id: int | None = None
    result: str | None = None
    params: _Parameters | None = None


class _RefusedError(Exception):
    """An endpoint can't be used."""


_message = msgspec.json.Decoder(_Message)


class HeadListener:
    """Subscribes to new blocks at the first endpoint that takes it; begins at once.

    Args:
        session: Whose connections are used.
        urls: Endpoints, ws or wss. They may hold keys, and are never shown.
        chain_id: Which chain they have to be of.
    """

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], chain_id: int) -> None:
        self._session = session
        self._urls = urls
        self._chain_id = chain_id
        self._news = asyncio.Event()
        self.is_listening = False
        self.newest = -1
        """The block that was told of last."""
        self._task = asyncio.create_task(self._listen())

    async def wait(self, seconds: float) -> None:
        """Wait for a block that was not told of before, and no longer than so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    async def close(self) -> None:
        """End."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        for place, url in itertools.cycle(enumerate(self._urls, 1)):
            try:
                await self._subscribe(url)
                reason = "the connection ended"
            except _RefusedError as error:
                reason = str(error)
            except (aiohttp.ClientError, OSError, TypeError, ValueError, msgspec.DecodeError) as error:
                # Its text may name the URL, which holds a key. (TypeError: the connection ended instead of an answer.)
                reason = type(error).__name__
            self.is_listening = False
            # Whoever waits goes over to asking.
            self._news.set()
            log.debug("WebSocket endpoint %s does not tell of new blocks: %s", place, reason)
            await asyncio.sleep(RETRY_SECONDS)

    async def _subscribe(self, url: str) -> None:
        async with self._session.ws_connect(url, heartbeat=HEARTBEAT_SECONDS, autoping=True) as socket:
            async with asyncio.timeout(ANSWER_SECONDS):
                chain_id = await self._call(socket, "eth_chainId")
                if int(chain_id, 16) != self._chain_id:
                    raise _RefusedError(f"it serves chain {int(chain_id, 16)}, not {self._chain_id}")
                await self._call(socket, "eth_subscribe", "newHeads")
            self.is_listening = True
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    told = _message.decode(message.data).params
                    if told is not None:
                        self.newest = int(told.result.number, 16)
                        self._news.set()

    async def _call(self, socket: aiohttp.ClientWebSocketResponse, method: str, *parameters: str) -> str:
        await socket.send_str(
            msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).decode()
        )
        answer = _message.decode(await socket.receive_str()).result
        if answer is None:
            raise _RefusedError(f"it refuses {method}")
        return answer
