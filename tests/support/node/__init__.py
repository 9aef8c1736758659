"""Programs in Node that tests run as clients, with the packages they need.

The packages are those of ``package-lock.json``, installed by ``npm ci`` into the cache folder (``WORKERJOBS_CACHE``,
else ``~/.cache/workerjobs``) below a name made from that file. A folder gets that name only when it is complete.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock

from workerjobs.cache import cache_folder

FOLDER = Path(__file__).parent
OLDEST_NODE = 20
INSTALL_SECONDS = 150


class NodeError(Exception):
    """Node or its packages are not to be had on this machine; the message says why."""


def node() -> tuple[str, dict[str, str]]:
    """Find node and the packages of this folder, installing them where needed.

    Safe to call from many processes at once: one installs, the others wait for it.

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
    return program, {"NODE_PATH": str(_packages() / "node_modules")}


def _packages() -> Path:
    lock = FOLDER / "package-lock.json"
    folder = cache_folder() / "node"
    complete = folder / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    if complete.is_dir():
        return complete
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        for leftover in folder.glob("partial-*"):  # of a process that was killed
            shutil.rmtree(leftover)
        if not complete.is_dir():
            with tempfile.TemporaryDirectory(dir=folder, prefix="partial-") as partial:
                _install(Path(partial, "packages"))
                Path(partial, "packages").rename(complete)
    return complete


def _install(folder: Path) -> None:
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(FOLDER / name, folder)
    npm = shutil.which("npm")
    if npm is None:
        raise NodeError("there is no npm on this machine")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"CI": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NodeError(f"npm ci did not end within {INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        reason = next(
            (line for line in done.stderr.splitlines() if "npm error" in line), f"exit code {done.returncode}"
        )
        raise NodeError(f"npm ci failed: {reason}")
