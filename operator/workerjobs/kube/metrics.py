"""What the operator counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PASS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_KINDS = ("OOM-killed", "evicted", "preempted", "killed", "exit code", "gone", "out of service")


LOOKS = ("workerjobs", "deleted", "workerpools")


class _Facts(Collector):
    """What is known elsewhere, read when metrics are asked for."""

    def __init__(self) -> None:
        self.transitions: Callable[[], int] = lambda: 0
        self.pools: Callable[[], Mapping[str, Mapping[str, Any]]] = dict

    def collect(self) -> Iterator[Metric]:
        transitions = CounterMetricFamily(
            "workerjobs_operator_leader_transitions", "How often the Lease has changed hands."
        )
        transitions.add_metric([], self.transitions())
        yield transitions
        desired = GaugeMetricFamily(
            "workerjobs_workerpool_desired_pods", "Pods that a WorkerPool is to have.", labels=["workerpool"]
        )
        pods = GaugeMetricFamily(
            "workerjobs_workerpool_pods",
            "Pods of a WorkerPool: all, and of these ready, busy, idle and draining ones.",
            labels=["workerpool", "state"],
        )
        backlog = GaugeMetricFamily(
            "workerjobs_workerpool_backlog_jobs",
            "Due jobs that a WorkerPool's workers could run.",
            labels=["workerpool"],
        )
        for name, status in self.pools().items():
            if "desired" not in status:
                continue
            desired.add_metric([name], status["desired"])
            backlog.add_metric([name], status["backlog"])
            for state, key in (("all", "replicas"), *((each, each) for each in ("ready", "busy", "idle", "draining"))):
                pods.add_metric([name, state], status[key])
        yield from (desired, pods, backlog)


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
        self._facts = _Facts()
        self.registry.register(self._facts)
        self._failures = Counter(
            "workerjobs_operator_failures_total",
            "Looks at resources that failed and are tried again: at WorkerJobs, at deleted ones, at WorkerPools.",
            ["what"],
            registry=self.registry,
        )
        for what in LOOKS:
            self._failures.labels(what)
        self._listening = Gauge(
            "workerjobs_listening",
            "1 while the database's announcements are heard; 0: they are looked for every 10 s.",
            registry=self.registry,
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
        self._facts.transitions = transitions

    def watch_pools(self, statuses: Callable[[], Mapping[str, Mapping[str, Any]]]) -> None:
        """Read what WorkerPools say of themselves, by "namespace/name", when metrics are asked for."""
        self._facts.pools = statuses

    def watch_listening(self, is_listening: Callable[[], bool]) -> None:
        """Read whether announcements are heard when metrics are asked for."""
        self._listening.set_function(lambda: float(is_listening()))

    def failed(self, what: str) -> None:
        """Count a look that failed; ``what`` is one of `LOOKS`."""
        self._failures.labels(what).inc()

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
