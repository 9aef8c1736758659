"""Programs in Node that tests run as clients, with the packages they need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.npm import NodeError, packages

FOLDER = Path(__file__).parent
OLDEST_NODE = 20


def node(folder: Path = FOLDER) -> tuple[str, dict[str, str]]:
    """Find node and the packages of a folder, installing them where needed.

    Args:
        folder: Where ``package-lock.json`` is; the clients of the database unless said otherwise.

    Returns:
        The program, and environment variables with which ``require`` finds the packages.

    Raises:
        NodeError: There is no node, or one that is too old, or the packages can't be installed.
    """
    program = shutil.which("node")
    if program is None:
        raise NodeError("there is no node on this machine")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0] or 0) < OLDEST_NODE:
        raise NodeError(f"node is {version or 'broken'}, and {OLDEST_NODE} or newer is needed")
    return program, {"NODE_PATH": str(packages(folder))}
