"""A WorkerPool on a real node, and the traces of the jobs that its pods run."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.support.cluster.controlplane import Cluster
from tests.support.cluster.installation import JOB_FILES, NAMESPACE
from tests.support.operators import eventually
from tests.support.table import sql

READY_SECONDS = 50
"""Until pods have come or gone, on a machine that does much else."""
_TRACES = """
create table if not exists traces (
    job_id bigint, token bigint, pod text, began timestamptz default clock_timestamp(), ended timestamptz,
    primary key (job_id, token)
)
"""


@dataclass(frozen=True)
class Trace:
    """One run of a job."""

    pod: str
    began: datetime
    ended: datetime | None
    """None: it did not come to its end."""


@dataclass(frozen=True)
class PodPool:
    """A WorkerPool whose workers know the job ``traced``."""

    cluster: Cluster
    database_url: str
    name: str

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Run kubectl in its namespace; returns what it printed."""
        return self.cluster.kubectl(f"--namespace={NAMESPACE}", *arguments, **options).stdout

    def change(self, **spec: Any) -> None:
        """Change some fields of its spec; None removes one."""
        self.kubectl("patch", f"workerpool/{self.name}", "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    def wait(self, **status: Any) -> None:
        """Wait until its status has these values, one after the other."""
        for field, value in status.items():
            waited = self.cluster.kubectl(
                *("wait", f"workerpool/{self.name}", f"--namespace={NAMESPACE}", f"--timeout={READY_SECONDS}s"),
                f"--for=jsonpath={{.status.{field}}}={value}",
                check=False,
            )
            assert waited.returncode == 0, f"{field} is not {value}: {self.status()}\n{self.kubectl('get', 'pods')}"

    def status(self) -> dict[str, Any]:
        """Read its status."""
        read: dict[str, Any] = json.loads(self.kubectl("get", "workerpool", self.name, "--output=json"))
        return dict(read.get("status", {}))

    def pods(self) -> list[dict[str, Any]]:
        """Read its pods, without those that are being deleted."""
        read = self.kubectl("get", "pods", f"--selector=quickdapp.xyz/pool={self.name}", "--output=json")
        return [each for each in json.loads(read)["items"] if "deletionTimestamp" not in each["metadata"]]

    def pod(self, name: str) -> dict[str, Any]:
        """Read one pod."""
        read: dict[str, Any] = json.loads(self.kubectl("get", "pod", name, "--output=json"))
        return read

    def submit(self, seconds: float) -> int:
        """Submit a job that takes so long; returns its id."""
        statement = "select workerjobs.submit('traced', %s::json, pool => %s)"
        ((job_id,),) = sql(self.database_url, statement, json.dumps({"seconds": seconds}), self.name)
        return int(job_id)

    def traces(self, job_id: int) -> list[Trace]:
        """Read the runs of a job, in their order."""
        statement = "select pod, began, ended from traces where job_id = %s order by token"
        return [Trace(*each) for each in sql(self.database_url, statement, job_id)]

    def wait_for_run(self, job_id: int, number: int = 1) -> Trace:
        """Wait until a run of a job has begun: the first, the second, …"""
        runs = eventually(lambda: found if len(found := self.traces(job_id)) >= number else None, every=0.1)
        assert runs is not None
        return runs[number - 1]

    def wait_for_end(self, job_id: int) -> dict[str, Any]:
        """Wait until a job is finished; returns what its row says of its end."""
        names = ("success", "result", "attempt", "rescues", "lostReason")
        columns = ", ".join(f'"{name}"' for name in names)
        rows = eventually(
            lambda: sql(
                self.database_url,
                f'select {columns} from "workerJobs" where id = %s and finished is not null',
                job_id,
            ),
            every=0.1,
        )
        return dict(zip(names, rows[0], strict=True))


@contextlib.contextmanager
def pod_pool(cluster: Cluster, database_url: str, **spec: Any) -> Iterator[PodPool]:
    """Make a pool of small pods; it is removed at the end, with all that runs in it.

    Args:
        cluster: A node's.
        database_url: Of its workers.
        spec: The WorkerPool's, beside what makes the pods small and gives them the job; None leaves a field out.
    """
    sql(database_url, _TRACES)
    pool = PodPool(cluster, database_url, f"own-{uuid.uuid4().hex[:8]}")
    resources = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    template = {"spec": {"containers": [{"name": "worker", "resources": resources}]}}
    manifest = {
        "apiVersion": "quickdapp.xyz/v1",
        "kind": "WorkerPool",
        "metadata": {"name": pool.name},
        "spec": {
            name: value
            for name, value in {"jobsConfigMap": JOB_FILES, "template": template, **spec}.items()
            if value is not None
        },
    }
    pool.kubectl("apply", "--filename=-", input=json.dumps(manifest))
    try:
        yield pool
    finally:
        pool.kubectl("delete", "workerpool", pool.name, "--ignore-not-found")
        # Not to wait for jobs that nobody asks for any more.
        selector = f"--selector=quickdapp.xyz/pool={pool.name}"
        pool.kubectl("delete", "pods", selector, "--force", "--grace-period=0", "--wait=false", check=False)
