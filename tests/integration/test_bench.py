"""The benchmark harness: what it proves, and that it runs to its page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.bench import usage
from tests.bench.adapters import OURS, OURS_FRESH, Ours
from tests.bench.programs import run_together

ROOT = Path(__file__).parents[2]
RUN = """
    INSERT INTO "workerJobs" (type, data, started, finished, success, result)
    VALUES ('noop', json_build_object('number', %s::int), now(), now(), true,
        jsonb_build_object('pid', %s::int, 'call', %s::int, 'number', %s::int))
"""


def proven(url: str, ours: Ours, rows: list[tuple[int, int, int, int]]) -> int:
    """Count the proven rows among some of (number, pid, call, number in the result)."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute('TRUNCATE "workerJobs"')
        for row in rows:
            connection.execute(RUN, row)
        counted = connection.execute(ours.kept.encode()).fetchone()
    assert counted is not None
    return int(counted[0])


@pytest.mark.parametrize(
    ("ours", "rows", "expected"),
    [
        pytest.param(OURS, [(0, 7, 0, 0), (1, 7, 1, 1), (2, 8, 0, 2)], 3, id="each call once"),
        pytest.param(OURS, [(0, 7, 0, 0), (1, 7, 0, 1)], -1, id="one call for two rows"),
        pytest.param(OURS, [(0, 7, 0, 0), (1, 7, 1, 0)], -1, id="result of another job"),
        pytest.param(OURS_FRESH, [(0, 7, 0, 0), (1, 8, 0, 1)], 2, id="fresh, a process each"),
        pytest.param(OURS_FRESH, [(0, 7, 0, 0), (1, 7, 1, 1)], -1, id="fresh, but a process twice"),
    ],
)
def test_rows_prove_that_the_function_was_called_once_for_each(
    database_url: str, ours: Ours, rows: list[tuple[int, int, int, int]], expected: int
) -> None:
    assert proven(database_url, ours, rows) == expected


def test_processor_time_of_children_counts_while_they_run_and_after() -> None:
    program = """
import subprocess, sys, time
burn = "import time\\nwhile time.process_time() < 0.3: pass\\n"
subprocess.run([sys.executable, "-c", burn])
running = subprocess.Popen([sys.executable, "-c", burn + "print('burnt', flush=True); input()"],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)
running.stdout.readline()
print("ready", flush=True)
input()
running.communicate(b"\\n")
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert usage.cpu_seconds([process.pid]) >= 0.58
        assert len(list(usage.trees([process.pid]))) == 2
        assert usage.memory_bytes([process.pid]) > 5_000_000
        process.communicate(b"\n")
    assert usage.cpu_seconds([process.pid]) == 0


def test_bare_processes_run_at_the_same_time() -> None:
    before = time.monotonic_ns()
    spans = run_together([OURS.bare(3)] * 2, {})
    assert all(before < span.began < span.ended < time.monotonic_ns() for span in spans)
    assert max(span.began for span in spans) - min(span.began for span in spans) < 30e9


@pytest.mark.slow
def test_harness_measures_ours_and_writes_the_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots are made where the bench extra is installed")
    command = [sys.executable, "-m", "tests.bench", "--quick", "--repetitions", "1", "--output", str(tmp_path)]
    ended = subprocess.run(
        [*command, "--only", "drain,pickup", "--peers", "ours"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    results = json.loads((tmp_path / "benchmarks" / "results.json").read_text())
    assert not results["left_out"]
    figures = results["samples"]["workerjobs"]
    assert {"drain_rate", "pickup_p50", "worker_cpu", "postgres_cpu", "wal_run"} <= set(figures)
    assert all(values[0] > 0 for values in figures.values())
    assert "| **workerjobs** |" in (tmp_path / "benchmarks.md").read_text()
    assert (tmp_path / "benchmarks" / "drain.svg").read_text().startswith("<?xml")


def test_unknown_peer_is_refused_with_the_names() -> None:
    command = [sys.executable, "-m", "tests.bench", "--peers", "celery"]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "celery: not one of workerjobs" in ended.stderr
