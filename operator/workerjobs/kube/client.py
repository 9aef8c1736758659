"""The Kubernetes API, over the kubernetes package: its only home.

Requests are raw JSON over the package's generic call: its generated API classes and their models take a second and
25 MiB to import (kubernetes 37.0), for nothing that is needed here.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from workerjobs.errors import ClusterError, ClusterUnavailableError
from workerjobs.kube import workerpool
from workerjobs.kube.workerjob import GROUP, PLURAL, VERSION
from workerjobs.ports.cluster import Seen

PAGE = 500
"""Objects a LIST request."""
TIMEOUT_SECONDS = 20.0
LEASE_TIMEOUT_SECONDS = 2.0
"""A Lease is to be renewed within seconds: better to ask again soon."""
WATCH_SECONDS = 60.0
"""How long a watch goes on before it is asked for again, so that one that was cut without a word is noticed."""
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=WATCH_SECONDS + 10)

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_JSON = "application/json"
_NAMES_ONLY = f"{_JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_NAME_ONLY = f"{_JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"
FIELD_MANAGER = "workerjobs-operator"
"""Whose the fields are that the operator applies."""
DEFAULT_POOL_MANAGER = "workerjobs-default-pool"
"""Whose the fields of the default pool are, as long as nobody else sets them."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to talk to the cluster, for kopf, which has a client of its own."""

    server: str
    ca_path: str | None
    is_insecure: bool
    certificate_path: str | None
    key_path: str | None
    authorization: str | None
    """The whole HTTP header, such as ``Bearer …``."""


class _RefusedError(ClusterError):
    """The API server's answer was no."""

    def __init__(self, message: str, status: int, details: Mapping[str, Any]) -> None:
        self.status = status
        self.details = details
        super().__init__(message)


class KubernetesCluster:
    """A `Cluster`, `PodCluster` and `LeaseCluster`; open it with `connect`, close it at the end."""

    def __init__(
        self,
        client: ApiClient,
        on_call: Callable[[str, str, int], None] = lambda verb, resource, code: None,
        before_write: Callable[[], None] = lambda: None,
        context: str | None = None,
    ) -> None:
        self._client = client
        self._context = context
        self._on_call = on_call
        self._before_write = before_write

    @classmethod
    async def connect(
        cls,
        on_call: Callable[[str, str, int], None] = lambda verb, resource, code: None,
        before_write: Callable[[], None] = lambda: None,
        context: str | None = None,
    ) -> KubernetesCluster:
        """Find the cluster: KUBECONFIG's, the one that this pod is in, or that of the user's kubeconfig.

        Args:
            on_call: Told of each call: its HTTP method, the resource, such as ``workerjobs/status``, and the answer's
                status; 0 where there was none.
            before_write: Called before each call that changes something but Leases; what it raises is the call's error.
            context: Of the kubeconfig; None: its current one.

        Raises:
            ClusterError: There is none.
        """
        return cls(ApiClient(await _load_configuration(context)), on_call, before_write, context)

    @property
    def usual_namespace(self) -> str:
        """See `PoolCluster.usual_namespace`."""
        if _NAMESPACE_FILE.is_file() and not os.environ.get("KUBECONFIG") and self._context is None:
            return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        try:
            contexts, active = config.list_kube_config_contexts(config_file=_kubeconfig())
        except (config.ConfigException, ClusterError, OSError):
            return "default"
        chosen = next((each for each in contexts if each["name"] == self._context), active)
        return str(chosen["context"].get("namespace") or "default")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def cluster_id(self) -> str:
        """See `Cluster.cluster_id`."""
        namespace = await self._call("GET", "/api/v1/namespaces/kube-system")
        return cast(str, namespace["metadata"]["uid"])

    async def serves_workerjobs(self) -> bool:
        """See `Cluster.serves_workerjobs`."""
        # Both, because the two lists are kept by different parts of the API server, one later than the other.
        groups = (await self._call("GET", "/apis"))["groups"]
        if GROUP not in [group["name"] for group in groups]:
            return False
        try:
            resources = (await self._call("GET", f"/apis/{GROUP}/{VERSION}"))["resources"]
        except _RefusedError as error:
            if error.status == 404:
                return False
            raise
        return {PLURAL, workerpool.PLURAL} <= {resource["name"] for resource in resources}

    async def workerjob_uids(self, namespaces: Sequence[str]) -> frozenset[str]:
        """See `Cluster.workerjob_uids`."""
        paths = [_workerjobs_path(namespace) for namespace in namespaces] or [_workerjobs_path(None)]
        found = set()
        for path in paths:
            async for item in self._list(path, accept=_NAMES_ONLY):
                found.add(item["metadata"]["uid"])
        return frozenset(found)

    async def write_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> int | None:
        """See `Cluster.write_status`."""
        return await self._write_status(f"{_workerjobs_path(namespace)}/{quote(name)}", uid, status)

    async def _write_status(self, path: str, uid: str, status: Mapping[str, Any]) -> int | None:
        # Not a merge patch, which would mix the results of two runs and drop what is null in them.
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        try:
            written = await self._call(
                "PATCH", f"{path}/status", body=patch, content_type=_JSON_PATCH, accept=_NAME_ONLY
            )
        except _RefusedError as error:
            # A failed test is answered with 422, as an invalid object is, but names none.
            if error.status == 404 or (error.status == 422 and not error.details):
                return None
            raise
        return version_of(written)

    async def delete_workerjob(self, namespace: str, name: str, uid: str, version: int) -> None:
        """See `Cluster.delete_workerjob`."""
        conditions = {"uid": uid} | ({"resourceVersion": str(version)} if version else {})
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
        try:
            await self._call("DELETE", f"{_workerjobs_path(namespace)}/{quote(name)}", body=body)
        except _RefusedError as error:
            if error.status not in (404, 409):
                raise

    async def write_event(self, namespace: str, name: str, event: Mapping[str, Any]) -> None:
        """See `Cluster.write_event`."""
        path = f"/apis/events.k8s.io/v1/namespaces/{quote(namespace)}/events"
        if "series" in event:
            # Only this may change, and what is no longer there is made anew.
            change = {"series": event["series"]}
            try:
                await self._call("PATCH", f"{path}/{quote(name)}", body=change, content_type=_MERGE_PATCH)
            except _RefusedError as error:
                if error.status != 404:
                    raise
            else:
                return
        try:
            await self._call("POST", path, body={"apiVersion": "events.k8s.io/v1", "kind": "Event", **event})
        except _RefusedError as error:
            # In a namespace that ends nothing is made any more; its resources go with it.
            if error.status not in (404, 409) and not _is_terminating(error):
                raise

    # --- services

    async def list_labelled(self, kind: str, namespace: str | None, selector: str) -> list[Mapping[str, Any]]:
        """Read objects of the core API that a label selector finds, in a namespace or all."""
        scope = f"/namespaces/{quote(namespace)}" if namespace is not None else ""
        path = f"/api/v1{scope}/{kind}?labelSelector={quote(selector, safe='')}"
        return [item async for item in self._list(path)]

    async def ask_service(
        self, namespace: str, service: str, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Send a request to a Service through the API server.

        Args:
            namespace: Where the Service is.
            service: ``name:port``.
            method: Of HTTP.
            path: Below the Service, with its query.
            body: JSON; None: nothing.
            headers: More of them; Authorization does not arrive, as the API server keeps it.

        Returns:
            The status and the answer, the API server's own refusals among them.
        """
        through = f"/api/v1/namespaces/{quote(namespace)}/services/{quote(service, safe=':')}/proxy{path}"
        sent = dict(headers) | ({} if body is None else {"Content-Type": _JSON})
        try:
            _, url, all_headers, _, _ = await self._client.param_serialize(
                method, through, header_params=sent, auth_settings=["BearerToken"]
            )
            answer = await self._client.rest_client.request(
                method, url, headers=all_headers, body=body, _request_timeout=TIMEOUT_SECONDS
            )
            return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            host = self._client.configuration.host
            raise ClusterUnavailableError(f"The Kubernetes API at {host} can't be reached: {reason}") from error

    # --- worker pools

    async def list_workerpools(self, namespaces: Sequence[str]) -> list[Mapping[str, Any]]:
        """See `PoolCluster.list_workerpools`."""
        paths = [_workerpools_path(namespace) for namespace in namespaces] or [_workerpools_path(None)]
        return [item for path in paths async for item in self._list(path)]

    async def read_workerpool(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """See `PoolCluster.read_workerpool`."""
        return await self._find_object(f"{_workerpools_path(namespace)}/{quote(name)}")

    async def write_pool_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> int | None:
        """See `PoolCluster.write_pool_status`."""
        return await self._write_status(f"{_workerpools_path(namespace)}/{quote(name)}", uid, status)

    async def apply_workerpool(self, manifest: Mapping[str, Any]) -> frozenset[str]:
        """See `PoolCluster.apply_workerpool`."""
        metadata = manifest["metadata"]
        path = (
            f"{_workerpools_path(metadata['namespace'])}/{quote(metadata['name'])}?fieldManager={DEFAULT_POOL_MANAGER}"
        )
        try:
            await self._call("PATCH", path, body=manifest, content_type=_APPLY_PATCH)
        except _RefusedError as error:
            causes = error.details.get("causes") or ()
            if error.status == 409 and causes:
                return frozenset(cause["field"] for cause in causes if "field" in cause)
            raise
        return frozenset()

    async def patch_workerpool(self, namespace: str, name: str, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """See `PoolCluster.patch_workerpool`."""
        path = f"{_workerpools_path(namespace)}/{quote(name)}"
        return await self._find_object(path, method="PATCH", body={"spec": spec}, content_type=_MERGE_PATCH)

    async def find_deployment(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """See `PoolCluster.find_deployment`."""
        return await self._find_object(_deployment_path(namespace, name))

    async def apply_deployment(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `PoolCluster.apply_deployment`."""
        metadata = manifest["metadata"]
        path = f"{_deployment_path(metadata['namespace'], metadata['name'])}?fieldManager={FIELD_MANAGER}&force=true"
        return await self._call("PATCH", path, body=manifest, content_type=_APPLY_PATCH)

    async def list_pods(self, namespace: str, selector: str) -> list[Mapping[str, Any]]:
        """See `PoolCluster.list_pods`."""
        path = f"/api/v1/namespaces/{quote(namespace)}/pods?labelSelector={quote(selector, safe='')}"
        return [pod async for pod in self._list(path)]

    async def list_nodes(self) -> list[Mapping[str, Any]]:
        """See `Cluster.list_nodes`."""
        return [node async for node in self._list("/api/v1/nodes")]

    # --- worker pods and nodes

    def watch_pods(self, namespace: str | None, selector: str) -> AsyncIterator[Seen]:
        """See `PodCluster.watch_pods`."""
        scope = f"/namespaces/{quote(namespace)}" if namespace is not None else ""
        return self._watch(f"/api/v1{scope}/pods", f"labelSelector={quote(selector, safe='')}&")

    def watch_nodes(self) -> AsyncIterator[Seen]:
        """See `PodCluster.watch_nodes`."""
        return self._watch("/api/v1/nodes")

    async def find_pod(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """See `PodCluster.find_pod`."""
        return await self._find_object(_pod_path(namespace, name))

    async def find_node(self, name: str) -> Mapping[str, Any] | None:
        """See `PodCluster.find_node`."""
        return await self._find_object(f"/api/v1/nodes/{quote(name)}")

    async def annotate_pod(
        self, namespace: str, name: str, uid: str, annotations: Mapping[str, str | None]
    ) -> Mapping[str, Any] | None:
        """See `PodCluster.annotate_pod`."""
        change = {"metadata": {"uid": uid, "annotations": annotations}}
        try:
            return await self._call("PATCH", _pod_path(namespace, name), body=change, content_type=_MERGE_PATCH)
        except _RefusedError as error:
            # Gone, or another one has its name now.
            if error.status in (404, 409):
                return None
            raise

    # --- leases

    async def find_lease(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """See `LeaseCluster.find_lease`."""
        return await self._find_object(f"{_leases_path(namespace)}/{quote(name)}", patience=LEASE_TIMEOUT_SECONDS)

    async def write_lease(self, namespace: str, name: str, manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """See `LeaseCluster.write_lease`."""
        path = _leases_path(namespace)
        is_new = "resourceVersion" not in manifest["metadata"]
        try:
            return await self._call(
                "POST" if is_new else "PUT",
                path if is_new else f"{path}/{quote(name)}",
                body=manifest,
                is_guarded=False,
                patience=LEASE_TIMEOUT_SECONDS,
            )
        except _RefusedError as error:
            if error.status == 409 or (error.status == 404 and not is_new):
                return None
            raise

    # --- calls

    async def _find_object(self, path: str, *, method: str = "GET", **options: Any) -> dict[str, Any] | None:
        """Make a request about an object that need not be there; None where it is not."""
        try:
            return await self._call(method, path, **options)
        except _RefusedError as error:
            # Of a name that nothing has; a path that is not served has no details.
            if error.status == 404 and error.details:
                return None
            raise

    async def _watch(self, path: str, query: str = "") -> AsyncIterator[Seen]:
        """List, and tell of changes until the API server has forgotten what came after the last one told."""
        token = ""
        items: list[Mapping[str, Any]] = []
        while True:
            page = await self._call("GET", f"{path}?{query}limit={PAGE}&continue={quote(token, safe='')}")
            items += page["items"] or ()
            token = page["metadata"].get("continue") or ""
            version = page["metadata"]["resourceVersion"]
            if not token:
                break
        yield Seen(items, are_all=True)
        while True:
            start = f"{path}?{query}watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS:.0f}"
            response = await self._send(
                "GET", f"{start}&resourceVersion={version}", None, _JSON, _JSON, _WATCH_TIMEOUT, verb="WATCH"
            )
            stream = response.response
            try:
                while line := await stream.content.readline():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        if event["object"].get("code") == 410:
                            return
                        raise ClusterUnavailableError(f"The Kubernetes API ends a watch: {event['object']}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    objects = [] if event["type"] == "BOOKMARK" else [event["object"]]
                    yield Seen(objects, are_deleted=event["type"] == "DELETED")
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                server = self._client.configuration.host
                reason = str(error) or type(error).__name__
                raise ClusterUnavailableError(f"Watching {server} was interrupted: {reason}") from error
            finally:
                stream.close()
            yield Seen([])

    async def _list(self, path: str, *, accept: str = _JSON) -> AsyncIterator[dict[str, Any]]:
        """Read all pages of a list, which are of one moment; an error is raised, not taken for the end."""
        token = ""
        while True:
            start = f"{path}{'&' if '?' in path else '?'}limit={PAGE}&continue={quote(token, safe='')}"
            page = await self._call("GET", start, accept=accept)
            for item in page["items"] or ():  # null where a list of names is empty
                yield item
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        is_guarded: bool = True,
        patience: float = TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        """Make one request; a second one with a new token where the first one's was refused.

        Raises:
            ClusterError: With what the API server said.
        """
        if is_guarded and method != "GET":
            self._before_write()
        try:
            return await self._request(method, path, body, content_type, accept, patience)
        except _RefusedError as error:
            if error.status != 401:
                raise
        # Tokens of a kubeconfig's credential plugin run out, and nothing renews them but loading it again.
        client = ApiClient(await _load_configuration(self._context))
        await self._client.close()
        self._client = client
        return await self._request(method, path, body, content_type, accept, patience)

    async def _request(
        self, method: str, path: str, body: object, content_type: str, accept: str, patience: float
    ) -> dict[str, Any]:
        response = await self._send(method, path, body, content_type, accept, patience)
        return cast(dict[str, Any], json.loads(await response.read()))

    async def _send(
        self,
        method: str,
        path: str,
        body: object,
        content_type: str,
        accept: str,
        patience: Any,
        verb: str | None = None,
    ) -> Any:
        """Make one request; the body of the answer is yet to be read where it is not a short one."""
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            # This adds the token. The body goes past it: it would look at every value in it for a model of its own.
            _, url, headers, _, _ = await self._client.param_serialize(
                method, path, header_params=headers, auth_settings=["BearerToken"]
            )
            response = await self._client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=patience
            )
            if verb is None or response.status > 299:
                await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._on_call(verb or method, _resource_of(path), 0)
            server = self._client.configuration.host
            reason = str(error) or type(error).__name__
            raise ClusterUnavailableError(f"The Kubernetes API at {server} can't be reached: {reason}") from error
        self._on_call(verb or method, _resource_of(path), response.status)
        if 200 <= response.status <= 299:
            return response
        said = _status_of(await response.read())
        message = f"{said.get('message') or response.reason or 'no reason given'} (HTTP status {response.status})"
        what = f"{method} {path.partition('?')[0]}"
        if response.status >= 500 or response.status == 429:
            raise ClusterUnavailableError(f"The Kubernetes API can't serve {what} now: {message}")
        if response.status == 404 and path.startswith(f"/apis/{GROUP}/") and "details" not in said:
            message = "the cluster knows no WorkerJobs or WorkerPools, apply manifests/crds first"
        raise _RefusedError(f"The Kubernetes API refuses {what}: {message}", response.status, said.get("details") or {})


async def load_credentials() -> Credentials:
    """Find the cluster as `KubernetesCluster.connect` does, with a token as fresh as can be.

    Raises:
        ClusterError: There is none.
    """
    configuration = await _load_configuration()
    return Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        is_insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        key_path=configuration.key_file,
        authorization=await configuration.get_api_key_with_prefix("BearerToken", alias="authorization"),
    )


def version_of(resource: Mapping[str, Any]) -> int:
    """A resource's version, to tell the newer of two states of it; 0 where it is no number.

    Source:
        Kubernetes documentation, API Concepts, "Resource versions": they can be compared since 1.35; those of etcd are
        numbers that grow in every release.
    """
    version = resource["metadata"].get("resourceVersion", "")
    return int(version) if version.isdecimal() else 0


async def _load_configuration(context: str | None = None) -> Configuration:
    configuration = Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG") and context is None:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(_kubeconfig(), context, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise ClusterError(f"No Kubernetes cluster to work for: {str(error).strip().rstrip('.')}") from error
    return configuration


def _kubeconfig() -> str:
    """Name the user's kubeconfig, or several; the package itself only warns where there is none."""
    named = os.environ.get("KUBECONFIG") or "~/.kube/config"
    if not any(Path(path).expanduser().is_file() for path in named.split(os.pathsep)):
        raise ClusterError(
            f"No Kubernetes cluster to work for: there is no kubeconfig {named}; KUBECONFIG names another one"
        )
    return named


def _is_terminating(error: _RefusedError) -> bool:
    causes = error.details.get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def _workerjobs_path(namespace: str | None) -> str:
    scope = f"/namespaces/{quote(namespace)}" if namespace is not None else ""
    return f"/apis/{GROUP}/{VERSION}{scope}/{PLURAL}"


def _workerpools_path(namespace: str | None) -> str:
    scope = f"/namespaces/{quote(namespace)}" if namespace is not None else ""
    return f"/apis/{GROUP}/{VERSION}{scope}/{workerpool.PLURAL}"


def _deployment_path(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{quote(namespace)}/deployments/{quote(name)}"


def _pod_path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}"


def _leases_path(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace)}/leases"


def _resource_of(path: str) -> str:
    """The resource that a path is of, without names: ``workerjobs``, ``deployments/scale``.

    >>> _resource_of("/apis/quickdapp.xyz/v1/namespaces/shop/workerjobs/report/status")
    'workerjobs/status'
    >>> _resource_of("/api/v1/namespaces/kube-system"), _resource_of("/api/v1/nodes?limit=500"), _resource_of("/apis")
    ('namespaces', 'nodes', 'discovery')
    """
    parts = path.partition("?")[0].strip("/").split("/")
    parts = parts[3 if parts[0] == "apis" else 2 :]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    return "/".join(parts[::2]) or "discovery"


def _status_of(data: bytes) -> dict[str, Any]:
    """Read the Status object of a refusal; proxies on the way answer with anything."""
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
