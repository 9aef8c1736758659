"""Metrics of watched chains. The jobs that watch run in children; what they note in the table is shown from here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workerjobs.ports.chains import ChainStore, FilterCursor
from workerjobs.worker.duty import Duty

LOOK_SECONDS = 10.0

_GAUGES = {
    "head_block": ("head_number", "The newest block that an endpoint has shown."),
    "cursor_block": ("number", "The last processed block."),
    "final_block": ("final_number", "The newest processed block that can't be undone any more."),
    "deepest_reorg_blocks": ("deepest_reorg", "Blocks of the deepest reorganisation that was undone."),
}
_COUNTERS = {
    "blocks": ("blocks", "Blocks processed."),
    "logs": ("logs", "Logs processed."),
    "logs_undecodable": ("undecodable", "Logs that could not be decoded or handled."),
    "reorgs": ("reorgs", "Reorganisations undone."),
    "effects_revoked": ("revoked", "Effects of logs that reorganisations undid."),
}


class ChainMetrics(Duty, Collector):
    """Reads the state of all chains now and then.

    Args:
        open_store: Opens the tables of watched chains.
        registry: Where the metrics are shown.
    """

    def __init__(self, open_store: Callable[[], Awaitable[ChainStore]], registry: CollectorRegistry) -> None:
        super().__init__()
        self._open_store = open_store
        self._store: ChainStore | None = None
        self._chains: list[Mapping[str, Any]] = []
        self._endpoints: list[Mapping[str, Any]] = []
        self._filters: list[FilterCursor] = []
        registry.register(self)

    async def step(self) -> float | None:
        """Read anew."""
        if self._store is None:
            self._store = await self._open_store()
        self._chains = await self._store.chains()
        self._endpoints = await self._store.endpoints()
        self._filters = await self._store.filter_cursors()
        return LOOK_SECONDS

    async def stop(self) -> None:
        """End, and give the connection back."""
        await super().stop()
        if self._store is not None:
            await self._store.close()

    def collect(self) -> Iterator[Metric]:
        """Give the metrics as of the last look."""
        chains, endpoints, now = self._chains, self._endpoints, time.time()
        for name, (column, text) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"workerjobs_chain_{name}", text, labels=["chain"])
            for each in chains:
                gauge.add_metric([each["chain"]], each[column])
            yield gauge
        for name, (column, text) in _COUNTERS.items():
            counter = CounterMetricFamily(f"workerjobs_chain_{name}", text, labels=["chain"])
            for each in chains:
                counter.add_metric([each["chain"]], each[column])
            yield counter
        lag = GaugeMetricFamily("workerjobs_chain_lag_blocks", "Blocks behind the head.", labels=["chain"])
        seconds = GaugeMetricFamily(
            "workerjobs_chain_lag_seconds",
            "Age of the last processed block, by the clock here; of a chain without new blocks it grows as well.",
            labels=["chain"],
        )
        halted = GaugeMetricFamily(
            "workerjobs_chain_halted", "1 while nothing is processed until somebody decides.", labels=["chain"]
        )
        for each in chains:
            labels = [each["chain"]]
            lag.add_metric(labels, max(0, each["head_number"] - each["number"]))
            seconds.add_metric(labels, max(0.0, now - each["block_time"].timestamp()))
            halted.add_metric(labels, float(each["condition"] is not None))
        yield from (lag, seconds, halted)
        behind = GaugeMetricFamily(
            "workerjobs_chain_filter_lag_blocks",
            "Blocks that a filter with a start block of its own is behind its chain's cursor.",
            labels=["chain", "filter"],
        )
        for cursor in self._filters:
            behind.add_metric([cursor.chain, cursor.filter], cursor.behind)
        yield behind
        requests = CounterMetricFamily(
            "workerjobs_chain_rpc_requests", "Calls that endpoints answered.", labels=["chain", "endpoint"]
        )
        errors = CounterMetricFamily(
            "workerjobs_chain_rpc_errors", "Errors of endpoints.", labels=["chain", "endpoint", "class"]
        )
        latency = GaugeMetricFamily(
            "workerjobs_chain_rpc_latency_seconds", "How long requests take of late.", labels=["chain", "endpoint"]
        )
        head = GaugeMetricFamily(
            "workerjobs_chain_rpc_head_block", "The newest block an endpoint has shown.", labels=["chain", "endpoint"]
        )
        for each in endpoints:
            labels = [each["chain"], each["endpoint"]]
            requests.add_metric(labels, each["requests"])
            for kind, count in each["errors"].items():
                errors.add_metric([*labels, kind], count)
            if each["latency_ms"] is not None:
                latency.add_metric(labels, each["latency_ms"] / 1000)
            if each["head_number"] is not None:
                head.add_metric(labels, each["head_number"])
        yield from (requests, errors, latency, head)
