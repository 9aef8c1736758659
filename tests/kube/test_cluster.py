"""The test cluster itself: real controllers and access rules, and no process left behind."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster.controlplane import Cluster

ROOT = Path(__file__).parents[2]
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager")

pytestmark = pytest.mark.cluster

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: example.invalid/web}]
"""


def wait_until(is_true: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def test_namespaces_and_nodes_can_be_listed(cluster: Cluster) -> None:
    assert "namespace/kube-system" in cluster.kubectl("get", "namespaces", "--output=name").stdout.split()
    assert json.loads(cluster.kubectl("get", "nodes", "--output=json").stdout)["kind"] == "List"


def test_new_namespace_gets_its_default_service_account(cluster: Cluster) -> None:
    name = f"test-account-{os.getpid()}"
    cluster.kubectl("create", "namespace", name)
    try:
        cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", name, "--timeout=60s")
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_each_test_gets_an_empty_namespace_of_its_own(cluster: Cluster, namespace: str) -> None:
    assert cluster.kubectl("get", "pods,deployments", "--namespace", namespace, "--output=name").stdout == ""


def test_deployment_makes_a_replica_set_and_its_pods(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "--namespace", namespace, "--filename=-", input=DEPLOYMENT)

    def pods() -> list[dict[str, dict[str, object]]]:
        listed = cluster.kubectl("get", "pods", "--namespace", namespace, "--selector=app=web", "--output=json")
        items: list[dict[str, dict[str, object]]] = json.loads(listed.stdout)["items"]
        return items

    wait_until(lambda: len(pods()) == 2, "two pods")
    owners = {owner["kind"] for pod in pods() for owner in pod["metadata"]["ownerReferences"]}  # type: ignore[attr-defined]
    assert owners == {"ReplicaSet"}
    assert {pod["status"]["phase"] for pod in pods()} == {"Pending"}


def test_service_account_without_a_role_is_refused(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    # With its token only: the certificate of the administrator would come first.
    token = cluster.kubectl("create", "token", "default", "--namespace", namespace).stdout.strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--output=json").stdout)
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    account = Cluster(kubeconfig, tmp_path / "kubectl-cache")

    refused = account.kubectl("get", "pods", "--namespace", namespace, check=False)
    assert refused.returncode == 1
    assert f'"system:serviceaccount:{namespace}:default" cannot list resource "pods"' in refused.stderr

    cluster.kubectl(
        "create",
        "rolebinding",
        "view",
        "--clusterrole=view",
        f"--serviceaccount={namespace}:default",
        f"-n={namespace}",
    )
    wait_until(
        lambda: account.kubectl("get", "pods", "--namespace", namespace, check=False).returncode == 0,
        "the role binding holds",
    )


def test_kubectl_failure_says_what_kubectl_printed(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        cluster.kubectl("get", "configmap", "missing", "--namespace", namespace)
    assert 'configmaps "missing" not found' in "\n".join(caught.value.__notes__)


# --- the life of a cluster of one's own ---


@pytest.fixture
def directory(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A folder for a second cluster, which is stopped whatever the test did."""
    if os.environ.get("WORKERJOBS_TEST_KUBECONFIG"):
        pytest.skip("WORKERJOBS_TEST_KUBECONFIG names a cluster, so none is started")
    with (tmp_path / "lease").open("w") as lease:
        # Stops it even if this process is killed before the end of the test.
        fcntl.flock(lease, fcntl.LOCK_SH)
        yield tmp_path / "second"
        command("down", tmp_path / "second")


def start(directory: Path) -> None:
    command("up", directory, "--lease", directory.with_name("lease"))


def command(*args: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tests.support.cluster", *map(str, args)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)


def processes(directory: Path) -> dict[str, int]:
    return {name: int((directory / f"{name}.pid").read_text()) for name in ("runner", *COMPONENTS)}


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and waits for its parent's notice does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_down_leaves_no_process(directory: Path) -> None:
    start(directory)
    started = processes(directory)
    assert all(is_alive(pid) for pid in started.values())
    assert "namespace/default" in Cluster(directory / "kubeconfig").kubectl("get", "namespaces", "-o=name").stdout

    command("down", directory)
    assert [name for name, pid in started.items() if is_alive(pid)] == []
    assert not (directory / "kubeconfig").exists()
    assert not (directory / "etcd").exists()


@pytest.mark.slow
def test_killed_runner_takes_its_processes_along(directory: Path) -> None:
    start(directory)
    started = processes(directory)
    os.kill(started["runner"], signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, started.values())), "every process ended")


@pytest.mark.slow
def test_shared_cluster_stops_when_its_last_user_is_killed(directory: Path) -> None:
    use = (
        "import pathlib, sys\n"
        "from tests.support.cluster.controlplane import shared_cluster\n"
        "with shared_cluster(pathlib.Path(sys.argv[1])):\n"
        "    print('in use', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    users = [
        subprocess.Popen(
            [sys.executable, "-c", use, directory], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        assert [user.stdout.readline() for user in users if user.stdout] == [b"in use\n"] * 2
        started = processes(directory)

        users[0].kill()
        users[0].wait()
        cluster = Cluster(directory / "kubeconfig")
        assert cluster.kubectl("get", "--raw=/readyz").stdout == "ok"

        users[1].kill()
        users[1].wait()
        wait_until(lambda: not any(map(is_alive, started.values())), "every process ended")
    finally:
        for user in users:
            user.kill()
            user.communicate()


@pytest.mark.slow
def test_start_that_fails_says_why(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    for name in COMPONENTS:
        program = assets / name
        program.write_text(f"#!/bin/sh\necho {name} is out of order\nexit 3\n")
        program.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        start(directory)
    assert caught.value.stderr == (
        "error: kube-apiserver ended with exit code 3; the end of its log:\nkube-apiserver is out of order\n"
    )
