"""A Postgres server of a test's own, which can be stopped in all ways, frozen, and started again at its place."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.workers import family_of, processes
from workerjobs.storage.embedded import EmbeddedPostgres
from workerjobs.storage.embedded_folders import account_for
from workerjobs.storage.migrate import migrate_url

WAIT_SECONDS = 60.0
FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT
"""How Postgres stops: sessions are ended and all is written; or it leaves at once and recovers at its next start."""


class OwnServer:
    """A server that keeps its port and data over restarts."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self.url = embedded.url
        self._embedded = embedded
        # Started again just as it was.
        words = Path(f"/proc/{embedded.pid}/cmdline").read_bytes().split(b"\0")[:-1]
        self._command = [os.fsdecode(word) for word in words]

    def stop(self, how: signal.Signals) -> None:
        """Stop it, `FAST` or `IMMEDIATE`, and wait until nothing of it is left."""
        family = family_of(self._embedded.pid)
        os.kill(self._embedded.pid, how)
        deadline = time.monotonic() + WAIT_SECONDS
        while family & processes().keys():
            assert time.monotonic() < deadline, "the server does not stop"
            time.sleep(0.01)

    def start(self) -> None:
        """Start it again; returns when it answers."""
        account = account_for(self._embedded.folder / "data")
        assert self._embedded._launch_once(self._command, account, time.monotonic() + WAIT_SECONDS)

    @contextmanager
    def frozen(self, *, only: Collection[int] = (), without: Collection[int] = ()) -> Iterator[None]:
        """Let its processes not run, as if the network swallowed everything; connections stay open.

        Args:
            only: Process ids of sessions; none means all of the server.
            without: Process ids of sessions to leave as they are.
        """
        family = [each for each in family_of(self._embedded.pid) if not only or each.pid in only]
        # The postmaster first, so that it starts no more.
        stopped = sorted(
            (each for each in family if each.pid not in without), key=lambda each: each.pid != self._embedded.pid
        )
        for each in stopped:
            os.kill(each.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for each in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGCONT)


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """Run a server with a migrated database and the settings of a real one: what it confirmed is never lost."""
    with EmbeddedPostgres.ephemeral() as embedded:
        migrate_url(embedded.url)
        yield OwnServer(embedded)
