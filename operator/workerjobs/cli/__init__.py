"""The command line: one module per family of commands, put together in `workerjobs.cli.commands`.

Exit codes: 0 done; 1 it could not be done (or, for waiting commands, the job failed); 2 the input has to be corrected.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from workerjobs.errors import InvalidInputError, WorkerJobsError


def main() -> int:
    """Run the command line; errors come out as sentences, never as tracebacks."""
    if os.getpid() == 1:
        # The kernel has no default action for process 1 of a container: a SIGTERM that comes before a role has a
        # handler of its own would be lost, and its pod work on until it is killed.
        signal.signal(signal.SIGTERM, _end)
    from workerjobs.cli.commands import commands

    try:
        commands()
    except InvalidInputError as error:
        for problem in error.problems:
            print(f"Error: {problem}", file=sys.stderr)  # noqa: T201
        return 2
    except WorkerJobsError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`workerjobs list | head`) has seen enough.
        sys.stderr.close()
        return 1
    return 0


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
