"""A real Karpenter makes and takes away nodes for workers; nodes and pods are kwok's, the rest is real.

Karpenter runs with the provider that it is developed with: its nodes are objects of the API, and kwok says of them and
of their pods what kubelets would. What workers would write into the tables, the tests do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chronicle import Chronicle, chronicle
from tests.support.cluster.binaries import find_binaries
from tests.support.cluster.components import Components
from tests.support.cluster.controlplane import Cluster, shared_cluster
from tests.support.cluster.modules import CONTROL_PLANE, KARPENTER, KWOK
from tests.support.definitions import definition_files, module_folders
from tests.support.manifests import MANIFESTS
from tests.support.operators import Operators, eventually, install_definition, operators
from tests.support.pools import WorkerPools, finish_jobs, obey, show_worker
from workerjobs.kube.protection import PROTECTING

pytestmark = [pytest.mark.autoscaling, pytest.mark.slow, pytest.mark.timeout(600)]

POLICY = MANIFESTS / "autoscaling" / "karpenter.yaml"
NAMESPACE = "workerjobs"
POOL = "burst-nodes"
DEFINITIONS = (
    *("nodepools.karpenter.sh", "nodeclaims.karpenter.sh", "nodeoverlays.karpenter.sh"),
    *("capacitybuffers.autoscaling.x-k8s.io", "kwoknodeclasses.karpenter.kwok.sh"),
)
STAGES = ("node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease", "pod/fast/pod-ready",
          "pod/fast/pod-delete")  # fmt: skip
PATIENCE_SECONDS = 180.0
"""Karpenter waits for more pods before it makes a node, and after a change before it takes one away."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that knows the resources of Karpenter, and has no nodes."""
    with shared_cluster(tmp_path_factory.mktemp("cluster") / "cluster") as cluster:
        install_definition(cluster)
        for file in definition_files(*DEFINITIONS):
            cluster.kubectl("apply", "--server-side", "-f", str(file))
        for name in DEFINITIONS:
            cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
        yield cluster


@pytest.fixture(scope="module")
def karpenter(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Karpenter, the scheduler, and kwok in the kubelets' place; gives Karpenter's log."""
    folder = tmp_path_factory.mktemp("karpenter")
    (folder / "log").mkdir()
    stages = module_folders(KWOK.folder, KWOK.source)[KWOK.source] / "kustomize" / "stage"
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "DISABLE_LEADER_ELECTION": "true",
        # Any free ones: nobody asks there.
        "METRICS_PORT": "0",
        "HEALTH_PROBE_PORT": "0",
    }
    with Components(folder, environment=environment) as components:
        components.start(
            find_binaries(CONTROL_PLANE, ["kube-scheduler"])["kube-scheduler"].path,
            kubeconfig=cluster.kubeconfig,
            leader_elect="false",
            secure_port=0,
        )
        components.start(
            find_binaries(KWOK)["kwok"].path,
            kubeconfig=cluster.kubeconfig,
            config=",".join(str(stages / f"{stage}.yaml") for stage in STAGES),
            manage_all_nodes="false",
            manage_nodes_with_annotation_selector="kwok.x-k8s.io/node=fake",
            node_lease_duration_seconds=40,
        )
        components.start(find_binaries(KARPENTER)["karpenter"].path)
        yield components.log("karpenter")


@pytest.fixture
def operator(cluster: Cluster, tmp_path: Path, database_url: str) -> Iterator[Operators]:
    """An operator of the policies' namespace."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    with operators(tmp_path, cluster.kubeconfig, database_url, NAMESPACE) as started:
        started.start()
        yield started


def policy() -> list[dict[str, Any]]:
    """The manifests of docs/autoscaling.md, with kwok's provider in place of AWS's and shorter waits."""
    node_pool, pool = yaml.safe_load_all(POLICY.read_text(encoding="utf-8"))
    node_pool["spec"]["template"]["spec"]["nodeClassRef"] = {
        "group": "karpenter.kwok.sh",
        "kind": "KWOKNodeClass",
        "name": "default",
    }
    node_pool["spec"]["disruption"] |= {"consolidateAfter": "2s", "budgets": [{"nodes": "100%"}]}
    # One pod a node.
    pool["spec"]["template"]["spec"]["affinity"] = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "labelSelector": {"matchLabels": {"quickdapp.xyz/pool": POOL}},
                    "topologyKey": "kubernetes.io/hostname",
                }
            ]
        }
    }
    node_class = {"apiVersion": "karpenter.kwok.sh/v1alpha1", "kind": "KWOKNodeClass", "metadata": {"name": "default"}}
    return [node_class, node_pool, pool | {"spec": pool["spec"] | {"workerCount": 2}}]


def ready(pools: WorkerPools) -> list[dict[str, Any]]:
    """The pool's pods that are ready."""
    return [
        pod
        for pod in pools.pods(POOL)
        if any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
    ]


def nodes(cluster: Cluster) -> set[str]:
    """Names of all nodes."""
    return set(cluster.kubectl("get", "nodes", "--output=name").stdout.split())


def note_log(notes: Chronicle, log: Path) -> None:
    """Add what Karpenter says of its deeds."""
    for said in map(json.loads, log.read_text().splitlines()):
        if "reconcileID" in said:
            of = next((said[kind]["name"] for kind in ("Node", "NodeClaim") if kind in said), "")
            notes.note(f"Karpenter: {said['message']} {of}".rstrip(), datetime.fromisoformat(said["time"]))


def test_karpenter_makes_nodes_for_pending_workers_and_leaves_a_busy_ones_node_alone(
    cluster: Cluster, operator: Operators, database_url: str, karpenter: Path
) -> None:
    pools = WorkerPools(cluster, NAMESPACE)
    assert nodes(cluster) == set()
    with chronicle() as notes:
        try:
            _run(pools, database_url, notes)
        finally:
            note_log(notes, karpenter)


def _run(pools: WorkerPools, database_url: str, notes: Chronicle) -> None:
    cluster = pools.cluster
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": policy()}))
    notes.note("a pool of two workers is made, in a cluster without nodes")
    eventually(lambda: len(ready(pools)) == 2, seconds=PATIENCE_SECONDS, every=0.3)
    busy, idle = ready(pools)
    places = [pod["spec"]["nodeName"] for pod in (busy, idle)]
    assert nodes(cluster) == {f"node/{name}" for name in places}
    notes.note("both are ready, each on a node of its own")

    # Both nodes have to go.
    owner = show_worker(database_url, busy, pool=POOL, running=1)
    show_worker(database_url, idle, pool=POOL)
    name = busy["metadata"]["name"]
    eventually(lambda: PROTECTING.items() <= pools.read("pod", name)["metadata"].get("annotations", {}).items())
    cluster.kubectl("delete", "nodeclaims", "--all", "--wait=false")
    notes.note(f"both nodes have to go; the worker on {places[0]} is busy")
    eventually(lambda: f"node/{places[1]}" not in nodes(cluster), seconds=PATIENCE_SECONDS, every=0.3)
    notes.note(f"the idle worker's node {places[1]} is gone")
    # Its pod has another; the busy one's is marked, and stays.
    eventually(
        lambda: {pod["spec"]["nodeName"] for pod in ready(pools)} > {places[0]}, seconds=PATIENCE_SECONDS, every=0.3
    )
    notes.note("in its place another worker is ready, on a new node")
    taints = [each["key"] for each in pools.read("node", places[0])["spec"]["taints"]]
    assert "karpenter.sh/disrupted" in taints
    assert "deletionTimestamp" not in pools.read("pod", name)["metadata"]

    # With the job's end it may go.
    finish_jobs(database_url, owner)
    notes.note("the busy worker's job has ended")
    eventually(lambda: f"node/{places[0]}" not in nodes(cluster), seconds=PATIENCE_SECONDS, every=0.3)
    notes.note(f"its node {places[0]} is gone")
    eventually(lambda: len(ready(pools)) == 2, seconds=PATIENCE_SECONDS, every=0.3)

    # Nothing is to be done: no pod is left, and no node.
    for pod in ready(pools):
        show_worker(database_url, pod, pool=POOL)
    pools.patch(POOL, workerCount=0)
    notes.note("the pool is set to no workers")
    eventually(lambda: _obeyed(database_url, pools), seconds=PATIENCE_SECONDS, every=0.3)
    eventually(lambda: nodes(cluster) == set(), seconds=PATIENCE_SECONDS, every=0.3)
    notes.note("no node is left")


def _obeyed(database_url: str, pools: WorkerPools) -> bool:
    """Whether no pod is left, once all that are asked to drain have said that they do."""
    obey(database_url)
    return pools.pods(POOL) == []
