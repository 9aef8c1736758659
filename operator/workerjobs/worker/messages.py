"""What supervisor, nursery and children say to each other: typed messages, MessagePack, over Unix sockets.

Between supervisor and child a stream of frames (4 bytes of length, big-endian, then the message); between supervisor
and nursery one message a packet.

Beside its stream a child has a counter of permits (an eventfd). The supervisor adds one for each job before it sends
the job; the child takes one before it begins a job. Whoever takes a permit decides: by taking what is left the
supervisor recalls all jobs that were not begun, whatever the child is doing, and knows exactly which ones they are.
"""

from __future__ import annotations

import signal
import struct

import msgspec

from workerjobs.jobs.registry import JobDescription

FRAME_LIMIT_BYTES = 64 * 1024 * 1024
"""No honest message comes near this; a longer one means that a channel was written to by something else."""
_LENGTH = struct.Struct(">I")
_POSITION = struct.Struct(">QQ")
HEADER_BYTES = _LENGTH.size
NOT_FORKED = 1000
"""In `Exited`, instead of an exit code: the child never was."""


class Task(msgspec.Struct, frozen=True, array_like=True):
    """One job to run."""

    job_id: int
    job_type: str
    data_json: str
    attempt: int
    user_id: int
    tag: str | None
    fencing_token: int
    traceparent: str | None = None
    is_cron: bool = False
    """A run of a cron line, which begins a trace of its own."""
    hidden: list[str] = []
    """Fields of the data whose values are secret: no sentence about the data shows them."""


class Run(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Supervisor to child: run these jobs, one after another, each once there is a permit for it."""

    tasks: list[Task]
    is_following: bool = False
    """The child has other jobs before these; each job but the first one follows another in any case."""


class Recall(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Supervisor to child: forget the jobs that were not begun; their permits are gone already."""


class Ready(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Child to supervisor: job modules are imported, jobs may come."""

    types: dict[str, JobDescription]
    """The job types that it knows, by name."""
    problems: list[str] = []
    """Sentences about job modules that can't be imported."""


class Described(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Child to supervisor: a type whose module was imported for its first job."""

    description: JobDescription


class Bell(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Child to supervisor: there are results (`workerjobs.worker.results`)."""


class Recalled(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Child to supervisor: the jobs that were not begun are forgotten; new ones may come."""


class Finished(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Child to supervisor: the job's function returned or raised."""

    job_id: int
    success: bool
    result_json: str = "null"
    error: str = ""
    traceback: str = ""
    started: float = 0.0
    """When the function was called, on the clock of `time.monotonic`, which all processes of a machine share."""
    finished: float = 0.0
    """When it ended, likewise."""


class Failing(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Child to supervisor: the job failed, and the error hook is told of it, which may take the process with it."""

    finished: Finished


class Reported(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Child to supervisor: progress of the running job."""

    job_id: int
    progress_json: str


class Traced(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Child to supervisor: a run begins, as this span of a trace."""

    job_id: int
    traceparent: str


class Logged(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Child to supervisor: a log record."""

    logger: str
    level: int
    message: str
    traceback: str = ""


ToChild = Run | Recall
FromChild = Ready | Bell | Described | Recalled | Finished | Failing | Reported | Traced | Logged


class Fork(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to nursery: fork a child; its channel, output pipe and permits come along as file descriptors."""

    child: int


class SendSignal(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to nursery: signal a child's whole process group, if the child is alive."""

    child: int
    signal: int


class Forked(msgspec.Struct, tag=True, frozen=True):
    """Nursery to supervisor: the child exists."""

    child: int
    pid: int


class Exited(msgspec.Struct, tag=True, frozen=True):
    """Nursery to supervisor: the child is gone, and nothing is left of its process group."""

    child: int
    exit_code: int
    """As `os.waitstatus_to_exitcode` gives it: negative for a signal; or `NOT_FORKED`."""


ToNursery = Fork | SendSignal
FromNursery = Forked | Exited

encode = msgspec.msgpack.Encoder().encode
to_child_decoder = msgspec.msgpack.Decoder(ToChild)
from_child_decoder = msgspec.msgpack.Decoder(FromChild)
result_decoder = msgspec.msgpack.Decoder(Finished)
to_nursery_decoder = msgspec.msgpack.Decoder(ToNursery)
from_nursery_decoder = msgspec.msgpack.Decoder(FromNursery)


def how_it_ended(exit_code: int) -> str:
    """Say how a process ended, to go after its name; see `Exited.exit_code`."""
    if exit_code == NOT_FORKED:
        return "could not be started: no memory, or too many processes"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was killed by signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"


def frame(message: msgspec.Struct) -> bytes:
    """Encode a message with its length before it."""
    body = encode(message)
    return _LENGTH.pack(len(body)) + body


def child_frame(message: msgspec.Struct, position: int, apart: int) -> bytes:
    """Encode what a child says.

    Args:
        message: What.
        position: Bytes of results that it had written before.
        apart: Results that went over the channel so far, with this one.
    """
    body = encode(message)
    return _LENGTH.pack(len(body) + _POSITION.size) + _POSITION.pack(position, apart) + body


def read_child_frame(body: bytes) -> tuple[int, int, FromChild]:
    """Decode what `child_frame` made: position, apart, message.

    Raises:
        ValueError: It is no message.
    """
    if len(body) <= _POSITION.size:
        raise ValueError(f"a frame of {len(body)} bytes")
    position, apart = _POSITION.unpack_from(body)
    return position, apart, from_child_decoder.decode(memoryview(body)[_POSITION.size :])


class FrameReader:
    """Cuts a stream into the bodies of its frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what came; returns the bodies that are complete now.

        Raises:
            ValueError: A frame is longer than any message.
        """
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        start, size = 0, len(buffer)
        while size - start >= HEADER_BYTES:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > FRAME_LIMIT_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            end = start + HEADER_BYTES + length
            if end > size:
                break
            bodies.append(bytes(buffer[start + HEADER_BYTES : end]))
            start = end
        if start:
            del buffer[:start]
        return bodies
