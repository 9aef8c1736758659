"""Locks between the processes that share an embedded Postgres: they fall when their holder dies in whatever way."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workerjobs.errors import EmbeddedPostgresError

POLL_SECONDS = 0.01


def poll(seconds: float) -> Iterator[None]:
    """Give the caller's loop a turn every 10 ms, at least one, for so many seconds."""
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        yield


def open_lock(path: Path) -> int:
    """Open a lock's file; nothing is locked yet, and no child inherits it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def take_lock(descriptor: int, kind: int, seconds: float, folder: Path) -> None:
    """Wait for a lock.

    Args:
        descriptor: From `open_lock`.
        kind: ``fcntl.LOCK_SH`` or ``fcntl.LOCK_EX``.
        seconds: How long to wait.
        folder: The server's, for the error.

    Raises:
        EmbeddedPostgresError: Others hold it for longer.
    """
    for _ in poll(seconds):
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
    raise EmbeddedPostgresError(
        f"The embedded Postgres in {folder} is held by another process that does not let go of it within {seconds:g} s"
    )


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock alone; raises as `take_lock`."""
    descriptor = open_lock(path)
    try:
        take_lock(descriptor, fcntl.LOCK_EX, seconds, path.parent)
        yield
    finally:
        give_up_lock(descriptor)


def give_up_lock(descriptor: int) -> None:
    """Unlock and close."""
    # Not only closed: a child that was forked meanwhile shares the open file, and with it the lock.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def is_unshared(users_lock: int) -> bool:
    """Tell whether the holder of the shared lock is its only user; it may have lost the lock afterwards."""
    # Linux gives up the old lock before it tries the new one, so the keeper may slip in between. Then not even a shared
    # lock is to be had, while beside other users it is.
    for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
        try:
            fcntl.flock(users_lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return kind == fcntl.LOCK_EX
    return True
