"""`python -m tests.bench.simulate_supervisors`: what a thousand worker pods ask of one Postgres.

Each supervisor is a task with the real store's statements: it claims for its free children, renews every 5 s, settles
what ended, and sleeps when nothing is due until it is told; jobs are sleeps, there are no children. As with pods, every
submit wakes all that are idle. The supervisors share some connections, as they would behind a pooler in transaction
mode.

Prints a Markdown table; `--write docs/scale.md` puts it at its place there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome, Settlement
from workerjobs.ports.jobs import Lease
from workerjobs.storage.embedded import EmbeddedPostgres
from workerjobs.storage.migrate import migrate_url
from workerjobs.storage.postgres import PostgresJobStore

APPLICATION = "simulated supervisor"
LEASE = timedelta(seconds=15)
RENEW_SECONDS = 5.0
POLL_SECONDS = 30.0
SUBMITS_PER_SECOND = 10
SAMPLE_SECONDS = 0.1
BEGIN, END = "<!-- simulation: begin -->", "<!-- simulation: end -->"

T = TypeVar("T")

SAMPLE = """
select coalesce(wait_event_type || ':' || wait_event, 'running'), count(*) from pg_stat_activity
where application_name = %s and state = 'active' group by 1
"""


@dataclass
class Measured:
    """What was seen."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """How long statements took, by kind; and how long a supervisor waited for a connection."""
    counts: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    samples: int = 0


class Simulation:
    """Supervisors, one who submits, and one who looks on."""

    def __init__(self, stores: list[PostgresJobStore], options: argparse.Namespace) -> None:
        self.options = options
        self.measured = Measured()
        self.is_over = False
        self._free: asyncio.Queue[PostgresJobStore] = asyncio.Queue()
        for store in stores:
            self._free.put_nowait(store)
        self._awake = [asyncio.Event() for _ in range(options.supervisors)]

    async def ask(self, kind: str, statement: Callable[[PostgresJobStore], Awaitable[T]]) -> T:
        """Run a statement over a connection that is free."""
        asked = time.perf_counter()
        store = await self._free.get()
        began = time.perf_counter()
        try:
            return await statement(store)
        finally:
            self._free.put_nowait(store)
            self.measured.seconds["waiting for a connection"].append(began - asked)
            self.measured.seconds[kind].append(time.perf_counter() - began)

    async def supervise(self, number: int) -> None:
        """One pod: as `workerjobs.worker.pickup` does it."""
        owner, held, awake = f"pod-{number}", dict[int, Lease](), self._awake[number]
        renewing = asyncio.create_task(self._renew(held))
        slots = self.options.slots
        running: set[asyncio.Task[None]] = set()
        try:
            while not self.is_over:
                awake.clear()
                wanted = slots - len(running)
                jobs = await self.ask("claim", lambda store: store.claim(owner, "default", wanted, LEASE, ["noop"]))  # noqa: B023
                self.measured.counts["claims"] += 1
                self.measured.counts["claims that found nothing"] += not jobs
                self.measured.counts["jobs claimed"] += len(jobs)
                for job in jobs:
                    held[job.id] = Lease(job.id, job.fencing_token or 0)
                    run = asyncio.create_task(self._run(job, held))
                    running.add(run)
                    run.add_done_callback(running.discard)
                    run.add_done_callback(lambda _: awake.set())
                if len(running) == slots:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                elif len(jobs) < wanted:
                    await self.ask("next due", lambda store: store.next_due("default", ["noop"]))
                    await _wait(awake, POLL_SECONDS)
        finally:
            renewing.cancel()
            for run in running:
                run.cancel()
            await asyncio.wait([renewing, *running])

    async def _run(self, job: Job, held: dict[int, Lease]) -> None:
        await asyncio.sleep(random.expovariate(1 / self.options.job_seconds))
        settlement = Settlement(job.id, job.fencing_token or 0, Outcome(True, "null"))
        await self.ask("settle", lambda store: store.settle([settlement]))
        self.measured.counts["jobs settled"] += 1
        del held[job.id]

    async def _renew(self, held: dict[int, Lease]) -> None:
        await asyncio.sleep(random.random() * RENEW_SECONDS)
        while True:
            if held:
                leases = [*held.values()]
                await self.ask("renew", lambda store: store.renew(leases, LEASE))  # noqa: B023
            await asyncio.sleep(RENEW_SECONDS)

    async def submit(self, store: PostgresJobStore) -> None:
        """Submit at a steady rate; every submit wakes all who are idle, as its notification does."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        submitted = 0.0
        while not self.is_over:
            due += 1 / SUBMITS_PER_SECOND
            submitted += self.options.rate / SUBMITS_PER_SECOND
            count = int(submitted)
            submitted -= count
            await store.submit_bulk({"type": "noop"} for _ in range(count))
            self.measured.counts["jobs submitted"] += count
            for awake in self._awake:
                awake.set()
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def look(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Count what the sessions wait for."""
        while not self.is_over:
            rows = await (await connection.execute(SAMPLE.encode(), [APPLICATION])).fetchall()
            self.measured.waits.update(dict(rows))
            self.measured.samples += 1
            await asyncio.sleep(SAMPLE_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


@asynccontextmanager
async def open_stores(url: str, count: int) -> AsyncIterator[list[PostgresJobStore]]:
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(count):
            stores.append(await PostgresJobStore.open(url, APPLICATION))
            stack.push_async_callback(stores[-1].close)
        yield stores


async def simulate(url: str, options: argparse.Namespace) -> str:
    """Run it; returns the table."""
    async with (
        open_stores(url, options.connections + 1) as (submitting, *stores),
        await psycopg.AsyncConnection.connect(url, autocommit=True) as looking,
    ):
        simulation = Simulation(stores, options)
        tasks = [asyncio.create_task(simulation.supervise(number)) for number in range(options.supervisors)]
        await asyncio.sleep(2)  # All have asked once, and sleep.
        simulation.measured = Measured()
        began, cpu = time.perf_counter(), time.process_time()
        tasks += [asyncio.create_task(simulation.submit(submitting)), asyncio.create_task(simulation.look(looking))]
        done, _ = await asyncio.wait(tasks, timeout=options.seconds, return_when=asyncio.FIRST_EXCEPTION)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        simulation.is_over = True
        await asyncio.wait(tasks[-2:])  # What is being copied is not cut off.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in done:
            task.result()
        return table(simulation.measured, options, took, cpu / took)


def table(measured: Measured, options: argparse.Namespace, took: float, own_cpu: float) -> str:
    """What was measured, as a Markdown table."""
    counts, seconds = measured.counts, measured.seconds
    rows = [
        ("supervisors, children each", f"{options.supervisors:,} × {options.slots}"),
        ("connections", f"{options.connections}"),
        ("jobs submitted, mean duration", f"{counts['jobs submitted'] / took:,.0f}/s, {options.job_seconds:g} s"),
        ("jobs claimed", f"{counts['jobs claimed'] / took:,.0f}/s"),
        ("jobs settled", f"{counts['jobs settled'] / took:,.0f}/s"),
        ("claims", f"{counts['claims'] / took:,.0f}/s"),
        ("claims that found nothing", f"{counts['claims that found nothing'] / max(1, counts['claims']):.0%}"),
        *((f"{kind}: p50 / p99", _quantiles(seconds[kind])) for kind in sorted(seconds)),
    ]
    locks = sum(count for wait, count in measured.waits.items() if wait.startswith("Lock:"))
    sessions = sum(measured.waits.values())
    rows += [
        ("sessions active, mean", f"{sessions / max(1, measured.samples):.1f}"),
        ("of them waiting for a row or advisory lock", f"{locks / max(1, sessions):.1%}"),
        *(
            (f"of them {_name(wait)}", f"{count / sessions:.1%}")
            for wait, count in measured.waits.most_common(5)
            if not wait.startswith("Lock:")
        ),
        ("CPU of the simulation itself", f"{own_cpu:.0%} of one core"),
        ("machine, duration", f"{os.cpu_count()} cores, Python {platform.python_version()}, {took:.0f} s"),
    ]
    return "\n".join(["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _name(wait: str) -> str:
    return "running" if wait == "running" else f"waiting for {wait}"


def _quantiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    if not ordered:
        return "none"
    p50, p99 = (1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    return f"{p50:.1f} / {p99:.1f} ms"


def write(page: Path, text: str) -> None:
    """Put the table between its marks."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supervisors", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=1, help="children of each")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rate", type=float, default=500, help="jobs submitted a second")
    parser.add_argument("--job-seconds", type=float, default=1.0, help="mean duration of a job")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--write", type=Path, help="a page with the marks for the table")
    options = parser.parse_args()
    with EmbeddedPostgres.ephemeral(settings={"max_connections": str(options.connections + 20)}) as server:
        migrate_url(server.url)
        text = asyncio.run(simulate(server.url, options))
    print(text)
    if options.write is not None:
        write(options.write, text)


if __name__ == "__main__":
    main()
