"""What a job's ``dataFrom`` gives, from the Kubernetes API, by the token of the worker's service account.

A worker makes a few small requests for a job that asks for it: the standard library is enough for that, in a thread.
The operator's client (`workerjobs.kube.client`) would cost every worker some 30 MiB.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workerjobs.domain.data_from import Source, SourceKind, mismatch, parse_references, resolved_data
from workerjobs.domain.job import Job
from workerjobs.errors import ClusterError, ClusterUnavailableError, InvalidInputError
from workerjobs.kube.workerjob import GROUP, PLURAL, VERSION

TIMEOUT_SECONDS = 10.0
_PLURALS = {SourceKind.SECRET: "secrets", SourceKind.CONFIG_MAP: "configmaps"}


class ServiceAccountJobData:
    """A `workerjobs.ports.for_jobs.JobData` by a service account's token.

    Args:
        folder: Has ``token``, which is read anew each time, as Kubernetes renews it, and ``ca.crt``.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    async def resolve(self, job: Job) -> str:
        """See `workerjobs.ports.for_jobs.JobData.resolve`."""
        return await asyncio.to_thread(self._resolve, job)

    def _resolve(self, job: Job) -> str:
        given = json.loads(job.data_from_json or "[]")
        references = parse_references(given)
        if job.namespace is None or job.resource_name is None:
            raise InvalidInputError("the job belongs to no WorkerJob, whose namespace would have its values")
        namespace = f"namespaces/{quote(job.namespace, safe='')}"
        with _Api(self._folder) as api:
            resource = api.get(f"/apis/{GROUP}/{VERSION}/{namespace}/{PLURAL}/{quote(job.resource_name, safe='')}")
            row = {"uid": job.resource_uid, "type": job.type, "userId": job.user_id, "data": job.data}
            if resource is None:
                raise InvalidInputError(
                    f"the WorkerJob {job.namespace}/{job.resource_name} that it belongs to was deleted"
                )
            if problem := mismatch(row | {"dataFrom": given}, resource):
                raise InvalidInputError(problem)
            objects: dict[Source, Mapping[str, Any] | None] = {}
            for source in sorted({reference.source for reference in references}, key=str):
                objects[source] = api.get(f"/api/v1/{namespace}/{_PLURALS[source.kind]}/{quote(source.name, safe='')}")
        return resolved_data(job.data_json, references, objects)


class _Api:
    """One connection to the API server that this pod's cluster has."""

    def __init__(self, folder: Path) -> None:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise ClusterError("there is no Kubernetes cluster around this worker, which would have its values")
        try:
            self._token = (folder / "token").read_text(encoding="ascii").strip()
            context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        except OSError as error:
            raise ClusterError(
                f"this worker has no service account's token in {folder} ({error.strerror}): "
                "set automountServiceAccountToken, and give the account the rights"
            ) from error
        self._server = f"https://{host}:{port}"
        self._connection = http.client.HTTPSConnection(host, int(port), timeout=TIMEOUT_SECONDS, context=context)

    def __enter__(self) -> _Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str) -> Mapping[str, Any] | None:
        """Read one object; None where there is none."""
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self._token}"}
        try:
            self._connection.request("GET", path, headers=headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise ClusterUnavailableError(f"the Kubernetes API at {self._server} can't be reached: {reason}") from error
        try:
            found: dict[str, Any] = json.loads(body)
        except ValueError:
            found = {}
        if response.status == 200:
            return found
        if response.status == 404:
            return None
        said = f"{found.get('message') or response.reason} (HTTP status {response.status})"
        if response.status >= 500 or response.status == 429:
            raise ClusterUnavailableError(f"the Kubernetes API can't serve GET {path} now: {said}")
        raise ClusterError(f"the Kubernetes API refuses GET {path}: {said}")
