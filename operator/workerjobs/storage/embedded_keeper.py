"""Runs one Postgres server for as long as anybody uses it: the parent process of the embedded Postgres.

A program of its own, started by path with the standard library only (about 20 ms, 12 MiB). Users of a server hold a
shared lock on its ``users.lock``; the keeper waits for the exclusive one, which it gets when the last of them has left
or died in any way, SIGKILL included. Nothing here depends on a thread or on a clean exit of whoever started the server,
which is why this is not done with PR_SET_PDEATHSIG alone: that fires when the starting thread ends, and it can't know
other users.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

FAST_STOP_SECONDS = 10
"""How long a fast shutdown (clients cut off, checkpoint written) may take before an immediate one."""

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl


def _die_with_keeper() -> None:
    # Runs between fork and exec, in a process of one thread. After the change of account, which would clear it.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _stop_when_unused(server: subprocess.Popen[bytes], users_lock: str, unused: threading.Event) -> None:
    # Not closed: the lock is held until this process ends, so that the next user waits for a clean stop.
    fcntl.flock(os.open(users_lock, os.O_RDWR), fcntl.LOCK_EX)
    unused.set()
    server.send_signal(signal.SIGINT)
    time.sleep(FAST_STOP_SECONDS)
    server.send_signal(signal.SIGQUIT)


def main(keeper_lock: str, users_lock: str, account: str, leftover: str, command: list[str]) -> None:
    """Start a server, print its process id, stay until it has ended.

    Args:
        keeper_lock: The file to keep locked as long as this process lives.
        users_lock: The file that every user of the server has locked (shared).
        account: ``uid:gid`` to run the server as; empty for this process's own.
        leftover: Folder to remove once the server was stopped for lack of users; empty for none.
        command: The server's program and arguments. Standard error is its log.
    """
    if os.fork():
        os._exit(0)  # An orphan needs no waiting for: the starter may leave before the other users do.
    fcntl.flock(os.open(keeper_lock, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    uid, gid = (int(number) for number in account.split(":")) if account else (None, None)
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        cwd="/",
        # The starter's environment may hold secrets, and the account's other processes could read them.
        env={"PATH": os.defpath, "LC_ALL": "C"},
        user=uid,
        group=gid,
        extra_groups=[] if account else None,
        preexec_fn=_die_with_keeper,
    )
    # The users decide when the server goes: a service manager's SIGTERM to every process finds them still finishing.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, str(server.pid).encode())
    os.dup2(2, 1)  # The starter reads to the end of the pipe; sys.stdout.close() would leave it open.
    unused = threading.Event()
    threading.Thread(target=_stop_when_unused, args=(server, users_lock, unused), daemon=True).start()
    server.wait()
    if leftover and unused.is_set():
        shutil.rmtree(leftover, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
