"""Fresh processes: a child that has imported everything forks one for a job, and waits for it.

The copy speaks for itself on the child's channel. In memory that both share it notes that it is sending: so the
original knows, however the copy ended, whether the channel is still in order. Whether it told its job's result is seen
from the count of results that went over the channel (`workerjobs.worker.results`).
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import resource
import signal
from typing import NoReturn

from workerjobs.worker.forking import die_with_parent


class FreshProcess:
    """A process for one job, as the child that forks it sees it; the copy has a copy of this object."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)
        self._pid: int | None = None
        self._is_frozen = False

    @property
    def is_running(self) -> bool:
        """Whether this process has a copy that runs a job."""
        return self._pid is not None

    @property
    def is_sending(self) -> bool:
        """A message is being sent; once its process is dead, nobody can send another one."""
        return bool(self._shared[0])

    @is_sending.setter
    def is_sending(self, value: bool) -> None:
        self._shared[0] = value

    def fork(self) -> bool:
        """Fork; returns whether this is the copy.

        Raises:
            OSError: There is no memory for it, or there are too many processes.
        """
        if not self._is_frozen:
            # A collection in a copy would write to, and so copy, all that was imported.
            gc.collect()
            gc.freeze()
            self._is_frozen = True
        parent = os.getpid()
        # A SIGTERM that comes meanwhile has to find the copy's id, to be handed on.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            pid = os.fork()
            if pid == 0:
                die_with_parent(parent)
            else:
                self._pid = pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return pid == 0

    def interrupt(self) -> None:
        """Hand a SIGTERM on, to a copy that was not there yet when its group got it, or that left the group."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def wait(self) -> int:
        """Wait until the copy has ended; returns its exit code, negative for a signal."""
        assert self._pid is not None
        pid = self._pid
        # Look first, bury later: as long as it is a zombie, its id can't be another process's.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self._pid = None
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)


def end_like(exit_code: int) -> NoReturn:
    """End this process as another one ended; the number is negative for a signal."""
    if exit_code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):
            signal.signal(-exit_code, signal.SIG_DFL)
        os.kill(os.getpid(), -exit_code)
    os._exit(max(exit_code, 0))
