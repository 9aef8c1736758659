"""The nursery: a process with one thread that forks the children and sees to it that none is left behind.

It knows nothing of jobs. It is the parent of all children, so a process id that it signals is never another process's.
When the supervisor dies, however it dies, its socket closes: the nursery kills every child with its process group, then
whatever else the jobs left running, and ends. Children are also killed by the kernel when the nursery dies
(PR_SET_PDEATHSIG), even inside C code.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path

from workerjobs.worker import child as child_module
from workerjobs.worker.forking import LIBC, count_threads, die_with_parent
from workerjobs.worker.messages import (
    NOT_FORKED,
    Exited,
    Fork,
    Forked,
    FromNursery,
    SendSignal,
    encode,
    to_nursery_decoder,
)
from workerjobs.worker.sealing import seal

PACKET_BYTES = 4096
_PR_SET_CHILD_SUBREAPER = 36


class Nursery:
    """Forks, signals and buries children, as the supervisor asks over a socket."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pid_of: dict[int, int] = {}
        """Living children: their number to their process id, which is also their process group's."""

    def run(self) -> None:
        """Serve until the supervisor is gone, then leave nothing behind."""
        # Orphans of the jobs come to this process and not to PID 1, so that it can bury and, in the end, kill them.
        LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Only the supervisor decides when this ends; a Ctrl-C or a stray SIGTERM must reach no child.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        gc.collect()
        gc.freeze()
        try:
            while True:
                readable, _, _ = select.select([self._control.fileno(), wake_read], [], [])
                if wake_read in readable:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, PACKET_BYTES)
                    self._bury()
                if self._control.fileno() in readable and not self._serve():
                    return
        finally:
            self._kill_everything()

    def _serve(self) -> bool:
        """Answer one request; False when the supervisor is gone."""
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, PACKET_BYTES, 4)
        except ConnectionError:
            return False
        if not packet:
            return False
        match to_nursery_decoder.decode(packet):
            case Fork(child=number):
                self._fork(number, *descriptors)
            case SendSignal(child=number, signal=signum):
                if number in self._pid_of:
                    self._signal_group(self._pid_of[number], signum)
        return True

    def _fork(self, number: int, channel: int, output: int, permits: int, results: int) -> None:
        if (threads := count_threads()) != 1:
            raise RuntimeError(f"the nursery has {threads} threads; a fork would copy locks that nobody frees")
        nursery_pid = os.getpid()
        # Programs that a job starts must not hold its channel open.
        os.set_inheritable(channel, False)
        os.set_inheritable(permits, False)
        os.set_inheritable(results, False)
        try:
            pid = os.fork()
        except OSError:
            # No memory, or too many processes: that must not end the children that are running.
            for descriptor in (channel, output, permits, results):
                os.close(descriptor)
            self._tell(Exited(number, NOT_FORKED))
            return
        if pid == 0:
            # Whatever happens, the copy of this process must not go on as a second nursery.
            exit_code = 70
            try:
                _become_child(nursery_pid, output)
                self._control.close()
                exit_code = child_module.main(socket.socket(fileno=channel), permits, results)
            except BaseException:  # noqa: BLE001  # nothing may leave this frame but through os._exit
                traceback.print_exc()
            finally:
                os._exit(exit_code)
        for descriptor in (channel, output, permits, results):
            os.close(descriptor)
        self._pid_of[number] = pid
        # The child makes its own session as its first act; here as well, so that a signal can't come before that.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._tell(Forked(number, pid))

    def _bury(self) -> None:
        """Take leave of processes that ended: children, and orphans of their jobs."""
        number_of = {pid: number for number, pid in self._pid_of.items()}
        with contextlib.suppress(ChildProcessError):
            while True:
                # Look first, bury later: while the child is a zombie its group's id can't belong to others.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None:
                    return
                if found.si_pid in number_of:
                    self._signal_group(found.si_pid, signal.SIGKILL)
                _, status = os.waitpid(found.si_pid, 0)
                if (number := number_of.get(found.si_pid)) is not None:
                    del self._pid_of[number]
                    self._tell(Exited(number, os.waitstatus_to_exitcode(status)))

    def _kill_everything(self) -> None:
        for pid in self._pid_of.values():
            self._signal_group(pid, signal.SIGKILL)
        # Processes that left their group are children of this process once their parents are dead.
        while pids := _children_of_this_process():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)

    def _tell(self, message: FromNursery) -> None:
        with contextlib.suppress(ConnectionError):
            self._control.send(encode(message))

    @staticmethod
    def _signal_group(pid: int, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signum)


def _become_child(nursery_pid: int, output: int) -> None:
    # Refused where the nursery was quicker and made it the leader of its own group already: that is all it needs.
    with contextlib.suppress(PermissionError):
        os.setsid()
    die_with_parent(nursery_pid)
    # Where memory runs out, the kernel is to take a job's process and not the one that watches over all of them.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  # a descriptor is wanted, not a path
        os.dup2(nothing.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def _children_of_this_process() -> list[int]:
    """Find them by their parent's id; /proc/…/children is missing on some kernels."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # After the command in brackets, which may hold anything: state, parent's id, …
                parent = entry.joinpath("stat").read_bytes().rpartition(b")")[2].split()[1]
                if int(parent) == os.getpid():
                    found.append(int(entry.name))
    return found


def main() -> None:
    """Run as ``python -m workerjobs.worker.nursery DESCRIPTOR [SEALED]``, started by the supervisor."""
    for folder in sys.argv[2:]:
        seal(folder)
    control = socket.socket(fileno=int(sys.argv[1]))
    Nursery(control).run()


if __name__ == "__main__":
    main()
