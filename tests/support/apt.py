"""Programs of Debian that tests need, installed where they are missing and this user may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def install(package: str) -> None:
    """Install a package, or say why its tests will be left out."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"{package} is not installed, and only root can, by apt: its tests are left out", file=sys.stderr)
        return
    print(f"Installing {package} …", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another installation may be under way.
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]
    # No package list yet on a fresh machine; an old one may name files that are gone.
    for command in ([*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", package]):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            print(f"{' '.join(command)} failed: the tests of {package} are left out", file=sys.stderr)
            return
