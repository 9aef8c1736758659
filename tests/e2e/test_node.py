"""WorkerJobs on a real node: its image in pods, installed as users install it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.fixtures import Node
from tests.support.cluster.images import image_of
from tests.support.cluster.installation import NAMESPACE, OPERATOR, WORKER_COUNT, WORKERS, run_samples

OWN_IMAGE = Path(__file__).parents[2] / "docs" / "examples" / "own-image"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]


def pods(node: Node, component: str) -> list[dict[str, Any]]:
    listed = node.cluster.kubectl(
        "get",
        "pods",
        f"--namespace={NAMESPACE}",
        f"--selector=app.kubernetes.io/component={component}",
        "--output=json",
    )
    items: list[dict[str, Any]] = json.loads(listed.stdout)["items"]
    return items


@pytest.fixture
def pool(node: Node) -> Iterator[str]:
    """A name for a pool of the test's own; its Deployment, ConfigMap and jobs are deleted at the end."""
    name = f"own-{uuid.uuid4().hex[:8]}"
    yield name
    node.cluster.kubectl("delete", "workerjobs", f"--selector=pool={name}", "--ignore-not-found")
    node.cluster.kubectl(
        "delete", "deployments,configmaps", f"--namespace={NAMESPACE}", f"--selector=pool={name}", "--ignore-not-found"
    )


def start_workers(node: Node, pool: str, change: Any) -> None:
    """Start a worker pod for a pool: the installation's own one with a change of its template's spec."""
    own = json.loads(
        node.cluster.kubectl("get", "deployment", WORKERS, f"--namespace={NAMESPACE}", "--output=json").stdout
    )
    labels = {"pool": pool}
    spec = own["spec"]["template"]["spec"]
    change(spec)
    spec["containers"][0]["env"] = [
        *(each for each in spec["containers"][0]["env"] if each["name"] != "WORKER_JOB_MODULES"),
        {"name": "WORKER_POOL", "value": pool},
        {"name": "WORKER_JOB_MODULES", "value": "/opt/jobs"},
    ]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": pool, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    node.cluster.kubectl("apply", "--filename=-", input=json.dumps(deployment))


def run_surroundings(node: Node, pool: str) -> dict[str, Any]:
    """Run the example's job in a pool; gives its result."""
    job = {
        "apiVersion": "quickdapp.xyz/v1",
        "kind": "WorkerJob",
        "metadata": {"name": pool, "labels": {"pool": pool}},
        "spec": {"type": "surroundings", "pool": pool},
    }
    node.cluster.kubectl("apply", "--filename=-", input=json.dumps(job))
    waited = node.cluster.kubectl("wait", "--for=condition=Complete", f"workerjob/{pool}", "--timeout=50s", check=False)
    shown = json.loads(node.cluster.kubectl("get", "workerjob", pool, "--output=json").stdout)
    assert waited.returncode == 0, yaml.safe_dump(shown.get("status"))
    result: dict[str, Any] = shown["status"]["result"]
    return result


def assert_is_confined(result: dict[str, Any]) -> None:
    """The job ran in a child process below the worker, PID 1 of its pod: not as root, on a root that is read-only."""
    assert result["ancestors"][-1] == 1
    assert result["pid"] not in result["ancestors"]
    assert [Path(word).name for word in result["pidOneCommand"][1:]] == ["workerjobs", "worker"]
    assert result["user"] == 10001
    assert result["writable"] == ["/tmp"]


def test_one_process_runs_all_tests_of_the_node(request: pytest.FixtureRequest) -> None:
    # What `--dist loadgroup` adds; a pytest that pytest-xdist does not know yet would leave it out without a word.
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@node")


def test_operator_and_workers_get_ready(node: Node) -> None:
    assert len(pods(node, "operator")) == 1
    assert len(pods(node, "worker")) == WORKER_COUNT
    for pod in [*pods(node, "operator"), *pods(node, "worker")]:
        (status,) = pod["status"]["containerStatuses"]
        assert status["ready"]
        assert status["restartCount"] == 0
        assert status["image"] == node.image.name


def test_samples_reach_their_last_states(node: Node) -> None:
    states = run_samples(node.cluster)
    assert states.pop("failing") == "Failed"
    assert states.pop("every-ten-seconds") == "Scheduled"
    assert set(states.values()) == {"Succeeded"}


def test_jobs_of_an_image_from_ours_run_confined(node: Node, pool: str) -> None:
    image = image_of("own-jobs", OWN_IMAGE)
    node.take(image)

    def use_image(spec: dict[str, Any]) -> None:
        spec["containers"][0]["image"] = image.name

    start_workers(node, pool, use_image)
    result = run_surroundings(node, pool)
    assert result["file"] == "/opt/jobs/surroundings.py"
    assert_is_confined(result)


def test_jobs_of_a_config_map_run_confined(node: Node, pool: str) -> None:
    node.cluster.kubectl(
        "create", "configmap", pool, f"--namespace={NAMESPACE}", f"--from-file={OWN_IMAGE / 'surroundings.py'}"
    )
    node.cluster.kubectl("label", "configmap", pool, f"--namespace={NAMESPACE}", f"pool={pool}")

    def mount(spec: dict[str, Any]) -> None:
        spec["volumes"].append({"name": "jobs", "configMap": {"name": pool}})
        spec["containers"][0]["volumeMounts"].append({"name": "jobs", "mountPath": "/opt/jobs", "readOnly": True})

    start_workers(node, pool, mount)
    result = run_surroundings(node, pool)
    assert result["file"].startswith("/opt/jobs/")
    assert_is_confined(result)
    # The ids that the job told are those of the pod's processes, looked at from beside them.
    script = "import sys; print(open(f'/proc/{sys.argv[1]}/stat').read().rpartition(')')[2].split()[1])"
    parent = node.cluster.kubectl(
        *("exec", f"--namespace={NAMESPACE}", f"deployment/{pool}", "--"),
        *("python3", "-c", script, str(result["pid"])),
    )
    assert int(parent.stdout) == result["ancestors"][0]


def test_pods_resolve_services_and_reach_them(node: Node) -> None:
    script = "import socket; socket.create_connection(('kubernetes.default.svc.cluster.local', 443), 10)"
    node.cluster.kubectl("exec", f"--namespace={NAMESPACE}", f"deployment/{WORKERS}", "--", "python3", "-c", script)


def test_pods_restart_nothing_while_nothing_is_wrong(node: Node) -> None:
    listed = node.cluster.kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=json")
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in json.loads(listed.stdout)["items"]
        for status in pod["status"]["containerStatuses"]
    }
    assert restarts
    assert set(restarts.values()) == {0}
    assert node.cluster.kubectl("logs", f"--namespace={NAMESPACE}", f"deployment/{OPERATOR}").stdout
