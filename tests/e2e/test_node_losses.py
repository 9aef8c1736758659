"""Workers that are lost on a real node: what the kubelet says of them is true, and their jobs run elsewhere at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.cluster.fixtures import Node
from tests.support.cluster.installation import NAMESPACE
from tests.support.cluster.processes import pod_process
from tests.support.operators import eventually
from tests.support.pod_pool import PodPool, Trace, pod_pool
from tests.support.pod_watch import watching_loss

JOB_SECONDS = 6.0
ELSEWHERE_SECONDS = 3.0
"""From the moment at which the API server tells of the loss, as the kubelet's own time is not ours: the operator gives
the jobs back within two seconds. A lease would take 10 to 20."""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]


@pytest.fixture(scope="module")
def pool(node: Node) -> Iterator[PodPool]:
    with pod_pool(node.cluster, node.database_url, workerCount=2, drainSeconds=30) as pool:
        yield pool


Running = tuple[int, Trace, Callable[[], datetime]]
"""A job, its run, and what waits for the moment at which the loss of its pod's container was told."""


@pytest.fixture
def running(node: Node, pool: PodPool) -> Iterator[Running]:
    """A job that runs in one of two pods that are ready."""
    pool.wait(ready=2, draining=0)
    job = pool.submit(JOB_SECONDS)
    run = pool.wait_for_run(job)
    with watching_loss(node.cluster, NAMESPACE, run.pod) as loss:
        yield job, run, loss


def assert_runs_elsewhere(pool: PodPool, job: int, loss: Callable[[], datetime], reason: str) -> None:
    pool.wait_for_run(job, 2)
    lost = loss()
    row = pool.wait_for_end(job)
    first, second = pool.traces(job)
    took = (second.began - lost).total_seconds()
    print(f"{row['lostReason']}: runs elsewhere {took:.1f} s after that was told")
    assert first.ended is None
    assert row["success"]
    assert row["result"] == second.pod
    assert reason in row["lostReason"]
    assert first.pod in row["lostReason"]
    # Counted apart from the job's own failures.
    assert (row["attempt"], row["rescues"]) == (1, 1)
    assert took <= ELSEWHERE_SECONDS


def test_jobs_of_a_killed_worker_run_elsewhere(pool: PodPool, running: Running) -> None:
    job, run, loss = running
    os.kill(pod_process(pool.pod(run.pod)["metadata"]["uid"]), signal.SIGKILL)
    assert_runs_elsewhere(pool, job, loss, "was killed (exit code 137)")


def test_jobs_of_a_pod_deleted_by_force_run_elsewhere(pool: PodPool, running: Running) -> None:
    job, run, loss = running
    pool.kubectl("delete", "pod", run.pod, "--force", "--grace-period=0", "--wait=false")
    assert_runs_elsewhere(pool, job, loss, "is gone")


def test_jobs_of_a_pod_past_its_memory_limit_run_elsewhere(pool: PodPool, running: Running) -> None:
    job, run, loss = running
    process = pod_process(pool.pod(run.pod)["metadata"]["uid"])
    # A process beside the worker's, which takes more than the pod may have.
    pool.kubectl("exec", run.pod, "--", "python3", "-c", "x = b'x' * (1 << 30)", check=False)
    # With version 2 of cgroups the kernel ends all of the container with it. Version 1 ends that process alone, so the
    # others are ended here, once containerd has heard of it (which nobody tells).
    time.sleep(0.5)
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        assert Path("/sys/fs/cgroup/cgroup.controllers").exists()
    assert_runs_elsewhere(pool, job, loss, "was OOM-killed")


def test_pods_that_were_lost_are_replaced(pool: PodPool) -> None:
    pool.wait(ready=2, replicas=2)
    eventually(lambda: len(pool.pods()) == 2, every=0.3)
