"""Fixtures of tests with a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
def restricted_kubeconfig(cluster: Cluster, jobs: WorkerJobs, tmp_path: Path) -> str:
    """A kubeconfig of a service account of the test's namespace, without any rights, by its token."""
    token = jobs.kubectl("create", "token", "default").stdout.strip()
    return str(kubeconfig_with_token(cluster, token, tmp_path / "restricted"))
