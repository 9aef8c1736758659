"""What `make demo` runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import environment
from tests.support.docs import ROOT, blocks


@pytest.mark.slow
def test_demo_runs_the_samples_until_they_are_finished() -> None:
    # The README's first command; what it installs is there, as these tests run.
    assert blocks("README.md", "shell")[0] == "make demo\n"
    ended = subprocess.run(
        ["make", "--old-file=.venv/.installed", f"BIN={Path(sys.executable).parent}", "demo"],
        cwd=ROOT,
        env=environment(None, WORKER_HEALTH_PORT="0"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    table = ended.stdout.partition("All jobs")[2]
    finished = [line for line in table.splitlines() if "every-ten-seconds" in line and "succeeded" in line]
    assert len(finished) >= 2
    assert "running" not in table
    assert "100%" in table


@pytest.mark.slow
def test_demo_of_chains_shows_every_notification_and_the_undoing_of_one() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.demo_chain"],
        env=environment(None),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told = [line.partition("→ ")[2].split() for line in ended.stdout.splitlines() if "→" in line]
    assert [each[0] for each in told] == ["notification", "notification", "notification", "it", "revoked"]
    assert "The job deployMulticall3 succeeded" in ended.stdout
    held = [line.partition("through Multicall3: ")[2] for line in ended.stdout.splitlines() if "Multicall3: " in line]
    assert [re.findall(r"holds (\d+) DGLD, 0x\w+ (\d+)$", each) for each in held] == [[("983", "17")], [("995", "5")]]
