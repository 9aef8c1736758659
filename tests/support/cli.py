"""Running the command line as users do: as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def environment(database_url: str | None, **variables: str) -> dict[str, str]:
    """The test's environment with WorkerJobs' own variables replaced."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WORKER_", "DATABASE_"))}
    if database_url is not None:
        kept["DATABASE_URL"] = database_url
    return {**kept, "WORKER_HEALTH_PORT": "off", **variables}


def workerjobs(
    *arguments: str,
    database_url: str | None,
    input: str | None = None,  # noqa: A002  # subprocess's name for it
    variables: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `workerjobs` with arguments to its end."""
    return subprocess.run(
        [sys.executable, "-m", "workerjobs", *arguments],
        env=environment(database_url, **(variables or {})),
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def workerjobs_json(*arguments: str, database_url: str) -> Any:
    """Run a command with ``-o json`` and read what it prints."""
    ended = workerjobs(*arguments, "-o", "json", database_url=database_url)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
