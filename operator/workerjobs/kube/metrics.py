"""What the operator counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PASS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_KINDS = ("OOM-killed", "evicted", "preempted", "killed", "exit code", "gone", "out of service")


class OperatorMetrics:
    """Counters of one operator, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._passes = Histogram(
            "workerjobs_operator_reconcile_seconds",
            "Passes over WorkerJobs that had changed.",
            buckets=_PASS_BUCKETS,
            registry=self.registry,
        )
        self._queue = Gauge("workerjobs_operator_queue", "WorkerJobs to be looked at.", registry=self.registry)
        self._calls = Counter(
            "workerjobs_operator_api_calls_total",
            "Calls of the Kubernetes API; code 0 is one without an answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._is_leader = Gauge(
            "workerjobs_operator_is_leader", "1 while this operator is the one that acts.", registry=self.registry
        )
        self._transitions = Gauge(
            "workerjobs_operator_leader_transitions", "How often the Lease has changed hands.", registry=self.registry
        )
        self._watch_age = Gauge(
            "workerjobs_operator_watch_age_seconds",
            "Time since the cluster last told anything of worker pods; a working watch tells every minute.",
            registry=self.registry,
        )
        self._released = Counter(
            "workerjobs_operator_jobs_released_total",
            "Jobs taken from workers whose pod or node was lost, by how it was.",
            ["how"],
            registry=self.registry,
        )

    def watch_queue(self, length: Callable[[], float]) -> None:
        """Read the number of dirty resources when metrics are asked for."""
        self._queue.set_function(length)

    def watch_leadership(self, is_leader: Callable[[], bool], transitions: Callable[[], int]) -> None:
        """Read who leads when metrics are asked for."""
        self._is_leader.set_function(lambda: float(is_leader()))
        self._transitions.set_function(transitions)

    def watch_pods(self, seconds_since_heard: Callable[[], float]) -> None:
        """Read the age of the watch when metrics are asked for."""
        self._watch_age.set_function(seconds_since_heard)

    def passed(self, seconds: float) -> None:
        """Count a pass over dirty resources."""
        self._passes.observe(seconds)

    def api_called(self, verb: str, resource: str, code: int) -> None:
        """Count a call of the Kubernetes API."""
        self._calls.labels(verb, resource, str(code)).inc()

    def released(self, reason: str) -> None:
        """Count a job that was taken from a lost worker."""
        self._released.labels(next((kind for kind in _KINDS if kind in reason), "ended")).inc()
