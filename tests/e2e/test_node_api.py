"""The server on a real node, asked through its Service by a pod."""

from __future__ import annotations

import base64
import json
import uuid

import pytest

from tests.support.cluster.fixtures import Node
from tests.support.cluster.installation import NAMESPACE, RELEASE, REPOSITORY, SERVER, WORKERS
from tests.support.helm import CHART, helm

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]

SCRIPT = REPOSITORY / "tests" / "support" / "ask_service.py"


def token_of(node: Node) -> str:
    secret = node.cluster.kubectl("get", "secret", SERVER, f"--namespace={NAMESPACE}", "--output=json").stdout
    return base64.b64decode(json.loads(secret)["data"]["token"]).decode()


def test_server_answers_programs_through_its_service(node: Node) -> None:
    kubectl = node.cluster.kubectl
    name = f"reader-{uuid.uuid4()}"
    made = kubectl(
        "exec", f"--namespace={NAMESPACE}", f"deployment/{SERVER}", "--", "workerjobs", "token", "create", name
    )
    asked = kubectl(
        *("exec", "--stdin", f"--namespace={NAMESPACE}", f"deployment/{WORKERS}", "--", "python3", "-"),
        *(f"http://{SERVER}.{NAMESPACE}.svc", token_of(node), made.stdout.strip()),
        input=SCRIPT.read_text(encoding="utf-8"),
    )
    said = json.loads(asked.stdout)
    assert (said["nobody"], said["wrong"], said["reading"]) == (401, 401, 403)
    # Probes have a port of their own, to which the Service does not lead.
    assert said["probe"] == 401
    assert (said["submitted"], said["states"][-1]) == (201, "succeeded")
    status, job = said["shown"]
    assert (status, job["state"], job["result"]["user"]) == (200, "succeeded", 10001)
    # A worker's pod ran it, in a child of its PID 1.
    assert job["result"]["ancestors"][-1] == 1
    assert {worker["namespace"] for worker in said["workers"] if worker["pool"] == "default"} == {NAMESPACE}
    (entry,) = said["audit"]
    assert (entry["actor"], entry["action"], entry["details"]["id"]) == ("server", "jobs.submit", job["id"])


def test_upgrade_keeps_the_servers_token(node: Node) -> None:
    before = token_of(node)
    assert len(before) >= 32
    helm("upgrade", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--reuse-values", cluster=node.cluster)
    assert token_of(node) == before
