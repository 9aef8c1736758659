"""WorkerJobs on a real node: its image in pods, installed as users install it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.fixtures import Node
from tests.support.cluster.images import image_of
from tests.support.cluster.installation import NAMESPACE, OPERATOR, OPERATORS, WORKER_COUNT, WORKERS, run_samples
from tests.support.pod_pool import PodPool, pod_pool

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


def run_surroundings(pool: PodPool) -> dict[str, Any]:
    """Run the example's job in a pool; gives its result."""
    job = {
        "apiVersion": "quickdapp.xyz/v1",
        "kind": "WorkerJob",
        "metadata": {"name": pool.name},
        "spec": {"type": "surroundings", "pool": pool.name},
    }
    kubectl = pool.cluster.kubectl
    kubectl("apply", "--filename=-", input=json.dumps(job))
    try:
        waited = kubectl("wait", "--for=condition=Complete", f"workerjob/{pool.name}", "--timeout=50s", check=False)
        shown = json.loads(kubectl("get", "workerjob", pool.name, "--output=json").stdout)
        assert waited.returncode == 0, yaml.safe_dump([shown.get("status"), pool.status()])
    finally:
        kubectl("delete", "workerjob", pool.name)
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


@pytest.mark.timeout(600)  # the node's start is part of it
def test_operators_and_workers_get_ready(node: Node) -> None:
    assert len(pods(node, "operator")) == OPERATORS
    assert len(pods(node, "worker")) == WORKER_COUNT
    for pod in [*pods(node, "operator"), *pods(node, "worker")]:
        (status,) = pod["status"]["containerStatuses"]
        assert status["ready"]
        assert status["restartCount"] == 0
        assert status["image"] == node.image.name


COMPILERS = {"as", "c++", "cc", "clang", "g++", "gcc", "ld", "make"}
INSTALLERS = {"pip", "pip3", "uv"}


def test_image_says_what_it_holds_and_keeps_nothing_that_builds(node: Node) -> None:
    programs, bill, paths = set(), {}, []
    with tarfile.open(node.image.archive) as archive:

        def read(name: str) -> Any:
            file = archive.extractfile(name)
            assert file is not None
            return file

        (manifest,) = json.load(read("manifest.json"))
        configuration = json.load(read(manifest["Config"]))["config"]
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=read(name)) as layer:
                for entry in layer:
                    paths.append(entry.name)
                    if Path(entry.name).parent.name == "bin":
                        programs.add(Path(entry.name).name)
                    if entry.name.endswith("workerjobs/sbom.cdx.json"):
                        file = layer.extractfile(entry)
                        assert file is not None
                        bill = json.load(file)
    assert programs & (COMPILERS | INSTALLERS) == set()
    assert "python3" in programs
    assert configuration["User"] == "10001:10001"
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.title"] == "WorkerJobs"
    assert labels["org.opencontainers.image.version"]
    held = {each["name"] for each in bill["components"]}
    # As it is installed, and what it needs; nothing that was there to build it.
    assert {"workerjobs", "kopf", "psycopg", "web3"} <= held
    assert held & {"hatchling", "pip", "cyclonedx-bom"} == set()
    assert not any("site-packages/hatchling" in path for path in paths)


def test_samples_reach_their_last_states(node: Node) -> None:
    states = run_samples(node.cluster)
    assert states.pop("failing") == "Failed"
    assert states.pop("every-ten-seconds") == "Scheduled"
    assert set(states.values()) == {"Succeeded"}


def test_jobs_of_an_image_from_ours_run_confined(node: Node) -> None:
    image = image_of("own-jobs", OWN_IMAGE)
    node.take(image)
    with pod_pool(node.cluster, node.database_url, image=image.name, jobsConfigMap=None) as pool:
        result = run_surroundings(pool)
    assert result["file"] == "/opt/jobs/surroundings.py"
    assert_is_confined(result)


def test_jobs_of_a_config_map_run_confined(node: Node) -> None:
    # The default pool's: the chart's values hold the file.
    pool = PodPool(node.cluster, node.database_url, "default")
    result = run_surroundings(pool)
    assert result["file"].startswith("/jobs/")
    assert_is_confined(result)


def test_process_that_a_job_tells_is_the_pods_own(node: Node) -> None:
    with pod_pool(node.cluster, node.database_url) as pool:
        result = run_surroundings(pool)
        # Looked at from beside it.
        script = "import sys; print(open(f'/proc/{sys.argv[1]}/stat').read().rpartition(')')[2].split()[1])"
        parent = pool.kubectl(
            "exec", f"deployment/workerjobs-pool-{pool.name}", "--", "python3", "-c", script, str(result["pid"])
        )
    assert int(parent) == result["ancestors"][0]


def test_pods_resolve_services_and_reach_them(node: Node) -> None:
    script = "import socket; socket.create_connection(('kubernetes.default.svc.cluster.local', 443), 10)"
    node.cluster.kubectl("exec", f"--namespace={NAMESPACE}", f"deployment/{WORKERS}", "--", "python3", "-c", script)


def test_pods_restart_nothing_while_nothing_is_wrong(node: Node) -> None:
    listed = node.cluster.kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=json")
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in json.loads(listed.stdout)["items"]
        for status in pod["status"].get("containerStatuses", ())
    }
    assert restarts
    assert set(restarts.values()) == {0}
    assert node.cluster.kubectl("logs", f"--namespace={NAMESPACE}", f"deployment/{OPERATOR}").stdout
