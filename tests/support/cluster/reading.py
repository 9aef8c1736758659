"""Reading objects of a cluster without a process for each look: kubectl takes a tenth of a second of a CPU to start."""

from __future__ import annotations

import base64
import functools
import http
import http.client
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

_SECONDS = 60


def read(kubeconfig: Path, path: str) -> dict[str, Any] | None:
    """Read a path of the API, such as ``/api/v1/nodes``; None where nothing is there.

    Args:
        kubeconfig: With one cluster and one user, who has a client certificate; all of them in the file.
        path: With its query.

    Raises:
        AssertionError: The API server refuses it.
    """
    server, context = _server(kubeconfig, kubeconfig.stat().st_mtime_ns)
    # http.client asks no proxy, whatever the environment says.
    connection = http.client.HTTPSConnection(server, timeout=_SECONDS, context=context)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status == http.HTTPStatus.NOT_FOUND:
        return None
    assert answer.status == http.HTTPStatus.OK, f"GET {path}: {body}"
    return dict(body)


def can_read(kubeconfig: Path) -> bool:
    """Whether a kubeconfig is one that `read` understands, as those of the test clusters are."""
    config = _config(kubeconfig, kubeconfig.stat().st_mtime_ns)
    clusters, users = config.get("clusters", []), config.get("users", [])
    return (
        len(clusters) == len(users) == 1
        and "certificate-authority-data" in clusters[0]["cluster"]
        and {"client-certificate-data", "client-key-data"} <= users[0]["user"].keys()
    )


@functools.cache
def _config(kubeconfig: Path, _changed: int) -> dict[str, Any]:
    return dict(yaml.safe_load(kubeconfig.read_text(encoding="utf-8")))


@functools.cache
def _server(kubeconfig: Path, changed: int) -> tuple[str, ssl.SSLContext]:
    """Where the API server is, and how it is spoken to."""
    config = _config(kubeconfig, changed)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\n".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
        file.flush()
        context.load_cert_chain(file.name)
    return urlsplit(cluster["server"]).netloc, context
