"""Structured logging: JSON lines for machines, coloured lines on a terminal, both from ``logging`` records.

Modules log with ``logging.getLogger(__name__)`` and put facts of a job into ``extra`` (`Job.log_facts`). `configure`
decides once, per process, how these records look; docs/logs.md lists the fields.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import structlog

TRACE = 5
LEVELS = {"trace": TRACE, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
"""WORKER_LOG_LEVEL's names, as QuickDapp's worker knows them, to the levels of ``logging``."""

logging.addLevelName(TRACE, "TRACE")


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Send all log records of this process to one stream.

    Args:
        level: One of `LEVELS`; records of third-party libraries below warning need ``debug`` or ``trace``.
        stream: Where to write; standard error by default. A terminal gets readable lines, anything else JSON.
    """
    # Here and not above: it loads rich, most of what a child would import; children log to their supervisor.
    import structlog

    stream = stream or sys.stderr
    on_terminal = stream.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if on_terminal else "iso", utc=not on_terminal),
    ]
    final: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if on_terminal:
        final.append(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    else:
        final += [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING) if level not in ("trace", "debug") else LEVELS[level])
    logging.getLogger("workerjobs").setLevel(LEVELS[level])


def write_to(stream: TextIO) -> None:
    """Send the records from now on to another stream, looking as `configure` has decided."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)
