"""WorkerJobs in a cluster: its chart installed and ready, and its samples run to their ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster.controlplane import Cluster
from tests.support.helm import CHART, HelmError, helm

RELEASE = NAMESPACE = "workerjobs"
OPERATOR, WORKERS, SERVER = "workerjobs-operator", "workerjobs-pool-default", "workerjobs-server"
OPERATORS, WORKER_COUNT, SERVERS = 2, 2, 1
"""Pods of an installation with nothing set."""
JOB_FILES = "workerjobs-jobs"
"""The ConfigMap of the chart's ``pool.jobFiles``."""
REPOSITORY = Path(__file__).parents[3]
SAMPLES = REPOSITORY / "manifests" / "samples"
_DATABASE_SECRET = "workerjobs-database"
# As `workerjobs dev --until-done` reads them.
_EXPECTED_STATE = "quickdapp.xyz/expected-state"
_READY_SECONDS = 180.0
_SAMPLES_SECONDS = 120.0


class InstallationError(Exception):
    """It did not get as far as it should; the message says what is missing."""


def install(
    cluster: Cluster, image: str, database_url: str | None = None, pool: Mapping[str, Any] | None = None
) -> None:
    """Install the chart, or bring an installation to this image and these values.

    Args:
        cluster: Where.
        image: With its tag.
        database_url: Of a Postgres that pods reach; None installs one.
        pool: Values of the chart's default pool beside the samples' jobs.

    Raises:
        InstallationError: Helm refuses.
    """
    repository, _, tag = image.rpartition(":")
    values: dict[str, Any] = {
        "image": {"repository": repository, "tag": tag},
        "pool": {"jobModules": ["workerjobs.jobs.samples"], **(pool or {})},
    }
    namespace: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.kubectl("apply", "--filename=-", input=json.dumps(namespace))
    if database_url is None:
        values["postgres"] = {"enabled": True}
    else:
        secret: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": _DATABASE_SECRET, "namespace": NAMESPACE},
            "stringData": {"url": database_url},
        }
        cluster.kubectl("apply", "--filename=-", input=json.dumps(secret))
        values["database"] = {"existingSecret": _DATABASE_SECRET}
    try:
        helm("upgrade", "--install", RELEASE, str(CHART), f"--namespace={NAMESPACE}", cluster=cluster, values=values)
    except HelmError as error:
        raise InstallationError(f"helm: {error}") from error


def wait_until_ready(cluster: Cluster, workers: int = WORKER_COUNT) -> None:
    """Wait until the operators, the server and so many worker pods are ready, all of the newest template.

    Raises:
        InstallationError: They are not in time; the message shows the pods.
    """

    def is_ready() -> bool:
        deployments = {item["metadata"]["name"]: item for item in _items(cluster, "deployments", NAMESPACE)}
        wanted = {OPERATOR: OPERATORS, WORKERS: workers, SERVER: SERVERS}
        return all(_is_rolled_out(deployments.get(name), count) for name, count in wanted.items())

    if not _wait_until(is_ready, _READY_SECONDS):
        pods = cluster.kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=wide").stdout
        events = cluster.kubectl(
            "get", "events", f"--namespace={NAMESPACE}", "--field-selector=type=Warning", "--output=wide"
        ).stdout
        raise InstallationError(
            f"{OPERATORS} operators, {SERVERS} server and {workers} worker pods are not ready after "
            f"{_READY_SECONDS:g} s:\n{pods}{events}"
        )


def _is_rolled_out(deployment: dict[str, Any] | None, replicas: int) -> bool:
    if deployment is None:
        return False
    status = deployment.get("status", {})
    return bool(
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and deployment["spec"]["replicas"] == replicas
        and status.get("replicas", 0) == status.get("updatedReplicas", 0) == status.get("readyReplicas", 0) == replicas
    )


def run_samples(cluster: Cluster, namespace: str = "default") -> dict[str, str]:
    """Apply the samples and wait until each is in its last state, and the cron job ran.

    Returns:
        The state of each, by its name.

    Raises:
        InstallationError: Not all are in time; the message shows them.
    """
    cluster.kubectl("apply", f"--namespace={namespace}", f"--filename={SAMPLES}")
    names = {
        manifest["metadata"]["name"] for manifest in map(yaml.safe_load, map(Path.read_text, SAMPLES.glob("*.yaml")))
    }

    def samples() -> list[dict[str, Any]]:
        return [item for item in _items(cluster, "workerjobs", namespace) if item["metadata"]["name"] in names]

    if not _wait_until(lambda: all(_is_done(sample) for sample in samples()), _SAMPLES_SECONDS):
        shown = cluster.kubectl("get", "workerjobs", f"--namespace={namespace}", "--output=wide").stdout
        raise InstallationError(f"not all samples are in their last states after {_SAMPLES_SECONDS:g} s:\n{shown}")
    return {sample["metadata"]["name"]: sample["status"]["state"] for sample in samples()}


def _is_done(sample: dict[str, Any]) -> bool:
    status = sample.get("status", {})
    if "cronSchedule" in sample["spec"]:
        return "lastRun" in status and status.get("state") == "Scheduled"
    expected = sample["metadata"].get("annotations", {}).get(_EXPECTED_STATE, "Succeeded")
    return bool(status.get("state") == expected)


def _items(cluster: Cluster, kind: str, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(
        cluster.kubectl("get", kind, f"--namespace={namespace}", "--output=json").stdout
    )["items"]
    return items


def _wait_until(is_so: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
