"""Charts as shapes in a box of fixed size, which templates write as SVG; and the words beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from workerjobs.ports.api import Throughput, ThroughputSlot
from workerjobs.web.dashboard.words import clock, count, duration

WIDTH = 600
HEIGHT = 120
GAP = 0.2
"""The part of a slot that stays free between bars."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """What belongs to a slot of time: its bars, and what a pointer over it tells."""

    x: float
    width: float
    bars: Sequence[Bar]
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns over time."""

    columns: Sequence[Column]
    top: str
    """What the upper edge stands for."""
    unknown_width: float
    """From the left: a time that is not known."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over time."""

    paths: Mapping[str, str]
    """By name, as SVG has them."""
    columns: Sequence[Column]
    top: str


def slots(shown: Throughput) -> list[ThroughputSlot]:
    """All slots of a time, also those in which nothing ended, oldest first."""
    known = {each.start: each for each in shown.slots}
    starts = [shown.since + shown.step * index for index in range(shown.count)]
    return [known.get(start, ThroughputSlot(start, 0, 0, 0, None, None)) for start in starts]


def ends_chart(shown: Throughput) -> Chart:
    """Draw how many runs ended in each slot, and how."""
    found = slots(shown)
    width = WIDTH / shown.count
    most = max((each.ended for each in found), default=0) or 1
    columns = []
    for index, slot in enumerate(found):
        y, bars = float(HEIGHT), []
        for kind in ("succeeded", "failed", "cancelled"):
            if number := getattr(slot, kind):
                # At least a line: a single failure among thousands of runs is what people look for.
                height = max(number / most * HEIGHT, 2.0)
                y -= height
                x = round((index + GAP / 2) * width, 2)
                bars.append(Bar(kind, x, round(y, 2), round(width * (1 - GAP), 2), round(height, 2)))
        words = f"{_span(slot.start, shown.step)}: {count(slot.succeeded)} succeeded, {count(slot.failed)} failed"
        columns.append(Column(round(index * width, 2), round(width, 2), bars, words))
    per_second = most / shown.step.total_seconds()
    top = f"{count(most)} in {duration(shown.step.total_seconds())} ({per_second:.3g}/s)"
    return Chart(columns, top, round(_unknown(shown) * WIDTH, 2))


def latency_chart(shown: Throughput) -> Lines:
    """Draw how long runs waited and took, the 95th of a hundred, in each slot."""
    found = slots(shown)
    waits = [slot.wait_p95_seconds for slot in found]
    runs = [slot.run_p95_seconds for slot in found]
    most = max((value for value in (*waits, *runs) if value is not None), default=0) or 1
    width = WIDTH / shown.count
    columns = [
        Column(
            round(index * width, 2),
            round(width, 2),
            (),
            f"{_span(slot.start, shown.step)}: waited {duration(wait)}, ran {duration(run)} (95th percentile)",
        )
        for index, (slot, wait, run) in enumerate(zip(found, waits, runs, strict=True))
    ]
    return Lines({"wait": _line(waits, most), "run": _line(runs, most)}, columns, duration(most))


def _line(values: Sequence[float | None], most: float) -> str:
    """Write a line through the values that there are; one that stands alone becomes a dash."""
    width = WIDTH / len(values)
    path, is_drawn = [], False
    for index, value in enumerate(values):
        if value is not None:
            y = round(HEIGHT - value / most * HEIGHT, 2)
            if not is_drawn:
                path.append(f"M{index * width:.2f} {y}")
            path.append(f"L{(index + 0.5) * width:.2f} {y}")
        is_drawn = value is not None
    return "".join(path)


def _unknown(shown: Throughput) -> float:
    if shown.known_since is None:
        return 0.0
    return min(max((shown.known_since - shown.since) / (shown.step * shown.count), 0.0), 1.0)


def _span(start: datetime, step: timedelta) -> str:
    return f"{clock(start)} + {duration(step.total_seconds())}"
