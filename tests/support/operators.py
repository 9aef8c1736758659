"""Operators as processes, and WorkerJobs as users handle them: with kubectl, in the test's own namespace."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.support.cli import environment
from tests.support.cluster.controlplane import Cluster
from tests.support.ports import free_port

T = TypeVar("T")

PATIENCE_SECONDS = 80.0
"""Nothing here takes so long, but on a machine that does much else."""

MANIFESTS = Path(__file__).parents[2] / "manifests"


def eventually(look: Callable[[], T], *, seconds: float = PATIENCE_SECONDS, every: float = 0.1) -> T:
    """Wait until a look gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(every)
    return found


def workerjob(name: str, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """A manifest; without a spec one that no worker is there for."""
    return {
        "apiVersion": "quickdapp.xyz/v1",
        "kind": "WorkerJob",
        "metadata": {"name": name, **metadata},
        "spec": spec or {"type": "report"},
    }


def install_definition(cluster: Cluster) -> None:
    """Make WorkerJobs and WorkerPools known to a cluster; harmless where they are."""
    # Several test processes may do so at once, of which kubectl lets one.
    eventually(lambda: cluster.kubectl("apply", "-f", str(MANIFESTS / "crds"), check=False).returncode == 0)
    for plural in ("workerjobs", "workerpools"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{plural}.quickdapp.xyz", "--timeout=60s")
    eventually(lambda: cluster.kubectl("get", "workerjobs,workerpools", check=False).returncode == 0)


def kubeconfig_with_token(cluster: Cluster, token: str, file: Path) -> Path:
    """Write a kubeconfig that knows the cluster's address, and a token in place of the administrator's certificate."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--output=json").stdout)
    config["users"][0]["user"] = {"token": token}
    file.write_text(json.dumps(config))
    return file


class Proxy:
    """A way to the API server that can be cut: a TCP proxy, so that the certificates stay the API server's."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--output=json").stdout)
        server = config["clusters"][0]["cluster"]
        url = urlsplit(server["server"])
        self._target = (url.hostname, url.port)
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._port = free_port()
        self.restore()
        server["server"] = f"https://127.0.0.1:{self._port}"
        self.kubeconfig = folder / "proxied"
        self.kubeconfig.write_text(json.dumps(config))

    def restore(self) -> None:
        """Let connections through."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing alone would leave the thread in accept, and the port open.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            # Before anything else can be done with it: it may be cut at once.
            self._open.add(near)
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            self._open.add(far)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=[source, sink], daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with source, contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self._open.discard(source)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class WorkerJobs:
    """The WorkerJobs of one namespace."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, **options)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests at once."""
        documents = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "-f", "-", input=json.dumps(documents))

    def delete(self, *names: str) -> None:
        """Delete WorkerJobs, and do not wait for anything but the API server."""
        self.kubectl("delete", "workerjob", *names, "--wait=false")

    def get(self, name: str) -> dict[str, Any]:
        """Read one."""
        found = self.cluster.read(f"{self._path}/{name}")
        assert found is not None, f"there is no WorkerJob {name}"
        return found

    def all(self) -> list[dict[str, Any]]:
        """Read all."""
        return list((self.cluster.read(self._path) or {})["items"])

    @property
    def _path(self) -> str:
        return f"/apis/quickdapp.xyz/v1/namespaces/{self.namespace}/workerjobs"

    def status(self, name: str) -> dict[str, Any]:
        """Read the status of one; empty while there is none."""
        status: dict[str, Any] = self.get(name).get("status", {})
        return status

    def uid(self, name: str) -> str:
        """Read the uid of one."""
        return str(self.get(name)["metadata"]["uid"])

    def states(self) -> dict[str, str | None]:
        """Read the state of each."""
        return {each["metadata"]["name"]: each.get("status", {}).get("state") for each in self.all()}

    def wait(self, name: str, state: str, *, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until one has a state; returns its status."""
        condition = f"--for=jsonpath={{.status.state}}={state}"
        self.kubectl("wait", condition, f"workerjob/{name}", f"--timeout={seconds}s")
        return self.status(name)

    def condition(self, name: str, kind: str) -> dict[str, str]:
        """Read one condition of one."""
        (found,) = [each for each in self.status(name)["conditions"] if each["type"] == kind]
        return dict(found)


@dataclass
class Operator:
    """`workerjobs operator` as a process."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> list[dict[str, Any]]:
        """What it logged; lines that are no JSON, such as tracebacks of a crash, fail the test."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def complaints(self) -> list[str]:
        """What it warned of."""
        return [each["message"] for each in self.said() if each["level"] not in ("info", "debug")]

    def wait_until_watching(self) -> None:
        """Wait until it has begun, as it says itself."""
        eventually(lambda: any("watches" in each["message"] for each in self.said()))

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as Kubernetes does, with SIGTERM."""
        self.process.terminate()
        assert self.wait() == 0, self.log.read_text()

    def wait(self) -> int:
        """Wait until it has ended; returns its exit code."""
        return self.process.wait(PATIENCE_SECONDS)


class Operators:
    """Starts operators for one test, and ends those that are left."""

    def __init__(self, folder: Path, kubeconfig: Path, database_url: str, namespaces: str, **variables: str) -> None:
        self._folder = folder
        self._database_url = database_url
        self._variables = {"KUBECONFIG": str(kubeconfig), "WORKERJOBS_NAMESPACES": namespaces} | variables
        self._running: list[Operator] = []

    def start(self, **variables: str) -> Operator:
        """Start one; variables replace those of the namespace and the cluster."""
        log = self._folder / f"operator-{len(self._running)}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "workerjobs", "operator"],
                env=environment(self._database_url, **self._variables | variables),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self._running.append(Operator(process, log))
        return self._running[-1]

    def close(self) -> None:
        """End what is left."""
        for operator in self._running:
            with contextlib.suppress(ProcessLookupError):
                operator.kill()


@contextlib.contextmanager
def operators(
    folder: Path, kubeconfig: Path, database_url: str, namespaces: str, **variables: str
) -> Iterator[Operators]:
    """Operators of one database and some namespaces, all gone at the end."""
    started = Operators(folder, kubeconfig, database_url, namespaces, **variables)
    try:
        yield started
    finally:
        started.close()
