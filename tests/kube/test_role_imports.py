"""Each role, and each job's process, loads the packages that it uses, and no other role's."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import environment, workerjobs_json
from tests.support.cluster.controlplane import Cluster
from tests.support.operators import eventually, install_definition

# Runs a command of the command line, and writes at its end what was imported. Forked children end without that.
LISTING = """
import atexit, sys
from pathlib import Path
file = Path(sys.argv.pop(1))
atexit.register(lambda: file.write_text("\\n".join(sys.modules)))
from workerjobs.cli import main
main()
"""
OF_THE_OPERATOR = {"kopf", "kubernetes", "aiohttp"}
OF_NO_ROLE_HERE = {"web3", "fastapi", "uvicorn", "matplotlib", "opentelemetry", "pytest"}
# What a supervisor works with: a child gets its job, and gives back its result, over a pipe. (pydantic: typer
# 0.29 reads arguments with it.)
OF_THE_SUPERVISOR = {"psycopg", "prometheus_client", "jsonschema", "rich", "typer", "pydantic"}

JOBS = """
import sys
from workerjobs import job

@job("modules")
def modules(data):
    return sorted(sys.modules)
"""


def started(folder: Path, role: str, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-c", LISTING, str(folder / "modules"), role],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def imported(folder: Path, process: subprocess.Popen[bytes]) -> set[str]:
    """What a role imported, packages alone; it is stopped for that."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, (folder / "log").read_text()
    return {name.partition(".")[0] for name in (folder / "modules").read_text().split()}


def test_worker_and_its_children_load_nothing_of_the_operator(database_url: str, tmp_path: Path) -> None:
    jobs = tmp_path / "listing_jobs.py"
    jobs.write_text(JOBS)
    process = started(tmp_path, "worker", environment(database_url, WORKER_JOB_MODULES=str(jobs), WORKER_COUNT="1"))
    try:
        job = workerjobs_json("submit", "modules", "--wait", database_url=database_url)
        of_the_worker = imported(tmp_path, process)
    finally:
        process.kill()
        process.wait()
    of_the_child = {name.partition(".")[0] for name in job["result"]}
    assert "psycopg" in of_the_worker
    assert of_the_worker & (OF_THE_OPERATOR | OF_NO_ROLE_HERE) == set()
    assert "workerjobs" in of_the_child
    assert of_the_child & (OF_THE_OPERATOR | OF_NO_ROLE_HERE | OF_THE_SUPERVISOR) == set()


@pytest.mark.cluster
def test_operator_loads_the_kubernetes_client_without_its_models(
    cluster: Cluster, namespace: str, database_url: str, tmp_path: Path
) -> None:
    install_definition(cluster)
    variables = environment(database_url, KUBECONFIG=str(cluster.kubeconfig), WORKERJOBS_NAMESPACES=namespace)
    process = started(tmp_path, "operator", variables)
    try:
        eventually(lambda: "watches" in (tmp_path / "log").read_text())
        packages = imported(tmp_path, process)
    finally:
        process.kill()
        process.wait()
    assert packages >= OF_THE_OPERATOR
    assert packages & OF_NO_ROLE_HERE == set()
    modules = (tmp_path / "modules").read_text().split()
    # Of hundreds, kopf 1.45 has a use for three.
    assert len([name for name in modules if ".client.models." in name]) <= 3
