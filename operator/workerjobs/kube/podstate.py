"""What the state of pods and nodes means for the workers in them: pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workerjobs.ports.workers import DrainReason, LostWorker, PodWorker

POD_LABELS = "app.kubernetes.io/name=workerjobs,app.kubernetes.io/component=worker"
"""The label selector of worker pods."""
CONTAINER = "worker"
"""The worker's container; a pod that has none of this name has it first."""
REVOCATION_SECONDS = 2.0
"""How long a worker whose pod is gone gets to stop its jobs and to say so; then others get them all the same."""

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
"""A person says that the node is off: nothing runs there any more."""
GOING = (
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "node.kubernetes.io/unreachable",
    OUT_OF_SERVICE,
)
"""Taints of nodes that will be gone soon.

Source:
    kubernetes/autoscaler: cluster-autoscaler/utils/taints/taints.go; kubernetes-sigs/karpenter: pkg/apis/v1/taints.go
    (``disruption`` until v1beta1); Kubernetes documentation, "Taints and Tolerations".
"""

_EVICTIONS = {
    "PreemptionByScheduler": "was preempted by a pod of higher priority",
    "DeletionByTaintManager": "was evicted from its node, which has a taint",
    "EvictionByEvictionAPI": "was evicted",
    "DeletionByPodGC": "was on a node that is gone",
    "TerminationByKubelet": "was ended by its node",
}
"""Reasons of the condition DisruptionTarget (Kubernetes documentation, "Disruptions")."""


@dataclass(frozen=True, slots=True)
class WorkerPod:
    """A worker's pod, as far as it matters here."""

    uid: str
    namespace: str
    name: str
    node: str | None
    ended: datetime | None
    """Workers that booted until then, by the node's clock, have ended: their container has, or its successor runs."""
    how: str
    """How the last container ended, after the pod's name: ``was OOM-killed``."""
    is_over: bool
    """No container of it runs any more, nor will."""
    is_leaving: bool = False
    """It is being deleted."""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about workers in pods; each but ``lost`` holds owners."""

    adopt: tuple[str, ...]
    """Their pods are this cluster's."""
    lost: tuple[LostWorker, ...]
    """They hold jobs, and have ended."""
    revoke: tuple[str, ...]
    """Their pods are gone, but nobody saw them end: they are told to."""
    forget: tuple[str, ...]
    """They have ended, hold nothing, and have not shown themselves for long."""
    leave: tuple[str, ...]
    """Their pods are being deleted."""
    drain: tuple[str, ...]
    """Their node is going."""
    undrain: tuple[str, ...]
    """It is not any more."""
    is_waiting: bool
    """Some were told to end and have time left."""


def read_pod(manifest: Mapping[str, Any]) -> WorkerPod:
    """Read a pod, as JSON of the Kubernetes API."""
    metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    container = _container(status.get("containerStatuses") or ())
    state, last = container.get("state") or {}, container.get("lastState") or {}
    moments = [
        (state.get("terminated") or {}).get("finishedAt"),
        (last.get("terminated") or {}).get("finishedAt"),
        (state.get("running") or {}).get("startedAt"),
    ]
    return WorkerPod(
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        node=spec.get("nodeName"),
        ended=max((_moment(text) for text in moments if text), default=None),
        how=_how(status, state.get("terminated") or last.get("terminated") or {}),
        is_over=status.get("phase") in ("Succeeded", "Failed"),
        is_leaving=bool(metadata.get("deletionTimestamp")),
        annotations=metadata.get("annotations") or {},
    )


def taints_of(node: Mapping[str, Any]) -> frozenset[str]:
    """The keys of a node's taints."""
    return frozenset(taint["key"] for taint in (node.get("spec") or {}).get("taints") or ())


def decide(
    workers: Sequence[PodWorker],
    pods: Mapping[str, WorkerPod],
    gone: Collection[str],
    taints: Mapping[str, frozenset[str]],
    lost_nodes: Collection[str],
) -> Decision:
    """Decide which workers have ended, and what to do about the others.

    A worker has ended where its container is known to have ended after it booted: its jobs are free. Where the pod, or
    its node, is gone and nobody saw the container end, it may run yet: it is told to stop its jobs and to say so first.
    A pod that is only being deleted is not gone: its worker finishes what it runs. It is told so, as the kubelet's
    SIGTERM comes once, and to process 1 that has no handler yet it says nothing.

    Args:
        workers: All of this cluster's, and those whose cluster is not known.
        pods: What was last seen of pods, by uid, also of those that are gone since.
        gone: Uids of pods that are certainly gone.
        taints: Keys of the taints of nodes, by the nodes' names, as far as nodes may be read.
        lost_nodes: Names of nodes that are certainly gone.
    """
    adopt: list[str] = []
    lost: list[LostWorker] = []
    revoke: list[str] = []
    forget: list[str] = []
    leave: list[str] = []
    drain: list[str] = []
    undrain: list[str] = []
    is_waiting = False
    for worker in workers:
        pod = pods.get(worker.pod_uid)
        if pod is not None and worker.cluster_id is None:
            adopt.append(worker.owner)
        reason = None
        if pod is not None and pod.ended is not None and worker.booted <= pod.ended:
            reason = f"Worker pod {pod.name} {pod.how}"
        elif unseen := _unseen_end(worker, pod, gone, taints, lost_nodes):
            if worker.revoked_seconds is None:
                revoke.append(worker.owner)
            elif worker.has_stopped or worker.revoked_seconds >= REVOCATION_SECONDS:
                reason = unseen
            else:
                is_waiting = True
        if reason is not None:
            if worker.running:
                lost.append(LostWorker(worker.owner, reason))
            elif worker.revoked_seconds is None and not worker.is_alive:
                forget.append(worker.owner)
            continue
        if pod is not None and pod.is_leaving and DrainReason.POD_GOING not in worker.drain_reasons:
            leave.append(worker.owner)
        is_going = pod is not None and pod.node is not None and not taints.get(pod.node, frozenset()).isdisjoint(GOING)
        if is_going != (DrainReason.NODE_GOING in worker.drain_reasons):
            (drain if is_going else undrain).append(worker.owner)
    return Decision(
        tuple(adopt),
        tuple(lost),
        tuple(revoke),
        tuple(forget),
        tuple(leave),
        tuple(drain),
        tuple(undrain),
        is_waiting or bool(revoke),
    )


def _unseen_end(
    worker: PodWorker,
    pod: WorkerPod | None,
    gone: Collection[str],
    taints: Mapping[str, frozenset[str]],
    lost_nodes: Collection[str],
) -> str | None:
    """Why a worker must have ended although nobody saw its container end; None: it need not have."""
    if worker.pod_uid in gone:
        return f"Worker pod {worker.pod_name or worker.pod_uid} is gone"
    if pod is None:
        return None
    if pod.is_over:
        return f"Worker pod {pod.name} {pod.how}"
    if pod.node in lost_nodes:
        return f"Node {pod.node} of worker pod {pod.name} is gone"
    if pod.node is not None and OUT_OF_SERVICE in taints.get(pod.node, ()):
        return f"Node {pod.node} of worker pod {pod.name} is out of service"
    return None


def _container(statuses: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    named = [status for status in statuses if status.get("name") == CONTAINER]
    return next(iter((*named, *statuses)), {})


def _how(status: Mapping[str, Any], terminated: Mapping[str, Any]) -> str:
    if status.get("reason") == "Evicted":
        message = str(status.get("message") or "").strip()
        return f"was evicted: {message}" if message else "was evicted"
    if terminated.get("reason") == "OOMKilled":
        return "was OOM-killed"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return _EVICTIONS.get(condition.get("reason", ""), "was evicted")
    code = terminated.get("exitCode")
    if code == 137:
        return "was killed (exit code 137)"
    return "has ended" if code in (None, 0) else f"ended with exit code {code}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
