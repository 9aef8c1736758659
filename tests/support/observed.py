"""Every metric of every role, from the registries that the roles fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from workerjobs.app.probes import describe_process
from workerjobs.kube.metrics import OperatorMetrics
from workerjobs.web.queue_metrics import QueueMetrics
from workerjobs.web.request_metrics import RequestMetrics
from workerjobs.web.server_metrics import ServerMetrics
from workerjobs.worker.chain_metrics import ChainMetrics
from workerjobs.worker.metrics import WorkerMetrics


@dataclass(frozen=True)
class Family:
    """A metric as Prometheus knows it."""

    name: str
    """As in a query, but for a histogram's endings."""
    type: str
    labels: tuple[str, ...]
    text: str


def families_of(registry: CollectorRegistry) -> dict[str, Family]:
    """The metrics of a registry, by name; also those that have no sample yet."""
    found = {}
    for collector in registry._collector_to_names:
        for metric in collector.collect():
            name = metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
            found[name] = Family(
                name, _type_of(metric), tuple(sorted(_labels_of(metric, collector))), metric.documentation
            )
    return found


def _type_of(metric: Metric) -> str:
    return "gauge" if metric.type == "info" else metric.type


def _labels_of(metric: Metric, collector: Any) -> set[str]:
    labels = set(getattr(metric, "_labelnames", ()))
    if isinstance(collector, MetricWrapperBase):
        labels |= set(collector._labelnames)
    if metric.type == "info":
        labels |= {name for sample in metric.samples for name in sample.labels}
    return labels


def roles() -> Mapping[str, dict[str, Family]]:
    """Each role's metrics; those that all have are under ``every role``."""
    of_all = CollectorRegistry()
    describe_process(of_all, "worker")
    chain, queue, server = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    ChainMetrics(_unused, chain)
    QueueMetrics(_unused, queue)
    RequestMetrics(FastAPI(), server)
    ServerMetrics(server, listeners=lambda: 0, is_listening=lambda: True)
    return {
        "every role": families_of(of_all),
        "worker": families_of(WorkerMetrics().registry),
        "queue": families_of(queue),
        "operator": families_of(OperatorMetrics().registry),
        "chain": families_of(chain),
        "server": families_of(server),
    }


async def _unused() -> Any:
    raise AssertionError("nothing is read here")
