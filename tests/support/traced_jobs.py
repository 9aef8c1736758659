"""Jobs for tests on a real node: one leaves a trace of each of its runs; pods get this file from a ConfigMap."""

import socket
import time
from typing import Any

from workerjobs import JobContext, job


@job("traced")
def traced(data: dict[str, Any], context: JobContext) -> str:
    """Take some seconds, and return the pod's name."""
    pod = socket.gethostname()
    context.connection.execute(
        "insert into traces (job_id, token, pod) values (%s, %s, %s)", [context.job_id, context.fencing_token, pod]
    )
    time.sleep(data["seconds"])
    context.connection.execute(
        "update traces set ended = clock_timestamp() where job_id = %s and token = %s",
        [context.job_id, context.fencing_token],
    )
    return pod


@job("computed")
def computed(data: dict[str, Any]) -> None:
    """Use a CPU for some seconds."""
    end = time.monotonic() + data["seconds"]
    while time.monotonic() < end:
        pass
