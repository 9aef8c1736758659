"""What a worker counts, for Prometheus.

What comes with every job is counted in plain numbers, which become metrics when someone asks: the client library's own
counters take several microseconds a job, as much as running a tiny one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome

_DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600)
_PICKUP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300)


class _Distribution:
    """Counts by size."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def family(self) -> tuple[list[tuple[str, float]], float]:
        """Give cumulative counts by upper bound, and the sum."""
        total, buckets = 0, []
        for bound, count in zip((*map(float, self._bounds), float("inf")), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return buckets, self._sum


class _Runs(Collector):
    """Claims and ends of runs."""

    def __init__(self) -> None:
        self.settled: Tally[tuple[str, bool]] = Tally()
        self.durations: defaultdict[str, _Distribution] = defaultdict(lambda: _Distribution(_DURATION_BUCKETS))
        self.pickups = _Distribution(_PICKUP_BUCKETS)

    def collect(self) -> Iterator[Metric]:
        settled = CounterMetricFamily("workerjobs_jobs_settled", "Runs settled.", labels=["type", "outcome"])
        for (job_type, success), count in list(self.settled.items()):
            settled.add_metric([job_type, "succeeded" if success else "failed"], count)
        yield settled
        durations = HistogramMetricFamily(
            "workerjobs_job_duration_seconds", "From a run's start to its end.", labels=["type"]
        )
        for job_type, distribution in list(self.durations.items()):
            durations.add_metric([job_type], *distribution.family())
        yield durations
        pickups = HistogramMetricFamily(
            "workerjobs_job_pickup_seconds", "From a job's due moment (or its creation, if later) to its claim."
        )
        pickups.add_metric([], *self.pickups.family())
        yield pickups


class WorkerMetrics:
    """Counters of one supervisor, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._runs = _Runs()
        self.registry.register(self._runs)
        self._released = Counter(
            "workerjobs_jobs_released_total",
            "Runs given back unfinished at shutdown.",
            ["type"],
            registry=self.registry,
        )
        self._rescued = Counter(
            "workerjobs_jobs_rescued_total", "Runs taken from lost workers.", ["type"], registry=self.registry
        )
        self._children = Gauge("workerjobs_children", "Child processes.", ["state"], registry=self.registry)
        self._lost_children = Counter(
            "workerjobs_children_lost_total",
            "Child processes that ended with a job unfinished.",
            registry=self.registry,
        )
        self._database_up = Gauge(
            "workerjobs_database_up", "1 while the database answers this worker.", registry=self.registry
        )
        self._running = Gauge("workerjobs_jobs_running", "Jobs leased to this worker.", registry=self.registry)

    def watch_children(self, state: str, count: Callable[[], float]) -> None:
        """Read the number of children in a state when metrics are asked for."""
        self._children.labels(state).set_function(count)

    def watch_running(self, count: Callable[[], float]) -> None:
        """Read the number of leased jobs when metrics are asked for."""
        self._running.set_function(count)

    def watch_database(self, is_up: Callable[[], bool]) -> None:
        """Read whether the database answers when metrics are asked for."""
        self._database_up.set_function(lambda: float(is_up()))

    def claimed(self, jobs: Sequence[Job]) -> None:
        """Count claims, by how long the jobs had waited."""
        add = self._runs.pickups.add
        for job in jobs:
            assert job.started is not None
            waited = job.started - (max(job.due, job.created_at))
            add(max(0.0, waited.total_seconds()))

    def settled(self, job: Job, outcome: Outcome) -> None:
        """Count the end of a run, and how long it took."""
        self._runs.settled[job.type, outcome.success] += 1
        self._runs.durations[job.type].add(outcome.seconds)

    def released(self, job: Job) -> None:
        """Count a run given back."""
        self._released.labels(job.type).inc()

    def rescued(self, job: Job) -> None:
        """Count a run taken from a lost worker."""
        self._rescued.labels(job.type).inc()

    def child_lost(self) -> None:
        """Count a child that took its job with it."""
        self._lost_children.inc()
