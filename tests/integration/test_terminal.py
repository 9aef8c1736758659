"""What people see on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import environment, workerjobs, workerjobs_json
from tests.support.table import sql
from tests.support.workers import JOBS
from workerjobs.storage.migrate import migrate_url

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self.shown = ""
        self._screen = screen

    def read(self, text: str, *, seconds: float = 60) -> None:
        """Wait until a text was shown."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read_on(0.1), self.shown

    def read_to_the_end(self, *, seconds: float = 60) -> int:
        """Wait until the command has ended; returns its exit code."""
        deadline = time.monotonic() + seconds
        while self._read_on(0.1):
            assert time.monotonic() < deadline, self.shown
        return self.process.wait(60)

    def _read_on(self, seconds: float) -> bool:
        if not select.select([self._screen], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self._screen, 65536)
        except OSError:  # Linux' way to say that nobody writes any more
            return False
        self.shown += piece.decode()
        return bool(piece)


@contextmanager
def on_terminal(*arguments: str, database_url: str | None, **variables: str) -> Iterator[Terminal]:
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "workerjobs", *arguments],
        env=environment(database_url, **{"TERM": "xterm", "COLUMNS": "140"} | variables),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        yield Terminal(process, screen)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(screen)


def test_log_is_for_people_on_a_terminal(database_url: str) -> None:
    variables = {"WORKER_COUNT": "1", "WORKER_JOB_MODULES": JOBS, "WORKER_BUILTIN_JOBS": "off"}
    with on_terminal("worker", database_url=database_url, **variables) as terminal:
        terminal.read("runs 1 children for pool default")
        workerjobs("submit", "raise", "--data", '{"what": "plain"}', "--wait", database_url=database_url)
        terminal.read("Traceback")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.read_to_the_end() == 0
    line = next(line for line in terminal.shown.splitlines() if "Failed: RuntimeError: no paper" in line)
    with pytest.raises(json.JSONDecodeError):
        json.loads(line)
    assert "job_type" in terminal.shown


def test_dev_stays_up_beside_other_commands_until_it_is_interrupted(empty_database_url: str) -> None:
    variables = {"WORKER_COUNT": "1"}
    arguments = ("dev", "--filename", str(SAMPLES / "count-primes.yaml"), "--jobs", "workerjobs.jobs.samples")
    with on_terminal(*arguments, database_url=empty_database_url, **variables) as terminal:
        terminal.read("workerjob/count-primes created")
        terminal.read("succeeded")
        waited = workerjobs(
            *("submit", "countPrimes", "--data", '{"upTo": 10}', "--wait"), database_url=empty_database_url
        )
        assert re.fullmatch(r'Job \d+ succeeded: {"upTo": 10, "primes": 4}\n', waited.stdout)
        jobs = workerjobs_json("list", database_url=empty_database_url)
        # The latter pends, unless the hour has just ended.
        assert {job["type"] for job in jobs} == {"countPrimes", "removeOldWorkerJobs"}
        assert {job["state"] for job in jobs if job["type"] == "countPrimes"} == {"succeeded"}
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.read_to_the_end() == 0
    assert "Traceback" not in terminal.shown
    assert migrate_url(empty_database_url) == []


def test_dev_until_done_shows_errors_above_its_table_and_ends_with_that_of_all_jobs(empty_database_url: str) -> None:
    manifests = [f"--filename={SAMPLES / name}" for name in ("count-primes.yaml", "failing.yaml")]
    arguments = ("dev", *manifests, "--jobs", "workerjobs.jobs.samples", "--until-done")
    with on_terminal(*arguments, database_url=empty_database_url, WORKER_COUNT="1") as terminal:
        assert terminal.read_to_the_end() == 0
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.shown))
    errors = [line for line in lines if "Failed: RuntimeError: attempt" in line]
    assert len(errors) == 2
    # Not at the end of the table's last line.
    assert all(re.match(r"\d\d:\d\d:\d\d", line) for line in errors), errors
    table = terminal.shown.partition("All jobs")[2]
    (line,) = [line for line in table.splitlines() if "count-primes" in line]
    assert "succeeded" in line
    assert '"primes": 17984' in line


def test_dev_until_done_gives_up_after_its_time_limit(empty_database_url: str, tmp_path: Path) -> None:
    manifest = (SAMPLES / "delayed.yaml").read_text().replace("2026-01-01", "2040-01-01")
    (tmp_path / "later.yaml").write_text(manifest)
    arguments = ("dev", "--filename", str(tmp_path), "--until-done", "--time-limit", "1", "--quiet")
    ended = workerjobs(*arguments, database_url=empty_database_url, variables={"WORKER_COUNT": "1"})
    assert ended.returncode == 1
    assert "Error: not done after 1 s" in ended.stderr


def test_dev_refuses_wrong_manifests_before_it_starts_anything(empty_database_url: str, tmp_path: Path) -> None:
    manifest = (SAMPLES / "delayed.yaml").read_text().replace("type: countPrimes", "type: ''")
    (tmp_path / "wrong.yaml").write_text(manifest)
    ended = workerjobs("dev", "--filename", str(tmp_path), database_url=empty_database_url)
    assert ended.returncode == 2
    assert f"Error: {tmp_path}/wrong.yaml:" in ended.stderr
    assert "0001_jobs" in migrate_url(empty_database_url)


def test_watch_and_top_draw_on_a_terminal(database_url: str) -> None:
    workerjobs("submit", "report", "--delay", "600", database_url=database_url)
    sql(
        database_url,
        """insert into "workerJobs" (type, started, progress)
        values ('thumbnails', now(), '{"current": 3, "total": 4, "message": "three of four"}')""",
    )
    with on_terminal("watch", "1", "2", "--timeout", "1", database_url=database_url) as terminal:
        terminal.read("75%")
        terminal.read("three of four")
        assert terminal.read_to_the_end() == 124
    with on_terminal("top", database_url=database_url) as terminal:
        terminal.read("thumbnails")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.read_to_the_end() == 0
    assert "Traceback" not in terminal.shown
