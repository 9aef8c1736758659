"""What happened when, in a test whose course is worth reading: pytest prints it with -rP, and when the test fails."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime

from tests.support.cluster.controlplane import Cluster


class Chronicle:
    """Notes with their times, from the chronicle's beginning on."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC)
        self._notes: list[tuple[datetime, str]] = []

    def note(self, what: str, when: datetime | None = None) -> None:
        """Write down what happened, now or then."""
        self._notes.append((when or datetime.now(UTC), what))

    def note_events(self, cluster: Cluster, namespace: str, *kinds: str, name: str) -> None:
        """Write down Kubernetes' Events of objects with this name: what autoscalers say of their own deeds."""
        found = cluster.kubectl(
            *("get", "events", f"--namespace={namespace}", "--output=json"),
            f"--field-selector=involvedObject.name={name}",
        )
        for event in json.loads(found.stdout)["items"]:
            if (kind := event["involvedObject"]["kind"]) in kinds:
                when = event.get("eventTime") or event["lastTimestamp"]
                self.note(f"{kind}: {event['reason']}: {event['message']}", datetime.fromisoformat(when))

    def lines(self) -> list[str]:
        """All notes in the order of their times."""
        ordered = sorted(self._notes, key=lambda note: note[0])
        return [f"{(when - self._began).total_seconds():6.1f} s  {what}" for when, what in ordered]


@contextlib.contextmanager
def chronicle() -> Iterator[Chronicle]:
    """A chronicle that is printed at the end, whatever the end."""
    notes = Chronicle()
    try:
        yield notes
    finally:
        print(*notes.lines(), sep="\n")
