"""A pool's backlog, for those who scale it from outside."""

from __future__ import annotations

from workerjobs.domain.scaling import PAUSED, ScalingDecision, bounded, jobs_target
from workerjobs.kube.workerpool import parse_workerpool
from workerjobs.ports.cluster import PoolCluster
from workerjobs.ports.pools import PoolStore


async def pool_backlog(cluster: PoolCluster, store: PoolStore, namespace: str, name: str) -> dict[str, int] | None:
    """Count the jobs that a WorkerPool's workers take.

    Returns:
        ``backlog`` are due and not started, ``running`` are started; ``desired`` are the pods that these, and those
        that soon become due, ask for, within minWorkers and maxWorkers: as workerCount auto counts, without its memory
        of earlier looks. None where there is no such WorkerPool.

    Raises:
        WorkerJobsError: The cluster or the database does not answer, or the WorkerPool breaks a rule.
    """
    manifest = await cluster.read_workerpool(namespace, name)
    if manifest is None:
        return None
    spec = parse_workerpool(manifest).spec
    (counted,) = await store.backlogs([spec.question])
    backlog = counted.of_types(spec.types)
    if spec.is_paused:
        decision = ScalingDecision(0, PAUSED, "")
    else:
        decision = bounded(jobs_target(backlog, spec.policy), spec.bounds)
    return {"backlog": backlog.due, "running": backlog.running, "desired": decision.replicas}
