"""A child's standard output and standard error, which jobs print to, close and replace."""

from __future__ import annotations

import contextlib
import os
import sys


class Streams:
    """Both streams of this process; after each job they are flushed, and good again for the next."""

    def open(self) -> None:
        """Make ``sys.stdout`` and ``sys.stderr`` anew."""
        # New streams: the inherited ones were made for what the supervisor writes to, perhaps a file that can seek.
        # Lines show up while the job runs; what is no text must not fail a print.
        sys.stdout, sys.stderr = (
            os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
            for descriptor in (1, 2)
        )
        self._open = (sys.stdout, sys.stderr)

    def flush(self) -> None:
        """Flush what the job printed; one that closed or replaced its streams leaves good ones to the next."""
        output, errors = self._open
        if sys.stdout is output and sys.stderr is errors:
            try:
                output.flush()
                errors.flush()
            except Exception:  # noqa: BLE001  # a closed stream, or one whose descriptor is gone
                self.open()
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self.open()
