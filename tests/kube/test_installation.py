"""manifests/: what `kubectl apply` installs works with the rights that it gives, and the samples reach their ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.controlplane import Cluster, shared_cluster
from tests.support.operators import (
    MANIFESTS,
    Operator,
    Operators,
    WorkerJobs,
    eventually,
    install_definition,
    kubeconfig_with_token,
    operators,
    workerjob,
)
from tests.support.table import count_rows

pytestmark = pytest.mark.cluster

SAMPLES = [
    manifest
    for file in sorted((MANIFESTS / "samples").iterdir())
    for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
INSTALLED = "workerjobs"
WORKERS = f"{INSTALLED}/workerjobs-worker"
# Workers of the installation are the pools'. This one is for the operator that scales a Deployment it is told of.
WORKERS_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "workerjobs-worker", "namespace": INSTALLED},
    "spec": {
        "selector": {"matchLabels": {"app": "workers"}},
        "template": {
            "metadata": {"labels": {"app": "workers"}},
            "spec": {
                "containers": [
                    {"name": "worker", "image": "workerjobs", "resources": {"requests": {"cpu": "250m"}}},
                ]
            },
        },
    },
}


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
    with shared_cluster(tmp_path_factory.mktemp("own") / "cluster") as cluster:
        installed = cluster.kubectl("apply", "-f", str(MANIFESTS / "crds"), "-f", str(MANIFESTS / "install"))
        # Such as "would violate PodSecurity".
        assert "Warning" not in installed.stderr
        install_definition(cluster)
        cluster.kubectl("create", "namespace", "shop")
        cluster.kubectl("apply", "-f", "-", input=json.dumps(WORKERS_DEPLOYMENT))
        scaling = ("--verb=patch", "--resource=deployments.apps/scale", f"--namespace={INSTALLED}")
        cluster.kubectl("create", "role", "scaling", *scaling)
        account = f"--serviceaccount={INSTALLED}:workerjobs-operator"
        cluster.kubectl("create", "rolebinding", "scaling", "--role=scaling", account, f"--namespace={INSTALLED}")
        yield cluster


def installed_variables(cluster: Cluster, folder: Path) -> dict[str, str]:
    """The environment that the installed operator has, but for what belongs to its pod; with its pool as a file."""
    pool = cluster.kubectl("get", "configmap/workerjobs-pool", "-n", INSTALLED, "-o", r"jsonpath={.data.pool\.yaml}")
    (folder / "pool.yaml").write_text(pool.stdout)
    read = cluster.kubectl("get", "deployment/workerjobs-operator", "-n", INSTALLED, "-o", "json").stdout
    (container,) = json.loads(read)["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    variables["WORKERJOBS_DEFAULT_POOL"] = str(folder / "pool.yaml")
    return {name: value for name, value in variables.items() if not name.startswith("WORKER_HEALTH")}


@pytest.fixture
def installed(tmp_path: Path, own_cluster: Cluster, database_url: str) -> Iterator[Operators]:
    """Operators with the rights of the installed one, watching all namespaces."""
    token = own_cluster.kubectl("create", "token", "workerjobs-operator", "-n", INSTALLED).stdout.strip()
    kubeconfig = kubeconfig_with_token(own_cluster, token, tmp_path / "kubeconfig")
    with operators(tmp_path, kubeconfig, database_url, "") as started:
        yield started


def replicas(cluster: Cluster, deployment: str = WORKERS) -> int:
    namespace, _, name = deployment.partition("/")
    read = cluster.kubectl("get", f"deployment/{name}", "-n", namespace, "-o", "jsonpath={.spec.replicas}")
    return int(read.stdout)


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
def test_installed_operator_has_the_rights_that_it_needs(
    tmp_path: Path, own_cluster: Cluster, installed: Operators
) -> None:
    variables = installed_variables(own_cluster, tmp_path)
    operator = installed.start(**variables, WORKER_COUNT="2", WORKERJOBS_WORKER_DEPLOYMENT=WORKERS)
    elsewhere = [WorkerJobs(own_cluster, "shop"), WorkerJobs(own_cluster, "default")]
    for jobs in elsewhere:
        jobs.apply(workerjob("a"))
        jobs.wait("a", "Pending")
    eventually(lambda: replicas(own_cluster) == 2)
    # Someone's own number is put right.
    own_cluster.kubectl("scale", "deployment/workerjobs-worker", "-n", INSTALLED, "--replicas=7")
    eventually(lambda: replicas(own_cluster) == 2)
    for jobs in elsewhere:
        jobs.delete("a")
    operator.stop()
    assert operator.complaints() == []


@pytest.mark.slow
def test_workers_are_scaled_to_what_fits_the_nodes(own_cluster: Cluster, installed: Operators) -> None:
    operator = installed.start(WORKER_COUNT="cpus", WORKERJOBS_WORKER_DEPLOYMENT=WORKERS)
    eventually(lambda: replicas(own_cluster) == 1)

    make_node(own_cluster, "big", "2")
    wait_for_taints(own_cluster, "big", count=0)
    eventually(lambda: replicas(own_cluster) == 8)
    make_node(own_cluster, "small", "1100m")
    wait_for_taints(own_cluster, "small", count=0)
    eventually(lambda: replicas(own_cluster) == 12)
    make_node(own_cluster, "tainted", "64", taints=[{"key": "gpu", "effect": "NoSchedule"}])
    own_cluster.kubectl("cordon", "small")
    eventually(lambda: replicas(own_cluster) == 8)
    own_cluster.kubectl("delete", "node", "big", "small", "tainted")
    eventually(lambda: replicas(own_cluster) == 1)
    operator.stop()
    assert operator.complaints() == []
    scaled = [each["message"] for each in operator.said() if each["message"].startswith("Scaled")]
    assert scaled[-1] == (
        "Scaled the workers (workerjobs/workerjobs-worker) from 8 to 1: "
        "0 pods fit the 0 of 0 nodes that they may run on (0.250 CPUs a pod); one is kept"
    )


def said_of_scaling(operator: Operator) -> list[str]:
    return [each for each in operator.complaints() if each.startswith("The workers can't be scaled")]


@pytest.mark.slow
def test_missing_rights_to_scale_are_said_once_and_the_number_stays(own_cluster: Cluster, installed: Operators) -> None:
    before = replicas(own_cluster)
    own_cluster.kubectl("delete", "clusterrolebinding", "workerjobs-operator-nodes")
    try:
        nodes = installed.start(WORKER_COUNT="cpus", WORKERJOBS_WORKER_DEPLOYMENT=WORKERS)
        missing = installed.start(WORKER_COUNT="3", WORKERJOBS_WORKER_DEPLOYMENT="shop/nothing")
        jobs = WorkerJobs(own_cluster, "shop")
        jobs.apply(workerjob("b"))
        jobs.wait("b", "Pending")
        (sentence,) = eventually(lambda: said_of_scaling(nodes))
        assert sentence.startswith(
            "The workers can't be scaled, their number stays as it is: The Kubernetes API refuses GET /api/v1/nodes: "
            'nodes is forbidden: User "system:serviceaccount:workerjobs:workerjobs-operator" cannot list'
        )
        (sentence,) = eventually(lambda: said_of_scaling(missing))
        assert "GET /apis/apps/v1/namespaces/shop/deployments/nothing" in sentence
        # At least one more step, which has nothing new to say.
        own_cluster.kubectl("apply", "-f", str(MANIFESTS / "install"))
        eventually(lambda: any("can be scaled again" in each["message"] for each in nodes.said()))
        assert len(said_of_scaling(nodes)) == 1
        assert len(said_of_scaling(missing)) == 1
        assert before >= 1
    finally:
        own_cluster.kubectl("apply", "-f", str(MANIFESTS / "install"))


@pytest.mark.slow
def test_definition_that_is_missing_is_said_and_waited_for(own_cluster: Cluster, installed: Operators) -> None:
    """Also when it is removed under a running operator, with all that it defined."""
    own_cluster.kubectl("delete", "-f", str(MANIFESTS / "crds"))
    operator = installed.start()
    sentence = "the cluster knows no WorkerJobs, apply manifests/crds first"
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
