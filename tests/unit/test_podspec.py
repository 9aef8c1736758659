"""What pods ask of nodes, and how many of them fit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from workerjobs.kube.podspec import cpu_request, fitting_replicas, may_run_on, memory_problem, parse_quantity


def node(cpu: str = "4", **spec: Any) -> dict[str, Any]:
    name, labels = spec.pop("name", "n"), spec.pop("labels", {})
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"allocatable": {"cpu": cpu}}}


def container(cpu: str | None = None, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}} if cpu else {}} | more


def pod(cpu: str | None = "1", **more: Any) -> dict[str, Any]:
    return {"containers": [container(cpu)]} | more


def taint(effect: str = "NoSchedule", key: str = "gpu", **more: Any) -> dict[str, Any]:
    return {"key": key, "effect": effect} | more


# --- quantities

QUANTITIES = [
    ("2", "2"),
    ("0.5", "0.5"),
    ("250m", "0.25"),
    ("1e3", "1000"),
    ("1E", "1e18"),
    ("100u", "0.0001"),
    ("5n", "0.000000005"),
    ("2k", "2000"),
    ("1Ki", "1024"),
    ("1.5Mi", "1572864"),
    (3, "3"),
]


@pytest.mark.parametrize(("text", "value"), QUANTITIES)
def test_quantity_is_read_as_kubernetes_reads_it(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "m", "1x", "one", "1 000", "NaN", "Infinity"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)


# --- what a pod asks for

REQUESTS: list[tuple[str, dict[str, Any], str | None]] = [
    ("nothing", pod(None), None),
    ("one container", pod("250m"), "0.25"),
    ("two containers", {"containers": [container("250m"), container("1")]}, "1.25"),
    ("a limit counts without a request", {"containers": [container(resources={"limits": {"cpu": "2"}})]}, "2"),
    (
        "a request counts before a limit",
        {"containers": [container(resources={"limits": {"cpu": "2"}, "requests": {"cpu": "1"}})]},
        "1",
    ),
    ("a bigger init container", pod("1", initContainers=[container("3"), container("2")]), "3"),
    ("a smaller init container", pod("1", initContainers=[container("500m")]), "1"),
    ("a sidecar", pod("1", initContainers=[container("500m", restartPolicy="Always")]), "1.5"),
    (
        "an init container beside a sidecar",
        pod("1", initContainers=[container("1", restartPolicy="Always"), container("2")]),
        "3",
    ),
    ("overhead", pod("1", overhead={"cpu": "100m"}), "1.1"),
    ("the whole pod's", pod("1", resources={"requests": {"cpu": "4"}}), "4"),
]


@pytest.mark.parametrize(("spec", "cpus"), [case[1:] for case in REQUESTS], ids=[case[0] for case in REQUESTS])
def test_cpu_request_of_a_pod(spec: dict[str, Any], cpus: str | None) -> None:
    assert cpu_request(spec) == (None if cpus is None else Decimal(cpus))


# --- where a pod may run

PREFERRED = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}}


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


NODES: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("any node", pod(), node(), True),
    ("cordoned", pod(), node(unschedulable=True), False),
    ("NoSchedule", pod(), node(taints=[taint()]), False),
    ("NoExecute", pod(), node(taints=[taint("NoExecute")]), False),
    ("PreferNoSchedule", pod(), node(taints=[taint("PreferNoSchedule")]), True),
    ("tolerated", pod(tolerations=[{"key": "gpu", "operator": "Exists"}]), node(taints=[taint()]), True),
    ("everything tolerated", pod(tolerations=[{"operator": "Exists"}]), node(taints=[taint(value="a")]), True),
    ("another key tolerated", pod(tolerations=[{"key": "x", "operator": "Exists"}]), node(taints=[taint()]), False),
    ("value tolerated", pod(tolerations=[{"key": "gpu", "value": "a"}]), node(taints=[taint(value="a")]), True),
    (
        "another value tolerated",
        pod(tolerations=[{"key": "gpu", "value": "b"}]),
        node(taints=[taint(value="a")]),
        False,
    ),
    (
        "another effect tolerated",
        pod(tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]),
        node(taints=[taint()]),
        False,
    ),
    (
        "one of two taints tolerated",
        pod(tolerations=[{"key": "gpu", "operator": "Exists"}]),
        node(taints=[taint(), taint(key="arm")]),
        False,
    ),
    ("selected", pod(nodeSelector={"pool": "jobs"}), node(labels={"pool": "jobs", "zone": "a"}), True),
    ("another value selected", pod(nodeSelector={"pool": "jobs"}), node(labels={"pool": "web"}), False),
    ("label missing", pod(nodeSelector={"pool": "jobs"}), node(), False),
    ("only preferred", pod(affinity=PREFERRED), node(), True),
    ("In", pod(**required(expression("zone", "In", "a", "b"))), node(labels={"zone": "b"}), True),
    ("In, another", pod(**required(expression("zone", "In", "a"))), node(labels={"zone": "b"}), False),
    ("NotIn", pod(**required(expression("zone", "NotIn", "a"))), node(), True),
    ("Exists", pod(**required(expression("zone", "Exists"))), node(labels={"zone": ""}), True),
    ("DoesNotExist", pod(**required(expression("zone", "DoesNotExist"))), node(labels={"zone": ""}), False),
    ("Gt", pod(**required(expression("cores", "Gt", "3"))), node(labels={"cores": "4"}), True),
    ("Lt", pod(**required(expression("cores", "Lt", "3"))), node(labels={"cores": "4"}), False),
    ("Gt of no number", pod(**required(expression("cores", "Gt", "3"))), node(labels={"cores": "many"}), False),
    (
        "one of two terms",
        pod(**required(expression("zone", "In", "a"), expression("zone", "In", "b"))),
        node(labels={"zone": "b"}),
        True,
    ),
    ("a term without anything", pod(**required({})), node(), False),
    (
        "by name",
        pod(**required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})),
        node(name="n1"),
        True,
    ),
]


@pytest.mark.parametrize(("spec", "on", "expected"), [case[1:] for case in NODES], ids=[case[0] for case in NODES])
def test_pod_may_run_on_a_node(spec: dict[str, Any], on: dict[str, Any], expected: bool) -> None:
    assert may_run_on(spec, on) is expected


# --- decisions

DECISIONS: list[tuple[str, dict[str, Any], list[dict[str, Any]], int, str, str]] = [
    (
        "whole nodes",
        pod("1"),
        [node("4"), node("2")],
        6,
        "AllocatableCpus",
        "6 pods fit the 2 of 2 nodes that they may run on (1 CPUs a pod)",
    ),
    (
        "what is left of a node's CPUs is not added up",
        pod("1"),
        [node("3920m"), node("1900m")],
        4,
        "AllocatableCpus",
        "4 pods fit the 2 of 2 nodes that they may run on (1 CPUs a pod)",
    ),
    (
        "thirds of a CPU are exact",
        pod("100m"),
        [node("700m")],
        7,
        "AllocatableCpus",
        "7 pods fit the 1 of 1 nodes that they may run on (0.100 CPUs a pod)",
    ),
    (
        "no request",
        pod(None),
        [node("4")],
        4,
        "AllocatableCpus",
        "4 pods fit the 1 of 1 nodes that they may run on (1 CPUs a pod, taken as they ask for none)",
    ),
    (
        "a node that may not be used",
        pod("2"),
        [node("4"), node("8", unschedulable=True)],
        2,
        "AllocatableCpus",
        "2 pods fit the 1 of 2 nodes that they may run on (2 CPUs a pod)",
    ),
    (
        "nothing fits",
        pod("8"),
        [node("4")],
        1,
        "NoNodeFits",
        "0 pods fit the 1 of 1 nodes that they may run on (8 CPUs a pod); one is kept",
    ),
    (
        "very many fit",
        pod("10m"),
        [node("100")],
        10_000,
        "AllocatableCpus",
        "10000 pods fit the 1 of 1 nodes that they may run on (0.010 CPUs a pod)",
    ),
]


@pytest.mark.parametrize(
    ("spec", "nodes", "replicas", "reason", "message"),
    [case[1:] for case in DECISIONS],
    ids=[case[0] for case in DECISIONS],
)
def test_number_of_pods_that_fit_and_why(
    spec: dict[str, Any], nodes: list[dict[str, Any]], replicas: int, reason: str, message: str
) -> None:
    decision = fitting_replicas(spec, nodes)
    assert (decision.replicas, decision.reason, decision.message) == (replicas, reason, message)


# --- memory


def with_memory(limit: str | None, job_mib: str | None, **more: Any) -> dict[str, Any]:
    variables = [] if job_mib is None else [{"name": "WORKER_JOB_MEMORY_MIB", "value": job_mib}]
    resources = {"limits": {"memory": limit}} if limit else {}
    return pod(containers=[{"name": "sidecar"}, container(name="worker", env=variables, resources=resources)], **more)


FITTING = [
    ("no limit of jobs", with_memory("128Mi", None), 9),
    ("no limit of jobs, said so", with_memory("128Mi", "0"), 9),
    ("no limit of the pod", with_memory(None, "4096"), 9),
    ("just enough", with_memory("1124Mi", "512"), 2),
    ("another container's variable", pod(containers=[{"name": "worker"}, *with_memory("1Mi", "512")["containers"]]), 1),
    ("no number: the worker says so", with_memory("128Mi", "plenty"), 1),
    ("no quantity: the API server says so", with_memory("much", "512"), 1),
    ("no container of that name", pod(), 1),
    ("no containers: the API server says so", pod(containers=None), 1),
    ("containers as text", pod(containers="worker"), 1),
    ("variables as an object", pod(containers=[{"name": "worker", "env": {"A": "1"}}]), 1),
    ("limits as text", pod(containers=[{"name": "worker", "resources": {"limits": "512Mi"}}]), 1),
    ("a limit that is no number", with_memory("NaN", "512"), 1),
]


@pytest.mark.parametrize(("spec", "slots"), [case[1:] for case in FITTING], ids=[case[0] for case in FITTING])
def test_jobs_fit_the_memory_of_their_pod(spec: dict[str, Any], slots: int) -> None:
    assert memory_problem(spec, "worker", slots) is None


def test_jobs_that_may_take_more_memory_than_their_pod_are_refused_with_a_sentence() -> None:
    assert memory_problem(with_memory("1123Mi", "512"), "worker", 2) == (
        "2 jobs at once of 512 MiB each (WORKER_JOB_MEMORY_MIB) and 100 MiB for their supervisor need 1124 MiB, and "
        "the pod's memory limit is 1123 MiB: raise it, or lower slots or WORKER_JOB_MEMORY_MIB"
    )
    one = memory_problem(with_memory("512M", "512"), "worker", 1)
    assert one is not None
    assert one.startswith("a job of 512 MiB (WORKER_JOB_MEMORY_MIB) and 100 MiB for their supervisor need 612 MiB")
    # What holds for the whole pod, where that is less.
    of_pod = with_memory("2Gi", "512", resources={"limits": {"memory": "600Mi"}})
    assert "the pod's memory limit is 600 MiB" in (memory_problem(of_pod, "worker", 1) or "")
