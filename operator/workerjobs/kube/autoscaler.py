"""Scaling the workers' Deployment to WORKER_COUNT: a number of pods, or as many as the nodes' CPUs allow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from workerjobs.errors import ClusterError
from workerjobs.kube.podspec import cpu_request, may_run_on, parse_quantity
from workerjobs.ports import Cluster
from workerjobs.settings import MAX_WORKER_COUNT, WorkerCount

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0

# Reasons of decisions.
FIXED_NUMBER = "FixedNumber"  # WORKER_COUNT is a number
ALLOCATABLE_CPUS = "AllocatableCpus"  # WORKER_COUNT is cpus: what fits the nodes
NO_NODE_FITS = "NoNodeFits"  # as before, and nothing fits: one pod shows a cluster autoscaler that a node is wanted
MOST_ALLOWED = "MostAllowed"  # as before, and more would fit than are ever made


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """How many worker pods there should be, and why."""

    replicas: int
    reason: str
    message: str


def desired_replicas(count: WorkerCount, pod: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> ScalingDecision:
    """Decide how many worker pods should exist.

    Args:
        count: WORKER_COUNT.
        pod: The pod template's spec. A pod that asks for no CPU is counted as one CPU.
        nodes: All nodes, as JSON; needed for "cpus" alone.

    Returns:
        For "cpus" the sum, over the nodes that the pods may be scheduled to, of how many of them fit the node's
        allocatable CPUs; from 1 to `MAX_WORKER_COUNT`.
    """
    if count != "cpus":
        return ScalingDecision(count, FIXED_NUMBER, f"WORKER_COUNT is {count}")
    asked = cpu_request(pod)
    request = asked or Decimal(1)
    usable = [node for node in nodes if may_run_on(pod, node)]
    fitting = sum(int(_allocatable_cpus(node) // request) for node in usable)
    how = f"{request:f} CPUs a pod" + ("" if asked else ", taken as they ask for none")
    message = f"{fitting} pods fit the {len(usable)} of {len(nodes)} nodes that they may run on ({how})"
    if fitting == 0:
        return ScalingDecision(1, NO_NODE_FITS, f"{message}; one is kept")
    if fitting > MAX_WORKER_COUNT:
        return ScalingDecision(MAX_WORKER_COUNT, MOST_ALLOWED, f"{message}; at most {MAX_WORKER_COUNT} are made")
    return ScalingDecision(fitting, ALLOCATABLE_CPUS, message)


def _allocatable_cpus(node: Mapping[str, Any]) -> Decimal:
    return parse_quantity(((node.get("status") or {}).get("allocatable") or {}).get("cpu", 0))


class Autoscaler:
    """Keeps a Deployment at the wanted number of replicas, whoever changes it.

    Args:
        cluster: The Kubernetes API.
        deployment: ``namespace/name``.
        count: WORKER_COUNT.
    """

    def __init__(self, cluster: Cluster, deployment: str, count: WorkerCount) -> None:
        self._cluster = cluster
        self._namespace, _, self._name = deployment.partition("/")
        self._count = count
        self._said = ""

    async def step(self) -> ScalingDecision | None:
        """Scale once; None where it could not, which is said when it begins and not at every step."""
        try:
            deployment = await self._cluster.read_deployment(self._namespace, self._name)
            nodes = await self._cluster.list_nodes() if self._count == "cpus" else []
            decision = desired_replicas(self._count, deployment.pod, nodes)
            if decision.replicas != deployment.replicas:
                await self._cluster.scale_deployment(self._namespace, self._name, decision.replicas)
                log.info(
                    "Scaled the workers (%s/%s) from %s to %s: %s",
                    self._namespace,
                    self._name,
                    deployment.replicas,
                    decision.replicas,
                    decision.message,
                )
        except (ClusterError, ValueError) as error:
            if str(error) != self._said:
                log.error("The workers can't be scaled, their number stays as it is: %s", error)
                self._said = str(error)
            return None
        if self._said:
            log.info("The workers can be scaled again")
            self._said = ""
        return decision

    async def run(self, every_seconds: float = EVERY_SECONDS) -> None:
        """Scale again and again, until cancelled."""
        while True:
            try:
                await self.step()
            except Exception:
                log.exception("Scaling the workers failed, and is tried again")
            await asyncio.sleep(every_seconds)
