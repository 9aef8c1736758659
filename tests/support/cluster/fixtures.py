"""The test cluster as pytest fixtures: ``cluster`` for the whole run, ``namespace`` for one test.

``WORKERJOBS_TEST_KUBECONFIG`` names the kubeconfig of a cluster to use instead of starting one. Tests make their own
namespaces in it and delete them.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster.binaries import API_PROGRAMS, BinariesError, find_binaries
from tests.support.cluster.components import ControlPlaneError
from tests.support.cluster.controlplane import Cluster, shared_cluster
from tests.support.require import require_or_skip

_NO_BINARIES = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the cluster's programs before the first test, so that a long build counts against no test's time limit."""
    if not any("cluster" in getattr(item, "fixturenames", ()) for item in session.items):
        return
    if session.config.option.collectonly or os.environ.get("WORKERJOBS_TEST_KUBECONFIG"):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():  # a person who waits sees why
        try:
            find_binaries(names=API_PROGRAMS)
        except BinariesError as error:
            session.config.stash[_NO_BINARIES] = str(error)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API without nodes, one for the whole run; the processes of pytest-xdist share it."""
    if named := os.environ.get("WORKERJOBS_TEST_KUBECONFIG"):
        yield Cluster(Path(named).absolute())
        return
    if reason := request.config.stash.get(_NO_BINARIES, None):
        require_or_skip("cluster", reason)
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker has a folder of its own inside the run's
    try:
        with shared_cluster(base / "cluster") as shared:
            yield shared
    except ControlPlaneError as error:
        require_or_skip("cluster", f"the test cluster cannot start on this machine: {error}")


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace, ready for pods; deleted after the test."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=30s")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
