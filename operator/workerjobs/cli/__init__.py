"""The command line: one module per family of commands, put together in `workerjobs.cli.commands`.

Exit codes: 0 done; 1 it could not be done (or the job that was waited for failed); 2 the input has to be corrected;
3 the job that was waited for was cancelled; 124 the time to wait was up; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from workerjobs.errors import InvalidInputError, WorkerJobsError

FAILED, INVALID, CANCELLED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 124, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; errors come out as sentences, never as tracebacks.

    Args:
        arguments: Without the program's name; None: this process's.
    """
    if os.getpid() == 1:
        # The kernel has no default action for process 1 of a container: a SIGTERM that comes before a role has a
        # handler of its own would be lost, and its pod work on until it is killed.
        signal.signal(signal.SIGTERM, _end)
    from workerjobs.cli.commands import commands
    from workerjobs.cli.places import first

    try:
        commands(first(sys.argv[1:] if arguments is None else arguments), prog_name="workerjobs")
    except InvalidInputError as error:
        for problem in error.problems:
            print(f"Error: {problem}", file=sys.stderr)  # noqa: T201
        return INVALID
    except WorkerJobsError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`workerjobs list | head`) has seen enough.
        sys.stderr.close()
        return FAILED
    return 0


def kubectl_plugin() -> int:
    """Run as ``kubectl workerjobs``: at the kubeconfig's current cluster, where nothing else is said."""
    from workerjobs.cli.places import CURRENT

    given = sys.argv[1:]
    names = {each.partition("=")[0] for each in given}
    return main(given if names & {"--server", "--context"} else ["--context", CURRENT, *given])


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
