"""What a worker counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome

_DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600)
_PICKUP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300)


class WorkerMetrics:
    """Counters of one supervisor, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._settled = Counter(
            "workerjobs_jobs_settled_total", "Runs settled.", ["type", "outcome"], registry=self.registry
        )
        self._released = Counter(
            "workerjobs_jobs_released_total",
            "Runs given back unfinished at shutdown.",
            ["type"],
            registry=self.registry,
        )
        self._rescued = Counter(
            "workerjobs_jobs_rescued_total", "Runs taken from lost workers.", ["type"], registry=self.registry
        )
        self._duration = Histogram(
            "workerjobs_job_duration_seconds",
            "From the claim to the end of a run.",
            ["type"],
            buckets=_DURATION_BUCKETS,
            registry=self.registry,
        )
        self._pickup = Histogram(
            "workerjobs_job_pickup_seconds",
            "From a job's due moment (or its creation, if later) to its claim.",
            buckets=_PICKUP_BUCKETS,
            registry=self.registry,
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

    def claimed(self, job: Job) -> None:
        """Count a claim, by how long the job had waited."""
        assert job.started is not None
        self._pickup.observe(max(0.0, (job.started - max(job.due, job.created_at)).total_seconds()))

    def settled(self, job: Job, outcome: Outcome, now: datetime) -> None:
        """Count the end of a run."""
        self._settled.labels(job.type, "succeeded" if outcome.success else "failed").inc()
        if job.started is not None:
            self._duration.labels(job.type).observe(max(0.0, (now - job.started).total_seconds()))

    def released(self, job: Job) -> None:
        """Count a run given back."""
        self._released.labels(job.type).inc()

    def rescued(self, job: Job) -> None:
        """Count a run taken from a lost worker."""
        self._rescued.labels(job.type).inc()

    def child_lost(self) -> None:
        """Count a child that took its job with it."""
        self._lost_children.inc()
