"""10,000 WorkerJobs: how fast they are mirrored, how late a status is, what a restart and the memory cost.

    python -m tests.bench.resources [--count 10000] [--output FILE]

Starts a control plane (etcd, API server, controller manager) and a Postgres of its own; everything shares this machine.
Aims (design): mirrored at 300/s or more, 99 % of statuses within 1 s at 50 changes a second, a restart within 60 s, at
most 300 MB.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.support.cli import environment
from tests.support.cluster.controlplane import Cluster, shared_cluster
from tests.support.operators import install_definition, workerjob
from workerjobs.storage.embedded import EmbeddedPostgres
from workerjobs.storage.migrate import migrate_url

NAMESPACE = "default"
PATH = f"/apis/quickdapp.xyz/v1/namespaces/{NAMESPACE}/workerjobs"
CLIENTS = 8
CHANGES_PER_SECOND = 50
CHANGE_SECONDS = 30
END = """
update "workerJobs" set started = now(), finished = now(), success = true, "updatedAt" = now() where "resourceName" = %s
"""


class Api:
    """The API server, over one connection a thread."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--output=json").stdout)
        given, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        for name, data in (
            ("ca", given["certificate-authority-data"]),
            ("certificate", user["client-certificate-data"]),
            ("key", user["client-key-data"]),
        ):
            (folder / name).write_bytes(base64.b64decode(data))
        self._context = ssl.create_default_context(cafile=str(folder / "ca"))
        self._context.load_cert_chain(folder / "certificate", folder / "key")
        self._server = urlsplit(given["server"])
        self._local = threading.local()

    def open(self) -> HTTPSConnection:
        """A new connection."""
        assert self._server.hostname is not None
        return HTTPSConnection(self._server.hostname, self._server.port, context=self._context)

    def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """One request."""
        text = None if body is None else json.dumps(body)
        for _ in range(2):
            if not hasattr(self._local, "connection"):
                self._local.connection = self.open()
            connection: HTTPSConnection = self._local.connection
            try:
                connection.request(method, path, text, {"Content-Type": content_type})
                response = connection.getresponse()
                data = response.read()
                break
            except OSError:
                # The server ends connections that were idle for long.
                del self._local.connection
        assert response.status < 300, (response.status, data[:500])
        return json.loads(data)

    def watch(self, on_event: Callable[[dict[str, Any]], None], stop: threading.Event) -> threading.Thread:
        """Tell of each change from now on."""
        version = self.call("GET", f"{PATH}?limit=1")["metadata"]["resourceVersion"]

        def run() -> None:
            connection = self.open()
            connection.request("GET", f"{PATH}?watch=1&resourceVersion={version}")
            response = connection.getresponse()
            while not stop.is_set() and (line := response.readline()):
                on_event(json.loads(line))
            connection.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


@contextmanager
def operator(cluster: Cluster, url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The operator as a process; ended as Kubernetes does it."""
    variables = {"KUBECONFIG": str(cluster.kubeconfig), "WORKERJOBS_NAMESPACES": NAMESPACE}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workerjobs", "operator"],
            env=environment(url, **variables | {"WORKER_LOG_LEVEL": "info"}),
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def wait_for(look: Callable[[], bool], what: str, seconds: float = 600) -> float:
    """Wait until a look says yes; returns how long that took."""
    began = time.monotonic()
    while not look():
        if time.monotonic() - began > seconds:
            raise TimeoutError(what)
        time.sleep(0.05)
    return time.monotonic() - began


def memory(pid: int) -> dict[str, float]:
    """What a process takes now and took at most, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {name: int(values[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM")}


def cpu_seconds(pid: int) -> float:
    """What a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], part: float) -> float:
    """The value that a part of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def measure(count: int, folder: Path) -> dict[str, Any]:
    """Do all of it; returns the figures."""
    found: dict[str, Any] = {"resources": count, "load before": os.getloadavg()[0]}
    log = folder / "operator.log"
    with EmbeddedPostgres.ephemeral() as server, shared_cluster(folder / "cluster") as cluster:
        migrate_url(server.url)
        install_definition(cluster)
        api = Api(cluster, folder)
        names = [f"job-{number:05}" for number in range(count)]
        spec = {"type": "report", "due": "2040-01-01T00:00:00Z", "data": {"to": ["ada@example.org"], "page": 1}}
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda name: api.call("POST", PATH, workerjob(name, spec)), names))
        found["created/s"] = count / (time.monotonic() - began)
        print(f"created: {found['created/s']:.0f}/s", flush=True)

        told: set[str] = set()
        commits: dict[str, float] = {}
        delays: list[float] = []

        def on_event(event: dict[str, Any]) -> None:
            each = event["object"]
            name, status = each["metadata"]["name"], each.get("status", {})
            if status.get("state"):
                told.add(name)
            if status.get("state") == "Succeeded" and (committed := commits.pop(name, None)) is not None:
                delays.append(time.monotonic() - committed)

        stop = threading.Event()
        api.watch(on_event, stop)
        with psycopg.connect(server.url, autocommit=True) as connection:

            def rows() -> int:
                row = connection.execute('select count(*) from "workerJobs"').fetchone()
                assert row is not None
                return int(row[0])

            with operator(cluster, server.url, log) as process:
                wait_for(lambda: rows() > 0, "the first row")
                began, used = time.monotonic(), cpu_seconds(process.pid)
                wait_for(lambda: rows() == count, "all rows")
                found["rows/s"] = count / (time.monotonic() - began)
                wait_for(lambda: len(told) == count, "all statuses")
                found["rows and statuses/s"] = count / (time.monotonic() - began)
                found["operator CPU ms a resource"] = (cpu_seconds(process.pid) - used) * 1000 / count
                found["memory after that"] = memory(process.pid)
                print(json.dumps(found), flush=True)

                # Changes in the table, as workers make them: each one is a status.
                began = time.monotonic()
                for number in range(CHANGES_PER_SECOND * CHANGE_SECONDS):
                    time.sleep(max(0.0, began + number / CHANGES_PER_SECOND - time.monotonic()))
                    name = names[number * 7 % count]
                    commits[name] = time.monotonic()
                    connection.execute(END, [name])
                wait_for(lambda: not commits, "the last statuses", 60)
                found["status delay p50, p99, most"] = [percentile(delays, part) for part in (0.5, 0.99, 1.0)]
                print(json.dumps(found), flush=True)

            # While it is away one is changed; another one after it is back.
            api.call("PATCH", f"{PATH}/{names[-1]}", {"spec": {"priority": 1}}, "application/merge-patch+json")
            began = time.monotonic()
            with operator(cluster, server.url, log) as process:
                wait_for(
                    lambda: api.call("GET", f"{PATH}/{names[-1]}")["status"]["observedGeneration"] == 2,
                    "what changed meanwhile",
                )
                found["restart until all is seen, s"] = time.monotonic() - began
                api.call("POST", PATH, workerjob("after", spec))
                wait_for(lambda: "after" in told, "a new one")
                found["restart until a new one is mirrored, s"] = time.monotonic() - began
                found["memory after the restart"] = memory(process.pid)
        stop.set()
    found["load after"] = os.getloadavg()[0]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--output", type=Path, help="Write the figures here as JSON.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.count, Path(folder))
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
