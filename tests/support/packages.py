"""Debian packages that tests need, installed where that is possible: by apt, as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

# Another installation may be under way.
APT = ("apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300")


class PackagesError(Exception):
    """Packages are missing and cannot be installed; the message is one sentence on which and why."""


def install_packages(names: Sequence[str]) -> None:
    """Install what is missing of these Debian packages.

    Raises:
        PackagesError: That is not possible here.
    """
    missing = [name for name in names if not _is_installed(name)]
    if not missing:
        return
    wanted = ", ".join(missing)
    if shutil.which("apt-get") is None:
        raise PackagesError(f"{wanted} cannot be installed: this machine has no apt")
    if os.geteuid() != 0:
        raise PackagesError(f"{wanted} cannot be installed: only root can")
    print(f"Installing {wanted} …", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # No package list yet on a fresh machine; an old one may name files that are gone.
    for command in ([*APT, "update"], [*APT, "install", "-y", "--no-install-recommends", *missing]):
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            reason = next(reversed(result.stderr.strip().splitlines()), f"exit code {result.returncode}")
            raise PackagesError(f"{wanted} cannot be installed: {' '.join(command[:8])} failed: {reason}")


def install_or_say(name: str) -> None:
    """Install a package; where that is not possible, say which tests are left out, and why."""
    try:
        install_packages([name])
    except PackagesError as error:
        print(f"The tests of {name} are left out: {error}", file=sys.stderr)


def _is_installed(name: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"
