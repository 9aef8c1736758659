"""When the API server told that a pod's container was lost: the moment from which the operator can see it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from tests.support.cluster.controlplane import Cluster, kubectl_program
from tests.support.operators import eventually

_WATCH_SECONDS = 180


@contextlib.contextmanager
def watching_loss(cluster: Cluster, namespace: str, pod: str) -> Iterator[Callable[[], datetime]]:
    """Watch a pod whose container runs; gives what waits for the moment at which its end was told.

    That is an event by which the container does not run any more, or another one does in its place, or by which the
    pod is gone. The moment is this machine's.
    """
    query = f"watch=1&fieldSelector=metadata.name%3D{pod}&timeoutSeconds={_WATCH_SECONDS}"
    process = subprocess.Popen(
        [kubectl_program(), "get", "--raw", f"/api/v1/namespaces/{namespace}/pods?{query}"],
        env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = process.stdout
    lost: list[datetime] = []
    try:
        # What is there already: now it watches.
        container = _running(json.loads(lines.readline()))
        assert container is not None, f"the container of {pod} does not run"

        def read() -> None:
            for line in lines:
                told = datetime.now(UTC)
                if _running(json.loads(line)) != container:
                    lost.append(told)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield lambda: eventually(lambda: lost[:1], every=0.1)[0]
    finally:
        process.terminate()
        process.wait()
    reader.join()
    lines.close()


def _running(event: dict[str, Any]) -> str | None:
    """Which container a pod has that runs, by an event of a watch; None: none."""
    statuses = event["object"].get("status", {}).get("containerStatuses", [])
    if event["type"] == "DELETED" or not statuses or "running" not in statuses[0]["state"]:
        return None
    # Each start of a container gives it another id.
    return f"{statuses[0].get('containerID')} {statuses[0]['restartCount']}"
