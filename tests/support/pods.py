"""Pods and nodes of a cluster without kubelets: the test writes their status as a kubelet would."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tests.support.cluster.controlplane import Cluster

LABELS = {"app.kubernetes.io/name": "workerjobs", "app.kubernetes.io/component": "worker"}


def moment(seconds_from_now: float = 0.0) -> str:
    """A moment as the kubelet writes it, in whole seconds."""
    return datetime.fromtimestamp(time.time() + seconds_from_now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Node:
    """A node object, without a machine."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self.name = name
        cluster.kubectl(
            "create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        )

    def taint(self, *taints: str) -> None:
        """Add taints, as KEY:EFFECT, or remove them, as KEY-."""
        self._cluster.kubectl("taint", "node", self.name, *taints)

    def delete(self) -> None:
        """Remove the object."""
        self._cluster.kubectl("delete", "node", self.name, "--ignore-not-found", "--wait=false")


class Pod:
    """A worker's pod, bound to a node."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        node: str,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> None:
        self._cluster = cluster
        self.namespace = namespace
        self.name = name
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": LABELS if labels is None else labels,
                "annotations": annotations or {},
            },
            "spec": {"nodeName": node, "containers": [{"name": "worker", "image": "workerjobs"}]},
        }
        cluster.kubectl("create", "-f", "-", input=json.dumps(manifest))
        self.uid = str(self.read()["metadata"]["uid"])
        self.runs(0)

    @property
    def environment(self) -> dict[str, str]:
        """What the downward API gives its container."""
        return {"POD_UID": self.uid, "POD_NAME": self.name, "POD_NAMESPACE": self.namespace}

    def read(self) -> dict[str, Any]:
        """Read the object."""
        found = self._cluster.read(f"/api/v1/namespaces/{self.namespace}/pods/{self.name}")
        assert found is not None, f"there is no pod {self.name}"
        return found

    @property
    def annotations(self) -> dict[str, str]:
        """Its annotations now."""
        found: dict[str, str] = self.read()["metadata"].get("annotations", {})
        return found

    def runs(self, restarts: int, last: dict[str, Any] | None = None, started: str | None = None) -> None:
        """Its container runs, after so many restarts."""
        state = {"running": {"startedAt": started or moment(-1)}}
        self._write("Running", state, restarts, {} if last is None else {"terminated": last})

    def terminated(self, how: str = "Error", code: int = 137, phase: str = "Running", **more: Any) -> None:
        """Its container has ended, just now; more of the pod's status may be given."""
        self._write(phase, {"terminated": ended(how, code)}, 0, {}, **more)

    def _write(self, phase: str, state: dict[str, Any], restarts: int, last: dict[str, Any], **more: Any) -> None:
        container = {
            "name": "worker",
            "image": "workerjobs",
            "imageID": "",
            "ready": "running" in state,
            "restartCount": restarts,
            "state": state,
            "lastState": last,
        }
        status = {"phase": phase, "containerStatuses": [container], **more}
        self._cluster.kubectl(
            "--namespace", self.namespace, "patch", "pod", self.name, "--subresource=status", "--type=merge",
            "--patch", json.dumps({"status": status}),
        )  # fmt: skip

    def delete(self, *options: str) -> None:
        """Ask for its deletion; a kubelet would end its container and then remove the object."""
        self._cluster.kubectl("--namespace", self.namespace, "delete", "pod", self.name, "--wait=false", *options)

    def remove(self) -> None:
        """Remove the object at once, as `kubectl delete --force` does."""
        self.delete("--force", "--grace-period=0")


def ended(reason: str, code: int, seconds_from_now: float = 1.0) -> dict[str, Any]:
    """The state of a container that ended. The kubelet's moments are of whole seconds: a test's worker lives longer."""
    return {
        "reason": reason,
        "exitCode": code,
        "startedAt": moment(-60),
        "finishedAt": moment(seconds_from_now),
    }


@contextlib.contextmanager
def node_of(cluster: Cluster, name: str) -> Iterator[Node]:
    """A node that is gone afterwards."""
    node = Node(cluster, name)
    try:
        yield node
    finally:
        node.delete()
