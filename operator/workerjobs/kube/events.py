"""Kubernetes Events: which ones a change of a WorkerJob's status is worth, and the writer of all.

`kubectl describe` shows them. Repeated ones of a resource become one with a count, and of all no more are written than
an API server bears beside its work; a status always says what is, an Event only what happened on the way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workerjobs.errors import ClusterError, ClusterUnavailableError
from workerjobs.kube.conditions import conditions_of, micro_time_text
from workerjobs.kube.workerjob import GROUP, VERSION
from workerjobs.ports.cluster import Cluster

log = logging.getLogger(__name__)

SERIES_SECONDS = 600.0
"""Events of one resource and reason within this time are one, with a count."""
UPDATE_SECONDS = 60.0
"""Its count is brought up to date no more often than this."""
BURST, PER_SECOND = 100, 10.0
"""Events written at once, and in the long run."""
BUSY_SECONDS = 0.1
MAX_WAITING = 1000
"""More of them that wait are dropped, warnings last."""
NOTE_LIMIT_BYTES = 1000
"""Of 1 kB that the API server takes."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource."""

    reason: str
    """One CamelCase word."""
    note: str
    """A sentence."""
    action: str
    """What was done, as one CamelCase word."""
    is_warning: bool = False
    series: str = ""
    """Tells apart what does not become one with a count, though the reason is the same."""


def events_of(previous: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Event, ...]:
    """Read from two statuses, one after the other, what happened between them."""
    events = []
    before, after = conditions_of(previous), conditions_of(status)
    accepted = after["Accepted"]
    if (accepted["status"], accepted["reason"]) != _told(before.get("Accepted")):
        if accepted["status"] == "True":
            due = f", due at {status['nextDue']}" if "nextDue" in status else ""
            job = f" as job {status['jobId']}{due}" if "jobId" in status else ""
            events.append(Event("Accepted", f"The spec is accepted{job}", "Mirror"))
        else:
            events.append(Event("Refused", accepted["message"], "Mirror", is_warning=True))
    suspended = after["Suspended"]
    if suspended["status"] != _told(before.get("Suspended"))[0] and (suspended["status"] == "True" or before):
        name = "Suspended" if suspended["status"] == "True" else "Resumed"
        events.append(Event(name, suspended["message"], "Suspend"))
    ended, known = status.get("counts", {}), previous.get("counts", {})
    told = after["Failed"]["message"]

    def more(what: str) -> bool:
        return bool(ended.get(what, 0) > known.get(what, 0))

    if more("succeeded"):
        events.append(Event("Succeeded", _ended(after, "succeeded"), "Run"))
    if more("failed"):
        if after["Failed"]["reason"] == "RetryWaiting" and "nextDue" in status:
            events.append(Event("Rescheduled", f"{told}, at {status['nextDue']}", "Retry", is_warning=True))
        else:
            events.append(Event("Failed", told, "Run", is_warning=True))
    if more("cancelled"):
        events.append(Event("Cancelled", _ended(after, "cancelled"), "Cancel"))
    if more("lost"):
        events.append(Event("WorkerLost", "A run lost its worker and was begun anew", "Rescue", is_warning=True))
    return tuple(events)


def _ended(conditions: Mapping[str, Mapping[str, str]], how: str) -> str:
    message = conditions["Failed"]["message"]
    return message if f" has {how}" in message else f"A run has {how}" if how == "succeeded" else f"A run was {how}"


def _told(condition: Mapping[str, str] | None) -> tuple[str, str]:
    return ("", "") if condition is None else (condition["status"], condition["reason"])


_Key = tuple[str, str, str]
"""The resource's uid, the reason, and the Event's series."""


@dataclass(slots=True)
class _Series:
    """Events that are one, with a count."""

    namespace: str
    resource: str
    name: str
    began: float
    event: Event
    event_time: str
    count: int = 1
    written_at: float | None = None
    is_waiting: bool = False


class EventWriter:
    """Writes Events, few at a time; what can't be written is dropped.

    Args:
        cluster: The API.
        kind: Of the resources.
        is_busy: Whether the API server has more important things to do; only warnings are written then.
    """

    def __init__(self, cluster: Cluster, kind: str, is_busy: Callable[[], bool] = lambda: False) -> None:
        self._cluster = cluster
        self._kind = kind
        self._is_busy = is_busy
        self._instance = f"{socket.gethostname()}-{os.getpid()}"
        self._series: dict[_Key, _Series] = {}
        self._waiting: tuple[deque[_Key], deque[_Key]] = (deque(), deque())
        self._has_work = asyncio.Event()
        self._said = ""

    def put(self, uid: str, namespace: str, name: str, event: Event) -> None:
        """Take an Event of a resource."""
        key, now = (uid, event.reason, event.series), time.monotonic()
        series = self._series.get(key)
        if series is not None and now - series.began < SERIES_SECONDS:
            series.event, series.count = event, series.count + 1
            if not series.is_waiting:
                series.is_waiting = True
                rest = UPDATE_SECONDS - (now - (series.written_at or now))
                asyncio.get_running_loop().call_later(rest, self._take_turn, key, event)
            return
        if sum(map(len, self._waiting)) >= MAX_WAITING:
            dropped = self._waiting[1] or self._waiting[0]
            if not event.is_warning and not self._waiting[1]:
                return
            self._series.pop(dropped.popleft(), None)
        event_name = f"{name[:220]}.{time.time_ns():x}"
        self._series[key] = _Series(
            namespace, name, event_name, now, event, micro_time_text(datetime.now(UTC)), is_waiting=True
        )
        self._take_turn(key, event)

    async def run(self) -> None:
        """Write until cancelled."""
        allowance, at = float(BURST), time.monotonic()
        while True:
            while not any(self._waiting):
                self._has_work.clear()
                self._forget_old()
                await self._has_work.wait()
            if not self._waiting[0] and self._is_busy():
                await asyncio.sleep(BUSY_SECONDS)
                continue
            now = time.monotonic()
            allowance, at = min(float(BURST), allowance + PER_SECOND * (now - at)), now
            if allowance < 1:
                await asyncio.sleep((1 - allowance) / PER_SECOND)
                continue
            allowance -= 1
            key = (self._waiting[0] or self._waiting[1]).popleft()
            if (series := self._series.get(key)) is not None:
                await self._write(key, series)

    def _take_turn(self, key: _Key, event: Event) -> None:
        self._waiting[0 if event.is_warning else 1].append(key)
        self._has_work.set()

    def _forget_old(self) -> None:
        oldest = time.monotonic() - SERIES_SECONDS
        old = [key for key, series in self._series.items() if series.began < oldest and not series.is_waiting]
        for key in old:
            del self._series[key]

    async def _write(self, key: _Key, series: _Series) -> None:
        series.is_waiting = False
        series.written_at = time.monotonic()
        try:
            await self._cluster.write_event(series.namespace, series.name, self._manifest(key[0], series))
        except ClusterUnavailableError as error:
            log.debug("An Event of %s %s/%s is dropped: %s", self._kind, series.namespace, series.resource, error)
        except ClusterError as error:
            log.log(logging.DEBUG if self._said == str(error) else logging.WARNING, "%s", error)
            self._said = str(error)
        except Exception:
            log.exception("An Event of %s %s/%s could not be written", self._kind, series.namespace, series.resource)

    def _manifest(self, uid: str, series: _Series) -> dict[str, Any]:
        event = series.event
        note = event.note.encode()
        if len(note) > NOTE_LIMIT_BYTES:
            note = note[: NOTE_LIMIT_BYTES - 3] + "…".encode()
        manifest: dict[str, Any] = {
            "metadata": {"name": series.name, "namespace": series.namespace},
            "eventTime": series.event_time,
            "reportingController": f"{GROUP}/workerjobs-operator",
            "reportingInstance": self._instance[-128:],
            "type": "Warning" if event.is_warning else "Normal",
            "reason": event.reason,
            "action": event.action,
            "note": note.decode(errors="ignore"),
            "regarding": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": self._kind,
                "namespace": series.namespace,
                "name": series.resource,
                "uid": uid,
            },
        }
        if series.count > 1:
            manifest["series"] = {"count": series.count, "lastObservedTime": micro_time_text(datetime.now(UTC))}
        return manifest
