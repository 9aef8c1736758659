"""The child processes of a supervisor: started by the nursery, spoken to over channels, replaced when lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from workerjobs.domain.job import Job
from workerjobs.worker.child import CONFIGURATION_VARIABLE, Configuration
from workerjobs.worker.messages import (
    HEADER_BYTES,
    NOT_FORKED,
    Exited,
    Finished,
    Fork,
    Forked,
    FromChild,
    Logged,
    Ready,
    Reported,
    Run,
    SendSignal,
    ToNursery,
    body_length,
    child_decoder,
    encode,
    frame,
    from_nursery_decoder,
)
from workerjobs.worker.nursery import PACKET_BYTES
from workerjobs.worker.output import Output
from workerjobs.worker.running import job_facts

log = logging.getLogger(__name__)
job_log = logging.getLogger("workerjobs.job")

KILL_SECONDS = 5.0
"""From SIGTERM to SIGKILL."""
_RESTART_BACKOFF_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0)
"""Before a child is started again that died before it was ready; one that died in a job is replaced at once."""


class ChildState(StrEnum):
    """What a child is doing; also the label of its metric."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"


@dataclass(eq=False)
class Child:
    """One child, from the request to fork it until it is gone."""

    number: int
    channel: socket.socket
    state: ChildState = ChildState.STARTING
    was_ready: bool = False
    pid: int | None = None
    job: Job | None = None
    writer: asyncio.StreamWriter | None = None
    output: Output | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    kill_timer: asyncio.TimerHandle | None = None


class Children:
    """A fixed number of children; tells its owner what they say.

    Args:
        count: How many to keep.
        configuration: What each is told at its start.
        on_idle: A child became free.
        on_report: A running job's progress.
        on_finished: A job's function came to its end.
        on_lost: A child ended with a job unfinished; with a sentence that says how.
    """

    def __init__(
        self,
        count: int,
        configuration: Configuration,
        *,
        on_idle: Callable[[], None],
        on_report: Callable[[Reported], None],
        on_finished: Callable[[Job, Finished], None],
        on_lost: Callable[[Job, str], None],
    ) -> None:
        self.count = count
        self._configuration = configuration
        self._on_idle = on_idle
        self._on_report = on_report
        self._on_finished = on_finished
        self._on_lost = on_lost
        self._children: dict[int, Child] = {}
        self._next_number = 1
        self._early_deaths = 0
        self._is_closing = False
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._control_task: asyncio.Task[None] | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._changed = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()

    # --- what the supervisor asks

    async def start(self) -> None:
        """Start the nursery and all children."""
        self._start_nursery()
        for _ in range(self.count):
            await self._fork()

    def count_of(self, state: ChildState) -> int:
        """How many children are in a state."""
        return sum(child.state is state for child in self._children.values())

    @property
    def pids(self) -> list[int]:
        """Process ids of the children."""
        return [child.pid for child in self._children.values() if child.pid is not None]

    def run(self, job: Job) -> bool:
        """Give a job to an idle child; False when there is none after all."""
        child = next((each for each in self._children.values() if each.state is ChildState.IDLE), None)
        if child is None or child.writer is None:
            return False
        child.state, child.job = ChildState.BUSY, job
        message = Run(job.id, job.type, job.data_json, job.attempt, job.user_id, job.tag, job.fencing_token or 0)
        child.writer.write(frame(message))
        return True

    def stop_job(self, job: Job, *, at_once: bool = False) -> None:
        """End the child that runs a job: SIGTERM to its process group and SIGKILL 5 s later, or SIGKILL at once."""
        for child in self._children.values():
            # By identity: the same row may have been claimed anew after its lease was lost.
            if child.job is job:
                self._stop(child, at_once=at_once)

    async def close(self) -> None:
        """End all children and the nursery; jobs that still run are reported lost."""
        self._is_closing = True
        for timer in self._timers:
            timer.cancel()
        for child in list(self._children.values()):
            self._stop(child, at_once=child.job is None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS + 5):
                while self._children:
                    self._changed.clear()
                    await self._changed.wait()
        if self._control is not None:
            # The nursery sees its socket close, kills what is left and ends.
            self._control_task and self._control_task.cancel()
            self._control.close()
        if self._nursery is not None:
            await asyncio.to_thread(self._nursery.wait)
        for child in list(self._children.values()):
            self._bury(child, "ended with its worker")

    # --- the nursery

    def _start_nursery(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environment = os.environ | {CONFIGURATION_VARIABLE: msgspec.json.encode(self._configuration).decode()}
        with theirs:
            # Its own session: signals of the terminal are the supervisor's business.
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "workerjobs.worker.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )
        self._control = ours
        self._control_task = asyncio.create_task(self._hear_nursery(ours), name="nursery")

    async def _hear_nursery(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                packet = await loop.sock_recv(control, PACKET_BYTES)
            except ConnectionError:
                packet = b""
            if not packet:
                break
            match from_nursery_decoder.decode(packet):
                case Forked(child=number, pid=pid):
                    if number in self._children:
                        self._children[number].pid = pid
                case Exited(child=number, exit_code=exit_code):
                    if number in self._children:
                        self._bury(self._children[number], _how(exit_code))
        if not self._is_closing:
            await self._replace_nursery()

    async def _replace_nursery(self) -> None:
        """The nursery died, and the kernel killed the children with it; what their jobs started may be left."""
        log.error("The process that starts the children ended; starting it anew")
        assert self._nursery is not None
        assert self._control is not None
        self._control.close()
        await asyncio.to_thread(self._nursery.wait)
        for child in list(self._children.values()):
            if child.pid is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
            self._bury(child, "was killed by signal SIGKILL", refork=False)
        self._start_nursery()
        for _ in range(self.count):
            await self._fork()

    async def _tell_nursery(self, message: ToNursery, descriptors: tuple[int, ...] = ()) -> None:
        assert self._control is not None
        while True:
            try:
                socket.send_fds(self._control, [encode(message)], descriptors)
            except BlockingIOError:
                # A Unix socket holds few packets (net.unix.max_dgram_qlen); the nursery reads them within milliseconds.
                await asyncio.sleep(0.001)
            except OSError:
                # A nursery that just died is noticed where its messages are read.
                return
            else:
                return

    # --- children

    async def _fork(self) -> None:
        # A nursery that was replaced has forked all children anew; those that were to come are there already.
        if self._is_closing or len(self._children) >= self.count:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        child = Child(self._next_number, ours)
        self._next_number += 1
        self._children[child.number] = child
        child.output = Output(read_end, lambda: job_facts(child.job))
        with theirs:
            await self._tell_nursery(Fork(child.number), (theirs.fileno(), write_end))
        os.close(write_end)
        reader, child.writer = await asyncio.open_unix_connection(sock=ours, limit=2**20)
        child.tasks.append(asyncio.create_task(self._hear(child, reader), name=f"child-{child.number}"))

    async def _hear(self, child: Child, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                header = await reader.readexactly(HEADER_BYTES)
                self._take(child, child_decoder.decode(await reader.readexactly(body_length(header))))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("A child's channel was disturbed: %s", error, extra=job_facts(child.job))
        # The channel is closed or useless: whatever the process still does, nobody can learn of it.
        if child.number in self._children:
            self._stop(child, at_once=True)

    def _take(self, child: Child, message: FromChild) -> None:
        match message:
            case Ready():
                self._early_deaths = 0
                child.was_ready = True
                if child.state is ChildState.STARTING:
                    child.state = ChildState.IDLE
                    self._on_idle()
            case Logged(logger=name, level=level, message=text, traceback=trace):
                name = name if name.startswith("workerjobs.") else f"workerjobs.job.{name}"
                logging.getLogger(name).log(
                    level, "%s", f"{text}\n{trace}" if trace else text, extra=job_facts(child.job)
                )
            case Reported(job_id=job_id):
                if child.job is not None and child.job.id == job_id:
                    self._on_report(message)
            case Finished(job_id=job_id):
                if child.job is None or child.job.id != job_id:
                    return
                if child.output is not None:
                    child.output.finish_job()
                job, child.job = child.job, None
                if child.state is ChildState.BUSY:
                    child.state = ChildState.IDLE
                self._on_finished(job, message)
                if child.state is ChildState.IDLE:
                    self._on_idle()

    def _stop(self, child: Child, *, at_once: bool) -> None:
        if child.state is ChildState.STOPPING and not at_once:
            return
        child.state = ChildState.STOPPING
        self._signal(child, signal.SIGKILL if at_once else signal.SIGTERM)
        if not at_once:
            loop = asyncio.get_running_loop()
            child.kill_timer = loop.call_later(KILL_SECONDS, self._signal, child, signal.SIGKILL)

    def _signal(self, child: Child, signum: signal.Signals) -> None:
        self._spawn(self._tell_nursery(SendSignal(child.number, signum)))

    def _bury(self, child: Child, how: str, *, refork: bool = True) -> None:
        """Take a dead child from the books, report its job, and start another one in its place."""
        del self._children[child.number]
        if child.kill_timer is not None:
            child.kill_timer.cancel()
        if child.output is not None:
            child.output.finish_job()
            child.output.close()
        # What it had said before it died is in the channel's buffer and was its last word; the task reads it.
        self._spawn(self._finish_burying(child, how))
        if not self._is_closing and refork:
            # Not its state: that its channel closed may have been heard before its end was, and it was told to stop.
            self._early_deaths = 0 if child.was_ready else self._early_deaths + 1
            backoff = _RESTART_BACKOFF_SECONDS[min(self._early_deaths, len(_RESTART_BACKOFF_SECONDS) - 1)]
            if not child.was_ready:
                before = "" if child.pid is None else " before it was ready"
                log.error("A child %s%s; starting another in %s s", how, before, backoff)
            self._fork_later(backoff)

    async def _finish_burying(self, child: Child, how: str) -> None:
        await asyncio.wait(child.tasks, timeout=1)
        if child.writer is not None:
            child.writer.close()
        if child.job is not None:
            job, child.job = child.job, None
            self._on_lost(job, f"The job's process {how}")
        self._changed.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _fork_later(self, seconds: float) -> None:
        def fork() -> None:
            self._timers.discard(timer)
            if not self._is_closing:
                self._spawn(self._fork())

        timer = asyncio.get_running_loop().call_later(seconds, fork)
        self._timers.add(timer)


def _how(exit_code: int) -> str:
    if exit_code == NOT_FORKED:
        return "could not be started: no memory, or too many processes"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was killed by signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
