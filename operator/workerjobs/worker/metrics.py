"""What a worker counts, for Prometheus.

What comes with every job is counted in plain numbers, which become metrics when someone asks: the client library's own
counters take several microseconds a job, as much as running a tiny one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome
from workerjobs.worker.running import StopReason

_DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600)
_STATEMENT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
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
        self.settled: Tally[tuple[str, str]] = Tally()
        self.durations: defaultdict[str, _Distribution] = defaultdict(lambda: _Distribution(_DURATION_BUCKETS))
        self.pickups = _Distribution(_PICKUP_BUCKETS)
        self.claims = _Distribution(_STATEMENT_BUCKETS)
        self.settlements = _Distribution(_STATEMENT_BUCKETS)

    def collect(self) -> Iterator[Metric]:
        settled = CounterMetricFamily("workerjobs_jobs_settled", "Runs settled.", labels=["type", "outcome"])
        for (job_type, outcome), count in list(self.settled.items()):
            settled.add_metric([job_type, outcome], count)
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
        claims = HistogramMetricFamily(
            "workerjobs_claim_duration_seconds", "Statements that claim jobs, also those that found none."
        )
        claims.add_metric([], *self.claims.family())
        yield claims
        settlements = HistogramMetricFamily(
            "workerjobs_settle_duration_seconds", "Statements that store how jobs ended, many at once."
        )
        settlements.add_metric([], *self.settlements.family())
        yield settlements


class Refused(StrEnum):
    """What was not stored of an outcome; a metric's label."""

    RESULT = "result"
    ROW = "row"
    LEASE = "lease"
    FOLLOW_UP = "follow_up"


def _label(reason: StopReason) -> str:
    return reason.replace(" ", "_")


def _renewal(is_held: bool) -> str:
    return "renewed" if is_held else "lost"


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
        self._listening = Gauge(
            "workerjobs_listening",
            "1 while the database's announcements are heard; 0: they are looked for every 2 s to 30 s.",
            registry=self.registry,
        )
        self._unstored = Gauge(
            "workerjobs_settlements_waiting",
            "Jobs that have ended here and whose outcome is not stored yet.",
            registry=self.registry,
        )
        self._refused = Counter(
            "workerjobs_settlements_refused_total",
            "Outcomes that were not stored as they came: the result or the row was refused, the lease was lost, or the "
            "row that should follow was refused.",
            ["reason"],
            registry=self.registry,
        )
        self._renewals = Counter(
            "workerjobs_lease_renewals_total",
            "Leases that were to be renewed; those lost belong to another worker now.",
            ["outcome"],
            registry=self.registry,
        )
        self._stopped = Counter(
            "workerjobs_jobs_stopped_total", "Runs that were told to end.", ["reason"], registry=self.registry
        )
        # There from the start, so that the first one is an increase.
        for reason in Refused:
            self._refused.labels(reason)
        for is_held in (True, False):
            self._renewals.labels(_renewal(is_held))
        for stop_reason in StopReason:
            self._stopped.labels(_label(stop_reason))

    def watch_children(self, state: str, count: Callable[[], float]) -> None:
        """Read the number of children in a state when metrics are asked for."""
        self._children.labels(state).set_function(count)

    def watch_running(self, count: Callable[[], float]) -> None:
        """Read the number of leased jobs when metrics are asked for."""
        self._running.set_function(count)

    def watch_database(self, is_up: Callable[[], bool]) -> None:
        """Read whether the database answers when metrics are asked for."""
        self._database_up.set_function(lambda: float(is_up()))

    def watch_listening(self, is_listening: Callable[[], bool]) -> None:
        """Read whether announcements are heard when metrics are asked for."""
        self._listening.set_function(lambda: float(is_listening()))

    def watch_unstored(self, count: Callable[[], float]) -> None:
        """Read the number of outcomes that wait to be stored when metrics are asked for."""
        self._unstored.set_function(count)

    def claimed(self, jobs: Sequence[Job]) -> None:
        """Count claims, by how long the jobs had waited."""
        add = self._runs.pickups.add
        for job in jobs:
            assert job.started is not None
            waited = job.started - (max(job.due, job.created_at))
            add(max(0.0, waited.total_seconds()))

    def claim_took(self, seconds: float) -> None:
        """Count a statement that claimed."""
        self._runs.claims.add(seconds)

    def settle_took(self, seconds: float) -> None:
        """Count a statement that settled."""
        self._runs.settlements.add(seconds)

    def refused(self, reason: Refused) -> None:
        """Count an outcome that was not stored as it came."""
        self._refused.labels(reason).inc()

    def renewed(self, held: int, lost: int) -> None:
        """Count renewals of leases."""
        self._renewals.labels(_renewal(True)).inc(held)
        self._renewals.labels(_renewal(False)).inc(lost)

    def stopped(self, reason: StopReason) -> None:
        """Count a run that was told to end."""
        self._stopped.labels(_label(reason)).inc()

    def settled(self, job: Job, outcome: Outcome, *, is_cancelled: bool = False) -> None:
        """Count the end of a run, and how long it took."""
        name = "succeeded" if outcome.success else "cancelled" if is_cancelled else "failed"
        self._runs.settled[job.type, name] += 1
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
