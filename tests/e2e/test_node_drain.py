"""Pods that go let their jobs end, on a real node: kubelets, signals and grace periods as they are."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.chaos.pods import GRACE_MARGIN_SECONDS, SLOTS, Chaos
from tests.support.cluster.fixtures import Node
from tests.support.cluster.node import NAME
from tests.support.pod_pool import PodPool, pod_pool

LONGEST_SECONDS = 6

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]


@pytest.fixture
def impatient(node: Node) -> Iterator[PodPool]:
    """A pool that gives its jobs two seconds."""
    with pod_pool(node.cluster, node.database_url, workerCount=2, drainSeconds=2) as pool:
        pool.wait(ready=2)
        yield pool


def test_no_job_notices_that_pods_come_and_go(node: Node) -> None:
    # A dozen times here; `make chaos-pods`, which CI runs too, does it a hundred times, with longer jobs.
    drain = LONGEST_SECONDS + GRACE_MARGIN_SECONDS
    with pod_pool(node.cluster, node.database_url, workerCount=3, slots=SLOTS, drainSeconds=drain) as pool:
        pool.wait(ready=3)
        chaos = Chaos(pool, 2, LONGEST_SECONDS, random.Random(5))
        assert chaos.run(12) == []
    assert chaos.submitted > 12


def test_job_longer_than_the_grace_period_is_given_back_and_ends_elsewhere(impatient: PodPool) -> None:
    job = impatient.submit(10)
    first = impatient.wait_for_run(job)
    impatient.kubectl("delete", "pod", first.pod, "--wait=false")
    second = impatient.wait_for_run(job, 2)
    row = impatient.wait_for_end(job)
    first, second = impatient.traces(job)
    assert first.ended is None
    assert second.pod != first.pod
    assert row["success"]
    assert row["result"] == second.pod
    # Not the job's own failure, and no worker was lost.
    assert (row["attempt"], row["rescues"]) == (1, 0)
    # At once, not when the lease has run out.
    assert (second.began - first.began).total_seconds() < 10


def test_drained_node_lets_running_jobs_end_and_the_waiting_ones_go_elsewhere(node: Node) -> None:
    with pod_pool(node.cluster, node.database_url, workerCount=1, slots=3, drainSeconds=30) as pool:
        pool.wait(ready=1)
        running = [pool.submit(5) for _ in range(3)]
        pods = {pool.wait_for_run(job).pod for job in running}
        waiting = pool.submit(1)
        try:
            # All of its pods but the other pools' and the operators', which have nowhere else to go here.
            selector = f"--pod-selector=quickdapp.xyz/pool={pool.name}"
            node.cluster.kubectl("drain", NAME, selector, "--delete-emptydir-data", "--timeout=50s")
            assert all(pool.wait_for_end(job)["success"] for job in running)
            assert [pool.traces(job) for job in [waiting]] == [[]]
        finally:
            node.cluster.kubectl("uncordon", NAME)
        assert pool.wait_for_end(waiting)["success"]
        for job in running:
            (run,) = pool.traces(job)
            assert run.pod in pods
        (run,) = pool.traces(waiting)
        assert run.pod not in pods
