"""The way to the server in a cluster: `Exchange` through the Kubernetes API server's proxy, with the user's own rights.

No port is forwarded and no pod is named: whoever may reach the API server and `get services/proxy` needs nothing else.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from workerjobs.domain.tokens import TOKEN_HEADER
from workerjobs.errors import ClusterError, ClusterUnavailableError, NotFoundError, PlaceUnavailableError
from workerjobs.kube.cluster import KubernetesCluster
from workerjobs.ports.places import Answer

SELECTOR = "app.kubernetes.io/part-of=workerjobs,app.kubernetes.io/component=server"
"""Labels of the server's Service and Secret, as the chart gives them."""


class ServiceExchange:
    """`Exchange` with the server of a cluster; open it with `connect`.

    Args:
        cluster: Closed with this.
        namespace: Where the Service is.
        service: ``name:port``.
        token: What the server is shown; None: nothing.
    """

    def __init__(self, cluster: KubernetesCluster, namespace: str, service: str, token: str | None) -> None:
        self.name = f"The server {namespace}/{service.partition(':')[0]}"
        self._cluster = cluster
        self._namespace = namespace
        self._service = service
        self._headers = {"Accept": "application/json"} | ({TOKEN_HEADER: token} if token else {})

    @classmethod
    async def connect(cls, context: str | None, service: str | None, token: str | None) -> ServiceExchange:
        """Find the server of a cluster.

        Args:
            context: Of the kubeconfig; None: its current one.
            service: ``NAME`` or ``NAMESPACE/NAME`` of its Service; None: the one with the chart's labels.
            token: What it is shown; None: the one of its Secret, as far as the user may read that.

        Raises:
            NotFoundError: There is none, or there are several.
            ClusterError: The API server refuses.
        """
        cluster = await KubernetesCluster.connect(context=context)
        try:
            namespace, name, port = await _find(cluster, service)
            return cls(cluster, namespace, f"{name}:{port}", token or await _token(cluster, namespace))
        except BaseException:
            await cluster.close()
            raise

    async def ask(self, method: str, path: str, query: Mapping[str, str], body: Any = None) -> Answer:
        """See `Exchange.ask`."""
        target = f"/api/v1{path}" + (f"?{urlencode(query)}" if query else "")
        status, data = await self._cluster.ask_service(
            self._namespace, self._service, method, target, body, self._headers
        )
        try:
            said = json.loads(data)
        except ValueError:
            said = None
        if status >= 300 and isinstance(said, dict) and said.get("kind") == "Status":
            # The API server's own word: it can't reach the Service, or the user may not.
            message = said.get("message") or f"HTTP status {status}"
            if status in (401, 403):
                raise ClusterError(f"The Kubernetes API refuses: {message}")
            raise PlaceUnavailableError(f"{self.name} can't be reached through the Kubernetes API: {message}")
        return Answer(status, said)

    async def close(self) -> None:
        """See `Exchange.close`."""
        await self._cluster.close()


async def _find(cluster: KubernetesCluster, service: str | None) -> tuple[str, str, str]:
    """Find the server's Service: its namespace, name and port."""
    if service is not None:
        namespace, _, name = service.rpartition("/")
        return namespace or cluster.usual_namespace, name, "http"
    found = await cluster.list_labelled("services", cluster.usual_namespace, SELECTOR)
    if not found:
        try:
            found = await cluster.list_labelled("services", None, SELECTOR)
        except ClusterUnavailableError:
            raise
        except ClusterError:
            found = []  # Not allowed: then it has to be named.
    if len(found) != 1:
        names = ", ".join(f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in found)
        raise NotFoundError(
            f"The cluster has several WorkerJobs servers: name one of {names} with --service"
            if found
            else "No WorkerJobs server was found in the cluster: name its Service with --service NAMESPACE/NAME, or "
            "install it (server.enabled in the chart)"
        )
    metadata = found[0]["metadata"]
    return metadata["namespace"], metadata["name"], "http"


async def _token(cluster: KubernetesCluster, namespace: str) -> str | None:
    """The server's own token, for those who may read its Secret."""
    try:
        secrets = await cluster.list_labelled("secrets", namespace, SELECTOR)
    except ClusterUnavailableError:
        raise
    except ClusterError:
        return None
    return next((base64.b64decode(each["data"]["token"]).decode() for each in secrets if "token" in each["data"]), None)
