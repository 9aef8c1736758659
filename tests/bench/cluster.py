"""100 WorkerJobs against 100 Jobs of Kubernetes' own: ``python -m tests.bench.cluster`` with `make cluster` up.

Both are applied at once by kubectl, on one node, and do next to nothing. What counts is how long it takes from the
start of `kubectl apply` until a watcher has seen the last of them succeed, and how long that is after apply returned.
WorkerJobs go to a pool of an installation's usual size; Jobs are pods of the same image, which the node has.
Aims (design): at least ten times as fast, the last one at most 0.5 s after apply returned.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.cluster import demo
from tests.support.cluster.controlplane import Cluster, kubectl_program
from tests.support.cluster.installation import NAMESPACE, WORKERS

PATIENCE_SECONDS = 300
LABEL = "bench=cluster"
_LABELS = {"bench": "cluster"}
_DONE = '{.metadata.name}{" "}{.status.conditions[?(@.type=="Complete")].status}{"\\n"}'


def workerjob(name: str) -> dict[str, Any]:
    """A job of a sample type, in one of the pool's children."""
    return {
        "apiVersion": "quickdapp.xyz/v1",
        "kind": "WorkerJob",
        "metadata": {"name": name, "labels": _LABELS},
        "spec": {"type": "countPrimes", "data": {"upTo": 10}},
    }


def batch_job(name: str, image: str) -> dict[str, Any]:
    """A pod of its own, that does nothing."""
    container = {"name": "job", "image": image, "command": ["python3", "-c", "pass"]}
    pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": _LABELS},
        "spec": {"template": {"metadata": {"labels": _LABELS}, "spec": pod}},
    }


def run(cluster: Cluster, kind: str, manifests: list[dict[str, Any]]) -> dict[str, float]:
    """Apply them and watch them succeed; returns seconds since the start of apply, and of apply alone."""
    names = {each["metadata"]["name"] for each in manifests}
    seen: dict[str, float] = {}
    complete = threading.Event()
    watch = subprocess.Popen(
        [kubectl_program(), "get", kind, f"--selector={LABEL}", "--watch", f"--output=jsonpath={_DONE}"],
        env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )

    def follow() -> None:
        assert watch.stdout is not None
        for line in watch.stdout:
            name, _, status = line.strip().partition(" ")
            if status == "True" and name in names:
                seen.setdefault(name, time.monotonic())
            if len(seen) == len(names):
                complete.set()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        time.sleep(2)  # until it watches
        text = "\n---\n".join(json.dumps(each) for each in manifests)
        began = time.monotonic()
        cluster.kubectl("apply", "--filename=-", input=text)
        applied = time.monotonic()
        if not complete.wait(PATIENCE_SECONDS):
            raise TimeoutError(f"{len(seen)} of {len(names)} {kind} succeeded in {PATIENCE_SECONDS} s")
    finally:
        watch.terminate()
        watch.wait()
        cluster.kubectl("delete", kind, f"--selector={LABEL}", "--wait=false")
        # Pods that end would slow down what comes next.
        _wait_until(lambda: not cluster.kubectl("get", f"{kind},pods", f"--selector={LABEL}", "--output=name").stdout)
    last = max(seen.values())
    return {"apply": applied - began, "all": last - began, "after apply": last - applied}


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("what was applied does not go")
        time.sleep(0.5)


def main() -> int:
    """Measure both in turns, and print medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster", description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    cluster = Cluster(demo.directory() / "kubeconfig")
    image = cluster.kubectl(
        "get", "deployment", WORKERS, f"--namespace={NAMESPACE}",
        "--output=jsonpath={.spec.template.spec.containers[0].image}",
    ).stdout  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {"workerjobs.quickdapp.xyz": [], "jobs.batch": []}
    for number in range(arguments.runs):
        for kind, runs in found.items():
            names = [f"bench-{number}-{index:03}" for index in range(arguments.count)]
            made = [workerjob(each) if kind.startswith("worker") else batch_job(each, image) for each in names]
            runs.append({"load": os.getloadavg()[0], **run(cluster, kind, made)})
            print(f"{kind}: {json.dumps({name: round(value, 2) for name, value in runs[-1].items()})}", flush=True)
    medians = {
        kind: {name: statistics.median(each[name] for each in runs) for name in runs[0]} for kind, runs in found.items()
    }
    ours, theirs = medians.values()
    print(f"{arguments.count} each, medians of {arguments.runs}, {os.cpu_count()} CPUs")
    print(f"WorkerJobs: {ours['all']:.2f} s, {ours['after apply']:.2f} s after apply (load {ours['load']:.1f})")
    print(f"Jobs: {theirs['all']:.2f} s, {theirs['after apply']:.2f} s after apply (load {theirs['load']:.1f})")
    print(f"{theirs['all'] / ours['all']:.1f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
