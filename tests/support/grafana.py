"""The Grafana dashboard, made from a table of its panels: ``make manifests`` writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 24
HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
HERE = 'namespace=~"$namespace"'


@dataclass(frozen=True)
class Panel:
    """One panel; queries with their legends."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    text: str = ""
    stacked: bool = False


def quantiles(metric: str, by: str = "", legend: str = "") -> list[tuple[str, str]]:
    """Median and 99th percentile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return [
        (
            f"histogram_quantile({quantile}, sum by ({labels}) (rate({metric}_bucket{{{HERE}}}[$__rate_interval])))",
            f"p{int(quantile * 100)} {legend}".strip(),
        )
        for quantile in (0.5, 0.99)
    ]


def rate(metric: str, by: str, more: str = "") -> str:
    """Events a second."""
    return f"sum by ({by}) (rate({metric}{{{HERE}{more}}}[$__rate_interval]))"


ROWS: dict[str, Sequence[Panel]] = {
    "Queue": (
        Panel(
            "Oldest due job",
            [(f"max by (pool) (workerjobs_queue_oldest_due_age_seconds{{{HERE}}})", "{{pool}}")],
            "s",
            text="For how long the oldest job that waits has been due.",
        ),
        Panel(
            "Jobs in the table",
            [(f"sum by (state) (max by (pool, type, state) (workerjobs_queue_jobs{{{HERE}}}))", "{{state}}")],
            text="Unfinished jobs, counted up to 100,000 each.",
        ),
        Panel(
            "Due jobs by type",
            [(f'topk(10, max by (pool, type) (workerjobs_queue_jobs{{{HERE}, state="due"}}))', "{{pool}} {{type}}")],
        ),
        Panel("Runs settled", [(rate("workerjobs_jobs_settled_total", "outcome"), "{{outcome}}")], "ops", stacked=True),
        Panel(
            "Failed runs by type",
            [("topk(10, " + rate("workerjobs_jobs_settled_total", "type", ', outcome="failed"') + ")", "{{type}}")],
            "ops",
        ),
        Panel(
            "Pickup",
            quantiles("workerjobs_job_pickup_seconds"),
            "s",
            text="From a job's due moment to its claim.",
        ),
    ),
    "Workers": (
        Panel(
            "Run duration, 99th percentile",
            [("topk(10, " + quantiles("workerjobs_job_duration_seconds", "type")[1][0] + ")", "{{type}}")],
            "s",
        ),
        Panel(
            "Children",
            [(f"sum by (state) (workerjobs_children{{{HERE}}})", "{{state}}")],
            stacked=True,
        ),
        Panel(
            "Jobs leased",
            [
                (f"sum(workerjobs_jobs_running{{{HERE}}})", "leased"),
                (f"sum(workerjobs_settlements_waiting{{{HERE}}})", "ended, not stored yet"),
            ],
        ),
        Panel(
            "Runs that did not end by themselves",
            [
                (rate("workerjobs_jobs_stopped_total", "reason"), "{{reason}}"),
                (f"sum(rate(workerjobs_jobs_rescued_total{{{HERE}}}[$__rate_interval]))", "rescued"),
                (f"sum(rate(workerjobs_jobs_released_total{{{HERE}}}[$__rate_interval]))", "released"),
                (f"sum(rate(workerjobs_children_lost_total{{{HERE}}}[$__rate_interval]))", "child lost"),
            ],
            "ops",
        ),
        Panel(
            "Claim and settle",
            [
                *quantiles("workerjobs_claim_duration_seconds", legend="claim"),
                *quantiles("workerjobs_settle_duration_seconds", legend="settle"),
            ],
            "s",
            text="How long these statements take.",
        ),
        Panel(
            "Leases and refusals",
            [
                (rate("workerjobs_lease_renewals_total", "outcome"), "leases {{outcome}}"),
                (rate("workerjobs_settlements_refused_total", "reason"), "not stored: {{reason}}"),
            ],
            "ops",
        ),
        Panel(
            "Database",
            [
                (f"min(workerjobs_database_up{{{HERE}}})", "reached by all workers"),
                (f"min(workerjobs_listening{{{HERE}}})", "heard by all"),
            ],
        ),
        Panel(
            "Memory",
            [
                (
                    f"process_resident_memory_bytes{{{HERE}}} * on (instance, job) group_left (role)"
                    f" workerjobs_build_info{{{HERE}}}",
                    "{{role}} {{instance}}",
                )
            ],
            "bytes",
            text="Of the processes themselves; children of workers are not part of it.",
        ),
        Panel(
            "CPU",
            [
                (
                    f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval]) * on (instance, job)"
                    f" group_left (role) workerjobs_build_info{{{HERE}}}",
                    "{{role}} {{instance}}",
                )
            ],
            "short",
        ),
    ),
    "Operator": (
        Panel("Reconcile", quantiles("workerjobs_operator_reconcile_seconds"), "s"),
        Panel(
            "To be looked at",
            [
                (f"max(workerjobs_operator_queue{{{HERE}}})", "WorkerJobs"),
                (rate("workerjobs_operator_failures_total", "what"), "failures a second: {{what}}"),
            ],
        ),
        Panel(
            "Leader",
            [
                (f"sum(workerjobs_operator_is_leader{{{HERE}}})", "leaders"),
                (f"max(workerjobs_operator_leader_transitions_total{{{HERE}}})", "changes"),
            ],
        ),
        Panel(
            "Kubernetes API",
            [(rate("workerjobs_operator_api_calls_total", "verb, code"), "{{verb}} {{code}}")],
            "ops",
        ),
        Panel(
            "Pods of pools",
            [
                (f"max by (workerpool) (workerjobs_workerpool_desired_pods{{{HERE}}})", "{{workerpool}} desired"),
                (
                    f'max by (workerpool, state) (workerjobs_workerpool_pods{{{HERE}, state!="all"}})',
                    "{{workerpool}} {{state}}",
                ),
            ],
        ),
        Panel(
            "Backlog of pools",
            [
                (f"max by (workerpool) (workerjobs_workerpool_backlog_jobs{{{HERE}}})", "{{workerpool}}"),
                (rate("workerjobs_operator_jobs_released_total", "how"), "taken from lost pods: {{how}}"),
            ],
        ),
        Panel(
            "Watch of pods",
            [(f"max(workerjobs_operator_watch_age_seconds{{{HERE}}})", "last heard")],
            "s",
        ),
    ),
    "Chains": (
        Panel("Lag", [(f"min by (chain) (workerjobs_chain_lag_blocks{{{HERE}}})", "{{chain}}")], text="In blocks."),
        Panel(
            "Backfill",
            [(f"min by (chain, filter) (workerjobs_chain_filter_lag_blocks{{{HERE}}}) > 0", "{{chain}} {{filter}}")],
            text="Blocks that filters with a start block of their own are behind.",
        ),
        Panel("Lag in time", [(f"min by (chain) (workerjobs_chain_lag_seconds{{{HERE}}})", "{{chain}}")], "s"),
        Panel(
            "Blocks",
            [
                (f"max by (chain) (workerjobs_chain_head_block{{{HERE}}})", "{{chain}} head"),
                (f"max by (chain) (workerjobs_chain_cursor_block{{{HERE}}})", "{{chain}} processed"),
                (f"max by (chain) (workerjobs_chain_final_block{{{HERE}}})", "{{chain}} final"),
            ],
        ),
        Panel(
            "Processed",
            [
                (
                    f"max by (chain) (rate(workerjobs_chain_blocks_total{{{HERE}}}[$__rate_interval]))",
                    "{{chain}} blocks",
                ),
                (f"max by (chain) (rate(workerjobs_chain_logs_total{{{HERE}}}[$__rate_interval]))", "{{chain}} logs"),
                (
                    f"max by (chain) (rate(workerjobs_chain_logs_undecodable_total{{{HERE}}}[$__rate_interval]))",
                    "{{chain}} undecodable",
                ),
            ],
            "ops",
        ),
        Panel(
            "Reorganisations",
            [
                (f"max by (chain) (increase(workerjobs_chain_reorgs_total{{{HERE}}}[1h]))", "{{chain}} in an hour"),
                (f"max by (chain) (workerjobs_chain_deepest_reorg_blocks{{{HERE}}})", "{{chain}} deepest"),
                (
                    f"max by (chain) (increase(workerjobs_chain_effects_revoked_total{{{HERE}}}[1h]))",
                    "{{chain}} effects revoked in an hour",
                ),
            ],
        ),
        Panel(
            "Halted",
            [(f"max by (chain) (workerjobs_chain_halted{{{HERE}}})", "{{chain}}")],
            text="1: people have to decide.",
        ),
        Panel(
            "Endpoints: requests",
            [
                (
                    f"max by (chain, endpoint) (rate(workerjobs_chain_rpc_requests_total{{{HERE}}}[$__rate_interval]))",
                    "{{chain}} {{endpoint}}",
                )
            ],
            "ops",
        ),
        Panel(
            "Endpoints: errors",
            [
                (
                    "max by (chain, endpoint, class)"
                    f" (rate(workerjobs_chain_rpc_errors_total{{{HERE}}}[$__rate_interval]))",
                    "{{chain}} {{endpoint}} {{class}}",
                )
            ],
            "ops",
        ),
        Panel(
            "Endpoints: latency",
            [
                (
                    f"max by (chain, endpoint) (workerjobs_chain_rpc_latency_seconds{{{HERE}}})",
                    "{{chain}} {{endpoint}}",
                )
            ],
            "s",
        ),
        Panel(
            "Endpoints: head",
            [(f"max by (chain, endpoint) (workerjobs_chain_rpc_head_block{{{HERE}}})", "{{chain}} {{endpoint}}")],
        ),
    ),
    "Server": (
        Panel("Requests", [(rate("workerjobs_http_requests_total", "status"), "{{status}}")], "ops", stacked=True),
        Panel(
            "Answers, 99th percentile",
            [
                (
                    "topk(10, " + quantiles("workerjobs_http_request_duration_seconds", "method, route")[1][0] + ")",
                    "{{method}} {{route}}",
                )
            ],
            "s",
        ),
        Panel("Listeners", [(f"sum(workerjobs_listeners{{{HERE}}})", "connections")]),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it (schema version 39: Grafana 10 and newer)."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
                "panels": [],
            }
        )
        y += 1
        x = 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + HEIGHT
            panels.append(_panel(panel, x, y))
            x += panel.width
        y += HEIGHT
    for number, each in enumerate(panels, 1):
        each["id"] = number
    return {
        "uid": "workerjobs",
        "title": "WorkerJobs",
        "tags": ["workerjobs"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_datasource(), _namespace()]},
        "panels": panels,
    }


def dashboard_text() -> str:
    """The same as a file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def expressions() -> list[str]:
    """All queries, with Grafana's own variables replaced by what Grafana would put there."""
    return [
        query.replace("$__rate_interval", "2m").replace("$namespace", ".*")
        for row in ROWS.values()
        for panel in row
        for query, _ in panel.queries
    ]


def _panel(panel: Panel, x: int, y: int) -> dict[str, Any]:
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal"}} if panel.stacked else {"fillOpacity": 0}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for number, (query, legend) in enumerate(panel.queries)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _namespace() -> dict[str, Any]:
    return {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(workerjobs_build_info, namespace)", "refId": "namespace"},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
    }
