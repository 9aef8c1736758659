"""`make bench-smoke`: pickup, due moments and throughput in brief, on the embedded Postgres in its default durability.

Pickup is measured by the job itself: from the moment the submit's commit returned to the moment its function was called
in a warm child of an idle worker. Due moments likewise: from the due moment of a job, 1.5 s after its submit, to the
moment its function was called; both clocks are this machine's. Throughput: no-op jobs a second, from the first claim to
the last settlement.
What `isolation: fresh` adds: the time that one child takes for a no-op job
in a process of its own, less that of a warm one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from workerjobs import app
from workerjobs.domain.job import NewJob
from workerjobs.ports.jobs import JobQuery

JOBS_FILE = Path(__file__).parent / "bench_jobs.py"


def start_worker(url: str, children: int) -> subprocess.Popen[bytes]:
    """Start `workerjobs worker` as users do."""
    environment = os.environ | {
        "DATABASE_URL": url,
        "WORKER_COUNT": str(children),
        "WORKER_JOB_MODULES": str(JOBS_FILE),
        "WORKER_HEALTH_PORT": "off",
        "WORKER_LOG_LEVEL": "error",
    }
    return subprocess.Popen([sys.executable, "-m", "workerjobs", "worker"], env=environment)


async def measure_pickup(url: str, count: int) -> list[float]:
    """Submit jobs one by one to an idle worker; returns milliseconds from commit to start, sorted."""
    samples = []
    async with app.open_store(url) as store:
        for number in range(count + 10):
            (job,) = await store.submit([NewJob(type="stamp")])
            committed = time.time()
            while not (done := await store.get(job.id)) or not done.state.is_final:
                await asyncio.sleep(0.005)
            # The first ones find the worker starting, and statements not yet prepared.
            if number >= 10:
                samples.append((done.result["started"] - committed) * 1000)
    return sorted(samples)


async def measure_due(url: str, count: int) -> list[float]:
    """Submit jobs that are due 1.5 s later, one by one; returns how many milliseconds late each was, sorted."""
    samples = []
    async with app.open_store(url) as store:
        for number in range(count):
            # Not in step with anything else.
            await asyncio.sleep(0.037 * number % 1)
            due = await store.now() + timedelta(seconds=1.5)
            (job,) = await store.submit([NewJob(type="stamp", due=due)])
            while not (done := await store.get(job.id)) or not done.state.is_final:
                await asyncio.sleep(0.005)
            samples.append((done.result["started"] - due.timestamp()) * 1000)
    return sorted(samples)


async def measure_drain(url: str, count: int) -> float:
    """Submit no-op jobs at once; returns jobs a second, each in its own row with its own start and end."""
    async with app.open_store(url) as store:
        await store.submit([NewJob(type="stamp", priority=1)])
        stored = await store.submit([NewJob(type="noop", data={"n": number}) for number in range(count)])
        last = stored[-1].id
        while not (done := await store.get(last)) or not done.state.is_final:
            await asyncio.sleep(0.02)
        jobs = await store.list(JobQuery(type="noop", limit=count))
        while not all(job.state.is_final for job in jobs):
            await asyncio.sleep(0.02)
            jobs = await store.list(JobQuery(type="noop", limit=count))
    started = min(job.started for job in jobs if job.started)
    finished = max(job.finished for job in jobs if job.finished)
    return count / (finished - started).total_seconds()


async def measure_run(url: str, job_type: str, count: int) -> float:
    """Run no-op jobs in one child; returns milliseconds a job, from one job's start to the next one's, the median."""
    async with app.open_store(url) as store:
        stored = await store.submit([NewJob(type=job_type, data={"n": number}) for number in range(count)])
        jobs = await store.list(JobQuery(type=job_type, limit=count))
        while len(jobs) < len(stored) or not all(job.state.is_final for job in jobs):
            await asyncio.sleep(0.02)
            jobs = await store.list(JobQuery(type=job_type, limit=count))
    starts = sorted(job.started for job in jobs if job.started)
    return statistics.median((b - a).total_seconds() * 1000 for a, b in itertools.pairwise(starts))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pickups", type=int, default=300)
    parser.add_argument("--dues", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--fresh", type=int, default=500)
    parser.add_argument("--children", type=int, default=2)
    arguments = parser.parse_args()
    with app.throwaway_database() as url:
        worker = start_worker(url, arguments.children)
        try:
            samples = asyncio.run(measure_pickup(url, arguments.pickups))
            lateness = asyncio.run(measure_due(url, arguments.dues))
            rate = asyncio.run(measure_drain(url, arguments.jobs))
        finally:
            worker.terminate()
            worker.wait()
        worker = start_worker(url, 1)
        try:
            # The first jobs find the worker starting.
            asyncio.run(measure_run(url, "stamp", 10))
            warm, fresh = (
                asyncio.run(measure_run(url, job_type, arguments.fresh)) for job_type in ("noopAgain", "noopFresh")
            )
        finally:
            worker.terminate()
            worker.wait()
    p99 = samples[min(len(samples) - 1, round(len(samples) * 0.99))]
    print(
        f"pickup   p50 {statistics.median(samples):.2f} ms   p99 {p99:.2f} ms   ({len(samples)} jobs, commit to start)"
    )
    print(
        f"due      p50 {statistics.median(lateness):+.2f} ms   from {lateness[0]:+.2f} to {lateness[-1]:+.2f} ms   "
        f"({len(lateness)} jobs due in 1.5 s, due to start)"
    )
    print(f"drain    {rate:,.0f} jobs/s   ({arguments.jobs} no-op jobs, {arguments.children} children)")
    print(f"fresh    adds {fresh - warm:.2f} ms a job   ({arguments.fresh} no-op jobs, one child; warm {warm:.2f} ms)")


if __name__ == "__main__":
    main()
