"""Scaling the workers' Deployment to WORKER_COUNT: a number of pods, or as many as the nodes' CPUs allow."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workerjobs.errors import ClusterError
from workerjobs.ports import Cluster, WorkerDeployment, WorkerNode
from workerjobs.settings import WorkerCount

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0

# Reasons of decisions.
FIXED = "FixedNumber"  # WORKER_COUNT is a number.
ALLOCATABLE_CPUS = "AllocatableCpus"  # WORKER_COUNT is cpus: what fits the nodes.


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """How many worker pods there should be, and why."""

    replicas: int
    reason: str
    message: str


def desired_replicas(count: WorkerCount, deployment: WorkerDeployment, nodes: Sequence[WorkerNode]) -> ScalingDecision:
    """Decide how many worker pods should exist.

    Args:
        count: WORKER_COUNT.
        deployment: What its pods ask for. A pod that asks for no CPU is counted as one CPU.
        nodes: All nodes; needed for "cpus" alone.

    Returns:
        For "cpus" the sum, over nodes that the pods may be scheduled to, of the pods that fit each node's allocatable
        CPUs; never less than one.
    """
    if count != "cpus":
        return ScalingDecision(count, FIXED, f"WORKER_COUNT is {count}")
    request = deployment.cpu_request or 1.0
    usable = [node for node in nodes if _may_run_on(deployment, node)]
    fitting = sum(math.floor(round(node.cpus / request, 6)) for node in usable)
    asked = f"{request:g} CPUs a pod" + ("" if deployment.cpu_request else " (its containers ask for none)")
    message = f"{fitting} pods fit {len(usable)} of {len(nodes)} nodes at {asked}"
    return ScalingDecision(max(1, fitting), ALLOCATABLE_CPUS, message)


def _may_run_on(deployment: WorkerDeployment, node: WorkerNode) -> bool:
    if node.is_cordoned:
        return False
    if any(node.labels.get(name) != value for name, value in deployment.node_selector.items()):
        return False
    hindering = [taint for taint in node.taints if taint.get("effect") in ("NoSchedule", "NoExecute")]
    return all(any(_tolerates(each, taint) for each in deployment.tolerations) for taint in hindering)


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    """Whether a toleration covers a taint.

    Source:
        Kubernetes documentation, Taints and Tolerations: an empty key with Exists matches everything, an empty effect
        matches all effects, and the operator is Equal by default.
    """
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint.get("key")
    return toleration.get("key") == taint.get("key") and toleration.get("value", "") == taint.get("value", "")


class Autoscaler:
    """Keeps a Deployment at the wanted number of replicas, whoever changes it."""

    def __init__(self, cluster: Cluster, deployment: str, count: WorkerCount) -> None:
        self._cluster = cluster
        self._namespace, _, self._name = deployment.partition("/")
        self._count = count
        self._said = ""

    async def step(self) -> ScalingDecision | None:
        """Scale once; None where it could not, which is said once and not at every step."""
        try:
            deployment = await self._cluster.read_deployment(self._namespace, self._name)
            nodes = await self._cluster.list_nodes() if self._count == "cpus" else []
            decision = desired_replicas(self._count, deployment, nodes)
            if decision.replicas != deployment.replicas:
                await self._cluster.scale_deployment(self._namespace, self._name, decision.replicas)
                log.info("Scaled %s to %s: %s", self._name, decision.replicas, decision.message)
        except ClusterError as error:
            if str(error) != self._said:
                log.error("The workers can't be scaled, their number stays as it is: %s", error)
                self._said = str(error)
            return None
        self._said = ""
        return decision

    async def run(self, every_seconds: float = EVERY_SECONDS) -> None:
        """Scale again and again, until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(every_seconds)
