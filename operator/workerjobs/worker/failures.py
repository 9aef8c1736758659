"""What a child says of an exception: text that can be sent and stored, whatever a job raised."""

from __future__ import annotations

import traceback

from workerjobs.errors import WorkerJobsError

TEXT_LIMIT = 100_000
"""Characters of an error, a traceback or a log message that are sent; a frame has to stay below its limit."""


def describe(error: BaseException) -> str:
    """One line for the row: the error's class and text; WorkerJobs' own errors are sentences already."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001
        # A user's exception class may be unable to say what it is.
        text = ""
    if isinstance(error, WorkerJobsError) and text:
        return storable(text)
    return storable(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def traceback_of(error: BaseException, file: str) -> str:
    """The traceback from the job's function on; the frames before it are of ``file`` and say nothing to its author."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == file:
        frames = frames.tb_next
    return storable("".join(traceback.format_exception(type(error), error, frames or error.__traceback__)))


def storable(text: str) -> str:
    """Make text that can be encoded, and cut what is too long: its beginning and its end say most."""
    if len(text) > TEXT_LIMIT:
        half = TEXT_LIMIT // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
    return text.encode(errors="backslashreplace").decode()
