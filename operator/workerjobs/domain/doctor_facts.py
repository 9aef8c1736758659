"""What `workerjobs doctor` has to know of a database; `workerjobs.storage.doctor` gathers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

SETTINGS = (
    "autovacuum",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "fsync",
    "full_page_writes",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "synchronous_commit",
    "track_counts",
)
"""Server settings that the checks look at, as they are for WorkerJobs' account; durations in milliseconds."""
LATE = timedelta(minutes=1)
"""A row that has been due for so long waits for something other than its turn."""
SILENCE = timedelta(seconds=15)
"""A worker that has not shown itself for so long, a lease, does not count as alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server and this account's place in it."""

    now: datetime
    version: int
    """As server_version_num: 180001 for 18.1."""
    is_replica: bool
    encoding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """Connections taken and allowed, by one of the limits that there are."""

    place: str
    """``server``, ``database`` or ``account``."""
    used: int
    allowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """An open transaction of someone else."""

    name: str
    state: str
    age: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How WorkerJobs gets to the database."""

    is_pooled: bool
    has_direct_url: bool
    problem: str | None = None
    """Why the direct URL can't be used."""
    announced_after: timedelta | None = None
    """How long an announcement took to come back; None: it did not, or could not be tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The database's schema beside this release's; versions are numbers of migrations."""

    version: int | None
    compatible_from: int | None
    release: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """What the account lacks on one table or sequence."""

    name: str
    missing: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The state of ``"workerJobs"``."""

    live_rows: int
    dead_rows: int
    last_vacuum: datetime | None
    bytes: int
    """Without indexes."""
    row_bytes: float | None
    """What a row needs by the planner's statistics; None before the first ANALYZE."""
    frozen_age: int
    """Transactions."""
    is_vacuumed: bool
    """Autovacuum is not switched off for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One index of the table."""

    name: str
    bytes: int
    entries: float
    """By the last vacuum or analyze; negative where it is not known."""
    is_valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """Running rows that nobody seems to run."""

    expired: int
    """Past their deadline for longer than any rescue takes."""
    without_lease: int
    """Started by other programs more than half an hour ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool with rows that have been due for longer than `LATE` and are not paused."""

    name: str
    late: int
    waited: timedelta
    """The longest."""
    workers: int
    """Live ones of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CronLine:
    """A cron job with its unfinished row, or, where it has none, its last one."""

    job_id: int
    key: str | None
    type: str
    schedule: str
    time_zone: str | None
    is_unfinished: bool
    late: timedelta
    """How long its pending row has been due; zero where it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownType:
    """A type of pending rows that no live worker of their pool knows."""

    type: str
    pool: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What the tables hold; not to be had without them, or without the right to read them."""

    table: Table
    indexes: Sequence[Index]
    disabled_triggers: Sequence[str]
    leases: Leases
    pools: Sequence[Pool]
    cron_lines: Sequence[CronLine]
    workers: int
    """Live ones."""
    unknown_types: Sequence[UnknownType]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the checks know."""

    server: Server
    settings: Mapping[str, str]
    clock_difference: timedelta
    """The database's clock less this machine's; half a round trip is its error."""
    connections: Sequence[Connections]
    transactions: Sequence[Transaction]
    """Oldest first."""
    way: Way
    schema: Schema
    privileges: Sequence[Privileges]
    tables: Tables | None
