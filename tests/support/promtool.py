"""Prometheus' own promtool, which checks rules and runs their tests, out of Debian's package.

``python -m tests.support.promtool`` gets it, without root: apt fetches the package, which is not installed; one program
of it is kept in the cache.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.require import require_or_skip
from workerjobs.cache import cache_folder

FETCH_SECONDS = 300.0


class PromtoolError(Exception):
    """It can't be had; the message is one sentence on why."""


def find_promtool() -> Path | None:
    """The program's path, where there is one."""
    kept = _place()
    if kept.is_file():
        return kept
    found = shutil.which("promtool")
    return None if found is None else Path(found)


def promtool(*arguments: str, folder: Path) -> str:
    """Run it, and give what it says; a test without it is skipped.

    Raises:
        AssertionError: It found something.
    """
    program = find_promtool()
    if program is None:
        require_or_skip("promtool", "promtool is not there: `python -m tests.support.promtool`")
    ended = subprocess.run(
        [str(program), *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def fetch_promtool() -> None:
    """Put it into the cache, where it is neither there nor on the path.

    Raises:
        PromtoolError: That is not possible here.
    """
    if find_promtool() is not None:
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise PromtoolError("this machine has no apt")
    place = _place()
    place.parent.mkdir(parents=True, exist_ok=True)
    print("Getting promtool …", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        folder = Path(name)
        # apt gives up root for this, where it can.
        folder.chmod(0o755)
        download = ["apt-get", "-qq", "download", "prometheus"]
        if _run(download, folder) is not None:
            # No package list yet on a fresh machine; only root can get it.
            _run(["apt-get", "-qq", "update"], folder)
            if (problem := _run(download, folder)) is not None:
                raise PromtoolError(f"apt can't fetch the package prometheus: {problem}")
        (package,) = folder.glob("prometheus_*.deb")
        if (problem := _run(["dpkg-deb", "--extract", str(package), "content"], folder)) is not None:
            raise PromtoolError(problem)
        (folder / "content" / "usr" / "bin" / "promtool").replace(place)


def _place() -> Path:
    return cache_folder() / "promtool" / "promtool"


def _run(command: list[str], folder: Path) -> str | None:
    """Run a command; returns what was wrong."""
    ended = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=FETCH_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    if ended.returncode == 0:
        return None
    return next(reversed(ended.stderr.strip().splitlines()), f"exit code {ended.returncode}")


def main() -> None:
    """Get it, or say which tests are left out."""
    try:
        fetch_promtool()
    except PromtoolError as error:
        print(f"The tests of alert rules are left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
