"""Jobs whose every run leaves a row in the table ``effects``."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from workerjobs import JobContext, job

WAIT_SECONDS = 60.0
"""How long a run waits for a server that is being started again."""

_connection: psycopg.Connection[Any] | None = None


def note_run(context: JobContext) -> None:
    """Insert this run, over a connection that the child keeps for its next jobs."""
    global _connection
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            if _connection is None or _connection.closed or _connection.broken:
                _connection = psycopg.connect(context.database_url or "", autocommit=True, connect_timeout=5)
            # An answer that was lost is asked for again; a second run under one token would have another pid.
            _connection.execute(
                "insert into effects (job_id, token, pid) values (%s, %s, pg_backend_pid()) on conflict do nothing",
                [context.job_id, context.fencing_token],
            )
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@job("effect")
def effect(data: dict[str, Any], context: JobContext) -> int:
    """Leave a trace, take a while, and return the number that was given."""
    note_run(context)
    time.sleep(data["milliseconds"] / 1000)
    number: int = data["n"]
    return number
