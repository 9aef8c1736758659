"""Jobs with values of Secrets and ConfigMaps (dataFrom), and a worker that may read these as one in a pod does."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.operators import MANIFESTS, WorkerJobs
from tests.support.workers import WorkerProcess, worker_process

ALLOWED = {"quickdapp.xyz/allow-jobs": "true"}
"""The label of Secrets that jobs may have."""


@asynccontextmanager
async def worker_in_cluster(
    jobs: WorkerJobs, folder: Path, url: str, *, may_read: bool = True, **more: str
) -> AsyncIterator[WorkerProcess]:
    """A worker with the token of a service account, as a pod has it."""
    jobs.kubectl("create", "serviceaccount", "worker")
    if may_read:
        # The rights of manifests/install, bound in the jobs' namespace as docs/kubernetes.md says.
        jobs.kubectl("apply", "-f", str(MANIFESTS / "install" / "10-rbac.yaml"), check=False)
        jobs.kubectl(
            "create",
            "rolebinding",
            "data",
            "--clusterrole=workerjobs-data",
            f"--serviceaccount={jobs.namespace}:worker",
        )
    account = folder / "account"
    account.mkdir()
    (account / "token").write_text(jobs.kubectl("create", "token", "worker").stdout)
    config = json.loads(jobs.kubectl("config", "view", "--raw", "--minify", "--output=json").stdout)
    cluster = config["clusters"][0]["cluster"]
    (account / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    server = urlsplit(cluster["server"])
    variables: Any = {
        "KUBERNETES_SERVICE_HOST": str(server.hostname),
        "KUBERNETES_SERVICE_PORT": str(server.port),
        "WORKERJOBS_SERVICE_ACCOUNT": str(account),
    } | more
    async with worker_process(url, folder, **variables) as running:
        yield running


def token_of(folder: Path) -> str:
    """The token of the worker in cluster."""
    return (folder / "account" / "token").read_text().strip()


def make_secret(jobs: WorkerJobs, name: str, labels: dict[str, str] | None = None, **values: str) -> None:
    """Make or change a Secret."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels},
        "stringData": values,
    }
    jobs.kubectl("apply", "-f", "-", input=json.dumps(manifest))


def reference(field: str, kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    """An entry of dataFrom."""
    return {"name": field, f"{kind}KeyRef": {"name": name, "key": key, **more}}
