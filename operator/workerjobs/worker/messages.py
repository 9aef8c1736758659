"""What supervisor, nursery and children say to each other: typed messages, MessagePack, over Unix sockets.

Between supervisor and child a stream of frames (4 bytes of length, big-endian, then the message); between supervisor
and nursery one message a packet.
"""

from __future__ import annotations

import struct

import msgspec

FRAME_LIMIT_BYTES = 16 * 1024 * 1024
"""No honest message comes near this; a longer one means that a child's channel was written to by something else."""
_LENGTH = struct.Struct(">I")
HEADER_BYTES = _LENGTH.size
NOT_FORKED = 1000
"""In `Exited`, instead of an exit code: the child never was."""


class Run(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to child: run this job."""

    job_id: int
    job_type: str
    data_json: str
    attempt: int
    user_id: int
    tag: str | None
    fencing_token: int


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Child to supervisor: job modules are imported, jobs may come."""


class Finished(msgspec.Struct, tag=True, frozen=True):
    """Child to supervisor: the job's function returned or raised."""

    job_id: int
    success: bool
    result_json: str = "null"
    error: str = ""
    traceback: str = ""


class Reported(msgspec.Struct, tag=True, frozen=True):
    """Child to supervisor: progress of the running job."""

    job_id: int
    progress_json: str


class Logged(msgspec.Struct, tag=True, frozen=True):
    """Child to supervisor: a log record."""

    logger: str
    level: int
    message: str
    traceback: str = ""


FromChild = Ready | Finished | Reported | Logged


class Fork(msgspec.Struct, tag=True, frozen=True):
    """Supervisor to nursery: fork a child; its channel and its output pipe come along as file descriptors."""

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
run_decoder = msgspec.msgpack.Decoder(Run)
child_decoder = msgspec.msgpack.Decoder(FromChild)
to_nursery_decoder = msgspec.msgpack.Decoder(ToNursery)
from_nursery_decoder = msgspec.msgpack.Decoder(FromNursery)


def frame(message: msgspec.Struct) -> bytes:
    """Encode a message with its length before it."""
    body = encode(message)
    return _LENGTH.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """Read a frame's length.

    Raises:
        ValueError: Longer than any message.
    """
    (length,) = _LENGTH.unpack(header)
    if length > FRAME_LIMIT_BYTES:
        raise ValueError(f"a frame of {length} bytes")
    return int(length)
