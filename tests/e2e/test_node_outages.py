"""The active operator, the API server, Postgres, or a namespace of a real node goes away; what is left goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.cluster.fixtures import Node
from tests.support.cluster.installation import NAMESPACE, OPERATOR, OPERATORS, wait_until_ready
from tests.support.cluster.processes import component_process, pod_process, postgres_processes, stopped
from tests.support.operators import eventually
from tests.support.pod_pool import PodPool, pod_pool
from tests.support.table import sql

OUTAGE_SECONDS = 30.0
SECONDS_TO_TAKE_OVER = 15.0

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]


@pytest.fixture(scope="module")
def own_pool(node: Node) -> Iterator[PodPool]:
    """A pool with room for eight jobs at once."""
    with pod_pool(node.cluster, node.database_url, workerCount=2, slots=4) as pool:
        pool.wait(ready=2)
        yield pool
    # Those that were killed over and over would be restarted later and later.
    node.cluster.kubectl("rollout", "restart", f"deployment/{OPERATOR}", f"--namespace={NAMESPACE}")
    wait_until_ready(node.cluster)


@pytest.fixture
def pool(node: Node, own_pool: PodPool) -> PodPool:
    """The pool, when all operators are ready."""
    wait_until_ready(node.cluster)
    return own_pool


def lease(node: Node) -> dict[str, Any]:
    """The operators' Lease."""
    found = node.cluster.kubectl("get", "lease", OPERATOR, f"--namespace={NAMESPACE}", "--output=json")
    spec: dict[str, Any] = json.loads(found.stdout)["spec"]
    return spec


def held_lease(node: Node, *, not_by: str = "") -> dict[str, Any]:
    """Wait until an operator leads; another one than ``not_by``."""

    def look() -> dict[str, Any] | None:
        now = lease(node)
        return now if now.get("holderIdentity") not in (None, "", not_by) else None

    now = eventually(look, every=0.3)
    assert now is not None
    return now


def process_of(holder: str, pool: PodPool) -> int:
    """The process of an operator that holds, or held, the Lease."""
    return pod_process(pool.pod(holder.rpartition("_")[0])["metadata"]["uid"])


def apply(pool: PodPool, *names: str, seconds: float = 1.0) -> None:
    """Apply WorkerJobs whose runs leave traces."""
    items = [
        {
            "apiVersion": "quickdapp.xyz/v1",
            "kind": "WorkerJob",
            "metadata": {"name": f"{pool.name}-{name}", "labels": {"pool": pool.name}},
            "spec": {"type": "traced", "data": {"seconds": seconds}, "pool": pool.name},
        }
        for name in names
    ]
    pool.kubectl("apply", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def assert_each_ran_once(pool: PodPool, *names: str) -> None:
    """Wait until the WorkerJobs say that they succeeded; each has one row and had one run. They are deleted then."""

    def states() -> dict[str, str]:
        listed = json.loads(pool.kubectl("get", "workerjobs", f"--selector=pool={pool.name}", "--output=json"))
        return {each["metadata"]["name"]: each.get("status", {}).get("state") for each in listed["items"]}

    expected = {f"{pool.name}-{name}" for name in names}
    succeeded = dict.fromkeys(expected, "Succeeded").items()
    # After an outage operators may be waiting to be restarted.
    eventually(lambda: states().items() >= succeeded, seconds=90, every=0.3)
    found = sql(
        pool.database_url,
        """
        select j."resourceName", count(distinct j.id), count(t.job_id)
        from "workerJobs" as j left join traces as t on t.job_id = j.id
        where j.pool = %s and j."resourceName" = any(%s) group by 1
        """,
        pool.name,
        list(expected),
    )
    assert {(name, rows, runs) for name, rows, runs in found} == {(name, 1, 1) for name in expected}
    pool.kubectl("delete", "workerjobs", f"--selector=pool={pool.name}")
    # The next test may give its own the same names.
    sql(pool.database_url, 'delete from "workerJobs" where pool = %s and "resourceName" is not null', pool.name)


def restarts(pool: PodPool) -> dict[str, int]:
    """How often the containers of a pool's pods were started anew."""
    return {each["metadata"]["name"]: each["status"]["containerStatuses"][0]["restartCount"] for each in pool.pods()}


def test_killed_leader_is_replaced_within_fifteen_seconds_and_nothing_is_doubled(node: Node, pool: PodPool) -> None:
    before = held_lease(node)["holderIdentity"]
    names = [f"before-{number}" for number in range(10)], [f"meanwhile-{number}" for number in range(10)]
    apply(pool, *names[0])
    process = process_of(before, pool)
    killed = datetime.now(UTC)
    os.kill(process, signal.SIGKILL)
    apply(pool, *names[1])
    taken = datetime.fromisoformat(held_lease(node, not_by=before)["acquireTime"])
    assert (taken - killed).total_seconds() < SECONDS_TO_TAKE_OVER
    assert_each_ran_once(pool, *names[0], *names[1])


def test_leader_that_was_stopped_for_half_a_minute_doubles_nothing_when_it_goes_on(node: Node, pool: PodPool) -> None:
    before = held_lease(node)
    holder = before["holderIdentity"]
    apply(pool, "before")
    with stopped(process_of(holder, pool)):
        began = time.monotonic()
        apply(pool, "meanwhile")
        held_lease(node, not_by=holder)
        time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - began)))
    apply(pool, "after")
    assert_each_ran_once(pool, "before", "meanwhile", "after")
    # The one that was stopped did not take the Lease back.
    assert lease(node)["leaseTransitions"] == before["leaseTransitions"] + 1


def test_jobs_run_while_the_api_server_hangs_and_statuses_follow(node: Node, pool: PodPool) -> None:
    before = restarts(pool)
    apply(pool, "before", seconds=10)
    began_to_run = """
        select t.job_id from traces as t join "workerJobs" as j on j.id = t.job_id where j."resourceName" = %s
    """
    eventually(lambda: sql(pool.database_url, began_to_run, f"{pool.name}-before"), every=0.3)
    with stopped(component_process(node.directory, "kube-apiserver")):
        began = time.monotonic()
        job = pool.submit(1)
        assert pool.wait_for_end(job)["success"]
        time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - began)))
    eventually(lambda: node.cluster.kubectl("get", "--raw", "/readyz", check=False).returncode == 0, every=0.3)
    apply(pool, "after")
    assert_each_ran_once(pool, "before", "after")
    assert restarts(pool) == before


def test_running_jobs_outlive_postgres_that_hangs_and_none_runs_twice(node: Node, pool: PodPool) -> None:
    before = restarts(pool)
    jobs = [pool.submit(seconds) for seconds in (10, OUTAGE_SECONDS + 10)]
    for job in jobs:
        pool.wait_for_run(job)
    with stopped(*postgres_processes(node.database_url)):
        began = time.monotonic()
        apply(pool, "meanwhile")
        time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - began)))
    for job in jobs:
        row = pool.wait_for_end(job)
        assert (row["success"], row["attempt"], row["rescues"]) == (True, 1, 0)
        assert len(pool.traces(job)) == 1
    assert_each_ran_once(pool, "meanwhile")
    assert restarts(pool) == before


def test_namespace_goes_at_once_while_no_operator_lives_and_its_jobs_are_cancelled_later(
    node: Node, pool: PodPool
) -> None:
    name = f"{pool.name}-shop"
    kubectl = node.cluster.kubectl
    kubectl("create", "namespace", name)
    later = {"type": "traced", "due": "2040-01-01T00:00:00Z", "pool": pool.name}
    manifest = {"apiVersion": "quickdapp.xyz/v1", "kind": "WorkerJob", "metadata": {"name": "later"}, "spec": later}
    kubectl("apply", f"--namespace={name}", "--filename=-", input=json.dumps(manifest))
    kubectl("wait", "workerjob/later", f"--namespace={name}", "--for=jsonpath={.status.state}=Pending", "--timeout=50s")
    kubectl("scale", f"deployment/{OPERATOR}", f"--namespace={NAMESPACE}", "--replicas=0")
    try:
        operator_pods = ("get", "pods", "--selector=app.kubernetes.io/component=operator", "--output=name")
        eventually(lambda: not pool.kubectl(*operator_pods), every=0.3)
        # A finalizer of an operator would hold it for ever.
        kubectl("delete", "namespace", name, "--timeout=50s")
    finally:
        kubectl("scale", f"deployment/{OPERATOR}", f"--namespace={NAMESPACE}", f"--replicas={OPERATORS}")
    finished = 'select success from "workerJobs" where namespace = %s and finished is not null'
    eventually(lambda: sql(pool.database_url, finished, name) == [(False,)], every=0.3)
