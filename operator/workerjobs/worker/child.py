"""A child: runs the jobs that its supervisor sends, one after another, and tells what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, cast

import msgspec
from msgspec import structs

from workerjobs.domain.lifecycle import encode_result
from workerjobs.errors import InvalidDataError, ResultRefusedError
from workerjobs.jobs.context import JobConnections, JobContext
from workerjobs.jobs.registry import JobType, Registry, UnknownJobTypeError
from workerjobs.logs import LEVELS
from workerjobs.tracing import RunTracing
from workerjobs.worker.configuration import Configuration, inherited
from workerjobs.worker.error_hook import ErrorHook
from workerjobs.worker.failures import describe, traceback_of
from workerjobs.worker.forking import count_threads
from workerjobs.worker.fresh import FreshProcess, end_like
from workerjobs.worker.memory import limited
from workerjobs.worker.messages import (
    NOT_FORKED,
    Bell,
    Described,
    Failing,
    Finished,
    FrameReader,
    Ready,
    Recall,
    Recalled,
    Run,
    Task,
    Traced,
    child_frame,
    frame,
    how_it_ended,
    to_child_decoder,
)
from workerjobs.worker.output import mark
from workerjobs.worker.results import Results
from workerjobs.worker.streams import Streams
from workerjobs.worker.telling import ChannelHandler, ProgressSender

if TYPE_CHECKING:
    from workerjobs.ports.for_jobs import StorageForJobs

log = logging.getLogger(__name__)

RECEIVE_BYTES = 256 * 1024
RING_SECONDS = 0.003
"""Results wait so long for others while there is more to do."""
BLOCKED_LOOP_SECONDS = 1.0
"""An ``async`` job whose event loop did not come round for so long is interrupted where it blocks."""


# Not signal.getsignal, which looks for what it finds in an enum: that takes as long as a tiny job.
_handler_of: Callable[[int], Any] = importlib.import_module("_signal").getsignal


class JobInterruptedError(BaseException):
    """Raised inside a running job that must end now: it was cancelled, timed out, or the worker stops.

    Not an `Exception`, so that a job's ``except Exception`` does not swallow it; ``finally`` blocks run.
    """


class Child:
    """One child's loop."""

    def __init__(self, channel: socket.socket, permits: int, results: int, configuration: Configuration) -> None:
        self._channel = channel
        self._permits = permits
        self._results = Results(results)
        self._rang_at = 0.0
        self._frames = FrameReader()
        self._described: set[str] = set()
        """Types that the supervisor knows all about."""
        self._tasks: deque[tuple[Task, bool]] = deque()
        """What is to be run, and whether it follows another job without the supervisor's knowing when."""
        self._configuration = configuration
        self._registry = Registry(configuration.job_modules, has_chains=configuration.has_chains)
        self._sending = threading.Lock()
        self._is_running = False
        self._is_interrupted = False
        self._cancel: Callable[[], None] | None = None
        """Ends the ``async`` job that is running."""
        self._streams = Streams()
        self._fresh = FreshProcess()
        self._tracing: RunTracing | None = None
        self._error_hook: ErrorHook | None = None
        self._is_reporting = False
        """The error hook is running."""
        self._is_to_end = False
        """This process takes no other job."""

    def run(self) -> int:
        """Run jobs until the channel closes; returns the exit code."""
        try:
            return self._run_jobs()
        finally:
            if self._tracing is not None:
                self._tracing.close()

    def _run_jobs(self) -> int:
        signal.signal(signal.SIGTERM, self._interrupt)
        self._configure_logging()
        self._registry.import_modules()
        descriptions = self._registry.descriptions()
        self._described.update(name for name, each in descriptions.items() if each.is_loaded)
        for name, failure in self._registry.failures.items():
            log.error("The job module %s can't be imported", name, exc_info=failure)
        self._tracing = RunTracing.where_used(exports=self._configuration.traces)
        if self._configuration.error_hook is not None:
            self._error_hook = ErrorHook.load(self._configuration.error_hook)
        self._send(Ready(descriptions, self._registry.problems()))
        while True:
            # Without a permit the jobs that wait here were recalled: the next message but for some more jobs says so.
            if not self._tasks or not self._take_permit():
                if not self._listen():
                    return 0
                continue
            task, is_following = self._tasks.popleft()
            if is_following:
                with contextlib.suppress(OSError):
                    os.write(1, mark(task.job_id))
            if not self._run(task):
                return 0

    def _take_permit(self) -> bool:
        try:
            os.eventfd_read(self._permits)
        except BlockingIOError:
            return False
        return True

    def _listen(self) -> bool:
        """Wait for messages and take them; False when the supervisor closed the channel."""
        bodies: list[bytes] = []
        while not bodies:
            data = self._channel.recv(RECEIVE_BYTES)
            if not data:
                return False
            bodies = self._frames.feed(data)
        for body in bodies:
            match to_child_decoder.decode(body):
                case Run(tasks=tasks, is_following=is_following):
                    for task in tasks:
                        self._tasks.append((task, is_following))
                        is_following = True
                case Recall():
                    self._tasks.clear()
                    self._send(Recalled())
        return True

    def _run(self, task: Task) -> bool:
        """Run one job and tell what became of it; False when this process has to end."""
        started = time.monotonic()
        # Also one whose module was imported along with another type.
        if task.job_type not in self._described:
            loading = self._attempt(task, started, lambda _: self._load(task.job_type))
            if loading is None or not loading.success:
                return self._tell(loading)
        job_type = self._registry.find(task.job_type)
        is_fresh = "fresh" in (self._configuration.isolation, job_type.options.isolation)
        if is_fresh and count_threads() == 1:
            return self._run_apart(task, job_type, started)
        finished = self._attempt(task, started, lambda progress: self._call(task, job_type, progress))
        is_told = finished is not None
        if finished is not None:
            self._streams.flush()
            self._put(finished)
        # With threads of the job modules it can't be forked: then this was the process for that job alone.
        return is_told and not is_fresh and not self._is_to_end

    def _run_apart(self, task: Task, job_type: JobType, started: float) -> bool:
        """Run one job in a process of its own, and tell what became of it where that can't tell it."""
        with contextlib.suppress(Exception):
            # Once here, and not in every process that asks for a connection. What fails, fails in the job as well.
            if self._configuration.database_url and job_type.arguments.takes_context:
                self._load_storage()
        self._streams.flush()
        told_before = self._results.apart
        try:
            is_copy = self._fresh.fork()
        except OSError:
            exit_code = NOT_FORKED
        else:
            if is_copy:
                self._be_fresh(task, job_type, started)
            exit_code = self._fresh.wait()
        if self._is_interrupted:
            return False
        if self._fresh.is_sending:
            # Whatever else came on the channel would be taken for the rest of that message.
            end_like(exit_code)
        if self._results.apart == told_before:
            how = f"The job's process {how_it_ended(exit_code)}"
            self._send(Finished(task.job_id, False, error=how, started=started, finished=time.monotonic()))
        return True

    def _be_fresh(self, task: Task, job_type: JobType, started: float) -> NoReturn:
        """Be the copy: run the job, tell what became of it, and end."""
        exit_code = 70
        try:
            self._tell(self._attempt(task, started, lambda progress: self._call(task, job_type, progress)))
            exit_code = 0
        except BaseException:  # noqa: BLE001  # nothing may leave this frame but through os._exit
            traceback.print_exc()
        finally:
            if self._tracing is not None:
                self._tracing.close()
            os._exit(exit_code)

    def _tell(self, finished: Finished | None) -> bool:
        """Send how a job ended, after all that it printed; False for one that was interrupted."""
        if finished is None:
            return False
        self._streams.flush()
        self._send(finished)
        return True

    def _attempt(self, task: Task, started: float, function: Callable[[ProgressSender], Any]) -> Finished | None:
        """Call what belongs to a job; None when it was interrupted and this process has to end."""
        progress = ProgressSender(task.job_id, self._send)
        # The job before this one may have set its own handler.
        if _handler_of(signal.SIGTERM) != self._interrupt:
            signal.signal(signal.SIGTERM, self._interrupt)
        pid = os.getpid()
        error = trace = ""
        failure: BaseException | None = None
        result_json = "null"
        try:
            self._is_running = True
            result = function(progress)
            self._is_running = False
            result_json = _encode(result)
        except _RefusedError as problem:
            error, failure = str(problem), problem.__cause__
        except BaseException as problem:  # noqa: BLE001  # also SystemExit: a job must not end its process
            if self._is_interrupted or isinstance(problem, JobInterruptedError):
                # Whatever came of it while it cleaned up: who interrupted it knows why it ended.
                return None
            error, trace, failure = describe(problem), traceback_of(problem, __file__), problem
        finally:
            self._is_running = False
            if os.getpid() != pid:
                # The job forked, and this copy of it came back here. It must not speak for its original.
                os._exit(0)
            progress.flush()
        finished = Finished(task.job_id, not error, result_json, error, trace, started, time.monotonic())
        if failure is not None and self._error_hook is not None:
            self._send(Failing(finished))
            self._report(self._error_hook, task, failure)
        # It holds this frame, and with it all that the job worked on.
        failure = None
        return finished

    def _load(self, job_type: str) -> None:
        """Import what runs a type, and say what it is."""
        try:
            found = self._registry.find(job_type)
        except UnknownJobTypeError as error:
            # Not what the job's function raises: a traceback would say nothing.
            raise _RefusedError(str(error)) from error
        self._send(Described(found.describe()))
        self._described.add(job_type)
        if self._tracing is None:
            # What was imported may use OpenTelemetry.
            self._tracing = RunTracing.where_used(exports=False)

    def _report(self, hook: ErrorHook, task: Task, failure: BaseException) -> None:
        """Tell the error hook that a job failed; a process whose hook may still be running takes no other job."""
        self._is_reporting = True
        try:
            self._is_to_end = not hook.call(failure, self._context_of(task))
        except JobInterruptedError:
            # Told to end: the job has failed all the same, and says so.
            self._is_to_end = True
        finally:
            self._is_reporting = False

    def _call(self, task: Task, job_type: JobType, progress: ProgressSender) -> Any:
        if self._tracing is None:
            return self._call_limited(task, job_type, progress)
        with self._tracing.run(
            task.job_id, task.job_type, task.attempt, task.traceparent, is_root=task.is_cron
        ) as traceparent:
            if traceparent is not None and traceparent != task.traceparent:
                self._send(Traced(task.job_id, traceparent))
                task = structs.replace(task, traceparent=traceparent)
            return self._call_limited(task, job_type, progress)

    def _call_limited(self, task: Task, job_type: JobType, progress: ProgressSender) -> Any:
        try:
            data = job_type.arguments.parse(task.data_json, task.hidden)
        except InvalidDataError as error:
            raise _RefusedError(str(error)) from error
        limit_mib = job_type.options.memory_mib or self._configuration.memory_mib
        if limit_mib is None:
            return self._call_function(task, job_type, data, progress)
        with limited(limit_mib):
            return self._call_function(task, job_type, data, progress)

    def _call_function(self, task: Task, job_type: JobType, data: Any, progress: ProgressSender) -> Any:
        if not job_type.arguments.takes_context:
            return self._result_of(job_type.function(data))
        connections = JobConnections(self._configuration.database_url, self._load_storage)
        try:
            return self._result_of(job_type.function(data, self._context_of(task, progress.report, connections)))
        finally:
            connections.close()

    def _context_of(
        self,
        task: Task,
        report_progress: Callable[[str], None] = lambda progress_json: None,
        connections: JobConnections | None = None,
    ) -> JobContext:
        return JobContext(
            job_id=task.job_id,
            job_type=task.job_type,
            attempt=task.attempt,
            user_id=task.user_id,
            tag=task.tag,
            fencing_token=task.fencing_token,
            database_url=self._configuration.database_url,
            traceparent=task.traceparent,
            report_progress=report_progress,
            is_cancelled=lambda: self._is_interrupted,
            connections=connections or JobConnections(),
        )

    def _result_of(self, returned: Any) -> Any:
        return asyncio.run(self._finish(returned)) if inspect.isawaitable(returned) else returned

    async def _finish(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for an ``async`` job. Interrupting it cancels its task, as Ctrl-C does with `asyncio.run`.

        An exception raised wherever the loop happens to be would mostly end some other task, or only be logged.
        """
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            task.cancel()

        def cancel_soon() -> None:
            signal.signal(signal.SIGALRM, _interrupt_here)
            signal.setitimer(signal.ITIMER_REAL, BLOCKED_LOOP_SECONDS)
            loop.call_soon_threadsafe(cancel)

        self._cancel = cancel_soon
        try:
            return await awaitable
        finally:
            self._cancel = None

    def _load_storage(self) -> StorageForJobs:
        return cast("StorageForJobs", importlib.import_module(self._configuration.storage))

    def _interrupt(self, *_: object) -> None:
        if self._fresh.is_running:
            # This process ends once the job has cleaned up.
            self._is_interrupted = True
            self._fresh.interrupt()
            return
        if self._is_reporting:
            self._is_interrupted = True
            raise JobInterruptedError
        if not self._is_running:
            os._exit(0)
        # Once is enough: a second signal would interrupt the job's own cleaning up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._is_interrupted = True
        if self._cancel is None:
            raise JobInterruptedError
        self._cancel()

    def _configure_logging(self) -> None:
        root = logging.getLogger()
        root.handlers[:] = [ChannelHandler(self._send)]
        root.setLevel(LEVELS[self._configuration.log_level])
        logging.captureWarnings(True)
        self._streams.open()

    def _put(self, finished: Finished) -> None:
        """Say how a job ended, cheaply where there is more to do at once."""
        with self._sending:
            is_put = self._results.put(frame(finished))
        if not is_put:
            self._send(finished)
        elif not self._tasks or finished.finished - self._rang_at > RING_SECONDS:
            self._rang_at = finished.finished
            self._send(Bell())

    def _send(self, message: msgspec.Struct) -> None:
        with self._sending:
            is_result = isinstance(message, Finished)
            data = child_frame(message, self._results.written, self._results.apart + is_result)
            # Of a process that dies from here on the channel can't be used: so what it counts as sent, it has sent.
            self._fresh.is_sending = True
            if is_result:
                self._results.goes_apart()
            self._channel.sendall(data)
            self._fresh.is_sending = False


class _RefusedError(Exception):
    """The job's data or its result is not accepted; with a sentence."""


def _encode(result: object) -> str:
    try:
        return encode_result(result)
    except ResultRefusedError as error:
        raise _RefusedError(str(error)) from error


def _interrupt_here(*_: object) -> None:
    raise JobInterruptedError


def main(channel: socket.socket, permits: int, results: int) -> int:
    """Run a child on its channel, its counter of permits and its memory of results; returns the exit code."""
    try:
        return Child(channel, permits, results, inherited()).run()
    except (ConnectionError, BrokenPipeError):
        return 0
