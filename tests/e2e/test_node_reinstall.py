"""The chart's own test, and what stays of an installation that goes; the last tests of the node's installation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.cluster.fixtures import Node
from tests.support.cluster.installation import NAMESPACE, OPERATOR, RELEASE
from tests.support.helm import helm
from tests.support.table import sql

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]

NAMES = ("before", "meanwhile", "kept")


@pytest.fixture
def jobs(node: Node) -> Iterator[None]:
    yield
    node.cluster.kubectl("delete", "workerjobs", *NAMES, "--ignore-not-found")


def apply(node: Node, name: str, **spec: object) -> None:
    manifest = {
        "apiVersion": "quickdapp.xyz/v1",
        "kind": "WorkerJob",
        "metadata": {"name": name},
        "spec": {"type": "countPrimes", "data": {"upTo": 1000}, **spec},
    }
    node.cluster.kubectl("apply", "--filename=-", input=json.dumps(manifest))


def wait_for(node: Node, name: str, condition: str) -> None:
    waited = node.cluster.kubectl("wait", f"workerjob/{name}", f"--for={condition}", "--timeout=50s", check=False)
    assert waited.returncode == 0, node.cluster.kubectl("get", "workerjobs", "--output=wide").stdout


def rows(node: Node, name: str) -> int:
    ((count,),) = sql(node.database_url, 'select count(*) from "workerJobs" where "resourceName" = %s', name)
    return int(count)


def test_charts_own_test_passes(node: Node) -> None:
    said = helm("test", RELEASE, f"--namespace={NAMESPACE}", cluster=node.cluster)
    assert "Succeeded" in said


@pytest.mark.usefixtures("jobs")
def test_new_installation_goes_on_with_what_an_old_one_left(node: Node) -> None:
    apply(node, "before")
    wait_for(node, "before", "condition=Complete")
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    apply(node, "kept", due=later)
    wait_for(node, "kept", "jsonpath={.status.state}=Pending")

    helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", cluster=node.cluster)
    node.cluster.kubectl("wait", "--for=delete", f"deployment/{OPERATOR}", f"--namespace={NAMESPACE}", "--timeout=50s")
    kept = node.cluster.kubectl("get", "workerjobs", "--output=name").stdout
    assert {f"workerjob.quickdapp.xyz/{name}" for name in ("before", "kept")} <= set(kept.split())
    apply(node, "meanwhile")

    node.install()
    wait_for(node, "meanwhile", "condition=Complete")
    assert (rows(node, "before"), rows(node, "meanwhile"), rows(node, "kept")) == (1, 1, 1)
    # Known again, so that a change of what was there before comes through.
    apply(node, "kept", due="2026-01-01T00:00:00Z")
    wait_for(node, "kept", "condition=Complete")
    assert rows(node, "kept") == 1
