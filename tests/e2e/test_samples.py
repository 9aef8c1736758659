"""The whole way: manifests applied with kubectl to a real API server, the operator and workers as users run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.support.cli import environment
from tests.support.cluster.controlplane import Cluster

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "manifests" / "samples"
EXPECTED = "quickdapp.xyz/expected-state"

pytestmark = pytest.mark.cluster


@contextmanager
def running(*arguments: str, database_url: str, log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A role as a process, stopped at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workerjobs", *arguments],
            env=environment(database_url, **variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask again and again until it holds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return value


def test_samples_reach_their_states_on_a_cluster(
    cluster: Cluster, namespace: str, database_url: str, tmp_path: Path
) -> None:
    cluster.kubectl("apply", "-f", str(ROOT / "manifests" / "crds"))
    samples = [yaml.safe_load(file.read_text()) for file in SAMPLES.glob("*.yaml")]
    names = {sample["metadata"]["name"]: sample for sample in samples}

    def statuses() -> dict[str, dict[str, Any]]:
        listed = json.loads(cluster.kubectl("get", "workerjobs", "-n", namespace, "-o", "json").stdout)
        return {item["metadata"]["name"]: item.get("status", {}) for item in listed["items"]}

    operator_variables = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "WORKERJOBS_NAMESPACES": namespace,
        "WORKERJOBS_CLUSTER_ID": namespace,
    }
    worker_variables = {"WORKER_COUNT": "2", "WORKER_JOB_MODULES": "workerjobs.jobs.samples", "WORKER_HEALTH_PORT": "0"}
    operator_log = tmp_path / "operator.log"
    with (
        running("operator", database_url=database_url, log=operator_log, **operator_variables),
        running("worker", database_url=database_url, log=tmp_path / "worker.log", **worker_variables),
    ):
        cluster.kubectl("apply", "-n", namespace, "-f", str(SAMPLES))
        one_time = {name for name, sample in names.items() if "cronSchedule" not in sample["spec"]}
        cron = names.keys() - one_time
        assert one_time
        assert cron

        def are_done() -> bool:
            now = statuses()
            return all(
                now.get(name, {}).get("state") in ("Succeeded", "Failed", "Cancelled") for name in one_time
            ) and all(now.get(name, {}).get("lastRun") for name in cron)

        wait_until(are_done, 60, "the samples did not end")
        states = statuses()
        for name in one_time:
            expected = names[name]["metadata"].get("annotations", {}).get(EXPECTED, "Succeeded")
            assert states[name]["state"] == expected, states[name]
        for name in cron:
            assert states[name]["state"] in ("Scheduled", "Running")
            assert states[name]["nextDue"]

        later = {
            "apiVersion": "quickdapp.xyz/v1",
            "kind": "WorkerJob",
            "metadata": {"name": "much-later", "namespace": namespace},
            "spec": {"type": "countPrimes", "due": "2040-01-01T00:00:00Z"},
        }
        cluster.kubectl("apply", "-f", "-", input=json.dumps(later))
        wait_until(lambda: statuses().get("much-later", {}).get("state") == "Pending", 10, "it was not mirrored")
        cluster.kubectl("delete", "workerjob", "much-later", "-n", namespace)
        with psycopg.connect(database_url, autocommit=True) as connection:
            query = """select success from "workerJobs" where "resourceName" = 'much-later' and finished is not null"""
            cancelled = wait_until(lambda: connection.execute(query).fetchall(), 2, "not cancelled within 2 s")
        assert cancelled == [(False,)]
    assert "Traceback" not in operator_log.read_text()


@pytest.mark.slow
def test_demo_runs_the_samples_and_leaves_nothing(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("WORKER_", "DATABASE_"))}
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "workerjobs", "dev", "--ephemeral", "--until-done"),
            *("--filename", str(SAMPLES), "--jobs", "workerjobs.jobs.samples"),
        ],
        env={**variables, "WORKER_HEALTH_PORT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "All jobs" in ended.stdout
    assert ended.stdout.count("every-ten-seconds") >= 3
    assert "Traceback" not in ended.stdout
