"""Packages from npm that tests need, installed by ``npm ci`` from a folder's ``package-lock.json``.

They are kept in the cache folder (``WORKERJOBS_CACHE``, else ``~/.cache/workerjobs``) below a name made from that file.
A folder gets that name only when it is complete.
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

INSTALL_SECONDS = 150


class NodeError(Exception):
    """Node or its packages are not to be had on this machine; the message says why."""


def packages(source: Path) -> Path:
    """Find what the lock file of a folder asks for, installing it where needed.

    Safe to call from many processes at once: one installs, the others wait for it.

    Args:
        source: A folder with ``package.json`` and ``package-lock.json``.

    Returns:
        The folder ``node_modules``.

    Raises:
        NodeError: There is no npm, or it can't install the packages.
    """
    lock = source / "package-lock.json"
    folder = cache_folder() / "node"
    complete = folder / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    if complete.is_dir():
        return complete / "node_modules"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        for leftover in folder.glob("partial-*"):  # of a process that was killed
            shutil.rmtree(leftover)
        if not complete.is_dir():
            with tempfile.TemporaryDirectory(dir=folder, prefix="partial-") as partial:
                _install(source, Path(partial, "packages"))
                Path(partial, "packages").rename(complete)
    return complete / "node_modules"


def _install(source: Path, folder: Path) -> None:
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, folder)
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
