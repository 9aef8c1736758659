"""What the cluster has of a kind of object, kept up to date by LIST and WATCH."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from workerjobs.errors import ClusterError, ClusterUnavailableError
from workerjobs.kube.client import version_of
from workerjobs.ports.cluster import Seen

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
REFUSED_SECONDS = 60.0
"""When to ask again, at last, what the cluster goes on refusing to tell. An API server that has only just begun, and
does not know everybody's rights yet, is asked sooner."""
KEEP_DELETED_SECONDS = 600.0


class Observed:
    """Objects of one kind, by uid.

    Args:
        what: The kind, for the log.
        watch: Watches them until it can't.
        on_change: Told after each change.
    """

    def __init__(self, what: str, watch: Callable[[], AsyncIterator[Seen]], on_change: Callable[[], None]) -> None:
        self.objects: dict[str, Mapping[str, Any]] = {}
        self.deleted: dict[str, tuple[float, Mapping[str, Any]]] = {}
        """What was last seen of those that are gone, and when that was; for some minutes."""
        self.is_complete = False
        """All of them are known."""
        self.heard = time.monotonic()
        """When the cluster last told anything."""
        self._what = what
        self._watch = watch
        self._on_change = on_change
        self._said = ""
        self._refusals = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            delay = RETRY_SECONDS
            try:
                async for seen in self._watch():
                    self._take(seen)
                delay = 0.0
            except ClusterError as error:
                is_refused = not isinstance(error, ClusterUnavailableError)
                if is_refused:
                    self.is_complete = False
                    delay = min(REFUSED_SECONDS, RETRY_SECONDS * 2**self._refusals)
                    self._refusals = min(self._refusals + 1, 10)
                log.log(
                    logging.DEBUG if self._said == str(error) else logging.WARNING,
                    "%s can't be watched: %s",
                    self._what,
                    error,
                )
                self._said = str(error)
            except Exception:
                log.exception("Watching %s failed, and begins anew", self._what)
                delay = 5 * RETRY_SECONDS
            await asyncio.sleep(delay)

    def put(self, written: Mapping[str, Any]) -> None:
        """Take what became of an object that was written, unless it is known by something newer."""
        known = self.objects.get(written["metadata"]["uid"])
        if known is not None and version_of(known) < version_of(written):
            self.objects[written["metadata"]["uid"]] = written

    def _take(self, seen: Seen) -> None:
        self.heard = time.monotonic()
        self._refusals = 0
        if self._said:
            log.info("%s can be watched again", self._what)
            self._said = ""
        for each in seen.objects:
            uid = each["metadata"]["uid"]
            if seen.are_deleted:
                self.objects.pop(uid, None)
                self.deleted[uid] = self.heard, each
            else:
                self.objects[uid] = each
        if seen.are_all:
            present = {each["metadata"]["uid"] for each in seen.objects}
            for uid in self.objects.keys() - present:
                # Unseen: whoever judges by this asks the cluster again.
                del self.objects[uid]
            self.is_complete = True
        for uid, (moment, _) in list(self.deleted.items()):
            if self.heard - moment > KEEP_DELETED_SECONDS:
                del self.deleted[uid]
        if seen.objects or seen.are_all:
            self._on_change()
