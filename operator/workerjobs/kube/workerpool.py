"""The WorkerPool resource, as the operator reads it: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from workerjobs.domain.scaling import (
    FIXED_NUMBER,
    MAX_PODS,
    PAUSED,
    REPLICAS_SET,
    Bounds,
    ScalingDecision,
    ScalingPolicy,
    bounded,
)
from workerjobs.errors import InvalidInputError
from workerjobs.kube.workerjob import GROUP, VERSION
from workerjobs.ports.pools import PoolQuestion

KIND = "WorkerPool"
PLURAL = "workerpools"
POOL_LABEL = f"{GROUP}/pool"
"""Selects a pool's Deployment and pods, by the WorkerPool's name."""
API_VERSION = f"{GROUP}/{VERSION}"

PodCount = int | Literal["cpus", "auto"]
DEFAULT_DRAIN_SECONDS = 45
AUTO_MAX_WORKERS = 10
DUE_SOON = timedelta(seconds=10)
SPOT_MARGIN_SECONDS = 10
"""Of a spot node's notice, what is left for giving jobs back and for the node's own end."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """What a WorkerPool asks for, with the defaults of what it leaves out."""

    worker_count: PodCount = 1
    replicas: int | None = None
    bounds: Bounds = field(default_factory=Bounds)
    is_paused: bool = False
    slots: int = 1
    pool: str = "default"
    types: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    grace_seconds: int = DEFAULT_DRAIN_SECONDS
    """How long a pod that has to go lets jobs run on."""
    image: str | None = None
    job_modules: tuple[str, ...] = ()
    jobs_config_map: str | None = None
    is_chain: bool = False
    policy: ScalingPolicy = field(default_factory=ScalingPolicy)
    due_soon: timedelta = DUE_SOON
    """How far "auto" looks ahead."""
    template: Mapping[str, Any] = field(default_factory=dict)

    @property
    def workers(self) -> str:
        """What rules over the number of pods, for people."""
        if self.is_paused:
            return "paused"
        return str(self.worker_count) if self.replicas is None else f"replicas {self.replicas}"

    @property
    def question(self) -> PoolQuestion:
        """Which jobs to count for it, before `types`."""
        return PoolQuestion(self.pool, self.due_soon, self.namespaces)

    def plain_decision(self) -> ScalingDecision | None:
        """Decide how many pods there should be where that follows from the spec alone; None for cpus and auto."""
        if self.is_paused:
            return ScalingDecision(0, PAUSED, "The pool is paused")
        if self.replicas is not None:
            told = f"spec.replicas is {self.replicas}, until `workerjobs pool release` removes it"
            return bounded(ScalingDecision(self.replicas, REPLICAS_SET, told), self.bounds)
        if isinstance(self.worker_count, int):
            told = f"workerCount is {self.worker_count}"
            return bounded(ScalingDecision(self.worker_count, FIXED_NUMBER, told), self.bounds)
        return None


@dataclass(frozen=True, slots=True)
class WorkerPool:
    """A WorkerPool as it stands in the cluster."""

    uid: str
    namespace: str
    name: str
    generation: int
    spec: PoolSpec
    status: Mapping[str, Any]
    version: int = 0

    @property
    def deployment(self) -> str:
        """Name of its Deployment."""
        return f"workerjobs-pool-{self.name}"

    @property
    def selector(self) -> dict[str, str]:
        """Labels of its pods."""
        return {
            "app.kubernetes.io/name": "workerjobs",
            "app.kubernetes.io/component": "worker",
            POOL_LABEL: self.name,
        }


def parse_workerpool(manifest: Mapping[str, Any], version: int = 0) -> WorkerPool:
    """Read a WorkerPool that the API server has accepted.

    Raises:
        InvalidInputError: It breaks a rule that the API server should have kept, as an older definition does.
    """
    metadata = manifest["metadata"]
    return WorkerPool(
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        generation=int(metadata.get("generation") or 0),
        spec=parse_spec(metadata["name"], manifest.get("spec") or {}),
        status=manifest.get("status") or {},
        version=version,
    )


def parse_spec(name: str, spec: Mapping[str, Any]) -> PoolSpec:
    """Read a WorkerPool's spec.

    Raises:
        InvalidInputError: It breaks a rule of the definition in manifests/crds.
    """
    given = {key: value for key, value in spec.items() if value is not None}
    count = given.get("workerCount", 1)
    if isinstance(count, bool) or not (
        count in ("cpus", "auto") or (isinstance(count, int) and 0 <= count <= MAX_PODS)
    ):
        raise InvalidInputError(f'workerCount is {count!r}: give a whole number from 0 to {MAX_PODS}, "cpus" or "auto"')
    usual_bounds = {"auto": (0, AUTO_MAX_WORKERS), "cpus": (1, MAX_PODS)}.get(str(count), (0, MAX_PODS))
    minimum = given.get("minWorkers", min(usual_bounds[0], given.get("maxWorkers", MAX_PODS)))
    bounds = Bounds(minimum, given.get("maxWorkers", max(usual_bounds[1], minimum)))
    if bounds.minimum > bounds.maximum:
        raise InvalidInputError("minWorkers must not be above maxWorkers")
    scaling = given.get("scaling") or {}
    slots = given.get("slots", 1)
    drain = given.get("drainSeconds", DEFAULT_DRAIN_SECONDS)
    if (notice := given.get("spotNoticeSeconds")) is not None:
        drain = min(drain, max(0, notice - SPOT_MARGIN_SECONDS))
    usual = ScalingPolicy()
    return PoolSpec(
        worker_count=count,
        replicas=given.get("replicas"),
        bounds=bounds,
        is_paused=given.get("paused", False),
        slots=slots,
        pool=given.get("pool", name),
        types=_texts(given.get("types")),
        namespaces=_texts(given.get("namespaces")),
        grace_seconds=drain,
        image=given.get("image"),
        job_modules=_texts(given.get("jobModules")),
        jobs_config_map=given.get("jobsConfigMap"),
        is_chain=given.get("chain", False),
        policy=ScalingPolicy(
            bounds=bounds,
            slots=slots,
            target=_seconds(scaling, "targetSeconds", usual.target),
            scale_down_window=_seconds(scaling, "scaleDownSeconds", usual.scale_down_window),
            max_step_up=scaling.get("maxStepUp", usual.max_step_up),
            max_step_down=scaling.get("maxStepDown"),
        ),
        due_soon=_seconds(scaling, "dueSoonSeconds", DUE_SOON),
        template=given.get("template") or {},
    )


def _texts(given: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(given or ())


def _seconds(scaling: Mapping[str, Any], name: str, usual: timedelta) -> timedelta:
    return timedelta(seconds=scaling[name]) if scaling.get(name) is not None else usual
