"""API servers of others, behind the one of a real node: they run on this machine, which the node reaches."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.support.cluster.controlplane import Cluster
from tests.support.cluster.fixtures import Node
from tests.support.operators import eventually

NAMESPACE = "kube-system"


def machine_address(node: Node) -> str:
    """This machine's address on the node's network."""
    host = urlsplit(node.database_url).hostname
    assert host is not None
    return host


def free_port(address: str) -> int:
    """A port that nobody listens on now."""
    with socket.create_server((address, 0)) as server:
        port: int = server.getsockname()[1]
    return port


@contextlib.contextmanager
def aggregated(cluster: Cluster, group: str, version: str, address: str, port: int) -> Iterator[None]:
    """Let an API server on this machine serve a group of resources, and wait until it does."""
    name = group.replace(".", "-")
    about = {"name": name, "namespace": NAMESPACE}
    api = f"{version}.{group}"
    objects = [
        {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": {"ports": [{"port": 443, "name": "https"}]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": about | {"labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": port}],
            "endpoints": [{"addresses": [address]}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": api},
            "spec": {
                "service": about,
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
        cluster.kubectl("wait", "--for=condition=Available", f"apiservice/{api}", "--timeout=50s")
        eventually(lambda: cluster.kubectl("get", "--raw", f"/apis/{group}/{version}", check=False).returncode == 0)
        yield
    finally:
        # Left behind, it would keep namespaces from being deleted.
        cluster.kubectl("delete", "apiservice", api)
        cluster.kubectl("delete", "service", name, f"--namespace={NAMESPACE}")
        cluster.kubectl("delete", "endpointslice", name, f"--namespace={NAMESPACE}")
