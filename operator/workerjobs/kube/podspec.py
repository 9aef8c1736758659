"""What a pod asks of a node, as JSON of the Kubernetes API says it: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from workerjobs.domain.scaling import ALLOCATABLE_CPUS, NO_NODE_FITS, ScalingDecision

JOB_MEMORY_VARIABLE = "WORKER_JOB_MEMORY_MIB"
SUPERVISOR_MIB = 100
"""What a worker pod takes beside its jobs."""
MALFORMED = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a pod's spec raises that is none: people write them, and the API server alone knows what is right."""
_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}


def parse_quantity(text: str | float) -> Decimal:
    """Read a Kubernetes quantity, such as ``2``, ``250m``, ``1.5``, ``1e3`` or ``1Ki``.

    >>> parse_quantity("250m")
    Decimal('0.250')

    Raises:
        ValueError: It is none.

    Source:
        k8s.io/apimachinery, pkg/api/resource/quantity.go.
    """
    text = str(text).strip()
    suffix = next((name for name in sorted(_SUFFIXES, key=len, reverse=True) if text.endswith(name)), "")
    try:
        number = Decimal(text.removesuffix(suffix))
    except InvalidOperation:
        raise ValueError(f"{text!r} is no quantity") from None
    if not number.is_finite():
        raise ValueError(f"{text!r} is no quantity")
    return number * _SUFFIXES.get(suffix, Decimal(1))


def cpu_request(pod: Mapping[str, Any]) -> Decimal | None:
    """The CPUs that the scheduler reserves for a pod; None where its containers ask for none.

    A limit counts as the request where there is none. Init containers run before the others, those that restart always
    beside them.

    Source:
        Kubernetes documentation, "Resource Management for Pods and Containers", "Sidecar Containers", "Pod Overhead".
    """
    whole_pod = _cpu(pod)
    if whole_pod is None:
        beside, highest = Decimal(0), Decimal(0)
        for container in pod.get("initContainers") or ():
            if container.get("restartPolicy") == "Always":
                beside += _cpu(container) or 0
                highest = max(highest, beside)
            else:
                highest = max(highest, beside + (_cpu(container) or 0))
        together = beside + sum(_cpu(container) or 0 for container in pod.get("containers") or ())
        whole_pod = max(together, highest)
    whole_pod += parse_quantity((pod.get("overhead") or {}).get("cpu", 0))
    return whole_pod or None


def memory_problem(pod: Mapping[str, Any], container_name: str, slots: int) -> str | None:
    """Say why a worker pod's memory limit is too low for its jobs; None where it is not, or where either has no limit.

    The kernel kills the whole container when it has too much (memory.oom.group), so its limit has to hold what all jobs
    may take together, and the supervisor.

    Args:
        pod: The pod template's spec.
        container_name: The worker's.
        slots: Jobs at once.

    Source:
        kubernetes/kubernetes: pkg/kubelet/kuberuntime/kuberuntime_container_linux.go, "memory.oom.group".
    """
    try:
        container: Mapping[str, Any] = next((each for each in pod["containers"] if each["name"] == container_name), {})
        variables = {each["name"]: each.get("value") for each in container.get("env") or ()}
        limits = [((owner.get("resources") or {}).get("limits") or {}).get("memory") for owner in (container, pod)]
        job_mib = int(variables.get(JOB_MEMORY_VARIABLE) or "0")
        limit = min((parse_quantity(each) for each in limits if each is not None), default=None)
    except MALFORMED:
        return None  # the worker, or the API server, says that better
    needed_mib = slots * job_mib + SUPERVISOR_MIB
    if not job_mib or limit is None or needed_mib * 1024**2 <= limit:
        return None
    jobs = f"a job of {job_mib} MiB" if slots == 1 else f"{slots} jobs at once of {job_mib} MiB each"
    return (
        f"{jobs} ({JOB_MEMORY_VARIABLE}) and {SUPERVISOR_MIB} MiB for their supervisor need {needed_mib} MiB, and the "
        f"pod's memory limit is {limit / 1024**2:.0f} MiB: raise it, or lower slots or {JOB_MEMORY_VARIABLE}"
    )


def may_run_on(pod: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether the scheduler may put a pod onto a node, free room apart.

    Looks at cordons, taints, the node selector and required node affinity.
    """
    spec = node.get("spec") or {}
    if spec.get("unschedulable"):
        return False
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(name) != value for name, value in (pod.get("nodeSelector") or {}).items()):
        return False
    hindering = [taint for taint in spec.get("taints") or () if taint.get("effect") in ("NoSchedule", "NoExecute")]
    tolerations = pod.get("tolerations") or ()
    if not all(any(_tolerates(toleration, taint) for toleration in tolerations) for taint in hindering):
        return False
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(_matches_term(term, labels, fields) for term in required.get("nodeSelectorTerms") or ())


def fitting_replicas(pod: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> ScalingDecision:
    """Decide how many worker pods "cpus" means.

    Args:
        pod: The pod template's spec. A pod that asks for no CPU is counted as one CPU.
        nodes: All nodes.

    Returns:
        The sum, over the nodes that the pods may be scheduled to, of how many of them fit the node's allocatable CPUs;
        at least 1.
    """
    asked = cpu_request(pod)
    request = asked or Decimal(1)
    usable = [node for node in nodes if may_run_on(pod, node)]
    fitting = sum(int(_allocatable_cpus(node) // request) for node in usable)
    how = f"{request:f} CPUs a pod" + ("" if asked else ", taken as they ask for none")
    message = f"{fitting} pods fit the {len(usable)} of {len(nodes)} nodes that they may run on ({how})"
    if fitting == 0:
        return ScalingDecision(1, NO_NODE_FITS, f"{message}; one is kept")
    return ScalingDecision(fitting, ALLOCATABLE_CPUS, message)


def _allocatable_cpus(node: Mapping[str, Any]) -> Decimal:
    return parse_quantity(((node.get("status") or {}).get("allocatable") or {}).get("cpu", 0))


def _cpu(owner: Mapping[str, Any]) -> Decimal | None:
    resources = owner.get("resources") or {}
    text = (resources.get("requests") or {}).get("cpu", (resources.get("limits") or {}).get("cpu"))
    return None if text is None else parse_quantity(text)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether a toleration covers a taint.

    Source:
        Kubernetes documentation, "Taints and Tolerations": an empty key with Exists matches everything, an empty effect
        matches all effects, and the operator is Equal by default.
    """
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key", "") != taint.get("key") and not (
        not toleration.get("key") and toleration.get("operator") == "Exists"
    ):
        return False
    match toleration.get("operator") or "Equal":
        case "Exists":
            return True
        case "Equal":
            return bool(toleration.get("value", "") == taint.get("value", ""))
        case "Gt" | "Lt" as operator:  # as the API server writes it: the taint's value is above, or below
            return _compares(operator, taint.get("value"), toleration.get("value"))
        case _:
            return False


def _matches_term(term: Mapping[str, Any], labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    """Whether all of a term's requirements hold; one without any matches no node."""
    expressions, on_fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not on_fields:
        return False
    return all(_matches(each, labels) for each in expressions) and all(_matches(each, fields) for each in on_fields)


def _matches(requirement: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    value: str | None = values.get(requirement["key"])
    wanted: Sequence[str] = requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compares(operator, value, wanted[0] if wanted else None)
        case _:
            return False


def _compares(operator: str, value: str | None, bound: str | None) -> bool:
    try:
        left, right = int(value or ""), int(bound or "")
    except ValueError:
        return False
    return left > right if operator == "Gt" else left < right
