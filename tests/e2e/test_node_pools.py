"""How many pods a pool has on a real node, and who says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.support.cli import workerjobs
from tests.support.cluster.fixtures import Node
from tests.support.cluster.installation import NAMESPACE, WORKER_COUNT
from tests.support.cluster.node import NAME
from tests.support.operators import eventually
from tests.support.pod_pool import PodPool, pod_pool
from tests.support.table import sql
from workerjobs.kube.podspec import parse_quantity

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]


@pytest.fixture
def default(node: Node) -> Iterator[PodPool]:
    """The pool that the chart brings."""
    pool = PodPool(node.cluster, node.database_url, "default")
    yield pool
    pool.change(replicas=None, workerCount=WORKER_COUNT)
    pool.wait(replicas=WORKER_COUNT, ready=WORKER_COUNT)


def test_number_of_pods_follows_worker_count_and_scale(node: Node, default: PodPool) -> None:
    default.change(workerCount=3)
    default.wait(desired=3, ready=3, replicas=3)
    assert len(default.pods()) == 3
    default.kubectl("scale", "wp/default", "--replicas=1")
    default.wait(desired=1, replicas=1, ready=1)
    assert default.status()["reason"] == "ReplicasSet"
    default.change(workerCount=2)
    released = workerjobs(
        *("pool", "release", "default", f"--namespace={NAMESPACE}"),
        database_url=None,
        variables={"KUBECONFIG": str(node.cluster.kubeconfig)},
    )
    assert released.returncode == 0, released.stderr
    default.wait(desired=2, replicas=2, ready=2)
    assert default.status()["reason"] == "FixedNumber"


def test_cpus_are_those_that_the_node_has(node: Node) -> None:
    allocatable = node.cluster.kubectl("get", "node", NAME, "--output=jsonpath={.status.allocatable.cpu}").stdout
    # Two of such pods fit, and leave room for the others.
    request = f"{int(parse_quantity(allocatable) * 400)}m"
    resources = {"requests": {"cpu": request, "memory": "64Mi"}}
    template = {"spec": {"containers": [{"name": "worker", "resources": resources}]}}
    with pod_pool(node.cluster, node.database_url, workerCount="cpus", template=template) as pool:
        pool.wait(desired=2, ready=2)
        assert pool.status()["reason"] == "AllocatableCpus"
        # Changed on the live pool.
        pool.change(workerCount=1)
        pool.wait(desired=1, replicas=1)


def test_auto_goes_from_nothing_to_some_and_back(node: Node) -> None:
    scaling = {"scaleDownSeconds": 3, "targetSeconds": 1}
    with pod_pool(node.cluster, node.database_url, workerCount="auto", maxWorkers=2, scaling=scaling) as pool:
        pool.wait(desired=0)
        assert pool.pods() == []
        jobs = [pool.submit(3) for _ in range(4)]
        eventually(pool.pods, every=0.3)
        assert all(pool.wait_for_end(job)["success"] for job in jobs)
        assert len({run.pod for job in jobs for run in pool.traces(job)}) == 2
        pool.wait(desired=0, replicas=0)
        eventually(lambda: pool.pods() == [], every=0.3)


def test_first_job_of_an_empty_pool_has_a_pod_within_two_seconds(node: Node) -> None:
    scaling = {"scaleDownSeconds": 3, "targetSeconds": 1}
    took: list[float] = []
    with pod_pool(node.cluster, node.database_url, workerCount="auto", maxWorkers=1, scaling=scaling) as pool:
        # A busy machine may be late once, and not each time.
        while not took or (min(took) > 1 and len(took) < 3):
            pool.wait(desired=0, replicas=0)
            job = pool.submit(3)
            created = pool.pod(pool.wait_for_run(job).pod)["metadata"]["creationTimestamp"]
            ((submitted,),) = sql(node.database_url, 'select "createdAt" from "workerJobs" where id = %s', job)
            took.append((datetime.fromisoformat(created) - submitted).total_seconds())
            assert pool.wait_for_end(job)["success"]
    print(f"a pod was made {took} s after the submit, by clocks that tell whole seconds of it")
    # What is cut off of it is less than a second.
    assert min(took) <= 1
