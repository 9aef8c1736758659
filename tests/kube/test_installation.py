"""manifests/: what `kubectl apply` installs works with the rights that it gives, and the samples reach their ends."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.controlplane import Cluster, kubectl_program, shared_cluster
from tests.support.docs import ROOT, all_blocks
from tests.support.operators import (
    MANIFESTS,
    Operators,
    WorkerJobs,
    eventually,
    install_definition,
    kubeconfig_with_token,
    operators,
    workerjob,
)
from tests.support.pools import WorkerPools
from tests.support.table import count_rows

pytestmark = pytest.mark.cluster

SAMPLES = [
    manifest
    for file in sorted((MANIFESTS / "samples").iterdir())
    for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
INSTALLED = "workerjobs"


def expected_state(sample: dict[str, Any]) -> str:
    expected: str = sample["metadata"].get("annotations", {}).get("quickdapp.xyz/expected-state", "Succeeded")
    return expected


# --- the samples, with workers on the same database


@pytest.mark.slow
def test_samples_reach_the_states_that_they_mean_to(
    operators: Operators, jobs: WorkerJobs, worker: None, database_url: str
) -> None:
    operators.start()
    jobs.apply(workerjob("unknown", {"type": "nobodyKnows"}))
    jobs.kubectl("apply", "-f", str(MANIFESTS / "samples"))
    one_time = {
        each["metadata"]["name"]: expected_state(each) for each in SAMPLES if "cronSchedule" not in each["spec"]
    }
    cron = [each["metadata"]["name"] for each in SAMPLES if "cronSchedule" in each["spec"]]
    assert set(one_time.values()) == {"Succeeded", "Failed"}
    eventually(lambda: {name: jobs.states()[name] for name in one_time} == one_time)
    for name in cron:
        eventually(lambda name=name: "lastRun" in jobs.status(name))  # type: ignore[misc]
        assert jobs.status(name)["nextDue"] > jobs.status(name)["lastRun"]
    assert jobs.wait("unknown", "Failed")["error"] == "Unknown job type: nobodyKnows"
    # Applied again, nothing runs again.
    finished = count_rows(database_url, 'finished is not null and "cronSchedule" is null')
    jobs.kubectl("apply", "-f", str(MANIFESTS / "samples"))
    jobs.apply(workerjob("last", {"type": "countPrimes", "data": {"upTo": 10}}))
    jobs.wait("last", "Succeeded")
    assert count_rows(database_url, 'finished is not null and "cronSchedule" is null') == finished + 1


def test_every_sample_says_what_it_shows() -> None:
    for file in (MANIFESTS / "samples").iterdir():
        assert file.read_text().startswith("# "), file


def test_kustomization_holds_all_of_the_installation(cluster: Cluster) -> None:
    built = cluster.kubectl("kustomize", str(MANIFESTS)).stdout
    files = [*(MANIFESTS / "crds").iterdir(), *(MANIFESTS / "install").iterdir()]

    def names(text: str) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(text)}

    assert names(built) == set().union(*(names(file.read_text(encoding="utf-8")) for file in files))


# --- the installation, in a cluster of its own, as its names are fixed and its operator watches all namespaces


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.environ.get("WORKERJOBS_TEST_KUBECONFIG"):
        pytest.skip("WORKERJOBS_TEST_KUBECONFIG names a cluster, so none is started")
    (page,) = (block for block in all_blocks("docs/kubernetes.md", "shell") if "manifests/install" in block.text)
    assert "slow" in page.marks
    with shared_cluster(tmp_path_factory.mktemp("own") / "cluster") as cluster:
        installed = subprocess.run(
            ["bash", "-euc", page.text],
            cwd=ROOT,
            env={
                **os.environ,
                "KUBECONFIG": str(cluster.kubeconfig),
                "PATH": f"{Path(kubectl_program()).parent}:{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert installed.returncode == 0, installed.stderr
        # Such as "would violate PodSecurity".
        assert "Warning" not in installed.stderr
        install_definition(cluster)
        cluster.kubectl("create", "namespace", "shop")
        yield cluster


def installed_variables(cluster: Cluster, folder: Path) -> dict[str, str]:
    """The environment that the installed operator has, but for what belongs to its pod, and its default pool's spec."""
    read = cluster.kubectl("get", "deployment/workerjobs-operator", "-n", INSTALLED, "-o", "json").stdout
    (container,) = json.loads(read)["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    configured = json.loads(cluster.kubectl("get", "configmap/workerjobs-pool", "-n", INSTALLED, "-o", "json").stdout)
    file = folder / "pool.yaml"
    file.write_text(configured["data"]["pool.yaml"])
    given = {name: value for name, value in variables.items() if not name.startswith("WORKER_HEALTH")}
    assert given["WORKERJOBS_DEFAULT_POOL"] == "/etc/workerjobs/pool.yaml"
    return given | {"WORKERJOBS_DEFAULT_POOL": str(file), "POD_NAMESPACE": INSTALLED}


@pytest.fixture
def installed(tmp_path: Path, own_cluster: Cluster, database_url: str) -> Iterator[Operators]:
    """Operators with the rights of the installed one, watching all namespaces."""
    token = own_cluster.kubectl("create", "token", "workerjobs-operator", "-n", INSTALLED).stdout.strip()
    kubeconfig = kubeconfig_with_token(own_cluster, token, tmp_path / "kubeconfig")
    with operators(tmp_path, kubeconfig, database_url, "", WORKERJOBS_POD_NAMESPACES=INSTALLED) as started:
        yield started


def make_node(cluster: Cluster, name: str, cpu: str, **spec: Any) -> None:
    """Make a node as a kubelet would, ready; the API server and the controllers put taints onto one that is not."""
    manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    conditions = [
        {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": "2030-01-01T00:00:00Z",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }
    ]
    amounts = {"cpu": cpu, "memory": "4Gi", "pods": "110"}
    status = {"status": {"allocatable": amounts, "capacity": amounts, "conditions": conditions}}
    cluster.kubectl("patch", f"node/{name}", "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")


def wait_for_taints(cluster: Cluster, name: str, *, count: int) -> None:
    """Wait until the controllers have settled on a node's taints."""
    read = ("get", f"node/{name}", "-o", "jsonpath={.spec.taints[*].key}")
    eventually(lambda: len(cluster.kubectl(*read).stdout.split()) == count)


@pytest.mark.slow
def test_no_pod_waits_for_a_secret_after_the_commands_of_the_page(own_cluster: Cluster) -> None:
    def read(kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            own_cluster.kubectl("get", kind, "-n", INSTALLED, "-o", "json").stdout
        )["items"]
        return found

    wanted = {
        (reference["name"], reference["key"])
        for each in read("deployments")
        for container in each["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env", ())
        if (reference := variable.get("valueFrom", {}).get("secretKeyRef")) and not reference.get("optional")
    }
    there = {(each["metadata"]["name"], key) for each in read("secrets") for key in each["data"]}
    assert ("workerjobs-server", "token") in wanted
    assert wanted - there == set()


@pytest.mark.slow
def test_installed_operator_has_the_rights_that_it_needs(
    own_cluster: Cluster, installed: Operators, tmp_path: Path
) -> None:
    operator = installed.start(**installed_variables(own_cluster, tmp_path))
    elsewhere = [WorkerJobs(own_cluster, "shop"), WorkerJobs(own_cluster, "default")]
    for jobs in elsewhere:
        jobs.apply(workerjob("a"))
        jobs.wait("a", "Pending")
        # One that ends, is told of in an Event, and is deleted.
        jobs.apply(workerjob("gone", {"type": "report", "cancel": True, "ttlSecondsAfterFinished": 0}))
        jobs.kubectl("wait", "--for=delete", "wj/gone", "--timeout=50s")
        eventually(lambda jobs=jobs: "Accepted" in jobs.kubectl("get", "events").stdout)  # type: ignore[misc]
    ours, theirs = WorkerPools(own_cluster, INSTALLED), WorkerPools(own_cluster, "shop")
    ours.wait_for_replicas(2)
    # Someone's own number is put right, and pools of other namespaces are served.
    own_cluster.kubectl("scale", "deployment/workerjobs-pool-default", "-n", INSTALLED, "--replicas=7")
    ours.wait_for_replicas(2)
    theirs.apply("reports", workerCount=1)
    theirs.wait_for_replicas(1, "reports")
    # Its pods' own template is one that the namespace's rules of safety let through.
    ours.wait_for_pods(2)
    for jobs in elsewhere:
        jobs.delete("a")
    own_cluster.kubectl("delete", "wp", "reports", "-n", "shop")
    operator.stop()
    assert operator.complaints() == []


@pytest.mark.slow
def test_pool_of_cpus_has_what_fits_the_nodes(own_cluster: Cluster, installed: Operators) -> None:
    operator = installed.start()
    pools = WorkerPools(own_cluster, "shop")
    pools.apply(workerCount="cpus")  # 250m a pod
    pools.wait_for_replicas(1)
    assert pools.wait_for_status(desired=1)["reason"] == "NoNodeFits"

    make_node(own_cluster, "big", "2")
    wait_for_taints(own_cluster, "big", count=0)
    pools.wait_for_replicas(8)
    make_node(own_cluster, "small", "1100m")
    wait_for_taints(own_cluster, "small", count=0)
    pools.wait_for_replicas(12)
    make_node(own_cluster, "tainted", "64", taints=[{"key": "gpu", "effect": "NoSchedule"}])
    own_cluster.kubectl("cordon", "small")
    pools.wait_for_replicas(8)
    status = pools.wait_for_status(desired=8)
    assert status["message"] == "8 pods fit the 1 of 3 nodes that they may run on (0.250 CPUs a pod)"
    pools.patch(template={"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}, maxWorkers=20)
    pools.wait_for_replicas(20)
    own_cluster.kubectl("delete", "node", "big", "small", "tainted")
    pools.wait_for_replicas(1)
    own_cluster.kubectl("delete", "wp", "default", "-n", "shop")
    operator.stop()
    assert operator.complaints() == []


@pytest.mark.slow
def test_definition_that_is_missing_is_said_and_waited_for(own_cluster: Cluster, installed: Operators) -> None:
    """Also when it is removed under a running operator, with all that it defined."""
    own_cluster.kubectl("delete", "-f", str(MANIFESTS / "crds"))
    operator = installed.start()
    sentence = "the cluster knows no WorkerJobs or WorkerPools, apply manifests/crds first"
    eventually(lambda: any(sentence in each for each in operator.complaints()))
    jobs = WorkerJobs(own_cluster, "shop")
    for name in ("a", "b"):
        install_definition(own_cluster)
        jobs.apply(workerjob(name))
        jobs.wait(name, "Pending")
        own_cluster.kubectl("delete", "-f", str(MANIFESTS / "crds"))
    install_definition(own_cluster)
    operator.stop()
    assert not any("exception" in each for each in operator.said())
