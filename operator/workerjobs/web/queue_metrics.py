"""Metrics of the queue: what waits in the table, and for how long. They are the table's and not of one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError
from workerjobs.ports.api import QueueCount

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
INACTIVE_SECONDS = 1.0
"""Until it is seen that looking has become this one's business."""
MOST_QUEUES = 500
"""Types of jobs, in their pools, that are shown; those with most jobs. A type is text that anybody may submit."""


class QueueMetrics(Collector):
    """Looks at the table now and then.

    Args:
        read: Counts what is unfinished.
        registry: Where the metrics are shown.
        is_active: Whether to look; of several operators one does.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Sequence[QueueCount]]],
        registry: CollectorRegistry,
        is_active: Callable[[], bool] = lambda: True,
    ) -> None:
        self._read = read
        self._is_active = is_active
        self._queues: Sequence[QueueCount] = ()
        self._is_troubled = False
        registry.register(self)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(LOOK_SECONDS if self._is_active() else INACTIVE_SECONDS)

    async def step(self) -> None:
        """Look once. Without an answer nothing is shown: an old figure would be taken for today's."""
        try:
            self._queues = await self._read() if self._is_active() else ()
            self._is_troubled = False
        except (DatabaseUnavailableError, DatabaseRefusedError) as error:
            log.log(logging.DEBUG if self._is_troubled else logging.WARNING, "The queue can't be measured: %s", error)
            self._queues = ()
            self._is_troubled = True
        except Exception:
            log.exception("Measuring the queue failed, and is tried again")
            self._queues = ()

    def collect(self) -> Iterator[Metric]:
        """Give the metrics as of the last look."""
        jobs = GaugeMetricFamily(
            "workerjobs_queue_jobs",
            "Unfinished jobs in the table: waiting, later (not due yet) or running; counted up to 100,000.",
            labels=["pool", "type", "state"],
        )
        age = GaugeMetricFamily(
            "workerjobs_queue_oldest_due_age_seconds",
            "For how long the oldest job that waits has been due; 0 where none waits.",
            labels=["pool", "type"],
        )
        most = sorted(self._queues, key=lambda each: each.waiting + each.later + each.running, reverse=True)
        for each in most[:MOST_QUEUES]:
            for state, count in (("waiting", each.waiting), ("later", each.later), ("running", each.running)):
                jobs.add_metric([each.pool, each.type, state], count)
            age.add_metric([each.pool, each.type], each.oldest_seconds or 0.0)
        yield from (jobs, age)
