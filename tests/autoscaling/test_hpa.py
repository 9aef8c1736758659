"""A HorizontalPodAutoscaler raises and lowers a pool by what metrics-server says of its pods, on a real node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.aggregated import aggregated, listens
from tests.support.chronicle import chronicle
from tests.support.cluster.binaries import find_binaries
from tests.support.cluster.components import Components
from tests.support.cluster.fixtures import Node
from tests.support.cluster.installation import NAMESPACE
from tests.support.cluster.modules import METRICS_SERVER
from tests.support.manifests import MANIFESTS
from tests.support.operators import eventually
from tests.support.pod_pool import pod_pool
from tests.support.ports import free_port
from tests.support.table import sql

pytestmark = [
    pytest.mark.autoscaling,
    pytest.mark.slow,
    pytest.mark.xdist_group("node"),
    pytest.mark.timeout(900),
]

SECONDS_TO_SCALE = 240.0
"""Metrics come every 10 s, and of two points; the HPA looks every 15 s."""
RESOURCES = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
"""Of which an idle worker uses little, and one that computes much, on a machine that does much else too."""


@pytest.fixture
def metrics(node: Node, tmp_path: Path) -> Iterator[None]:
    """metrics-server, beside the node."""
    port = free_port(node.machine)
    (tmp_path / "log").mkdir()
    kubeconfig = node.cluster.kubeconfig
    with Components(tmp_path) as components:
        components.start(
            find_binaries(METRICS_SERVER)["metrics-server"].path,
            kubeconfig=kubeconfig,
            authentication_kubeconfig=kubeconfig,
            authorization_kubeconfig=kubeconfig,
            bind_address=node.machine,
            secure_port=port,
            cert_dir=tmp_path / "certificates",
            kubelet_insecure_tls="true",
            kubelet_preferred_address_types="InternalIP",
            metric_resolution="10s",
            # It has to be the shorter one.
            kubelet_request_timeout="9s",
        )
        components.wait("metrics-server", "listen", lambda: listens(node.machine, port))
        with aggregated(node.cluster, "metrics.k8s.io", node.machine, port):
            yield


@pytest.mark.usefixtures("metrics")
def test_hpa_raises_a_pool_whose_workers_compute_and_lowers_it_when_they_are_idle(node: Node) -> None:
    _, policy = yaml.safe_load_all((MANIFESTS / "autoscaling" / "hpa.yaml").read_text(encoding="utf-8"))
    template = {"spec": {"containers": [{"name": "worker", "resources": RESOURCES}]}}
    with (
        chronicle() as notes,
        pod_pool(node.cluster, node.database_url, replicas=1, maxWorkers=3, template=template) as pool,
    ):
        pool.wait(ready=1)
        notes.note("one worker is ready")
        policy["metadata"] = {"name": pool.name, "namespace": NAMESPACE}
        policy["spec"]["scaleTargetRef"]["name"] = pool.name
        policy["spec"] |= {"maxReplicas": 3}
        policy["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 15
        pool.kubectl("apply", "-f", "-", input=json.dumps(policy))
        try:
            submit = "select workerjobs.submit('computed', %s::json, pool => %s) from generate_series(1, 2000)"
            sql(node.database_url, submit, json.dumps({"seconds": 2}), pool.name)
            notes.note("jobs that compute are submitted")
            eventually(lambda: pool.status()["ready"] >= 2, seconds=SECONDS_TO_SCALE, every=0.5)
            notes.note("more than one worker is ready")
            assert pool.status()["reason"] == "ReplicasSet"
            sql(node.database_url, 'delete from "workerJobs" where pool = %s and started is null', pool.name)
            notes.note("no job is left but those that run")
            eventually(lambda: pool.status()["replicas"] == 1, seconds=SECONDS_TO_SCALE, every=0.5)
            notes.note("one worker is left")
        finally:
            notes.note_events(node.cluster, NAMESPACE, "HorizontalPodAutoscaler", name=pool.name)
            pool.kubectl("delete", "hpa", pool.name)
        unhurt = "success and attempt = 1 and rescues = 0"
        counts = f'select count(*), count(*) filter (where {unhurt}) from "workerJobs" where pool = %s'
        ((jobs, succeeded),) = sql(node.database_url, counts, pool.name)
        notes.note(f"{jobs} jobs ran, {succeeded} of them succeeded at the first attempt")
        assert jobs == succeeded > 0
