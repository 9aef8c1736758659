"""Requests to the Kubernetes API, over the kubernetes package: its only home.

Requests are raw JSON over the package's generic call: its generated API classes and their models take a second and
25 MiB to import (kubernetes 37.0), for nothing that is needed here.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from workerjobs.errors import ClusterError, ClusterUnavailableError
from workerjobs.kube.workerjob import GROUP
from workerjobs.ports.cluster import Seen

PAGE = 500
"""Objects a LIST request."""
TIMEOUT_SECONDS = 20.0
WATCH_SECONDS = 60.0
"""How long a watch goes on before it is asked for again, so that one that was cut without a word is noticed."""
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=WATCH_SECONDS + 10)

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
JSON = "application/json"
_MALFORMED = ("failed to create typed patch object", "failed to convert new object")
"""Said, with status 500, of what is applied and has a field that its kind has not, or one of another type.

Source:
    kubernetes/kubernetes: staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/structuredmerge.go.
"""


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


class RefusedError(ClusterError):
    """The API server's answer was no.

    Attributes:
        status: Of HTTP.
        details: Of the Status object, empty where it has none.
    """

    def __init__(self, message: str, status: int, details: Mapping[str, Any]) -> None:
        self.status = status
        self.details = details
        super().__init__(message)


class KubernetesApi:
    """Requests to one cluster's API server; open it with `connect`, close it at the end."""

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
    ) -> Self:
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
        sent = dict(headers) | ({} if body is None else {"Content-Type": JSON})
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

    # --- for the requests of those who know what they ask for

    async def _find_object(self, path: str, *, method: str = "GET", **options: Any) -> dict[str, Any] | None:
        """Make a request about an object that need not be there; None where it is not."""
        try:
            return await self._call(method, path, **options)
        except RefusedError as error:
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
                "GET", f"{start}&resourceVersion={version}", None, JSON, JSON, _WATCH_TIMEOUT, verb="WATCH"
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

    async def _list(self, path: str, *, accept: str = JSON) -> AsyncIterator[dict[str, Any]]:
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
        content_type: str = JSON,
        accept: str = JSON,
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
        except RefusedError as error:
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
        is_broken = response.status >= 500 and not any(words in message for words in _MALFORMED)
        if is_broken or response.status == 429:
            raise ClusterUnavailableError(f"The Kubernetes API can't serve {what} now: {message}")
        if response.status == 404 and path.startswith(f"/apis/{GROUP}/") and "details" not in said:
            message = "the cluster knows no WorkerJobs or WorkerPools, apply manifests/crds first"
        raise RefusedError(f"The Kubernetes API refuses {what}: {message}", response.status, said.get("details") or {})


async def load_credentials() -> Credentials:
    """Find the cluster as `KubernetesApi.connect` does, with a token as fresh as can be.

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
