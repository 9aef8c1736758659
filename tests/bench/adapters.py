"""What is compared: how each queue's program is started, and how its rows are looked at.

The programs themselves, with each queue's settings, are in ``peers/``; all follow ``peers/python/protocol.py``.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tests.bench import environments
from tests.bench.environments import PEERS

Profile = Literal["drain", "pickup", "cpu"]
"""What a worker's settings are chosen for: many tiny jobs, one job in an idle worker, two cores kept busy."""


class Adapter(Protocol):
    """One queue, as the measures see it."""

    @property
    def name(self) -> str:
        """As in the report and on the command line."""

    @property
    def runs(self) -> str:
        """Version of the queue and of what it runs on."""

    @property
    def settings(self) -> str:
        """Its settings in a few words, for the report."""

    @property
    def drain_jobs(self) -> int | None:
        """Fewer jobs than asked for to drain, where it would take minutes; the rate is the same."""

    @property
    def environment(self) -> Mapping[str, str]:
        """More environment of its programs."""

    @property
    def unfinished(self) -> str:
        """SQL: whether a job is pending or running; ``%(jobs)s`` is how many were submitted so far."""

    @property
    def kept(self) -> str | None:
        """SQL: how many rows of jobs that succeeded there are; None where they are deleted or soon pruned."""

    def client(self) -> Sequence[str]:
        """Command of the program that makes the schema and submits jobs. LeftOutError: it can't run here."""

    def workers(self, profile: Profile) -> Sequence[Sequence[str]]:
        """Commands of the worker's processes, which run at the same time."""

    def bare(self, count: int) -> Sequence[str]:
        """Command that does the work of ``count`` cpu jobs with no queue, in the same language."""


@dataclass(frozen=True)
class Peer:
    """A queue whose program follows the protocol in all modes; see `Adapter` for the fields."""

    name: str
    runs: str
    settings: str
    command: Callable[[], Sequence[str]]
    unfinished: str
    kept: str | None
    processes: Mapping[Profile, int] = field(default_factory=dict)
    """How many worker processes there are for a profile, where not one."""
    drain_jobs: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def client(self) -> Sequence[str]:
        return [*self.command(), "client"]

    def workers(self, profile: Profile) -> Sequence[Sequence[str]]:
        return [[*self.command(), "worker", profile]] * self.processes.get(profile, 1)

    def bare(self, count: int) -> Sequence[str]:
        return [*self.command(), "bare", str(count)]


@dataclass(frozen=True)
class Ours:
    """`workerjobs worker` as users start it; its jobs are in ``bench_jobs.py``."""

    name: str = "workerjobs"
    isolation: str = "warm"
    drain_jobs: int | None = None
    # As two conditions that there are indexes for, of pending and of running rows.
    unfinished: str = """
        SELECT EXISTS (
            SELECT FROM "workerJobs" WHERE started IS NULL AND finished IS NULL AND "concurrencyKey" IS NULL
        ) OR EXISTS (SELECT FROM "workerJobs" WHERE started IS NOT NULL AND finished IS NULL)
    """

    @property
    def kept(self) -> str:
        # A job's own result, (process id, how manieth call there), is in every row: no call stands for two rows, and
        # where every job has a process of its own, no process does.
        proof = "(result ->> 'pid', result ->> 'call')" if self.isolation == "warm" else "result ->> 'pid'"
        return f"""
            SELECT CASE WHEN count(*) = count(DISTINCT {proof})
                         AND bool_and((result ->> 'number')::bigint = (data ->> 'number')::bigint)
                        THEN count(*) ELSE -1 END
            FROM "workerJobs" WHERE success AND type IN ('noop', 'cpu')
        """

    @property
    def runs(self) -> str:
        return f"{importlib.metadata.version('workerjobs')}, {_python()}"

    @property
    def settings(self) -> str:
        return "2 children" if self.isolation == "warm" else "2 children, a new process for every job"

    @property
    def environment(self) -> Mapping[str, str]:
        more = {} if self.isolation == "warm" else {"WORKER_ISOLATION": self.isolation}
        return more | {
            "WORKER_COUNT": "2",
            "WORKER_JOB_MODULES": str(PEERS.parent / "bench_jobs.py"),
            "WORKER_HEALTH_PORT": "off",
            "WORKER_LOG_LEVEL": "error",
            "WORKER_BUILTIN_JOBS": "off",
        }

    def client(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.bench.peers.ours", "client"]

    def workers(self, profile: Profile) -> Sequence[Sequence[str]]:
        return [[sys.executable, "-m", "workerjobs", "worker"]]

    def bare(self, count: int) -> Sequence[str]:
        return [sys.executable, "-m", "tests.bench.peers.ours", "bare", str(count)]


def _python() -> str:
    return f"Python {sys.version_info.major}.{sys.version_info.minor}"


def _python_peer(name: str, oldest: tuple[int, int] = (3, 11)) -> Callable[[], Sequence[str]]:
    return lambda: [str(environments.python(name, oldest)), str(PEERS / "python" / f"peer_{name}.py")]


def _node_peer(name: str) -> Callable[[], Sequence[str]]:
    def command() -> Sequence[str]:
        binary, folder = environments.node()
        return [str(binary), str(folder / f"{name}.mjs")]

    return command


def _pinned(requirements: str, package: str) -> str:
    lines = (PEERS / "python" / f"{requirements}.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.lower().startswith(f"{package}=="))


# One event loop can keep one core busy: two processes for two.
_TWO_FOR_CPU: Mapping[Profile, int] = {"cpu": 2}

PEER_LIST: Sequence[Peer] = (
    Peer(
        name="graphile-worker",
        runs="0.18.0, Node 24",
        settings="concurrency 24, localQueue 500, completeJobBatchDelay 0 (its docs); deletes jobs",
        command=_node_peer("graphile_worker"),
        unfinished="SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)",
        kept=None,
        processes=_TWO_FOR_CPU,
    ),
    Peer(
        name="pg-boss",
        runs="12.38.0, Node 24",
        settings="batches of 1,000, fetching on while they are full, LISTEN/NOTIFY, a table of its own",
        command=_node_peer("pg_boss"),
        unfinished="SELECT EXISTS (SELECT FROM pgboss.job WHERE name <> '__pgboss__' AND state < 'completed')",
        kept="SELECT count(*) FROM pgboss.job WHERE state = 'completed' AND name IN ('noop', 'cpu')",
        processes=_TWO_FOR_CPU,
    ),
    Peer(
        name="river",
        runs="0.51.2, Go",
        settings="2,000 workers, fetch cooldown 2 ms (its own benchmark's), batch completer, InsertManyFast",
        command=lambda: [str(environments.river())],
        unfinished="SELECT EXISTS (SELECT FROM river_job WHERE finalized_at IS NULL)",
        kept="SELECT count(*) FROM river_job WHERE state = 'completed' AND kind IN ('noop', 'cpu')",
    ),
    Peer(
        name="pgqueuer",
        runs=f"{_pinned('pgqueuer', 'pgqueuer')}, {_python()}",
        settings="asyncpg, uvloop, batches of 100, durable tables",
        command=_python_peer("pgqueuer"),
        unfinished="SELECT EXISTS (SELECT FROM pgqueuer)",
        kept="SELECT count(*) FROM pgqueuer_log WHERE status = 'successful' AND entrypoint IN ('noop', 'cpu')",
        processes=_TWO_FOR_CPU,
        environment={"PGQUEUER_DURABILITY": "durable"},
    ),
    Peer(
        name="awa",
        runs=f"{_pinned('awa', 'awa-pg')}, Rust, {_python()}",
        settings="64 workers, 2 claimers, claims of 256, COPY",
        command=_python_peer("awa"),
        # Its view of all jobs takes seconds to read; batches of receipts, and what was pruned of them, say it too.
        unfinished="""
            SELECT (SELECT coalesce(sum(completed_count), 0) FROM awa.receipt_completion_batches)
                + (SELECT coalesce(sum(pruned_completed_count), 0) FROM awa.queue_terminal_rollups) < %(jobs)s
        """,
        kept=None,
        processes=_TWO_FOR_CPU,
    ),
    Peer(
        name="oban",
        runs=f"{_pinned('oban', 'oban')}, Python 3.12 or newer",
        settings="limit 200, uvloop",
        command=_python_peer("oban", (3, 12)),
        unfinished="SELECT EXISTS (SELECT FROM oban_jobs WHERE state IN ('scheduled', 'available', 'executing'))",
        kept="SELECT count(*) FROM oban_jobs WHERE state = 'completed' AND worker ~ '(noop|cpu)$'",
        processes=_TWO_FOR_CPU,
    ),
    Peer(
        name="procrastinate",
        runs=f"{_pinned('procrastinate', 'procrastinate')}, {_python()}",
        settings="concurrency 20, psycopg pool",
        command=_python_peer("procrastinate"),
        unfinished="SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
        kept="SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded' AND task_name IN ('noop', 'cpu')",
        processes=_TWO_FOR_CPU,
        drain_jobs=4000,
    ),
    Peer(
        name="chancy",
        runs=f"{_pinned('chancy', 'chancy')}, {_python()}",
        settings="process executor, eager polling, processes kept",
        command=_python_peer("chancy"),
        unfinished="SELECT EXISTS (SELECT FROM chancy_jobs WHERE state IN ('pending', 'running', 'retrying'))",
        kept="SELECT count(*) FROM chancy_jobs WHERE state = 'succeeded' AND func ~ '(noop|cpu)$'",
        drain_jobs=1000,
    ),
)

OURS = Ours()
OURS_FRESH = Ours(name="workerjobs fresh", isolation="fresh", drain_jobs=4000)

_ALL: Sequence[Adapter] = (OURS, OURS_FRESH, *PEER_LIST)
ADAPTERS: Mapping[str, Adapter] = {adapter.name: adapter for adapter in _ALL}
ALIASES: Mapping[str, str] = {"ours": OURS.name, "fresh": OURS_FRESH.name}
