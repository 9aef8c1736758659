"""A node's beginning and end: nothing of it is left on the machine, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster.controlplane import Cluster
from tests.support.cluster.fixtures import Node
from tests.support.operators import eventually

REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]


def run(command: str, directory: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.support.cluster", command, directory],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=170,
        check=True,
    )


def namespaces() -> set[str]:
    """The network namespaces that processes of this machine are in."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.add(str((entry / "ns" / "net").readlink()))
            except OSError:
                continue  # ended meanwhile
    return found


def interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").glob("wjnode*")}


def test_killed_runner_leaves_no_process_and_its_node_starts_again(node: Node, tmp_path: Path) -> None:
    """The first node, of the fixture, goes on beside it."""
    namespaces_before, interfaces_before = namespaces(), interfaces()
    assert interfaces_before
    run("up-node", tmp_path)
    try:
        second = Cluster(tmp_path / "kubeconfig", tmp_path / "kubectl-cache")
        assert second.kubectl("get", "nodes").stdout.count(" Ready ") == 1
        assert len(interfaces()) == len(interfaces_before) + 1
        os.kill(int((tmp_path / "runner.pid").read_text()), signal.SIGKILL)
        eventually(lambda: namespaces() <= namespaces_before)
        run("up-node", tmp_path)  # takes over what the kernel keeps a while: a network with a closing connection
        assert second.kubectl("get", "nodes").stdout.count(" Ready ") == 1
        assert node.cluster.kubectl("get", "nodes").stdout.count(" Ready ") == 1
    finally:
        run("down", tmp_path)
    assert interfaces() == interfaces_before
