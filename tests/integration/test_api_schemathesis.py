"""The HTTP API against its own description: schemathesis makes requests of it, right and wrong ones."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.api import api
from tests.support.loop import in_loop_for
from tests.support.web import TOKEN


@pytest.mark.slow
@in_loop_for(170)
async def test_schemathesis_finds_nothing(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path, WORKERJOBS_API_RATE="0") as client:
        ended = await asyncio.to_thread(
            subprocess.run,
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{client.server.url}/openapi.json"),
                *("--header", f"Authorization: Bearer {TOKEN}"),
                *("--include-path-regex", "^/api/v1/", "--exclude-path-regex", "/events$"),
                # Cron schedules, moments and rules between fields go beyond what a schema says.
                *("--exclude-checks", "positive_data_acceptance"),
                *("--phases", "examples,coverage,fuzzing", "--max-examples", "20"),
                *("--generation-deterministic", "--no-color", "--suppress-health-check", "all"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=160,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
        assert "Traceback" not in client.server.log.read_text()
