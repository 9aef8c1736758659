"""Commands at the server in a cluster: through the API server's proxy to a real server, found by the chart's labels."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sysconfig
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.api import api
from tests.support.cli import environment, workerjobs, workerjobs_json
from tests.support.cluster.controlplane import kubectl_program
from tests.support.loop import in_loop
from tests.support.operators import WorkerJobs
from tests.support.web import TOKEN

LABELS = {"app.kubernetes.io/part-of": "workerjobs", "app.kubernetes.io/component": "server"}


def address_of_this_machine() -> str:
    """An address that the API server may connect to: it refuses loopback ones."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


def objects(namespace: str, address: str, port: int) -> list[dict[str, Any]]:
    """The server's Service and Secret, as the chart makes them, and where the Service leads."""
    named = {"name": "workerjobs-server", "namespace": namespace, "labels": LABELS}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": named,
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": port}]},
        },
        # The API server connects to addresses of pods alone.
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "server", "namespace": namespace},
            "spec": {"containers": [{"name": "server", "image": "workerjobs"}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": named,
            "subsets": [
                {
                    "addresses": [
                        {"ip": address, "targetRef": {"kind": "Pod", "name": "server", "namespace": namespace}}
                    ],
                    "ports": [{"name": "http", "port": port}],
                }
            ],
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": named,
            "data": {"token": base64.b64encode(TOKEN.encode()).decode()},
        },
    ]


@pytest.mark.cluster
@in_loop
async def test_commands_work_at_the_server_of_a_cluster(
    jobs: WorkerJobs, database_url: str, tmp_path: Path, restricted_kubeconfig: str
) -> None:
    cluster, namespace = jobs.cluster, jobs.namespace
    service = f"{namespace}/workerjobs-server"
    kubeconfig = {"KUBECONFIG": str(cluster.kubeconfig)}
    async with api(database_url, tmp_path, WORKERJOBS_SERVER_HOST="0.0.0.0") as client:
        port = urlsplit(client.server.url).port or 0
        address = address_of_this_machine()
        jobs.apply(*objects(namespace, address, port))
        status = json.dumps({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
        jobs.kubectl("patch", "pod", "server", "--subresource=status", "--type=merge", "--patch", status)
        at_service = ("--context", "", "--service", service)
        submitted = workerjobs_json(
            "submit", "report", "--pool", "reports", *at_service, database_url=None, variables=kubeconfig
        )
        listed = workerjobs_json("list", *at_service, database_url=database_url, variables=kubeconfig)
        assert [job["id"] for job in listed] == [submitted["id"]]
        assert workerjobs_json("show", "1", database_url=database_url) == submitted
        missing = workerjobs("show", "4711", *at_service, database_url=None, variables=kubeconfig)
        assert (missing.returncode, missing.stderr) == (1, "Error: There is no job 4711\n")
        # As a plugin of kubectl, which finds it by its name on the path.
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        plugin = await asyncio.to_thread(
            subprocess.run,
            [kubectl_program(), "workerjobs", "list", "--service", service, "-o", "json"],
            env=environment(None, PATH=path, **kubeconfig),
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(plugin.stdout) == listed
        # A pool: its status from the cluster, its jobs from the server.
        metadata = {"name": "reports", "namespace": namespace}
        jobs.apply(
            {"apiVersion": "quickdapp.xyz/v1", "kind": "WorkerPool", "metadata": metadata, "spec": {"workerCount": 2}}
        )
        in_namespace = ("-n", namespace, *at_service)
        explained = workerjobs("explain", "reports", *in_namespace, database_url=None, variables=kubeconfig)
        assert explained.returncode == 0, explained.stderr
        assert "1 wait" in explained.stdout
        assert "not decided yet" in explained.stdout
        near = workerjobs("explain", "report", *in_namespace, database_url=None, variables=kubeconfig)
        assert "Did you mean reports?" in near.stderr
        # Who may not reach the Service is told what the API server says.
        allowed = workerjobs("list", *at_service, database_url=None, variables={"KUBECONFIG": restricted_kubeconfig})
        assert allowed.returncode == 1
        assert "refuses" in allowed.stderr
        assert "services" in allowed.stderr or "secrets" in allowed.stderr
        unknown = workerjobs("list", "--context", "nowhere", database_url=None, variables=kubeconfig)
        assert (unknown.returncode, "nowhere" in unknown.stderr) == (1, True)
        refused = workerjobs("doctor", "--context", "", database_url=None, variables=kubeconfig)
        assert refused.returncode == 2
        assert "doctor works at the database alone" in refused.stderr
    assert "WORKERJOBS_SERVER" not in os.environ
