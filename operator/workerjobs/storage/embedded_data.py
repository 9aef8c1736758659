"""A data folder of the embedded Postgres: made by initdb, and which server runs on it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from workerjobs.errors import EmbeddedPostgresError
from workerjobs.storage.embedded_folders import Account, write_file
from workerjobs.storage.embedded_programs import START_SECONDS, Binaries

NAME = "workerjobs"
"""Both the account (a superuser) and the database."""


def initdb(binaries: Binaries, folder: Path, account: Account | None, *, sync: bool) -> None:
    """Make the data folder; it appears under its name only when it is complete."""
    for leftover in folder.glob("new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    password = folder / "password"
    write_file(password, secrets.token_urlsafe(24) + "\n", 0o600, account)
    new = Path(tempfile.mkdtemp(prefix="new-", dir=folder))
    if account is not None:
        os.chown(new, account.uid, account.gid)
    command = [
        *(str(binaries.folder / "initdb"), "-D", str(new), "-U", NAME, f"--pwfile={password}", "-A", "scram-sha-256"),
        *("-E", "UTF8", "--locale=C"),
        # The same order and letters whatever locales the machine has, and no ICU.
        *(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if int(binaries.major) >= 17 else []),
        "--no-instructions",
        *([] if sync else ["--no-sync"]),
    ]
    finished = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C"},
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        timeout=START_SECONDS,
        check=False,
    )
    if finished.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise EmbeddedPostgresError("initdb failed", last_lines(finished.stdout.decode(errors="replace")))
    new.rename(folder / "data")


def running_server(data: Path) -> tuple[int, int, str] | None:
    """Read the process id, port and status of the server that runs on a data folder.

    Source:
        PostgreSQL 18, src/include/utils/pidfile.h: the lines of postmaster.pid.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    pid = int(lines[0]) if lines and lines[0].isdecimal() else 0
    if not is_postmaster(pid, data):
        return None
    port = int(lines[3]) if len(lines) > 3 else 0
    return pid, port, lines[7].strip() if len(lines) > 7 else "starting"


def is_postmaster(pid: int, data: Path) -> bool:
    """Tell whether a process is the server of a data folder, and not another one that has its id by now."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return Path(os.fsdecode(words[0])).name == "postgres" and os.fsencode(data) in words


def last_lines(text: str) -> list[str]:
    """Give the end of what Postgres said, for an error."""
    return [line.strip() for line in text.splitlines() if line.strip()][-6:]
