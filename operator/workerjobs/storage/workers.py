"""What workers show of themselves, and what they are asked to do: `PodStore`, and their part of `JobStore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from psycopg.rows import class_row, dict_row, scalar_row

from workerjobs.domain.data_schema import Schema
from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import MAX_RESCUES
from workerjobs.ports.workers import DrainReason, LostWorker, PodWorker, WorkerOrders, WorkerRecord, WorkerStatus
from workerjobs.storage.arrays import text_array
from workerjobs.storage.rows import struct_row
from workerjobs.storage.statements import Statements


class PostgresWorkerStore(Statements):
    """The lines of workers, living and lost."""

    async def show_worker(self, worker: WorkerRecord) -> WorkerOrders:
        """See `JobStore.show_worker`."""
        pod = worker.pod
        values = {
            "owner": worker.owner,
            "pool": worker.pool,
            "host": worker.host,
            "pid": worker.pid,
            "version": worker.version,
            "children": worker.children,
            "types": text_array(worker.types),
            "schemas": worker.schemas_json,
            "is_draining": worker.is_draining,
            "booted": worker.booted,
            "cluster_id": pod.cluster_id if pod is not None else None,
            "namespace": pod.namespace if pod is not None else None,
            "pod_name": pod.name if pod is not None else None,
            "pod_uid": pod.uid if pod is not None else None,
        }
        (orders,) = await self._rows("show_worker", values, class_row(WorkerOrders))
        return orders

    async def remove_worker(self, owner: str) -> None:
        """See `JobStore.remove_worker`."""
        await self._execute("remove_worker", {"owner": owner})

    async def workers(self, lease: timedelta) -> list[WorkerStatus]:
        """See `JobStore.workers`."""
        return await self._rows("workers", {"lease": lease}, class_row(WorkerStatus))

    async def schemas_of(self, pool: str, job_type: str, lease: timedelta) -> list[Schema]:
        """See `JobStore.schemas_of`."""
        values = {"pool": pool, "type": job_type, "lease": lease}
        return [row["schema"] for row in await self._rows("schemas_of", values, dict_row)]

    async def drain_workers(self, owners: Sequence[str], reason: DrainReason) -> list[str]:
        """See `JobStore.drain_workers`."""
        return await self._rows("drain_workers", {"owners": [*owners], "reason": str(reason)}, scalar_row)

    async def undrain_workers(self, owners: Sequence[str], reason: DrainReason) -> list[str]:
        """See `JobStore.undrain_workers`."""
        return await self._rows("undrain_workers", {"owners": [*owners], "reason": str(reason)}, scalar_row)

    async def acknowledge_revocation(self, owner: str) -> None:
        """See `JobStore.acknowledge_revocation`."""
        await self._execute("acknowledge_revocation", {"owner": owner})

    # --- workers in pods

    async def pod_workers(self, cluster_id: str, lease: timedelta) -> list[PodWorker]:
        """See `PodStore.pod_workers`."""
        return await self._rows("pod_workers", {"cluster_id": cluster_id, "lease": lease}, class_row(PodWorker))

    async def adopt_workers(self, cluster_id: str, owners: Sequence[str]) -> None:
        """See `PodStore.adopt_workers`."""
        await self._execute("adopt_workers", {"cluster_id": cluster_id, "owners": [*owners]})

    async def revoke_workers(self, owners: Sequence[str]) -> list[str]:
        """See `PodStore.revoke_workers`."""
        return await self._rows("revoke_workers", {"owners": [*owners]}, scalar_row)

    async def release_lost(self, lost: Sequence[LostWorker]) -> list[Job]:
        """See `PodStore.release_lost`."""
        values = {
            "owners": [worker.owner for worker in lost],
            "reasons": [worker.reason for worker in lost],
            "max_rescues": MAX_RESCUES,
        }
        return await self._rows("release_lost", values, struct_row(Job))

    async def forget_workers(self, owners: Sequence[str]) -> None:
        """See `PodStore.forget_workers`."""
        await self._execute("forget_workers", {"owners": [*owners]})
