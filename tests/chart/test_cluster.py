"""The chart and the policies of autoscaling against a real API server, in a cluster of their own: names are fixed."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.controlplane import Cluster, kubectl_program, shared_cluster
from tests.support.cluster.sources import SourceError
from tests.support.definitions import definition_files
from tests.support.helm import CHART, TRIAL, HelmError, helm, program
from tests.support.manifests import MANIFESTS
from tests.support.operators import (
    WorkerJobs,
    eventually,
    install_definition,
    kubeconfig_with_token,
    operators,
    workerjob,
)
from tests.support.require import require_or_skip
from tests.support.schemas import LOCATION, write_schemas

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.xdist_group("chart")]

EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
POLICIES = sorted((MANIFESTS / "autoscaling").iterdir())
PREVIOUS = Path(__file__).parent / "previous" / "workerjobs"
DEFINITION = "workerjobs.quickdapp.xyz"
OTHERS = (
    "scaledobjects.keda.sh",
    "triggerauthentications.keda.sh",
    "nodepools.karpenter.sh",
    "podmonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
)


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that knows the resources of KEDA, Karpenter and the Prometheus operator."""
    if os.environ.get("WORKERJOBS_TEST_KUBECONFIG"):
        pytest.skip("WORKERJOBS_TEST_KUBECONFIG names a cluster, so none is started")
    try:
        files = definition_files(*OTHERS)
    except SourceError as error:
        require_or_skip("chart", f"the definitions of KEDA and Karpenter are not to be had: {error}")
    with shared_cluster(tmp_path_factory.mktemp("chart") / "cluster") as cluster:
        for file in files:
            # Some are too big for the annotation of a client-side apply.
            cluster.kubectl("apply", "--server-side", "-f", str(file))
        for name in OTHERS:
            cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
        yield cluster


@pytest.fixture
def place(own_cluster: Cluster) -> Iterator[str]:
    """A namespace under the Pod Security Standard restricted; what is cluster-wide is removed at the end."""
    name = f"chart-{uuid.uuid4().hex[:8]}"
    own_cluster.kubectl("create", "namespace", name)
    own_cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/warn=restricted")
    yield name
    for release in json.loads(helm("list", "--namespace", name, "--output=json", cluster=own_cluster)):
        helm("uninstall", release["name"], "--namespace", name, cluster=own_cluster)
    own_cluster.kubectl("delete", "-f", str(MANIFESTS / "crds"), "--ignore-not-found")
    own_cluster.kubectl("delete", "namespace", name, "--wait=false")


def install(cluster: Cluster, release: str, namespace: str, *args: str, chart: Path = CHART, **values: Any) -> str:
    command = ("install", release, str(chart), "--namespace", namespace, *args)
    return helm(*command, cluster=cluster, values={**TRIAL, **values})


def read(cluster: Cluster, namespace: str, *what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "-n", namespace, *what, "-o", "json").stdout)
    return found


# --- what it makes is what the API server knows


@pytest.fixture(scope="module")
def schemas(own_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Schemas of all kinds, ours too."""
    install_definition(own_cluster)
    eventually(lambda: "quickdapp.xyz" in own_cluster.kubectl("get", "--raw", "/openapi/v3").stdout)
    folder = tmp_path_factory.mktemp("schemas")
    write_schemas(own_cluster, folder)
    own_cluster.kubectl("delete", "-f", str(MANIFESTS / "crds"))
    return folder


def conforms(schemas: Path, text: str) -> subprocess.CompletedProcess[str]:
    command = [program("kubeconform"), "-strict", "-summary", "-schema-location", f"{schemas}/{LOCATION}"]
    # What the operator makes of it is the definition's own business.
    return subprocess.run([*command, "-skip", "WorkerPool"], input=text, capture_output=True, text=True, check=False)


def rendered(values: Path) -> str:
    return helm("template", "workerjobs", str(CHART), "--namespace", "workerjobs", "--values", str(values))


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_chart_conforms_to_the_schemas_of_the_api_server(schemas: Path, values: Path) -> None:
    checked = conforms(schemas, rendered(values))
    assert checked.returncode == 0, checked.stdout
    assert "Errors: 0, Skipped: 0" in checked.stdout


def test_schemas_refuse_what_they_should(schemas: Path) -> None:
    text = rendered(CHART / "ci" / "keda-values.yaml")
    for wrong, right in (("minReplicaCounts: 0", "minReplicaCount: 0"), ("maxUnavailables: 1", "maxUnavailable: 1")):
        assert right in text
        checked = conforms(schemas, text.replace(right, wrong))
        assert checked.returncode == 1
        assert wrong.partition(":")[0] in checked.stdout


def test_manifests_conform(schemas: Path) -> None:
    for file in (*POLICIES, *(MANIFESTS / "install").iterdir(), *(MANIFESTS / "samples").iterdir()):
        checked = conforms(schemas, file.read_text(encoding="utf-8"))
        assert checked.returncode == 0, checked.stdout


def run_next_commands(cluster: Cluster, place: str, printed: str) -> None:
    """Give a shell what the notes say, but for what waits for pods, which no node runs here."""
    for part, instead in (
        (f" && helm test workerjobs --namespace {place}\n", " --watch=false\n"),
        (f" && kubectl get workerjobs --namespace {place} --watch\n", "\n"),
    ):
        assert printed.count(part) == 1
        printed = printed.replace(part, instead)
    eventually(lambda: cluster.kubectl("get", "workerjobs", check=False).returncode == 0)
    first = printed.index("kubectl --namespace")
    second = printed.index("2. Declare a job", first)
    third = printed.index("kubectl apply", second)
    for command in (printed[first:second], printed[third : printed.index("\nEND\n", third) + 5]):
        subprocess.run(
            ["bash", "-euc", command],
            env=os.environ
            | {"KUBECONFIG": str(cluster.kubeconfig)}
            | {"PATH": f"{Path(kubectl_program()).parent}:{os.environ['PATH']}"},
            check=True,
            timeout=90,
        )
    assert WorkerJobs(cluster, place).get("first")["spec"]["type"] == "removeOldWorkerJobs"


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_api_server_takes_all_of_the_chart(own_cluster: Cluster, place: str, values: Path) -> None:
    given = yaml.safe_load(values.read_text(encoding="utf-8"))
    if namespace := given.get("metrics", {}).get("dashboard", {}).get("namespace"):
        own_cluster.kubectl("create", "namespace", namespace)
    if "namespaces" in given:
        for name in given["namespaces"]:
            own_cluster.kubectl("create", "namespace", name)
        install_definition(own_cluster)
    printed = helm("install", "workerjobs", str(CHART), "--namespace", place, cluster=own_cluster, values=given)
    run_next_commands(own_cluster, place, printed)
    (operator,) = read(own_cluster, place, "deployments", "-l", "app.kubernetes.io/component=operator")["items"]
    # The controllers make its pods, though no node runs them; under the namespace's standard.
    wanted = operator["spec"]["replicas"]
    eventually(
        lambda: len(read(own_cluster, place, "pods", "-l", "app.kubernetes.io/component=operator")["items"]) == wanted
    )
    made = helm("get", "manifest", "workerjobs", "--namespace", place, cluster=own_cluster)
    again = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-")
    assert "violate PodSecurity" not in own_cluster.kubectl(*again, input=made).stderr


# --- life of a release


def test_upgrade_and_rollback_keep_jobs_and_secrets(own_cluster: Cluster, place: str) -> None:
    jobs = WorkerJobs(own_cluster, place)
    install(own_cluster, "workerjobs", place, chart=PREVIOUS)
    assert "rateLimit" not in json.dumps(read(own_cluster, place, "crd", DEFINITION)["spec"])
    eventually(lambda: own_cluster.kubectl("get", "workerjobs", check=False).returncode == 0)
    jobs.apply(workerjob("kept"))
    uid = jobs.uid("kept")
    secrets = [read(own_cluster, place, "secret", f"workerjobs-{name}")["data"] for name in ("database", "backlog")]

    helm("upgrade", "workerjobs", str(CHART), "--namespace", place, "--reset-then-reuse-values", cluster=own_cluster)
    assert "rateLimit" in json.dumps(read(own_cluster, place, "crd", DEFINITION)["spec"])
    assert read(own_cluster, place, "networkpolicies")["items"]
    changed = [read(own_cluster, place, "secret", f"workerjobs-{name}")["data"] for name in ("database", "backlog")]
    assert changed == secrets
    assert jobs.uid("kept") == uid

    helm("rollback", "workerjobs", "1", "--namespace", place, cluster=own_cluster)
    assert not read(own_cluster, place, "networkpolicies")["items"]
    assert "rateLimit" not in json.dumps(read(own_cluster, place, "crd", DEFINITION)["spec"])
    assert jobs.uid("kept") == uid

    helm("upgrade", "workerjobs", str(CHART), "--namespace", place, "--reset-then-reuse-values", cluster=own_cluster)
    changed = [read(own_cluster, place, "secret", f"workerjobs-{name}")["data"] for name in ("database", "backlog")]
    assert changed == secrets
    assert jobs.uid("kept") == uid


def test_uninstall_keeps_definitions_and_jobs_and_another_release_takes_them_over(
    own_cluster: Cluster, place: str
) -> None:
    jobs = WorkerJobs(own_cluster, place)
    install(own_cluster, "workerjobs", place)
    eventually(lambda: own_cluster.kubectl("get", "workerjobs", check=False).returncode == 0)
    jobs.apply(workerjob("kept"))
    uid = jobs.uid("kept")
    helm("uninstall", "workerjobs", "--namespace", place, cluster=own_cluster)
    left = own_cluster.kubectl(
        "get", "all,secret,configmap,role,pdb,networkpolicy,serviceaccount", "-n", place, "-o", "name"
    )
    assert not [
        name for name in left.stdout.split() if "workerjobs" in name and "pod/" not in name and "replicaset" not in name
    ]
    assert jobs.uid("kept") == uid

    with pytest.raises(HelmError, match="invalid ownership metadata"):
        install(own_cluster, "other", place)
    install(own_cluster, "other", place, "--take-ownership")
    owner = read(own_cluster, place, "crd", DEFINITION)["metadata"]["annotations"]
    assert owner["meta.helm.sh/release-name"] == "other"
    assert owner["helm.sh/resource-policy"] == "keep"
    assert jobs.uid("kept") == uid
    assert read(own_cluster, place, "deployment", "other-workerjobs-operator")


def test_release_takes_over_definitions_that_kubectl_applied(own_cluster: Cluster, place: str) -> None:
    install_definition(own_cluster)
    WorkerJobs(own_cluster, place).apply(workerjob("kept"))
    install(own_cluster, "workerjobs", place, "--take-ownership")
    assert WorkerJobs(own_cluster, place).uid("kept")
    annotations = read(own_cluster, place, "crd", DEFINITION)["metadata"]["annotations"]
    assert annotations["meta.helm.sh/release-name"] == "workerjobs"


# --- rights


def may(cluster: Cluster, account: str, namespace: str, *request: str) -> bool:
    asked = cluster.kubectl("auth", "can-i", *request, "--as", account, "-n", namespace, check=False)
    return asked.stdout.strip() == "yes"


def test_operator_of_some_namespaces_works_with_rights_in_these_alone(
    own_cluster: Cluster, place: str, tmp_path: Path, database_url: str
) -> None:
    watched, foreign = f"{place}-in", f"{place}-out"
    for name in (watched, foreign):
        own_cluster.kubectl("create", "namespace", name)
    values: dict[str, Any] = {
        "namespaces": [watched],
        "clusterId": "here",
        "rbac": {"nodes": False, "aggregate": False, "dataFromNamespaces": [watched]},
    }
    install(own_cluster, "workerjobs", place, **values)
    account = f"system:serviceaccount:{place}:workerjobs-operator"
    for request in (
        ("list", "workerjobs"),
        ("patch", "workerjobs", "--subresource=status"),
        ("create", "deployments"),
        ("patch", "pods"),
    ):
        assert may(own_cluster, account, watched, *request), request
        assert may(own_cluster, account, place, *request), request
        assert not may(own_cluster, account, foreign, *request), request
    for request in (
        # It asks for all that it wants to know of WorkerJobs by lists and watches.
        ("get", "workerjobs"),
        ("list", "nodes"),
        ("list", "namespaces"),
        ("get", "secrets"),
        ("create", "roles"),
        ("delete", "pods"),
    ):
        assert not may(own_cluster, account, watched, *request), request
    assert may(own_cluster, account, place, "get", "leases/workerjobs-operator")
    assert not may(own_cluster, account, place, "get", "leases/other")
    worker = f"system:serviceaccount:{place}:workerjobs-worker"
    assert may(own_cluster, worker, watched, "get", "secrets")
    assert not may(own_cluster, worker, watched, "list", "secrets")
    assert not may(own_cluster, worker, place, "get", "secrets")

    token = own_cluster.kubectl("create", "token", "workerjobs-operator", "-n", place).stdout.strip()
    kubeconfig = kubeconfig_with_token(own_cluster, token, tmp_path / "kubeconfig")
    eventually(lambda: own_cluster.kubectl("get", "workerjobs", check=False).returncode == 0)
    with operators(tmp_path, kubeconfig, database_url, f"{watched},{place}") as running:
        operator = running.start(WORKERJOBS_CLUSTER_ID="here")
        jobs = WorkerJobs(own_cluster, watched)
        jobs.apply(workerjob("a"))
        jobs.wait("a", "Pending")
        operator.stop()
        # Nodes belong to no namespace; what needs them is left out, and that is said.
        assert [each for each in operator.complaints() if not each.startswith("Nodes can't be watched")] == []


def test_people_have_workerjobs_by_the_cluster_s_own_roles(own_cluster: Cluster, place: str) -> None:
    install(own_cluster, "workerjobs", place)
    for role in ("view", "edit", "admin"):
        own_cluster.kubectl("create", "serviceaccount", role, "-n", place)
        own_cluster.kubectl(
            "create", "rolebinding", role, f"--clusterrole={role}", f"--serviceaccount={place}:{role}", "-n", place
        )

    def account(role: str) -> str:
        return f"system:serviceaccount:{place}:{role}"

    # The controller gathers the rights a moment later.
    eventually(lambda: may(own_cluster, account("admin"), place, "create", "workerpools.quickdapp.xyz"))
    eventually(lambda: may(own_cluster, account("edit"), place, "create", "workerjobs.quickdapp.xyz"))
    eventually(lambda: may(own_cluster, account("view"), place, "list", "workerjobs.quickdapp.xyz"))
    assert not may(own_cluster, account("view"), place, "create", "workerjobs.quickdapp.xyz")
    assert not may(own_cluster, account("edit"), place, "create", "workerpools.quickdapp.xyz")


# --- autoscaling


@pytest.fixture(scope="module")
def pools_known(own_cluster: Cluster) -> None:
    if not (MANIFESTS / "crds" / "workerpools.yaml").is_file():
        pytest.skip("manifests/crds has no WorkerPools yet")


@pytest.fixture
def installed(own_cluster: Cluster, pools_known: None) -> Iterator[Cluster]:
    """The definitions, and the namespace that the policies name."""
    install_definition(own_cluster)
    own_cluster.kubectl("wait", "--for=condition=Established", "crd/workerpools.quickdapp.xyz", "--timeout=30s")
    own_cluster.kubectl("create", "namespace", "workerjobs")
    eventually(lambda: own_cluster.kubectl("get", "workerpools", check=False).returncode == 0)
    yield own_cluster
    own_cluster.kubectl("delete", "namespace", "workerjobs")
    own_cluster.kubectl("delete", "-f", str(MANIFESTS / "crds"))


def test_api_server_takes_every_policy(installed: Cluster) -> None:
    for policy in POLICIES:
        applied = installed.kubectl("apply", "--validate=strict", "-f", str(policy))
        assert "Warning" not in applied.stderr, policy
        again = installed.kubectl("apply", "-f", str(policy)).stdout
        assert "configured" not in again
    for policy in POLICIES:
        installed.kubectl("delete", "-f", str(policy))


def test_autoscaler_of_the_cluster_reads_and_writes_a_pool_s_scale(installed: Cluster) -> None:
    """kube-controller-manager's own HorizontalPodAutoscaler; without metrics it knows only the bounds."""
    installed.kubectl("apply", "-f", str(MANIFESTS / "autoscaling" / "hpa.yaml"))
    # As the operator does.
    status = {"status": {"replicas": 1, "selector": "quickdapp.xyz/pool=computing"}}
    pool = ("-n", "workerjobs", "workerpool/computing")
    installed.kubectl("patch", *pool, "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")

    def conditions() -> dict[str, str]:
        found = read(installed, "workerjobs", "hpa/computing").get("status", {}).get("conditions", [])
        return {each["type"]: each["reason"] for each in found}

    eventually(lambda: conditions().get("AbleToScale") == "SucceededGetScale")
    # Below the lower bound it acts without any metric.
    patch = {"spec": {"minReplicas": 3}}
    installed.kubectl("patch", "-n", "workerjobs", "hpa/computing", f"--patch={json.dumps(patch)}")
    eventually(lambda: read(installed, "workerjobs", "workerpool/computing")["spec"]["replicas"] == 3)
    installed.kubectl("scale", *pool, "--replicas=5")
    assert read(installed, "workerjobs", "workerpool/computing")["spec"]["replicas"] == 5


@pytest.mark.parametrize("mode", ["hpa", "keda", "keda-postgresql"])
def test_chart_s_autoscaler_names_the_pool_and_the_secrets_that_are_there(
    own_cluster: Cluster, place: str, mode: str
) -> None:
    values = yaml.safe_load((CHART / "ci" / f"{mode}-values.yaml").read_text(encoding="utf-8"))
    values |= {"database": {"url": "postgresql://a:b@c/d"}}
    helm("install", "workerjobs", str(CHART), "--namespace", place, cluster=own_cluster, values=values)
    kind = "hpa" if mode == "hpa" else "scaledobject"
    scaler = read(own_cluster, place, kind, "workerjobs-worker")
    assert scaler["spec"]["scaleTargetRef"] == {
        "apiVersion": "quickdapp.xyz/v1",
        "kind": "WorkerPool",
        "name": "default",
    }
    if mode == "hpa":
        return
    trigger, *_ = scaler["spec"]["triggers"]
    authentication = read(own_cluster, place, "triggerauthentication", trigger["authenticationRef"]["name"])
    (wanted,) = authentication["spec"]["secretTargetRef"]
    assert wanted["key"] in read(own_cluster, place, "secret", wanted["name"])["data"]
    if mode == "keda":
        service = read(own_cluster, place, "service", "workerjobs-operator")
        host = f"workerjobs-operator.{place}.svc:{service['spec']['ports'][0]['port']}"
        assert trigger["metadata"]["url"] == f"http://{host}/backlog/{place}/default"
