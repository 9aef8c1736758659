"""How many worker pods there should be, why, and which of them go when there are too many: pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

MAX_PODS = 1000
"""More worker pods of one pool are never asked for."""
UNMEASURED_SECONDS = 1.0
"""What a job counts as whose type has not run yet; those that run then tell more with each second."""
STEP = timedelta(seconds=15)
"""The period that step limits are about, as the Horizontal Pod Autoscaler's usual policies have it."""

# Reasons of decisions.
FIXED_NUMBER = "FixedNumber"  # workerCount is a number
REPLICAS_SET = "ReplicasSet"  # spec.replicas is set, by kubectl scale, an HPA or KEDA
PAUSED = "Paused"  # spec.paused is true
ALLOCATABLE_CPUS = "AllocatableCpus"  # workerCount is cpus: what fits the nodes
NO_NODE_FITS = "NoNodeFits"  # as before, and nothing fits: one pod shows a cluster autoscaler that a node is wanted
NO_JOBS = "NoJobs"  # auto, and nothing waits or runs
BACKLOG = "Backlog"  # auto: what the waiting and running jobs need
DUE_SOON = "DueSoon"  # auto: nothing waits yet, but soon will
SCALE_DOWN_DELAYED = "ScaleDownDelayed"  # auto: fewer would do, but more were wanted a short while ago
STEP_LIMITED = "StepLimited"  # auto: more, or fewer, are wanted than one step allows
AT_MINIMUM = "AtMinimum"  # fewer would do than minWorkers
AT_MAXIMUM = "AtMaximum"  # more are wanted than maxWorkers


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """How many worker pods there should be, and why."""

    replicas: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Demand:
    """The unfinished jobs of one type in a pool."""

    type: str
    due: int = 0
    """Wait now, >= 0."""
    due_soon: int = 0
    """Become due within the time that the pool looks ahead, >= 0."""
    running: int = 0
    mean_seconds: float | None = None
    """How long a run of the type takes, as measured of late; None: not known."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The unfinished jobs of a pool, all from one database snapshot."""

    demands: tuple[Demand, ...] = ()

    @property
    def due(self) -> int:
        """Jobs that wait."""
        return sum(each.due for each in self.demands)

    @property
    def due_soon(self) -> int:
        """Jobs that will soon."""
        return sum(each.due_soon for each in self.demands)

    @property
    def running(self) -> int:
        """Jobs that run."""
        return sum(each.running for each in self.demands)

    def of_types(self, types: Collection[str]) -> Backlog:
        """Only jobs of these types; empty: of all."""
        return Backlog(tuple(each for each in self.demands if not types or each.type in types))

    @property
    def work_seconds(self) -> float:
        """What is left to do, in seconds of one child; of those that run, a half on average."""
        return math.fsum(
            (each.due + each.due_soon + each.running / 2)
            * (UNMEASURED_SECONDS if each.mean_seconds is None else max(0.0, each.mean_seconds))
            for each in self.demands
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of the number of pods, ``0 <= minimum <= maximum``."""

    minimum: int = 0
    maximum: int = MAX_PODS


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """How "auto" counts."""

    bounds: Bounds = field(default_factory=lambda: Bounds(0, 10))
    slots: int = 1
    """Children per pod, >= 1."""
    target: timedelta = timedelta(seconds=30)
    """In this time the waiting jobs should be done, > 0."""
    scale_down_window: timedelta = timedelta(seconds=60)
    max_step_up: int = 4
    """Within `STEP` so many pods are added, or as many as there are, >= 1."""
    max_step_down: int | None = None
    """Within `STEP` so many are taken away, >= 1; None: any number."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look found: pods that the jobs asked for, and that were asked for from Kubernetes."""

    moment: datetime
    target: int
    replicas: int


def desired_replicas(
    backlog: Backlog, replicas: int, earlier: Sequence[Sample], policy: ScalingPolicy, *, now: datetime
) -> ScalingDecision:
    """Decide how many worker pods "auto" means now, and why.

    The bare target (`jobs_target`) is what finishes the waiting jobs in the wanted time. Growing is immediate, within
    the step limit; shrinking waits for the highest target of the last ``scale_down_window``, so that a short lull does
    not stop warm pods. The bounds come last and win over everything.

    Args:
        backlog: From one database snapshot.
        policy: How to count.
        replicas: Pods that are asked for now.
        earlier: Earlier looks, oldest first, any length. Empty after a restart: the pods that there are then count as
            having been wanted just now, so that a restart stops none of them.
        now: Moment of the snapshot, timezone-aware; the function reads no clock.

    Returns:
        A number within the policy's bounds.

    Raises:
        ValueError: ``now`` has no time zone.

    Source:
        Kubernetes documentation, Horizontal Pod Autoscaling, "Stabilization window" and "Scaling policies".
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone")
    decision = jobs_target(backlog, policy)
    if decision.replicas < replicas:
        decision = _delayed(decision, replicas, earlier, policy, now)
    return bounded(_stepped(decision, replicas, earlier, policy, now), policy.bounds)


def jobs_target(backlog: Backlog, policy: ScalingPolicy) -> ScalingDecision:
    """Count the pods that the jobs ask for, whatever there are and were.

    Never more children than jobs, and never fewer than jobs that run: those are not disturbed.
    """
    waiting = backlog.due + backlog.due_soon
    jobs = waiting + backlog.running
    if jobs == 0:
        return ScalingDecision(0, NO_JOBS, "No job waits or runs")
    seconds = backlog.work_seconds
    children = min(jobs, max(1, backlog.running, math.ceil(seconds / policy.target.total_seconds())))
    pods = min(MAX_PODS, math.ceil(children / policy.slots))
    if backlog.due == backlog.running == 0:
        return ScalingDecision(pods, DUE_SOON, f"{_jobs(backlog.due_soon)} become due soon")
    soon = f", {backlog.due_soon} soon" if backlog.due_soon else ""
    message = (
        f"{_jobs(backlog.due)} due{soon}, {backlog.running} running: about {_seconds(seconds)} of work, for "
        f"{'1 child' if children == 1 else f'{children} children'} within {_seconds(policy.target.total_seconds())}"
    )
    return ScalingDecision(pods, BACKLOG, message)


def bounded(decision: ScalingDecision, bounds: Bounds) -> ScalingDecision:
    """Keep a decision within bounds."""
    if decision.replicas < bounds.minimum:
        message = f"{decision.message}; at least {bounds.minimum} are kept (minWorkers)"
        return ScalingDecision(bounds.minimum, AT_MINIMUM, message)
    if decision.replicas > bounds.maximum:
        message = f"{decision.message}; at most {bounds.maximum} are made (maxWorkers)"
        return ScalingDecision(bounds.maximum, AT_MAXIMUM, message)
    return decision


def remembered(earlier: Iterable[Sample], sample: Sample, policy: ScalingPolicy) -> tuple[Sample, ...]:
    """Add a look to the earlier ones, and drop those that no decision needs any more."""
    oldest = sample.moment - max(policy.scale_down_window, STEP)
    return (*(each for each in earlier if each.moment >= oldest), sample)


def measured(demands: Iterable[Demand], known: Mapping[str, float]) -> tuple[Demand, ...]:
    """Fill in durations from what was measured before, where nothing of late was."""
    return tuple(
        replace(each, mean_seconds=known[each.type]) if each.mean_seconds is None and each.type in known else each
        for each in demands
    )


def _delayed(
    decision: ScalingDecision, replicas: int, earlier: Sequence[Sample], policy: ScalingPolicy, now: datetime
) -> ScalingDecision:
    since = now - policy.scale_down_window
    recent = [each.target for each in earlier if each.moment > since]
    # Nothing known: what there is was wanted by somebody. Never more than there are now: this is no growing.
    highest = min(replicas, max(recent, default=replicas if not earlier else 0))
    if highest <= decision.replicas:
        return decision
    message = (
        f"{decision.message}; {highest} were wanted in the last {_seconds(policy.scale_down_window.total_seconds())}"
    )
    return ScalingDecision(highest, SCALE_DOWN_DELAYED, message)


def _stepped(
    decision: ScalingDecision, replicas: int, earlier: Sequence[Sample], policy: ScalingPolicy, now: datetime
) -> ScalingDecision:
    recent = [replicas, *(each.replicas for each in earlier if each.moment > now - STEP)]
    lowest, highest = min(recent), max(recent)
    most = lowest + max(policy.max_step_up, lowest)
    least = 0 if policy.max_step_down is None else highest - policy.max_step_down
    allowed = max(min(decision.replicas, most), least)
    if decision.replicas >= replicas:
        # A limit to growing takes nothing away that is there, and one to shrinking adds nothing.
        allowed = max(replicas, min(decision.replicas, most))
    else:
        allowed = min(replicas, max(decision.replicas, least))
    if allowed == decision.replicas:
        return decision
    message = f"{decision.message}; {decision.replicas} are wanted, {allowed} in this step"
    return ScalingDecision(allowed, STEP_LIMITED, message)


def _jobs(number: int) -> str:
    return f"{number} job" if number == 1 else f"{number} jobs"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f} s"


# --- shrinking


@dataclass(frozen=True, slots=True)
class PodLoad:
    """A pod of a pool, as Kubernetes and the table of workers show it."""

    name: str
    owner: str | None = None
    """Its supervisor's name in the tables; None while it has not shown itself."""
    is_ready: bool = True
    is_leaving: bool = False
    """Kubernetes has told it to end."""
    is_marked: bool = False
    """The operator has asked it to drain."""
    is_drained: bool = False
    """It has said that it takes no more jobs."""
    running: int = 0
    remaining_seconds: float = 0.0
    """How long its longest job goes on, by what its type takes on average; >= 0."""

    @property
    def is_finished(self) -> bool:
        """Whether it can go without anything being lost: it drains and runs nothing, or never began."""
        if self.owner is None:
            return not self.is_ready
        return self.is_marked and self.is_drained and self.running == 0


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """What brings a pool to fewer pods, by pods' names."""

    replicas: int
    """To be asked for from Kubernetes now."""
    drain: tuple[str, ...] = ()
    """Take no more jobs from now on."""
    undrain: tuple[str, ...] = ()
    """May take jobs again."""
    remove: tuple[str, ...] = ()
    """To be the first to go, before replicas are lowered."""
    message: str = ""
    """What the shrinking waits for; empty where it does not."""


def plan_drain(pods: Sequence[PodLoad], *, replicas: int, desired: int, is_rolling: bool) -> DrainPlan:
    """Decide how to come from the pods that there are to fewer of them without ending a job.

    Victims are pods that never began, then idle ones, then those whose jobs end soonest; they are asked to drain. Once
    some are drained, and no other pod would be taken in their place (Kubernetes takes pods that are not ready first,
    whatever they cost), replicas fall by their number. Where more are wanted again, pods that drain go on first.

    Args:
        pods: All of the pool.
        replicas: Asked for now.
        desired: Wanted; may be more.
        is_rolling: Whether the Deployment replaces its pods by others of a newer template: which of them it takes is
            not ours to say then, so nothing shrinks as long as any of the others could have jobs.

    Returns:
        ``replicas`` is ``desired`` or between that and what is asked for now.

    Source:
        kubernetes/kubernetes: pkg/controller/controller_utils.go, ActivePodsWithRanks.
    """
    staying = [pod for pod in pods if not pod.is_leaving]
    surplus = max(0, replicas - desired)
    # Replicas that have no pod yet, such as for want of quota, end no job.
    missing = min(surplus, max(0, replicas - len(staying)))
    # Those marked already come first, or each look would choose others. Of more pods than are asked for, the first were
    # given up by an earlier look, and Kubernetes has not got to them.
    given_up = max(0, len(staying) - replicas)
    ranked = sorted(staying, key=_rank)[given_up:]
    victims = ranked[: surplus - missing]
    undrain = tuple(pod.name for pod in ranked[surplus - missing :] if pod.is_marked)
    drain = tuple(pod.name for pod in victims if pod.owner is not None and not pod.is_marked)
    if surplus == 0:
        return DrainPlan(desired, undrain=undrain)
    gone = [pod for pod in victims if pod.is_finished]
    others = [pod for pod in ranked if pod not in gone]
    unready = [pod for pod in others if not pod.is_ready and pod.owner is not None]
    # A template that never comes to life is no reason to keep pods that never began.
    if is_rolling and any(pod.owner is not None or pod.is_ready for pod in others):
        return DrainPlan(replicas, drain, undrain, message="the pods are being replaced by those of a new template")
    if not gone and not missing:
        return DrainPlan(replicas, drain, undrain, message=_finishing(len(victims)))
    if unready:
        return DrainPlan(replicas, drain, undrain, message=f"pod {unready[0].name} is not ready, and would go first")
    lowered = replicas - missing - len(gone)
    message = _finishing(lowered - desired) if lowered > desired else ""
    return DrainPlan(lowered, drain, undrain, tuple(pod.name for pod in gone), message)


def _finishing(pods: int) -> str:
    return "1 pod finishes its jobs first" if pods == 1 else f"{pods} pods finish their jobs first"


def _rank(pod: PodLoad) -> tuple[bool, bool, bool, float, int, str]:
    """Order pods by how little is lost with them."""
    began = pod.owner is not None or pod.is_ready
    return (began, not pod.is_marked, pod.running > 0, pod.remaining_seconds, pod.running, pod.name)
