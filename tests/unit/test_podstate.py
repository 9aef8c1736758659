"""What the state of pods and nodes means for the workers in them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workerjobs.kube.podstate import Decision, WorkerPod, decide, read_pod
from workerjobs.ports.workers import PodWorker

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WORKER = PodWorker(
    owner="uid:1",
    cluster_id="here",
    namespace="shop",
    pod_name="a",
    pod_uid="uid",
    booted=NOON,
    drain_reasons=[],
    revoked_seconds=None,
    has_stopped=False,
    running=2,
    is_alive=True,
)
POD = WorkerPod("uid", "shop", "a", "n1", NOON - timedelta(seconds=1), "has ended", is_over=False)
LATER = NOON + timedelta(seconds=30)
NODES = {"n1": frozenset[str]()}


def after(
    worker: PodWorker = WORKER,
    pod: WorkerPod | None = POD,
    gone: frozenset[str] = frozenset(),
    taints: dict[str, frozenset[str]] = NODES,
    lost_nodes: frozenset[str] = frozenset(),
) -> Decision:
    return decide([worker], {} if pod is None else {pod.uid: pod}, gone, taints, lost_nodes)


def what(decision: Decision) -> dict[str, Any]:
    """Those parts of a decision that hold something."""
    names = ("adopt", "lost", "revoke", "forget", "leave", "drain", "undrain", "is_waiting")
    return {name: value for name in names if (value := getattr(decision, name))}


def test_worker_in_a_running_pod_is_left_alone() -> None:
    assert what(after()) == {}


def test_worker_whose_cluster_is_not_known_is_taken_by_the_one_that_has_its_pod_and_by_no_other() -> None:
    stray = replace(WORKER, cluster_id=None)
    assert what(after(stray)) == {"adopt": ("uid:1",)}
    assert what(after(stray, pod=None)) == {}


def test_worker_whose_container_ended_after_it_booted_is_lost_at_once() -> None:
    decision = after(pod=replace(POD, ended=LATER, how="was OOM-killed"))
    (lost,) = decision.lost
    assert (lost.owner, lost.reason) == ("uid:1", "Worker pod a was OOM-killed")
    assert not decision.revoke


def test_worker_that_booted_after_the_last_container_ended_is_not_lost() -> None:
    """Both moments are of the node's clock; that of the container is cut to a second."""
    assert what(after(replace(WORKER, booted=LATER + timedelta(milliseconds=1)), replace(POD, ended=LATER))) == {}


def test_worker_without_jobs_that_has_ended_is_forgotten_once_it_has_been_silent_for_a_lease() -> None:
    idle, pod = replace(WORKER, running=0), replace(POD, ended=LATER)
    assert what(after(idle, pod)) == {}
    assert what(after(replace(idle, is_alive=False), pod)) == {"forget": ("uid:1",)}


def test_worker_of_a_pod_that_is_gone_is_told_first_and_lost_once_it_stopped_or_had_its_time() -> None:
    def of(worker: PodWorker) -> dict[str, Any]:
        return what(after(worker, pod=None, gone=frozenset(["uid"])))

    assert of(WORKER) == {"revoke": ("uid:1",), "is_waiting": True}
    told = replace(WORKER, revoked_seconds=0.5)
    assert of(told) == {"is_waiting": True}
    for worker in (replace(told, has_stopped=True), replace(told, revoked_seconds=2.0)):
        (lost,) = of(worker)["lost"]
        assert lost.reason == "Worker pod a is gone"
    # Nothing is left to do, and its line stays as a warning to others in that pod.
    assert of(replace(told, has_stopped=True, running=0, is_alive=False)) == {}


def test_worker_that_was_seen_to_end_before_its_pod_went_is_lost_at_once() -> None:
    decision = after(pod=replace(POD, ended=LATER, how="was killed (exit code 137)"), gone=frozenset(["uid"]))
    assert [lost.reason for lost in decision.lost] == ["Worker pod a was killed (exit code 137)"]


@pytest.mark.parametrize(
    ("taint", "reason"),
    [
        (None, "Node n1 of worker pod a is gone"),
        ("node.kubernetes.io/out-of-service", "Node n1 of worker pod a is out of service"),
    ],
)
def test_worker_on_a_lost_node_is_told_first_as_it_may_run_yet(taint: str | None, reason: str) -> None:
    taints = {"n1": frozenset([taint])} if taint else {}
    lost_nodes = frozenset() if taint else frozenset(["n1"])
    assert after(taints=taints, lost_nodes=lost_nodes).revoke == ("uid:1",)
    told = replace(WORKER, revoked_seconds=3.0)
    assert [lost.reason for lost in after(told, taints=taints, lost_nodes=lost_nodes).lost] == [reason]


@pytest.mark.parametrize(
    "taint",
    [
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "node.kubernetes.io/unreachable",
    ],
)
def test_worker_on_a_going_node_drains_and_keeps_its_jobs_and_works_again_when_the_node_stays(taint: str) -> None:
    going = {"n1": frozenset([taint, "other"])}
    assert what(after(taints=going)) == {"drain": ("uid:1",)}
    draining = replace(WORKER, drain_reasons=["ScaleDown", "NodeGoing"])
    assert what(after(draining, taints=going)) == {}
    assert what(after(draining)) == {"undrain": ("uid:1",)}
    assert what(after(replace(WORKER, drain_reasons=["ScaleDown"]))) == {}


def test_worker_whose_pod_is_being_deleted_is_told_once_and_keeps_its_jobs() -> None:
    leaving = replace(POD, is_leaving=True)
    assert what(after(pod=leaving)) == {"leave": ("uid:1",)}
    assert what(after(replace(WORKER, drain_reasons=["PodGoing"]), pod=leaving)) == {}


def test_pod_that_is_over_without_a_container_that_was_seen_to_end_is_told_first() -> None:
    assert after(pod=replace(POD, is_over=True, how="was evicted")).revoke == ("uid:1",)


# --- reading pods


def pod(phase: str = "Running", **status: Any) -> dict[str, Any]:
    metadata = {"uid": "u", "namespace": "shop", "name": "a"}
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": phase, **status}}


def worker_container(state: dict[str, Any], last: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    sidecar = {"name": "proxy", "state": {"terminated": {"finishedAt": "2035-01-01T00:00:00Z", "exitCode": 9}}}
    return [sidecar, {"name": "worker", "state": state, "lastState": last or {}}]


def terminated(code: int, reason: str = "Error") -> dict[str, Any]:
    moments = {"startedAt": "2030-01-01T11:00:00Z", "finishedAt": "2030-01-01T12:00:00Z"}
    return {"terminated": {**moments, "exitCode": code, "reason": reason}}


@pytest.mark.parametrize(
    ("manifest", "how"),
    [
        (pod(containerStatuses=worker_container(terminated(137, "OOMKilled"))), "was OOM-killed"),
        (pod(containerStatuses=worker_container(terminated(137))), "was killed (exit code 137)"),
        (pod(containerStatuses=worker_container(terminated(1))), "ended with exit code 1"),
        (pod(containerStatuses=worker_container(terminated(0))), "has ended"),
        (pod(containerStatuses=worker_container({"waiting": {}}, terminated(137, "OOMKilled"))), "was OOM-killed"),
        (
            pod(
                "Failed",
                reason="Evicted",
                message="The node was low on memory.",
                containerStatuses=worker_container(terminated(137)),
            ),
            "was evicted: The node was low on memory.",
        ),
        (
            pod(
                containerStatuses=worker_container(terminated(143)),
                conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}],
            ),
            "was preempted by a pod of higher priority",
        ),
    ],
)
def test_pod_says_how_its_worker_ended(manifest: dict[str, Any], how: str) -> None:
    read = read_pod(manifest)
    assert (read.how, read.ended) == (how, NOON)


def test_container_that_was_started_again_ends_all_workers_before_it() -> None:
    running = {"running": {"startedAt": "2030-01-01T12:00:05Z"}}
    read = read_pod(pod(containerStatuses=worker_container(running, terminated(137, "OOMKilled"))))
    assert (read.ended, read.how) == (NOON + timedelta(seconds=5), "was OOM-killed")


def test_pod_without_any_status_is_read() -> None:
    read = read_pod({"metadata": {"uid": "u", "namespace": "shop", "name": "a"}})
    assert (read.ended, read.is_over, read.node) == (None, False, None)
