"""The HTTP API against its own description: schemathesis makes requests of it, right and wrong ones."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.api import Api, api
from tests.support.loop import in_loop
from tests.support.web import TOKEN

LEFT_OUT = "positive_data_acceptance,ignored_auth"
"""Cron schedules, moments and rules between fields go beyond what a schema says. Wrong tokens would be refused with 429
where they come fast; test_api_access.py has them, and tries every operation without one."""


async def find_problems(client: Api, folder: Path, *options: str) -> None:
    """Run schemathesis; fails where it finds something, or where the server fails."""
    ended = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{client.server.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--include-path-regex", "^/api/(v1/|tickets)", "--exclude-path-regex", "/events$"),
            *("--generation-deterministic", "--no-color", "--suppress-health-check", "all", *options),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    assert "Traceback" not in client.process.log.read_text()


@in_loop
async def test_schemathesis_finds_nothing_with_a_few_requests_of_each_operation(
    database_url: str, tmp_path: Path
) -> None:
    async with api(database_url, tmp_path, as_process=True, WORKERJOBS_API_RATE="0") as client:
        await find_problems(
            client,
            tmp_path,
            *("--exclude-checks", LEFT_OUT),
            *("--phases", "examples,fuzzing", "--max-examples", "1"),
        )


@pytest.mark.slow
@in_loop
async def test_schemathesis_finds_nothing(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path, as_process=True, WORKERJOBS_API_RATE="0") as client:
        await find_problems(
            client,
            tmp_path,
            *("--exclude-checks", LEFT_OUT),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "20"),
        )


@pytest.mark.slow
@in_loop
async def test_schemathesis_finds_nothing_where_limits_refuse_most(database_url: str, tmp_path: Path) -> None:
    limits = {"WORKERJOBS_API_RATE": "5", "WORKERJOBS_MAX_BODY_MIB": "0.001"}
    async with api(database_url, tmp_path, as_process=True, **limits) as client:
        await find_problems(
            client,
            tmp_path,
            # Requests that are refused for their number say nothing of what else is wrong with them.
            *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
            *("--checks", "response_headers_conformance,response_schema_conformance"),
            *("--phases", "examples,fuzzing", "--max-examples", "5"),
        )
        assert (await client.ask("POST", "/jobs", {"type": "x" * 2000})).status in (413, 429)
