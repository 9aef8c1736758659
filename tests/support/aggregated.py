"""API servers of others, behind that of a test cluster: they run on this machine."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

from tests.support.cluster.controlplane import Cluster
from tests.support.operators import eventually

NAMESPACE = "kube-system"


def listens(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def aggregated(cluster: Cluster, group: str, host: str, port: int, version: str = "v1beta1") -> Iterator[None]:
    """Let an API server on this machine serve a group of resources, and wait until it does.

    Args:
        cluster: Its API server asks the other one.
        group, version: Of the resources.
        host, port: Where it listens, as the cluster's API server reaches it.
    """
    name, api = group.replace(".", "-"), f"{version}.{group}"
    service = {"name": name, "namespace": NAMESPACE}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": service,
            "spec": {"type": "ExternalName", "externalName": host},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": api},
            "spec": {
                "service": service | {"port": port},
                "group": group,
                "version": version,
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    try:
        cluster.kubectl("wait", "--for=condition=Available", f"apiservice/{api}", "--timeout=80s")
        eventually(lambda: cluster.kubectl("get", "--raw", f"/apis/{group}/{version}", check=False).returncode == 0)
        yield
    finally:
        # Left behind, it would keep namespaces from being deleted.
        cluster.kubectl("delete", "apiservice", api)
        cluster.kubectl("delete", "service", name, f"--namespace={NAMESPACE}")
