"""A HorizontalPodAutoscaler raises and lowers a pool by what metrics-server says of its pods, on a real node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.aggregated import aggregated, free_port
from tests.support.cluster.binaries import find_binaries
from tests.support.cluster.components import Components
from tests.support.cluster.fixtures import Node
from tests.support.cluster.modules import METRICS_SERVER
from tests.support.manifests import MANIFESTS
from tests.support.operators import eventually
from tests.support.pod_pool import pod_pool
from tests.support.table import sql

pytestmark = [pytest.mark.autoscaling, pytest.mark.slow, pytest.mark.timeout(900)]

SECONDS_TO_SCALE = 180.0
"""Metrics come every 10 s, and of two points; the HPA looks every 15 s."""


@pytest.fixture
def metrics(node: Node, tmp_path: Path) -> Iterator[None]:
    """metrics-server, beside the node."""
    # This machine, on the node's network.
    address = urlsplit(node.database_url).hostname
    assert address is not None
    port = free_port(address)
    (tmp_path / "log").mkdir()
    kubeconfig = node.cluster.kubeconfig
    with Components(tmp_path) as components:
        components.start(
            find_binaries(METRICS_SERVER)["metrics-server"].path,
            kubeconfig=kubeconfig,
            authentication_kubeconfig=kubeconfig,
            authorization_kubeconfig=kubeconfig,
            bind_address=address,
            secure_port=port,
            cert_dir=tmp_path / "certificates",
            kubelet_insecure_tls="true",
            kubelet_preferred_address_types="InternalIP",
            metric_resolution="10s",
        )
        with aggregated(node.cluster, "metrics.k8s.io", address, port):
            yield


@pytest.mark.usefixtures("metrics")
def test_hpa_raises_a_pool_whose_workers_compute_and_lowers_it_when_they_are_idle(node: Node) -> None:
    _, policy = yaml.safe_load_all((MANIFESTS / "autoscaling" / "hpa.yaml").read_text(encoding="utf-8"))
    with pod_pool(node.cluster, node.database_url, replicas=1, maxWorkers=3) as pool:
        pool.wait(ready=1)
        policy["metadata"] = {"name": pool.name, "namespace": "workerjobs"}
        policy["spec"]["scaleTargetRef"]["name"] = pool.name
        policy["spec"] |= {"maxReplicas": 3}
        policy["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 15
        pool.kubectl("apply", "-f", "-", input=json.dumps(policy))
        try:
            submit = "select workerjobs.submit('computed', %s::json, pool => %s) from generate_series(1, 500)"
            sql(node.database_url, submit, json.dumps({"seconds": 2}), pool.name)
            eventually(lambda: pool.status()["ready"] >= 2, seconds=SECONDS_TO_SCALE, every=0.5)
            assert pool.status()["reason"] == "ReplicasSet"
            sql(node.database_url, 'delete from "workerJobs" where pool = %s and started is null', pool.name)
            eventually(lambda: pool.status()["replicas"] == 1, seconds=SECONDS_TO_SCALE, every=0.5)
        finally:
            pool.kubectl("delete", "hpa", pool.name)
        failed = 'select count(*) from "workerJobs" where pool = %s and (success is false or rescues > 0)'
        assert sql(node.database_url, failed, pool.name) == [(0,)]
