"""Error classes. Each says what a caller can do about it and carries fields beside its sentence.

Every message is one sentence or a short list that a person can act on: the command line prints it as it is, without a
traceback. Driver errors (psycopg, kubernetes) are translated where they arise, with ``raise … from``.
"""

from __future__ import annotations

from collections.abc import Sequence


class WorkerJobsError(Exception):
    """Base of all errors that WorkerJobs raises on purpose."""


class InvalidInputError(WorkerJobsError):
    """The input has to be corrected; trying again as it is fails again.

    Attributes:
        problems: One sentence each, all that were found, never empty.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class InvalidDataError(InvalidInputError):
    """A job's data is not what its type takes."""


class InvalidSettingsError(InvalidInputError):
    """Environment variables or flags have to be corrected."""


class InvalidScheduleError(InvalidInputError):
    """A cron schedule or time zone can't be used."""


class DatabaseUnavailableError(WorkerJobsError):
    """The database can't be reached now; trying again later may work."""


class DatabaseRefusedError(WorkerJobsError):
    """The database answered and refuses this client (password, account, database name, privileges)."""


class SchemaError(WorkerJobsError):
    """The database's schema is missing, older or newer than this release works with."""


class ResultRefusedError(WorkerJobsError):
    """The database can't store a value, such as a NUL character in a result."""


class NotFoundError(WorkerJobsError):
    """What was named does not exist."""


class PlaceUnavailableError(WorkerJobsError):
    """The server that commands work at can't be reached or can't serve now; trying again later may work."""


class PlaceRefusedError(WorkerJobsError):
    """The server that commands work at refuses: the token, its scope, or what it is asked for."""


class ClusterError(WorkerJobsError):
    """The Kubernetes API can't be reached, or refuses a call."""


class ClusterUnavailableError(ClusterError):
    """The Kubernetes API can't be reached or can't serve now; trying again later may work."""


class LeadershipLostError(ClusterUnavailableError):
    """This operator does not lead any more, or can't know: it writes nothing, and is about to end."""


class ChainError(WorkerJobsError):
    """A chain can't be processed until somebody changes something."""


class ChainHandlerError(WorkerJobsError):
    """The function of a chain filter raised; nothing of the step was committed."""


class ChainUnavailableError(WorkerJobsError):
    """No endpoint of a chain answers now; trying again later may work."""


class ChainRefusedError(ChainError):
    """A node of a chain answers a request with an error.

    Attributes:
        reason: What it said, without anything of ours.
    """

    def __init__(self, message: str, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class EmbeddedPostgresError(WorkerJobsError):
    """The embedded Postgres can't be started here; its message says why.

    Attributes:
        log: The end of what Postgres said, one line each; empty where it said nothing.
    """

    def __init__(self, message: str, log: Sequence[str] = ()) -> None:
        self.log = list(log)
        super().__init__(f"{message}: {' | '.join(log)}" if log else message)
