"""WorkerPools, for commands: with the rights of the user's own kubeconfig."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from workerjobs.app.extras import extra
from workerjobs.ports.cluster import PoolCluster


@asynccontextmanager
async def _cluster(context: str | None) -> AsyncIterator[PoolCluster]:
    """Connect to the user's cluster, and close the connection at the end."""
    with extra("operator", "This needs"):
        from workerjobs.kube.cluster import KubernetesCluster
    cluster = await KubernetesCluster.connect(context=context)
    try:
        yield cluster
    finally:
        await cluster.close()


async def list_pools(
    namespace: str | None, *, all_namespaces: bool, context: str | None = None
) -> list[Mapping[str, Any]]:
    """Read the WorkerPools of a namespace, by default the user's own, or of all."""
    async with _cluster(context) as cluster:
        return await cluster.list_workerpools([] if all_namespaces else [namespace or cluster.usual_namespace])


async def read_pool(namespace: str | None, name: str, *, context: str | None = None) -> Mapping[str, Any] | None:
    """Read a WorkerPool; None where there is none."""
    async with _cluster(context) as cluster:
        return await cluster.read_workerpool(namespace or cluster.usual_namespace, name)


async def change_pool(
    namespace: str | None, name: str, spec: Mapping[str, Any], *, context: str | None = None
) -> Mapping[str, Any] | None:
    """Change fields of a WorkerPool's spec, where None removes one; None where there is no such pool."""
    async with _cluster(context) as cluster:
        return await cluster.patch_workerpool(namespace or cluster.usual_namespace, name, spec)
