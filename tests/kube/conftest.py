"""Fixtures of tests with a real API server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import environment
from tests.support.cluster.controlplane import Cluster
from tests.support.operators import Operators, WorkerJobs, install_definition, kubeconfig_with_token
from tests.support.operators import operators as running_operators


@pytest.fixture(scope="session")
def definition(cluster: Cluster) -> None:
    """WorkerJobs are known to the cluster."""
    install_definition(cluster)


@pytest.fixture
def jobs(cluster: Cluster, definition: None, namespace: str) -> WorkerJobs:
    """The WorkerJobs of this test."""
    return WorkerJobs(cluster, namespace)


@pytest.fixture
def operators(tmp_path: Path, cluster: Cluster, jobs: WorkerJobs, database_url: str) -> Iterator[Operators]:
    """Operators of this test's namespace and database."""
    with running_operators(tmp_path, cluster.kubeconfig, database_url, jobs.namespace) as started:
        yield started


@pytest.fixture
def worker(tmp_path: Path, database_url: str) -> Iterator[None]:
    """A worker on the test's database that knows the sample jobs."""
    variables = {"WORKER_COUNT": "2", "WORKER_JOB_MODULES": "workerjobs.jobs.samples", "WORKER_HEALTH_PORT": "0"}
    with (tmp_path / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workerjobs", "worker"],
            env=environment(database_url, **variables),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    yield
    process.terminate()
    process.wait(60)


@pytest.fixture
def restricted_kubeconfig(cluster: Cluster, jobs: WorkerJobs, tmp_path: Path) -> str:
    """A kubeconfig of a service account of the test's namespace, without any rights, by its token."""
    token = jobs.kubectl("create", "token", "default").stdout.strip()
    return str(kubeconfig_with_token(cluster, token, tmp_path / "restricted"))
