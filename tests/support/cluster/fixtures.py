"""The test clusters as pytest fixtures: ``cluster`` for the whole run, ``namespace`` for one test.

``WORKERJOBS_TEST_KUBECONFIG`` names the kubeconfig of a cluster to use instead of starting one. Tests make their own
namespaces in it and delete them.

``node`` is another cluster, with a node that runs pods and with WorkerJobs installed. Its tests carry the markers
``slow`` and ``xdist_group("node")``, so that one process runs them all.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.cluster.binaries import API_PROGRAMS, BinariesError, find_binaries
from tests.support.cluster.components import ControlPlaneError
from tests.support.cluster.controlplane import Cluster, shared_cluster
from tests.support.cluster.images import Image, project_image
from tests.support.cluster.installation import REPOSITORY, install, wait_until_ready
from tests.support.cluster.node import database_url, import_image
from tests.support.cluster.preparation import CannotRunPodsError, prepare_node
from tests.support.operators import eventually
from tests.support.require import require_or_skip

JOB_FILES = (
    REPOSITORY / "docs" / "examples" / "own-image" / "surroundings.py",
    REPOSITORY / "tests" / "support" / "traced_jobs.py",
)
"""The jobs that workers on the node know beside the samples."""
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
"""Resources of a worker's container: one node has many of them here."""
_NO_BINARIES = pytest.StashKey[str]()
_NO_NODE = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get what clusters need before the first test, so that a long build counts against no test's time limit."""
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():  # a person who waits sees why
        if "cluster" in used and not os.environ.get("WORKERJOBS_TEST_KUBECONFIG"):
            try:
                find_binaries(names=API_PROGRAMS)
            except BinariesError as error:
                session.config.stash[_NO_BINARIES] = str(error)
        if any(_is_on_node(item) for item in session.items):
            try:
                prepare_node()
            except CannotRunPodsError as error:
                session.config.stash[_NO_NODE] = str(error)


def _is_on_node(item: pytest.Item) -> bool:
    # Not by the fixture's name: other tests have a `node` of their own, which is a line in the API and runs nothing.
    group = item.get_closest_marker("xdist_group")
    return group is not None and group.args == ("node",)


@dataclass(frozen=True)
class Node:
    """A cluster with a node that runs pods, and WorkerJobs installed in the namespace ``workerjobs``.

    Attributes:
        cluster: Its API.
        image: The project's image, of which the pods are.
        database_url: Their database; it can be used from here too.
        directory: With its logs.
    """

    cluster: Cluster
    image: Image
    database_url: str
    directory: Path

    @property
    def machine(self) -> str:
        """The address by which the node and its pods reach this machine."""
        address = urlsplit(self.database_url).hostname
        assert address is not None
        return address

    def install(self) -> None:
        """Install the chart, with what tests need, and wait until all of it is ready."""
        files = {file.name: file.read_text(encoding="utf-8") for file in JOB_FILES}
        install(self.cluster, self.image.name, self.database_url, {"jobFiles": files, "resources": SMALL})
        wait_until_ready(self.cluster)

    def take(self, image: Image) -> None:
        """Import another image."""
        import_image(self.directory, image)


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A real node with WorkerJobs installed and ready, for the whole run."""
    if reason := request.config.stash.get(_NO_NODE, None):
        require_or_skip("pods", f"no pods on this machine: {reason}")
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "node"
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(shared_cluster(directory, "up-node"))
        except ControlPlaneError as error:
            require_or_skip("pods", f"no node starts on this machine: {error}")
        node = Node(cluster, project_image(), database_url(directory), directory)
        node.take(node.image)
        node.install()
        yield node


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
    eventually(lambda: cluster.read(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
