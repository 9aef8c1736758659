"""The cluster as the operator knows it: the protocols of `workerjobs.ports.cluster`, over the Kubernetes API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

from workerjobs.kube import workerpool
from workerjobs.kube.client import JSON, KubernetesApi, RefusedError, version_of
from workerjobs.kube.workerjob import GROUP, PLURAL, VERSION
from workerjobs.ports.cluster import Seen

LEASE_TIMEOUT_SECONDS = 2.0
"""A Lease is to be renewed within seconds: better to ask again soon."""
_NAMES_ONLY = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_NAME_ONLY = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"
FIELD_MANAGER = "workerjobs-operator"
"""Whose the fields are that the operator applies."""
DEFAULT_POOL_MANAGER = "workerjobs-default-pool"
"""Whose the fields of the default pool are, as long as nobody else sets them."""


class KubernetesCluster(KubernetesApi):
    """A `Cluster`, `PodCluster`, `PoolCluster` and `LeaseCluster`; open it with `connect`, close it at the end."""

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
        except RefusedError as error:
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
        except RefusedError as error:
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
        except RefusedError as error:
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
            except RefusedError as error:
                if error.status != 404:
                    raise
            else:
                return
        try:
            await self._call("POST", path, body={"apiVersion": "events.k8s.io/v1", "kind": "Event", **event})
        except RefusedError as error:
            # In a namespace that ends nothing is made any more; its resources go with it.
            if error.status not in (404, 409) and not _is_terminating(error):
                raise

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
        except RefusedError as error:
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
        except RefusedError as error:
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
        except RefusedError as error:
            if error.status == 409 or (error.status == 404 and not is_new):
                return None
            raise


def _is_terminating(error: RefusedError) -> bool:
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
