"""What is measured of each queue, once: `insert`, `drain`, `pickup`, `cpu` and `idle`.

Each runs on an empty database and begins with a checkpoint; workers are warm, having run some hundred jobs. Every
measure gives figures by name; the units are in `FIGURES`.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import psycopg

from tests.bench import usage
from tests.bench.adapters import OURS, OURS_FRESH, Adapter
from tests.bench.programs import BrokenPeerError, Session, run_together, session, wait_until
from tests.bench.server import Server

DRAIN_SECONDS = 300.0
REPORTED_SECONDS = 11.0
CPU_TURNS = 6
PAUSE_SECONDS = 0.03
"""Between pickups: what the last job left to do is done, and the worker idle."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much each measure does; all > 0."""

    insert: int = 100_000
    drain: int = 20_000
    pickup: int = 300
    cpu: int = 200
    """In each of `CPU_TURNS` turns."""
    warm_up: int = 2_000
    idle_seconds: float = 10.0


Figures = Mapping[str, float]
Measure = Callable[[Adapter, Server, Counts], Figures]


@dataclass(frozen=True, slots=True)
class Figure:
    """One column of the report."""

    measure: str
    title: str
    unit: str
    more_is_better: bool
    digits: int = 0


FIGURES: Mapping[str, Figure] = {
    "insert_rate": Figure("insert", "bulk insert", "rows/s", more_is_better=True),
    "drain_rate": Figure("drain", "drain", "jobs/s", more_is_better=True),
    "pickup_p50": Figure("pickup", "pickup p50", "ms", more_is_better=False, digits=2),
    "pickup_p99": Figure("pickup", "pickup p99", "ms", more_is_better=False, digits=2),
    "cpu_share": Figure("cpu", "CPU-bound, of bare", "%", more_is_better=True, digits=1),
    "worker_cpu": Figure("drain", "worker CPU a job", "µs", more_is_better=False, digits=1),
    "postgres_cpu": Figure("drain", "Postgres CPU a job", "µs", more_is_better=False, digits=1),
    "wal_insert": Figure("drain", "WAL a job, insert", "B", more_is_better=False),
    "wal_run": Figure("drain", "WAL a job, run", "B", more_is_better=False),
    "idle_memory": Figure("idle", "idle memory (PSS)", "MB", more_is_better=False, digits=1),
    "idle_transactions": Figure("idle", "idle transactions", "1/s", more_is_better=False, digits=2),
}


def measure_insert(adapter: Adapter, server: Server, counts: Counts) -> Figures:
    """Bulk insert into an empty table with no worker: rows a second, from the call to its return after the commit."""
    with server.database("bench") as url, session(adapter, url) as running:
        running.client.ask("insert", "noop", 0, min(counts.warm_up, counts.insert))
        server.checkpoint()
        span = running.client.ask("insert", "noop", 0, counts.insert)
    return {"insert_rate": counts.insert / span.seconds}


def measure_drain(adapter: Adapter, server: Server, counts: Counts) -> Figures:
    """Run no-op jobs that are all there when a warm, idle worker is let go.

    It is stopped (SIGSTOP) while they are inserted: how long a client takes to read the insert's answer says nothing of
    the worker. The time is from SIGCONT to the moment at which no job is left pending or running, seen by a look every
    10 ms. CPU and log are of that time; the log of the insert is told apart.
    """
    count = min(counts.drain, adapter.drain_jobs or counts.drain)
    warm_up = min(counts.warm_up, count)
    with server.database("bench") as url, session(adapter, url) as running, Looker(adapter, url) as look:
        running.start_workers("drain")
        look.run_all(running, "noop", 0, warm_up)
        server.checkpoint()
        log_before = server.wal_bytes()
        with running.held_workers():
            running.client.ask("insert", "noop", warm_up, count)
            worker_before, postgres_before = running.worker_cpu_seconds(), server.cpu_seconds()
            log_inserted = server.wal_bytes()
        began = time.monotonic()
        look.wait_drained(warm_up + count)
        seconds = time.monotonic() - began
        worker_cpu = running.worker_cpu_seconds() - worker_before
        postgres_cpu = server.cpu_seconds() - postgres_before
        log_after = server.wal_bytes()
        look.check(running, warm_up + count)
    return {
        "drain_rate": count / seconds,
        "worker_cpu": worker_cpu / count * 1e6,
        "postgres_cpu": postgres_cpu / count * 1e6,
        "wal_insert": (log_inserted - log_before) / count,
        "wal_run": (log_after - log_inserted) / count,
    }


def measure_pickup(adapter: Adapter, server: Server, counts: Counts) -> Figures:
    """Submit jobs one by one to an idle worker: from the return of the submit's commit to the call of the function."""
    with server.database("bench") as url, session(adapter, url) as running, Looker(adapter, url) as look:
        running.start_workers("pickup")
        look.run_all(running, "noop", 0, min(counts.warm_up, 200))
        samples = []
        skipped = max(10, counts.pickup // 20)
        for number in range(counts.pickup + skipped):
            time.sleep(PAUSE_SECONDS)
            span = running.client.ask("submit", "stamp", number)
            started, moment = running.stamp(60)
            if started != number:
                raise BrokenPeerError(f"{adapter.name} ran job {started} for {number}")
            if number >= skipped:
                samples.append((moment - span.ended) / 1e6)
    samples.sort()
    return {"pickup_p50": percentile(samples, 0.50), "pickup_p99": percentile(samples, 0.99)}


def measure_cpu(adapter: Adapter, server: Server, counts: Counts) -> Figures:
    """Run jobs of about 20 ms of CPU two at a time, compared with two bare processes doing the same work.

    Both take turns, each first in every other one: what the machine can do at all varies by more than what is measured.
    """
    count = 2 * (counts.cpu // 2)
    bare_rates, queue_seconds, submitted = [], 0.0, 20
    with server.database("bench") as url, session(adapter, url) as running, Looker(adapter, url) as look:
        running.start_workers("cpu")
        look.run_all(running, "cpu", 0, submitted)
        server.checkpoint()
        for turn in range(CPU_TURNS):
            if turn % 2 == 0:
                bare_rates.append(_bare_rate(adapter, count))
            with running.held_workers():
                running.client.ask("insert", "cpu", submitted, count)
            submitted += count
            began = time.monotonic()
            # Looks take processor time that is the queue's here.
            look.wait_drained(submitted, pause_seconds=0.025)
            queue_seconds += time.monotonic() - began
            if turn % 2 == 1:
                bare_rates.append(_bare_rate(adapter, count))
        look.check(running, submitted)
    return {"cpu_share": CPU_TURNS * count / queue_seconds / statistics.fmean(bare_rates) * 100}


def _bare_rate(adapter: Adapter, count: int) -> float:
    """Give how many cpu jobs a second two processes do with no queue, none waiting for the other at its end."""
    return sum(count // 2 / span.seconds for span in run_together([adapter.bare(count // 2)] * 2, {}))


def measure_idle(adapter: Adapter, server: Server, counts: Counts) -> Figures:
    """Leave a warm worker alone: its memory, and what it asks of the database."""
    with server.database("bench") as url, session(adapter, url) as running, Looker(adapter, url) as look:
        running.start_workers("pickup")
        look.run_all(running, "noop", 0, min(counts.warm_up, 200))
        # Its looks count too. Sessions report what they did within 10 s after they fell idle.
        look.close()
        time.sleep(REPORTED_SECONDS)
        before = server.transactions("bench")
        time.sleep(counts.idle_seconds)
        transactions = server.transactions("bench") - before
        memory = usage.memory_bytes(running.worker_pids)
    return {"idle_memory": memory / 1e6, "idle_transactions": transactions / counts.idle_seconds}


MEASURES: Mapping[str, Measure] = {
    "insert": measure_insert,
    "drain": measure_drain,
    "pickup": measure_pickup,
    "cpu": measure_cpu,
    "idle": measure_idle,
}


def percentile(ordered: Sequence[float], share: float) -> float:
    """Give the smallest of the ordered values that at least this share (0 < share <= 1) of them does not exceed."""
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


class Looker:
    """Looks at a queue's table."""

    def __init__(self, adapter: Adapter, url: str) -> None:
        self._adapter = adapter
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        # Looks go on while jobs are drained. One that reads the rows of all that are done took 5 us a job.
        self._connection.execute("SET enable_seqscan = off")

    def run_all(self, running: Session, kind: str, first: int, count: int) -> None:
        """Insert jobs, wait until they have run, and look at their rows."""
        running.client.ask("insert", kind, first, count)
        self.wait_drained(first + count)
        self.check_rows(first + count)

    def wait_drained(self, jobs: int, pause_seconds: float = 0.01) -> None:
        """Wait until none of the jobs submitted so far is pending or running."""
        query, values = self._adapter.unfinished.encode(), {"jobs": jobs}
        what = f"{self._adapter.name}: running all jobs"
        wait_until(lambda: not self._value(query, values), what, DRAIN_SECONDS, pause_seconds)

    def check(self, running: Session, count: int) -> None:
        """Make sure that the jobs 0 to ``count`` - 1 ran, each once, and that their rows say so."""
        self.check_rows(count)
        calls = running.stop_workers()
        # Ours proves it by its rows: see `Ours.kept`.
        if self._adapter not in (OURS, OURS_FRESH) and calls != (count, sum(range(count))):
            raise BrokenPeerError(f"{self._adapter.name} called the job's function {calls[0]} times, not {count}")

    def check_rows(self, count: int) -> None:
        """Make sure that ``count`` rows say that their jobs succeeded, where they are kept."""
        if self._adapter.kept is not None and (kept := self._value(self._adapter.kept.encode())) != count:
            raise BrokenPeerError(f"{self._adapter.name} has {kept} proven rows of jobs that succeeded, not {count}")

    def _value(self, query: bytes, values: Mapping[str, int] | None = None) -> int:
        row = self._connection.execute(query, values).fetchone()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
