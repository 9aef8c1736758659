"""Running the command line: in this process, which is a hundred times faster, or as users do, as a process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any
from unittest import mock

from workerjobs.cli import main

_ONE = threading.Lock()
"""Environment and streams are the whole process's."""
ROLES = ("dev", "worker", "operator", "server")


def environment(database_url: str | None, **variables: str) -> dict[str, str]:
    """The test's environment with WorkerJobs' own variables replaced."""
    ours = ("WORKER_", "DATABASE_", "WORKERJOBS_SERVER", "WORKERJOBS_TOKEN")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    if database_url is not None:
        kept["DATABASE_URL"] = database_url
    return {**kept, "WORKER_HEALTH_PORT": "off", **variables}


def workerjobs(
    *arguments: str,
    database_url: str | None,
    input: str | None = None,  # noqa: A002  # subprocess's name for it
    variables: dict[str, str] | None = None,
    as_process: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `workerjobs` with arguments to its end; roles as processes, other commands in this one, if not said."""
    given = environment(database_url, **(variables or {}))
    if not as_process and not _needs_process(arguments):
        return _run_here(arguments, given, input)
    return subprocess.run(
        [sys.executable, "-m", "workerjobs", *arguments],
        env=given,
        input=input,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _needs_process(arguments: Sequence[str]) -> bool:
    """Whether a command takes signals, or imports modules of users, which would stay."""
    imports = {"--jobs", "-j"} & set(arguments) or (arguments[:1] == ("types",) and "--live" not in arguments)
    return bool(imports or set(ROLES) & set(arguments[:1]))


def _run_here(
    arguments: Sequence[str], variables: dict[str, str], given: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, with an environment and streams of its own."""
    assert _ONE.acquire(blocking=False), "commands of one process run one at a time: use as_process"
    output, errors, codes = io.StringIO(), io.StringIO(), []

    def run() -> None:
        try:
            codes.append(main(arguments))
        except SystemExit as end:
            codes.append(end.code if isinstance(end.code, int) else int(end.code is not None))

    with (
        contextlib.ExitStack() as stack,
        mock.patch.dict(os.environ, variables, clear=True),
        mock.patch.object(sys, "stdin", io.StringIO(given or "")),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        stack.callback(_ONE.release)
        # In a thread, as the test may have an event loop that runs.
        thread = threading.Thread(target=run, name="workerjobs")
        thread.start()
        thread.join()
    assert codes, errors.getvalue()
    return subprocess.CompletedProcess(["workerjobs", *arguments], codes[0], output.getvalue(), errors.getvalue())


def workerjobs_json(*arguments: str, database_url: str | None, variables: dict[str, str] | None = None) -> Any:
    """Run a command with ``-o json`` and read what it prints."""
    ended = workerjobs(*arguments, "-o", "json", database_url=database_url, variables=variables)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
