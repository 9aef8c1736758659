"""The child processes of a supervisor: started by the nursery, spoken to over channels, replaced when lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Protocol

import msgspec

from workerjobs.worker.channel import Channel
from workerjobs.worker.configuration import CONFIGURATION_VARIABLE, Configuration
from workerjobs.worker.memory import resident_bytes
from workerjobs.worker.messages import (
    Described,
    Exited,
    Failing,
    Finished,
    Fork,
    Forked,
    FromChild,
    Logged,
    Ready,
    Recalled,
    Reported,
    SendSignal,
    ToNursery,
    Traced,
    encode,
    from_nursery_decoder,
    how_it_ended,
)
from workerjobs.worker.nursery import PACKET_BYTES
from workerjobs.worker.output import Output
from workerjobs.worker.process import Child, ChildState
from workerjobs.worker.results import make_memory
from workerjobs.worker.running import RunningJob, job_facts

log = logging.getLogger(__name__)

KILL_SECONDS = 5.0
"""From SIGTERM to SIGKILL."""
_RESTART_BACKOFF_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0)
"""Before a child is started again that died before it was ready, longer each time in a row; each child's place has its
own row. One that died in a job is replaced at once."""


class Listener(Protocol):
    """Who is told what the children say."""

    def child_ready(self, child: Child, ready: Ready) -> None:
        """A child may be sent jobs."""
        ...

    def child_failed(self) -> None:
        """A child ended before it was ready."""
        ...

    def type_described(self, described: Described) -> None:
        """A child has imported what a type needs."""
        ...

    def child_free(self, child: Child) -> None:
        """A child has nothing left to do."""
        ...

    def job_reported(self, report: Reported) -> None:
        """A running job's progress."""
        ...

    def job_failing(self, running: RunningJob, finished: Finished) -> None:
        """A job failed so, and its child tells the error hook."""
        ...

    def jobs_finished(self, child: Child, ended: Sequence[tuple[RunningJob, Finished]]) -> None:
        """The functions of jobs came to their ends, one after another, and the child went on to its next job."""
        ...

    def job_lost(self, running: RunningJob, how: str) -> None:
        """A child ended with a job unfinished; with a sentence that says how."""
        ...

    def jobs_returned(self, runs: list[RunningJob]) -> None:
        """A child ended before it began these."""
        ...


class Children:
    """A number of children; tells its listener what they say.

    Args:
        count: How many to keep at first.
        configuration: What each is told at its start.
        listener: Who is told.
        max_jobs: About how many jobs a child runs before another one takes its place; 0: any number.
    """

    def __init__(self, count: int, configuration: Configuration, listener: Listener, max_jobs: int = 0) -> None:
        self.count = count
        self._max_jobs = max_jobs
        self._configuration = configuration
        self._listener = listener
        self._children: dict[int, Child] = {}
        self._next_number = 1
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

    async def add(self) -> None:
        """Keep one more from now on."""
        self.count += 1
        await self._fork()

    def remove_idle(self) -> bool:
        """Keep one less from now on, if one is idle that can go at once."""
        idle = (child for child in self._children.values() if child.state is ChildState.IDLE)
        child = next((each for each in idle if each.can_take and not each.is_replaced and not each.replaces), None)
        if child is None:
            return False
        self.count -= 1
        self._retire(child)
        return True

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children.values())

    def count_of(self, state: ChildState) -> int:
        """How many children are in a state."""
        return sum(child.state is state for child in self._children.values())

    @property
    def pids(self) -> list[int]:
        """Process ids of the children."""
        return [child.pid for child in self._children.values() if child.pid is not None]

    def stop(self, child: Child, *, at_once: bool = False) -> None:
        """End a child: SIGTERM to its process group and SIGKILL 5 s later, or SIGKILL at once.

        Recall what it has not begun before, so that only the job that runs is ended.
        """
        if child.number not in self._children or (child.state is ChildState.STOPPING and not at_once):
            return
        child.state = ChildState.STOPPING
        self._signal(child, signal.SIGKILL if at_once else signal.SIGTERM)
        if not at_once:
            self._kill_later(child)

    def replace(self, child: Child, why: str) -> None:
        """Have another child take a child's place: once that is ready, and this one has nothing left to do.

        So none of the places is empty meanwhile, and no job waits for a child to start.
        """
        if child.is_replaced or child.state not in (ChildState.IDLE, ChildState.BUSY):
            return
        log.info("Replacing a child: %s", why)
        child.is_replaced = True
        self._spawn(self._fork(replaces=child))

    def _retire(self, child: Child) -> None:
        """Let an idle child end by itself."""
        assert child.channel is not None
        child.state = ChildState.STOPPING
        child.channel.end()
        self._kill_later(child)

    async def close(self) -> None:
        """End all children and the nursery; jobs that still run are reported lost."""
        self._is_closing = True
        for timer in self._timers:
            timer.cancel()
        for child in list(self._children.values()):
            if self._configuration.traces and child.state is ChildState.IDLE and child.channel is not None:
                # It sends its last spans.
                self._retire(child)
            else:
                self.stop(child, at_once=not child.queue)
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
        while self._background:
            await asyncio.wait(self._background)

    # --- the nursery

    def _start_nursery(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environment = os.environ | {CONFIGURATION_VARIABLE: msgspec.json.encode(self._configuration).decode()}
        sealed = [self._configuration.sealed] if self._configuration.sealed else []
        with theirs:
            # Its own session: signals of the terminal are the supervisor's business.
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "workerjobs.worker.nursery", str(theirs.fileno()), *sealed],
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
                        self._bury(self._children[number], how_it_ended(exit_code))
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

    async def _fork(self, *, replaces: Child | None = None, early_deaths: int = 0) -> None:
        # A nursery that was replaced has forked all children anew; those that were to come are there already.
        if replaces is None:
            is_needed = sum(child.replaces is None for child in self._children.values()) < self.count
        else:
            is_needed = replaces.number in self._children
        if self._is_closing or not is_needed:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        permits = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        results = make_memory()
        child = Child(self._next_number, permits, results)
        self._next_number += 1
        child.replaces = replaces
        child.early_deaths = early_deaths
        child.max_jobs = self._next_max_jobs()
        self._children[child.number] = child
        child.output = output = Output(read_end, child.facts_of)
        with theirs:
            await self._tell_nursery(Fork(child.number), (theirs.fileno(), write_end, permits, results))
        os.close(write_end)
        os.close(results)
        _, child.channel = await asyncio.get_running_loop().create_unix_connection(
            lambda: Channel(
                child.results,
                # What jobs printed before they said that they ended is logged before that.
                output.drain,
                lambda results: self._take_results(child, results),
                lambda message: self._take(child, message),
                lambda: self._channel_closed(child),
            ),
            sock=ours,
        )

    def _channel_closed(self, child: Child) -> None:
        # Whatever the process still does, nobody can learn of it.
        if child.number in self._children:
            self.stop(child, at_once=True)

    def _take(self, child: Child, message: FromChild) -> None:
        match message:
            case Reported(job_id=job_id):
                if child.queue and child.queue[0].job.id == job_id:
                    self._listener.job_reported(message)
            case Failing(finished=finished):
                if child.queue and child.queue[0].job.id == finished.job_id:
                    self._listener.job_failing(child.queue[0], finished)
            case Logged(logger=name, level=level, message=text, traceback=trace):
                name = name if name.startswith("workerjobs.") else f"workerjobs.job.{name}"
                logging.getLogger(name).log(
                    level, "%s", f"{text}\n{trace}" if trace else text, extra=job_facts(child.job)
                )
            case Traced(job_id=job_id, traceparent=traceparent):
                if child.queue and child.queue[0].job.id == job_id:
                    child.queue[0].traced(traceparent)
            case Recalled():
                child.is_recalling = False
                self._free(child)
            case Described():
                self._listener.type_described(message)
            case Ready():
                child.was_ready = True
                if child.state is ChildState.STARTING:
                    child.ready_bytes = resident_bytes(child.pid) if child.pid is not None else 0
                    self._listener.child_ready(child, message)
                    self._begin(child)

    def _begin(self, child: Child) -> None:
        """A child that is ready may take jobs, once the one whose place it takes has none left."""
        old = child.replaces
        if old is not None:
            old.is_leaving = True
            if old.state is not ChildState.IDLE:
                return
            self._retire(old)
            child.replaces = None
        child.state = ChildState.IDLE
        self._listener.child_free(child)

    def _next_max_jobs(self) -> int:
        # Not all at once: they started together.
        return max(1, round(self._max_jobs * random.uniform(0.9, 1.0))) if self._max_jobs else 0  # noqa: S311

    def _successor_of(self, child: Child) -> Child | None:
        return next((each for each in self._children.values() if each.replaces is child), None)

    def _take_results(self, child: Child, results: Sequence[Finished]) -> None:
        ended = []
        rest = iter(child.queue)
        running = next(rest, None)
        for finished in results:
            if running is None or running.job.id != finished.job_id:
                self._distrust(child, finished)
                break
            ended.append((running, finished))
            running = next(rest, None)
        if not ended:
            return
        if running is None and child.output is not None:
            # While the job is known here: what it printed last is logged with its id.
            child.output.finish()
        for done, _ in ended:
            child.queue.popleft()
            done.child = None
        if child.jobs_done < child.max_jobs <= child.jobs_done + len(ended):
            self.replace(child, f"it has run {child.jobs_done + len(ended)} jobs")
        child.jobs_done += len(ended)
        if running is not None:
            child.head_since = time.monotonic()
        elif child.state is ChildState.BUSY:
            child.state = ChildState.IDLE
        self._listener.jobs_finished(child, ended)
        self._free(child)

    def _distrust(self, child: Child, finished: Finished) -> None:
        """End a child that told of a job which it can't have run: nobody could tell what became of its others."""
        if child.state is not ChildState.STOPPING:
            running = "none" if child.job is None else f"job {child.job.id}"
            log.error("A child that ran %s told of the end of job %s: it is ended", running, finished.job_id)
        self.stop(child, at_once=True)

    def _free(self, child: Child) -> None:
        """A child may have nothing left to do: jobs come to it, or to the one that takes its place."""
        if child.queue or child.state is not ChildState.IDLE or child.is_recalling:
            return
        if not child.is_leaving:
            self._listener.child_free(child)
        elif (successor := self._successor_of(child)) is not None:
            self._begin(successor)

    def _signal(self, child: Child, signum: signal.Signals) -> None:
        self._spawn(self._tell_nursery(SendSignal(child.number, signum)))

    def _kill_later(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        child.kill_timer = loop.call_later(KILL_SECONDS, self._signal, child, signal.SIGKILL)

    def _bury(self, child: Child, how: str, *, refork: bool = True) -> None:
        """Take a dead child from the books, report its job, and start another one in its place."""
        del self._children[child.number]
        if child.kill_timer is not None:
            child.kill_timer.cancel()
        # What it had said before it died is in the channel's buffer and was its last word; the task reads it.
        self._spawn(self._finish_burying(child, how))
        if (successor := self._successor_of(child)) is not None:
            successor.replaces = None
            if successor.was_ready:
                self._begin(successor)
        if (old := child.replaces) is not None:
            # The old one stays, and is replaced some other time.
            old.is_replaced = old.is_leaving = False
            old.max_jobs = old.jobs_done + self._next_max_jobs() if self._max_jobs else 0
            self._free(old)
        if not self._is_closing and refork:
            # Not its state: that its channel closed may have been heard before its end was, and it was told to stop.
            early_deaths = 0 if child.was_ready else child.early_deaths + 1
            backoff = _RESTART_BACKOFF_SECONDS[min(early_deaths, len(_RESTART_BACKOFF_SECONDS) - 1)]
            if not child.was_ready:
                self._listener.child_failed()
                before = "" if child.pid is None else " before it was ready"
                log.error("A child %s%s; starting another in %s s", how, before, backoff)
            self._fork_later(backoff, early_deaths)

    async def _finish_burying(self, child: Child, how: str) -> None:
        if child.channel is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.channel.closed.wait(), 1)
        child.hear(is_over=True)
        if child.output is not None:
            child.output.drain()
            child.output.finish()
            child.output.close()
        unbegun = child.recall()
        lost = list(child.queue)
        child.queue.clear()
        child.close()
        for running in lost:
            running.child = None
            self._listener.job_lost(running, f"The job's process {how}")
        if unbegun:
            self._listener.jobs_returned(unbegun)
        self._changed.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _fork_later(self, seconds: float, early_deaths: int) -> None:
        def fork() -> None:
            self._timers.discard(timer)
            if not self._is_closing:
                self._spawn(self._fork(early_deaths=early_deaths))

        timer = asyncio.get_running_loop().call_later(seconds, fork)
        self._timers.add(timer)
