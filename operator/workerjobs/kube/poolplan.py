"""What a look at a WorkerPool, its Deployment, its pods and their workers asks for: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from workerjobs.domain.scaling import (
    Backlog,
    DrainPlan,
    PodLoad,
    Sample,
    ScalingDecision,
    bounded,
    desired_replicas,
    jobs_target,
    measured,
    plan_drain,
    remembered,
)
from workerjobs.kube.conditions import condition, timed
from workerjobs.kube.podspec import MALFORMED, fitting_replicas
from workerjobs.kube.poolspec import DIGEST_ANNOTATION, WorkerDefaults, deployment, pod_template, selector_text
from workerjobs.kube.workerpool import WorkerPool
from workerjobs.ports.pools import WorkerLoad
from workerjobs.ports.workers import DrainReason, WorkerStatus

LOWEST_COST = -(2**31)
"""Of all pods of a ReplicaSet that are ready, one of this deletion cost goes first."""
COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"

# Reasons of conditions.
SPEC_ACCEPTED = "SpecAccepted"
SPEC_REFUSED = "SpecRefused"  # it breaks a rule, such as the API server's of pods
NOT_OURS = "NotOurs"  # something else has the name that the pool's Deployment would have
MEMORY_TOO_LOW = "MemoryTooLow"  # the pod's memory limit is below what its jobs may take together
NODES_UNREADABLE = "NodesUnreadable"  # workerCount is cpus, and the operator may not read the nodes
ALL_READY = "AllReady"
PODS_STARTING = "PodsStarting"  # fewer are ready than are wanted
PODS_DRAINING = "PodsDraining"  # more are there than are wanted, and finish their jobs
NOT_ACCEPTED = "NotAccepted"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the pool can't be had as it stands."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What one look found."""

    pool: WorkerPool
    deployment: Mapping[str, Any] | None
    pods: Sequence[Mapping[str, Any]]
    workers: Mapping[str, WorkerStatus]
    """By the uid of their pods."""
    loads: Sequence[WorkerLoad]
    backlog: Backlog
    nodes: Sequence[Mapping[str, Any]] | Refusal = ()
    """Read for cpus alone."""
    refusal: Refusal | None = None
    """What the API server said of the Deployment, as it would be made now."""


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """What a look remembers for the next one; empty after a restart."""

    samples: tuple[Sample, ...] = ()
    mean_seconds: Mapping[str, float] = field(default_factory=dict)
    generation: int | None = None
    """The Deployment's after it was last applied; another one means that somebody changed it."""


@dataclass(frozen=True, slots=True)
class PoolActions:
    """What to do, in this order."""

    undrain: tuple[str, ...]
    """Owners that may take jobs again."""
    drain: tuple[str, ...]
    """Owners to take no more jobs."""
    costs: tuple[tuple[str, str, int | None], ...]
    """Names and uids of pods, and what their end is to cost."""
    apply: Mapping[str, Any] | None
    """The Deployment; None where it is as it should be."""
    status: Mapping[str, Any]
    memory: PoolMemory
    decision: ScalingDecision
    is_settled: bool
    """Nothing is under way: there are as many pods as wanted, all ready."""


def plan_pool(facts: PoolFacts, memory: PoolMemory, defaults: WorkerDefaults, *, now: datetime) -> PoolActions:
    """Decide what a look at a pool asks for.

    Args:
        facts: What it found.
        memory: Of the look before.
        defaults: What all workers get.
        now: The moment of the look.
    """
    pool, current = facts.pool, facts.deployment
    means = {**memory.mean_seconds, **_means(facts.backlog)}
    backlog = Backlog(measured(facts.backlog.demands, means)).of_types(pool.spec.types)
    asked = int(current["spec"].get("replicas", 1)) if current is not None else 0
    template = pod_template(pool, defaults)
    decision, sample = _decide(facts, backlog, asked, memory, template, now)
    # Those that were evicted stay in the cluster, as failed ones, until somebody removes them.
    loads = [_load(pod, facts, means) for pod in facts.pods if not _is_over(pod)]
    manifest = deployment(pool, template, asked)
    is_other_template = (
        current is None or _annotations(current).get(DIGEST_ANNOTATION) != _annotations(manifest)[DIGEST_ANNOTATION]
    )
    is_rolling = current is not None and (is_other_template or _is_rolling(current))
    plan = plan_drain(loads, replicas=asked, desired=decision.replicas, is_rolling=is_rolling)
    manifest["spec"]["replicas"] = plan.replicas
    is_changed = current is not None and memory.generation != current["metadata"].get("generation")
    apply = manifest if is_other_template or is_changed or plan.replicas != asked else None
    refusal = facts.refusal or (facts.nodes if isinstance(facts.nodes, Refusal) else None)
    status = _status(facts, loads, backlog, decision, plan, refusal, now)
    samples = remembered(memory.samples, sample, pool.spec.policy) if sample is not None else ()
    is_settled = (
        apply is None and plan.replicas == decision.replicas == status["ready"] == status["replicas"]
        and not status["draining"]
    )  # fmt: skip
    owners = {load.name: load.owner for load in loads}
    return PoolActions(
        undrain=_owners(plan.undrain, owners),
        drain=_owners(plan.drain, owners),
        costs=_costs(plan, facts.pods),
        apply=apply,
        status=status,
        memory=PoolMemory(samples, means, memory.generation),
        decision=decision,
        is_settled=is_settled,
    )


def _decide(
    facts: PoolFacts,
    backlog: Backlog,
    asked: int,
    memory: PoolMemory,
    template: Mapping[str, Any],
    now: datetime,
) -> tuple[ScalingDecision, Sample | None]:
    spec = facts.pool.spec
    if (plain := spec.plain_decision()) is not None:
        return plain, None
    if spec.worker_count == "auto":
        decision = desired_replicas(backlog, asked, memory.samples, spec.policy, now=now)
        return decision, Sample(now, jobs_target(backlog, spec.policy).replicas, asked)
    if isinstance(facts.nodes, Refusal):
        told = f"The number of pods stays {asked}: the nodes can't be read"
        return ScalingDecision(asked, facts.nodes.reason, told), None
    try:
        fitting = fitting_replicas(template["spec"], facts.nodes)
    except MALFORMED:
        # The API server refuses that, and says why.
        told = f"The number of pods stays {asked}: what they are to be like can't be read"
        return ScalingDecision(asked, SPEC_REFUSED, told), None
    return bounded(fitting, spec.bounds), None


def _means(backlog: Backlog) -> dict[str, float]:
    return {each.type: each.mean_seconds for each in backlog.demands if each.mean_seconds is not None}


def _is_over(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _load(pod: Mapping[str, Any], facts: PoolFacts, means: Mapping[str, float]) -> PodLoad:
    """Say what is known of a pod."""
    worker = facts.workers.get(pod["metadata"]["uid"])
    status = pod.get("status") or {}
    load = PodLoad(
        name=pod["metadata"]["name"],
        is_ready=any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()),
        is_leaving=bool(pod["metadata"].get("deletionTimestamp")),
    )
    if worker is None:
        return load
    remaining = [
        max(0.0, means.get(each.type, 0.0) - each.newest_seconds) for each in facts.loads if each.owner == worker.owner
    ]
    return replace(
        load,
        owner=worker.owner,
        is_marked=DrainReason.SCALE_DOWN in worker.drain_reasons,
        is_drained=worker.is_drained,
        running=worker.running,
        remaining_seconds=max(remaining, default=0.0),
    )


def _is_rolling(current: Mapping[str, Any]) -> bool:
    """Whether the controllers have work left on the Deployment, so that what they take away next is not known."""
    status = current.get("status") or {}
    if status.get("observedGeneration", 0) < current["metadata"].get("generation", 0):
        return True
    return bool(status.get("updatedReplicas", 0) < status.get("replicas", 0))


def _owners(names: Sequence[str], owners: Mapping[str, str | None]) -> tuple[str, ...]:
    return tuple(owner for name in names if (owner := owners[name]) is not None)


def _costs(plan: DrainPlan, pods: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str, int | None], ...]:
    costs: list[tuple[str, str, int | None]] = []
    for pod in pods:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        is_lowest = _annotations(pod).get(COST_ANNOTATION) == str(LOWEST_COST)
        if name in plan.remove and not is_lowest:
            costs.append((name, uid, LOWEST_COST))
        elif name in plan.undrain and is_lowest:
            costs.append((name, uid, None))
    return tuple(costs)


def _annotations(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    return manifest["metadata"].get("annotations") or {}


def _status(
    facts: PoolFacts,
    loads: Sequence[PodLoad],
    backlog: Backlog,
    decision: ScalingDecision,
    plan: DrainPlan,
    refusal: Refusal | None,
    now: datetime,
) -> dict[str, Any]:
    pool = facts.pool
    there = [load for load in loads if not load.is_leaving]
    ready = [load for load in there if load.is_ready]
    leaving = len(loads) - len(there)
    draining = [load for load in there if load.is_marked]
    idle = [load for load in ready if load.owner is not None and not load.running and not load.is_marked]
    message = f"{decision.message}; {plan.message}" if plan.message else decision.message
    if refusal is not None:
        accepted = condition("Accepted", False, refusal.reason, refusal.message)
        is_ready = condition("Ready", False, NOT_ACCEPTED, "The pool can't be had as it stands")
    else:
        accepted = condition("Accepted", True, SPEC_ACCEPTED, "The spec is accepted")
        told = f"{len(ready)} of {decision.replicas} pods are ready"
        if len(ready) < decision.replicas:
            is_ready = condition("Ready", False, PODS_STARTING, told)
        elif len(there) > decision.replicas:
            is_ready = condition("Ready", False, PODS_DRAINING, told)
        else:
            is_ready = condition("Ready", True, ALL_READY, told)
    conditions = [
        each | {"observedGeneration": pool.generation} for each in timed([accepted, is_ready], pool.status, now)
    ]
    return {
        "observedGeneration": pool.generation,
        "workers": pool.spec.workers,
        "replicas": len(there),
        "ready": len(ready),
        "busy": sum(load.running > 0 for load in loads),
        "idle": len(idle),
        "draining": len(draining) + leaving,
        "backlog": backlog.due,
        "running": backlog.running,
        "desired": decision.replicas,
        "reason": decision.reason,
        "message": message,
        "selector": selector_text(pool),
        "conditions": conditions,
    }
