"""What else is away: the operator when a namespace goes, the API server and Postgres for half a minute."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster.controlplane import Cluster, shared_cluster
from tests.support.operators import Operators, WorkerJobs, eventually, install_definition, operators, workerjob
from tests.support.server import FAST, own_server
from tests.support.table import count_rows, sql

pytestmark = pytest.mark.cluster

OUTAGE_SECONDS = 30.0


def test_namespace_is_deleted_at_once_while_the_operator_is_dead(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    dead = operators.start()
    jobs.apply(*(workerjob(f"job-{number}", {"type": "report"}) for number in range(20)))
    jobs.apply(workerjob("cron", {"type": "report", "cronSchedule": "@daily"}))
    eventually(lambda: len([state for state in jobs.states().values() if state]) == 21)
    dead.kill()
    began = time.monotonic()
    jobs.cluster.kubectl("delete", "namespace", jobs.namespace, "--timeout=60s")
    # The controller manager takes some seconds of its own for a namespace, whatever is in it.
    assert time.monotonic() - began < 40
    # At its return the operator finds that all are gone.
    jobs.cluster.kubectl("create", "namespace", jobs.namespace)
    operators.start()
    eventually(lambda: count_rows(database_url, "finished is null") == 0)
    assert count_rows(database_url, "finished is not null and success = false") == 21


@contextmanager
def stopped_api_server(folder: Path) -> Iterator[None]:
    """The API server of a cluster's folder does not run, and keeps its connections, as a machine that hangs."""
    pid = int((folder / "kube-apiserver.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_api_server_that_hangs_for_half_a_minute_is_outlived(tmp_path: Path, database_url: str) -> None:
    if os.environ.get("WORKERJOBS_TEST_KUBECONFIG"):
        pytest.skip("WORKERJOBS_TEST_KUBECONFIG names a cluster, so none is started")
    folder = tmp_path / "cluster"
    with shared_cluster(folder) as cluster:
        install_definition(cluster)
        jobs = WorkerJobs(cluster, "default")
        with operators(tmp_path, cluster.kubeconfig, database_url, "default") as started:
            operator = started.start()
            jobs.apply(workerjob("waits"), workerjob("ends"))
            jobs.wait("waits", "Pending")
            jobs.wait("ends", "Pending")
            with stopped_api_server(folder):
                # What happens meanwhile in the table is a status to write later.
                sql(
                    database_url,
                    """update "workerJobs" set started = now(), finished = now(), success = true, "updatedAt" = now()
                    where "resourceName" = 'ends'""",
                )
                time.sleep(OUTAGE_SECONDS)
                assert operator.process.poll() is None
            jobs.wait("ends", "Succeeded")
            jobs.apply(workerjob("new"))
            jobs.wait("new", "Pending")
            jobs.delete("waits")
            eventually(lambda: count_rows(database_url, "\"resourceName\" = 'waits' and finished is not null") == 1)
            operator.stop()
            assert not any("exception" in each for each in operator.said())


@pytest.mark.slow
def test_postgres_that_is_stopped_for_half_a_minute_is_outlived(
    cluster: Cluster, jobs: WorkerJobs, tmp_path: Path
) -> None:
    with own_server() as server, operators(tmp_path, cluster.kubeconfig, server.url, jobs.namespace) as started:
        operator = started.start()
        jobs.apply(workerjob("changed"), workerjob("deleted"))
        jobs.wait("changed", "Pending")
        jobs.wait("deleted", "Pending")
        server.stop(FAST)
        jobs.apply(workerjob("changed", {"type": "report", "priority": 5}), workerjob("new"))
        jobs.delete("deleted")
        time.sleep(OUTAGE_SECONDS)
        assert operator.process.poll() is None
        server.start()
        jobs.wait("new", "Pending")
        eventually(lambda: jobs.status("changed")["observedGeneration"] == 2)
        eventually(lambda: count_rows(server.url, "\"resourceName\" = 'deleted' and finished is not null") == 1)
        assert sql(server.url, """select priority from "workerJobs" where "resourceName" = 'changed'""") == [(5,)]
        assert count_rows(server.url) == 3
        operator.stop()
        assert not any("exception" in each for each in operator.said())
