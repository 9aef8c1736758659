"""The command line: one module per family of commands, put together in `workerjobs.cli.commands`.

Exit codes: 0 done; 1 it could not be done (or, for waiting commands, the job failed); 2 the input has to be corrected.
"""

from __future__ import annotations

import sys

from workerjobs.errors import InvalidInputError, WorkerJobsError


def main() -> int:
    """Run the command line; errors come out as sentences, never as tracebacks."""
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
