"""The Kubernetes API, over the kubernetes package: its only home.

Requests are raw JSON over its generic call: the generated API classes and their models take a second and 25 MiB to
import (kubernetes 37.0), for nothing that is needed here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, cast
from urllib.parse import quote

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException

from workerjobs.errors import ClusterError
from workerjobs.kube.workerjob import GROUP, PLURAL, VERSION
from workerjobs.ports import WorkerDeployment, WorkerNode

PAGE = 500
"""Resources a LIST request."""
TIMEOUT_SECONDS = 20.0
_MERGE_PATCH = "application/merge-patch+json"


class KubernetesCluster:
    """A `Cluster`; open it with `connect`, close it at the end."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls) -> KubernetesCluster:
        """Find the cluster: the pod's own, or the kubeconfig's current context.

        Raises:
            ClusterError: There is neither.
        """
        configuration = Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
                config.load_incluster_config(client_configuration=configuration)
            else:
                await config.load_kube_config(client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise ClusterError(f"No Kubernetes cluster is configured: {error}") from error
        return cls(ApiClient(configuration))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def cluster_id(self) -> str:
        """See `Cluster.cluster_id`."""
        namespace = await self._call("GET", "/api/v1/namespaces/kube-system")
        return cast(str, namespace["metadata"]["uid"])

    async def list_workerjobs(self, namespaces: Sequence[str]) -> list[dict[str, Any]]:
        """See `Cluster.list_workerjobs`."""
        found: list[dict[str, Any]] = []
        for path in [_workerjobs_path(namespace) for namespace in namespaces] or [_workerjobs_path(None)]:
            token = ""
            while True:
                query = [("limit", str(PAGE)), *([("continue", token)] if token else [])]
                page = await self._call("GET", path, query=query)
                found += page["items"]
                token = page["metadata"].get("continue") or ""
                if not token:
                    break
        return found

    async def patch_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> None:
        """See `Cluster.patch_status`."""
        path = f"{_workerjobs_path(namespace)}/{quote(name)}/status"
        try:
            # With the uid a resource that was deleted and made anew meanwhile answers with a conflict.
            await self._call("PATCH", path, body={"metadata": {"uid": uid}, "status": status})
        except ClusterError as error:
            if not isinstance(error.__cause__, ApiException) or error.__cause__.status not in (404, 409):
                raise

    async def read_deployment(self, namespace: str, name: str) -> WorkerDeployment:
        """See `Cluster.read_deployment`."""
        deployment = await self._call("GET", _deployment_path(namespace, name))
        pod = deployment["spec"]["template"]["spec"]
        requests = [container.get("resources", {}).get("requests", {}).get("cpu") for container in pod["containers"]]
        return WorkerDeployment(
            replicas=deployment["spec"].get("replicas", 1),
            cpu_request=sum(parse_quantity(cpu) for cpu in requests if cpu) or None,
            node_selector=pod.get("nodeSelector") or {},
            tolerations=tuple(pod.get("tolerations") or ()),
        )

    async def scale_deployment(self, namespace: str, name: str, replicas: int) -> None:
        """See `Cluster.scale_deployment`."""
        path = f"{_deployment_path(namespace, name)}/scale"
        await self._call("PATCH", path, body={"spec": {"replicas": replicas}})

    async def list_nodes(self) -> list[WorkerNode]:
        """See `Cluster.list_nodes`."""
        nodes = await self._call("GET", "/api/v1/nodes")
        return [
            WorkerNode(
                name=node["metadata"]["name"],
                cpus=parse_quantity(node.get("status", {}).get("allocatable", {}).get("cpu", "0")),
                labels=node["metadata"].get("labels") or {},
                is_cordoned=bool(node["spec"].get("unschedulable")),
                taints=tuple(node["spec"].get("taints") or ()),
            )
            for node in nodes["items"]
        ]

    async def _call(
        self, method: str, path: str, *, query: Sequence[tuple[str, str]] = (), body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make one request.

        Raises:
            ClusterError: With what the API server said; its cause is the `ApiException`, if there was an answer.
        """
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = _MERGE_PATCH
        try:
            request = await self._client.param_serialize(
                method, path, query_params=list(query), header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = await self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterError(f"The Kubernetes API does not answer ({method} {path}): {error}") from error
        if not 200 <= response.status <= 299:
            refusal = ApiException(status=response.status, reason=response.reason)
            said = _message(data, response.status)
            raise ClusterError(f"The Kubernetes API refuses {method} {path}: {said}") from refusal
        return cast(dict[str, Any], json.loads(data))


def parse_quantity(text: str) -> float:
    """Read a CPU quantity such as ``2``, ``0.5`` or ``250m``, in CPUs."""
    return float(Decimal(text[:-1]) / 1000 if text.endswith("m") else Decimal(text))


def _workerjobs_path(namespace: str | None) -> str:
    scope = f"/namespaces/{quote(namespace)}" if namespace is not None else ""
    return f"/apis/{GROUP}/{VERSION}{scope}/{PLURAL}"


def _deployment_path(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{quote(namespace)}/deployments/{quote(name)}"


def _message(data: bytes, status: int) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {status}"
