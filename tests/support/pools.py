"""WorkerPools as users handle them, and what a kubelet and a worker would say, for a cluster without nodes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.support.cluster.controlplane import Cluster
from tests.support.operators import eventually
from tests.support.table import sql


def workerpool(name: str = "default", spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """A manifest; without a spec one with nothing but defaults."""
    return {"apiVersion": "quickdapp.xyz/v1", "kind": "WorkerPool", "metadata": {"name": name}, "spec": spec or {}}


@dataclass(frozen=True)
class WorkerPools:
    """The WorkerPools of one namespace."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str, **options: Any) -> Any:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, **options)

    def apply(self, name: str = "default", **spec: Any) -> None:
        """Apply a pool."""
        self.kubectl("apply", "-f", "-", input=json.dumps(workerpool(name, spec)))

    def patch(self, name: str = "default", **spec: Any) -> None:
        """Change some fields of a pool's spec."""
        self.kubectl("patch", f"workerpool/{name}", "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    def read(self, kind: str, name: str) -> dict[str, Any]:
        """Read any object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json").stdout)
        return found

    def _read(self, path: str, group: str = "") -> dict[str, Any]:
        """Read a path of the namespace in a group of the API; empty where nothing is there."""
        return self.cluster.read(f"/{f'apis/{group}' if group else 'api'}/v1/namespaces/{self.namespace}/{path}") or {}

    def status(self, name: str = "default") -> dict[str, Any]:
        """Read a pool's status; empty while there is none."""
        return dict(self._read(f"workerpools/{name}", "quickdapp.xyz").get("status", {}))

    def deployment(self, name: str = "default") -> dict[str, Any]:
        """Read a pool's Deployment; empty while there is none."""
        return self._read(f"deployments/workerjobs-pool-{name}", "apps")

    def replicas(self, name: str = "default") -> int | None:
        """Replicas of a pool's Deployment; None while there is none."""
        replicas: int | None = self.deployment(name).get("spec", {}).get("replicas")
        return replicas

    def wait_for_replicas(self, wanted: int, name: str = "default") -> None:
        """Wait until the Deployment has so many."""
        eventually(lambda: self.replicas(name) == wanted)

    def wait_for_status(self, name: str = "default", **wanted: Any) -> dict[str, Any]:
        """Wait until the status says something; returns it."""

        def look() -> dict[str, Any] | None:
            status = self.status(name)
            return status if all(status.get(key) == value for key, value in wanted.items()) else None

        return eventually(look) or {}

    def condition(self, kind: str, name: str = "default") -> dict[str, Any]:
        """Read a condition of a pool; empty while there is none."""
        return next((each for each in self.status(name).get("conditions", []) if each["type"] == kind), {})

    def events(self, name: str = "default") -> set[tuple[str, str, str]]:
        """Read type, reason and note of a pool's Events."""
        selector = quote(f"involvedObject.kind=WorkerPool,involvedObject.name={name}")
        items = self._read(f"events?fieldSelector={selector}")["items"]
        return {(each["type"], each["reason"], each["message"]) for each in items}

    def pods(self, name: str = "default") -> list[dict[str, Any]]:
        """Read a pool's pods that are not being deleted, by name."""
        items = self._read(f"pods?labelSelector={quote(f'quickdapp.xyz/pool={name}')}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def wait_for_pods(self, count: int, name: str = "default") -> list[dict[str, Any]]:
        """Wait until the controllers have made so many pods, or left so many."""

        def look() -> tuple[list[dict[str, Any]]] | None:
            pods = self.pods(name)
            return (pods,) if len(pods) == count else None

        (pods,) = eventually(look) or ([],)
        return pods

    def make_ready(self, pod: dict[str, Any]) -> None:
        """Say of a pod what its kubelet would once it is ready."""
        name = pod["metadata"]["name"]
        # On no node: a pod on one that does not exist is removed, and one that no kubelet serves becomes unready.
        conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "PodScheduled")]
        status = {"status": {"phase": "Running", "conditions": conditions}}
        self.kubectl("patch", f"pod/{name}", "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")


def show_worker(
    database_url: str,
    pod: dict[str, Any],
    *,
    pool: str = "default",
    running: int = 0,
    job_type: str = "report",
    boot: str = "boot",
) -> str:
    """Say in the tables what a pod's worker would: that it lives, and holds jobs; returns its owner."""
    uid = pod["metadata"]["uid"]
    owner = f"{uid}/{boot}"
    sql(
        database_url,
        """
        insert into "workerJobWorkers" (owner, pool, host, pid, version, children, "podUid", "seenAt")
        values (%s, %s, %s, 1, '1', 1, %s, now() + interval '1 hour') on conflict do nothing
        """,
        owner,
        pool,
        pod["metadata"]["name"],
        uid,
    )
    sql(
        database_url,
        """
        insert into "workerJobs" (type, pool, started, "leaseOwner", "leaseDeadline", "fencingToken")
        select %s, %s, now(), %s, now() + interval '1 hour', nextval('workerjobs.fencing_token')
        from generate_series(1, %s)
        """,
        job_type,
        pool,
        owner,
        running,
    )
    return owner


def finish_jobs(database_url: str, owner: str) -> None:
    """End what a worker holds."""
    sql(
        database_url,
        """
        update "workerJobs" set finished = now(), success = true, "leaseDeadline" = null
        where "leaseOwner" = %s and finished is null
        """,
        owner,
    )


def obey(database_url: str) -> None:
    """Let all workers say that they drain where they are asked to, as they do themselves."""
    sql(database_url, """update "workerJobWorkers" set "isDraining" = "drainReasons" <> '{}'""")


def drain_reasons(database_url: str) -> dict[str, list[str]]:
    """What workers are asked to drain for, by owner."""
    return dict(sql(database_url, 'select owner, "drainReasons" from "workerJobWorkers"'))
