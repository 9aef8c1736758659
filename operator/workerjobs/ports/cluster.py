"""The Kubernetes API, as the operator needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Cluster(Protocol):
    """The Kubernetes API.

    All methods raise `ClusterUnavailableError` where it can't be reached or can't serve now, and `ClusterError` where
    it refuses.
    """

    async def cluster_id(self) -> str:
        """The uid of the namespace kube-system, which identifies a cluster."""
        ...

    async def serves_workerjobs(self) -> bool:
        """Whether the cluster tells its clients that it knows WorkerJobs."""
        ...

    async def workerjob_uids(self, namespaces: Sequence[str]) -> frozenset[str]:
        """List the WorkerJobs of the namespaces, of all where none is given; all or an error, never a part."""
        ...

    async def delete_workerjob(self, namespace: str, name: str, uid: str, version: int) -> None:
        """Delete a WorkerJob, unless it is gone or has changed since the version that it was seen at."""
        ...

    async def write_event(self, namespace: str, name: str, event: Mapping[str, Any]) -> None:
        """Create an Event (``events.k8s.io/v1``), or bring one of that name up to date."""
        ...

    async def write_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> int | None:
        """Replace a WorkerJob's status.

        Returns:
            The resource's version after that; None where it is gone, or another one has its name now.
        """
        ...

    async def list_nodes(self) -> list[Mapping[str, Any]]:
        """Read all nodes, as JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watch tells of objects, as JSON."""

    objects: Sequence[Mapping[str, Any]]
    are_all: bool = False
    """These are all there are, of one moment."""
    are_deleted: bool = False
    """This is what they were when they were deleted."""


class PodCluster(Protocol):
    """The Kubernetes API, as workers in pods need it; errors as in `Cluster`. Objects are their JSON."""

    def watch_pods(self, namespace: str | None, selector: str) -> AsyncIterator[Seen]:
        """Tell of all pods that a label selector finds, and then of changes, for as long as it goes.

        Args:
            namespace: Whose pods; None: all.
            selector: Of labels, such as ``a=b,c=d``.

        Yields:
            All of them first; then each change, and nothing now and then, as a sign of life.
        """
        ...

    def watch_nodes(self) -> AsyncIterator[Seen]:
        """Tell of all nodes, as `watch_pods`."""
        ...

    async def find_pod(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Read a pod; None where there is none."""
        ...

    async def find_node(self, name: str) -> Mapping[str, Any] | None:
        """Read a node; None where there is none."""
        ...

    async def annotate_pod(
        self, namespace: str, name: str, uid: str, annotations: Mapping[str, str | None]
    ) -> Mapping[str, Any] | None:
        """Write annotations, None removes one; returns the pod, None where it is gone."""
        ...


class LeaseCluster(Protocol):
    """The Kubernetes API, as electing a leader needs it; errors as in `Cluster`."""

    async def find_lease(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Read a Lease; None where there is none."""
        ...

    async def write_lease(self, namespace: str, name: str, manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Make a Lease, or replace the one of the manifest's resourceVersion; None where someone else was faster."""
        ...


class PoolCluster(Cluster, PodCluster, Protocol):
    """The Kubernetes API, as pools of workers need it; errors as in `Cluster`. Objects are their JSON."""

    @property
    def usual_namespace(self) -> str:
        """The namespace of this pod, or of the user's current context."""
        ...

    async def list_workerpools(self, namespaces: Sequence[str]) -> list[Mapping[str, Any]]:
        """Read the WorkerPools of the namespaces, of all where none is given."""
        ...

    async def read_workerpool(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Read a WorkerPool; None where there is none."""
        ...

    async def write_pool_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> int | None:
        """Replace a WorkerPool's status; returns as `Cluster.write_status`."""
        ...

    async def apply_workerpool(self, manifest: Mapping[str, Any]) -> frozenset[str]:
        """Bring a WorkerPool to what a manifest says, as long as nobody else has said something else.

        Returns:
            The fields that somebody else has set, such as ``.spec.workerCount``: then nothing was changed.
        """
        ...

    async def patch_workerpool(self, namespace: str, name: str, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Change fields of a WorkerPool's spec, where None removes one; returns the pool, None where there is none."""
        ...

    async def find_deployment(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Read a Deployment; None where there is none."""
        ...

    async def apply_deployment(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make a Deployment, or bring it to what a manifest says, whoever changed that; returns it."""
        ...

    async def list_pods(self, namespace: str, selector: str) -> list[Mapping[str, Any]]:
        """Read the pods that a label selector finds."""
        ...
