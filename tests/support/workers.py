"""Workers for tests: supervisors in the test's event loop, and `workerjobs worker` as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.cli import environment
from tests.support.loop import PATIENCE_SECONDS, until
from tests.support.table import open_store, read
from workerjobs import app
from workerjobs.domain.job import Job, NewJob
from workerjobs.settings import Isolation
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.worker.configuration import Configuration
from workerjobs.worker.options import SupervisorOptions
from workerjobs.worker.supervisor import Supervisor

JOBS = str(Path(__file__).with_name("jobs.py"))
"""The file with the jobs for tests, as WORKER_JOB_MODULES takes it."""
PROCESS_JOBS = str(Path(__file__).with_name("process_jobs.py"))
"""Likewise: jobs about processes and memory, and tiny ones."""


# --- processes


class Process(NamedTuple):
    """One process, told apart from a later one with the same id."""

    pid: int
    start: int


def processes() -> dict[Process, int]:
    """All processes that live, with their parents' ids."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # After the command in brackets, which may hold anything: state, parent's id, …, start time.
                state, parent, *rest = entry.joinpath("stat").read_text().rpartition(")")[2].split()
                if state not in "ZX":
                    found[Process(int(entry.name), int(rest[17]))] = int(parent)
    return found


def process(pid: int) -> Process:
    """The living process of an id."""
    (found,) = [each for each in processes() if each.pid == pid]
    return found


def family_of(pid: int) -> set[Process]:
    """A process with all its descendants."""
    parents = processes()
    found = {each for each in parents if each.pid == pid}
    while more := {each for each, parent in parents.items() if parent in {f.pid for f in found}} - found:
        found |= more
    return found


def supervised_by(pid: int) -> set[Process]:
    """The nurseries and children of a process; children are forked from nurseries and have their command line."""
    found = set()
    for each in family_of(pid):
        with contextlib.suppress(OSError):
            if b"workerjobs.worker.nursery" in Path(f"/proc/{each.pid}/cmdline").read_bytes():
                found.add(each)
    return found


async def gone(which: Iterable[Process], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until processes have ended."""
    wanted = set(which)
    await until(lambda: not wanted & processes().keys(), seconds=seconds)


# --- what jobs tell and become


@dataclass
class Told:
    """What the jobs of tests/support/jobs.py write into a folder."""

    folder: Path

    def data(self, **more: Any) -> dict[str, Any]:
        """Data for a job that tells."""
        return {"folder": str(self.folder), **more}

    def runs(self, job: Job | int, word: str = "started") -> list[dict[str, Any]]:
        """What the runs of a job told, oldest first."""
        job_id = job if isinstance(job, int) else job.id
        files = sorted(self.folder.glob(f"{job_id}-*.{word}"), key=lambda file: int(file.stem.partition("-")[2]))
        return [json.loads(file.read_text()) for file in files]

    async def run(
        self, job: Job | int, word: str = "started", *, number: int = 1, seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Any]:
        """Wait for a run of a job to tell something."""
        await until(lambda: len(self.runs(job, word)) >= number, seconds=seconds)
        return self.runs(job, word)[number - 1]

    def go(self, word: str = "go") -> None:
        """Let jobs end that hold."""
        (self.folder / word).touch()


async def finished(store: PostgresJobStore, job: Job | int, *, seconds: float = PATIENCE_SECONDS) -> Job:
    """Wait until a job is finished."""

    async def look() -> Job | None:
        found = await read(store, job)
        return found if found.state.is_final else None

    found = await until(look, seconds=seconds)
    assert found is not None
    return found


async def run_jobs(store: PostgresJobStore, *jobs: NewJob, seconds: float = PATIENCE_SECONDS) -> list[Job]:
    """Submit jobs and wait until all are finished."""
    return [await finished(store, job, seconds=seconds) for job in await store.submit(jobs)]


async def run_one(store: PostgresJobStore, job_type: str, data: dict[str, Any] | None = None, **more: Any) -> Job:
    """Submit a job and wait until it is finished."""
    (done,) = await run_jobs(store, NewJob(type=job_type, data=data or {}, **more))
    return done


# --- supervisors in the test's loop


@dataclass
class Worker:
    """A supervisor that runs in this loop, with real children, and a store for the test."""

    supervisor: Supervisor
    store: PostgresJobStore
    task: asyncio.Task[None]

    @property
    def nursery(self) -> int:
        """Process id of the nursery."""
        nursery = self.supervisor._children._nursery
        assert nursery is not None
        return nursery.pid

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value; 0 where it was never counted."""
        return self.supervisor.metrics.registry.get_sample_value(name, labels) or 0.0

    async def stop(self, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Stop as SIGTERM does, and wait."""
        self.supervisor.stop()
        await asyncio.wait_for(asyncio.shield(self.task), seconds)


@asynccontextmanager
async def worker(
    url: str,
    children: int = 1,
    *,
    modules: Sequence[str] = (JOBS,),
    log_level: str = "info",
    isolation: Isolation = "warm",
    memory_mib: int | None = None,
    lease: float = 15,
    renew_every: float = 5,
    rescue_every: float = 4,
    grace: float = 20,
    direct_url: str | None = None,
    **options: Any,
) -> AsyncIterator[Worker]:
    """Run a supervisor in this loop; afterwards nothing of it is left. Durations are seconds."""
    async with open_store(url) as store:
        own_store = await PostgresJobStore.open(url, "workerjobs test worker")
        supervisor = Supervisor(
            own_store,
            app.listener(url, direct_url),
            Configuration(
                tuple(modules), log_level, url, app.STORAGE_FOR_JOBS, isolation=isolation, memory_mib=memory_mib
            ),
            SupervisorOptions(
                children=children,
                lease=timedelta(seconds=lease),
                renew_every=timedelta(seconds=renew_every),
                rescue_every=timedelta(seconds=rescue_every),
                grace=timedelta(seconds=grace),
                **options,
            ),
        )
        task = asyncio.create_task(supervisor.run())
        started = asyncio.create_task(supervisor.started.wait())
        family: set[Process] = set()
        try:
            await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            running = Worker(supervisor, store, task)
            family = family_of(running.nursery)
            yield running
            if not task.done():
                family |= family_of(running.nursery)
        finally:
            started.cancel()
            for _ in range(2):
                supervisor.stop()
            await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
            await own_store.close()
        await task
        await gone(family)


# --- workers as processes


@dataclass
class WorkerProcess:
    """`workerjobs worker`, started as a process that logs into a file."""

    popen: subprocess.Popen[bytes]
    log: Path
    _read: int = 0
    _records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self.popen.pid

    @property
    def family(self) -> set[Process]:
        """The supervisor, its nursery, its children, and what jobs started."""
        return family_of(self.pid)

    def records(self) -> list[dict[str, Any]]:
        """The log so far; every line of it is a JSON object."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._read += len(complete) + len(newline)
        self._records += [json.loads(line) for line in complete.splitlines()]
        return self._records

    def said(self, text: str) -> list[dict[str, Any]]:
        """Log records whose message has a text in it."""
        return [record for record in self.records() if text in record["message"]]

    def send(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        self.popen.send_signal(number)

    async def ended(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until the supervisor has ended; returns its exit code."""
        await until(lambda: self.popen.poll() is not None, seconds=seconds)
        return self.popen.returncode


@asynccontextmanager
async def worker_process(
    url: str, folder: Path, *, count: int = 1, name: str = "worker", **variables: str
) -> AsyncIterator[WorkerProcess]:
    """Run `workerjobs worker`; afterwards nothing of it is left.

    Args:
        url: The database.
        folder: Where its log goes, as NAME.log.
        count: WORKER_COUNT.
        name: Of this worker.
        variables: More of its environment.
    """
    log = folder / f"{name}.log"
    given = {"WORKER_COUNT": str(count), "WORKER_JOB_MODULES": JOBS, "WORKER_BUILTIN_JOBS": "off"} | variables
    with log.open("wb") as output:
        popen = subprocess.Popen(  # noqa: ASYNC220  # over within a millisecond
            [sys.executable, "-m", "workerjobs", "worker"],
            env=environment(url, **given),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # As a shell or a container does it; so a test can signal the group as a terminal would.
            start_new_session=True,
        )
    running = WorkerProcess(popen, log)
    family: set[Process] = set()
    try:
        await until(lambda: running.said("children for pool") or popen.poll() is not None)
        assert popen.poll() is None, log.read_text()
        yield running
    finally:
        family |= running.family
        for _ in range(2):
            if popen.poll() is None:
                popen.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(popen.wait, 8)
        if popen.poll() is None:
            popen.kill()
            await asyncio.to_thread(popen.wait)
    await gone(family)


def is_alive(pid: int) -> bool:
    """Whether a process of an id lives (a zombie does not)."""
    return any(each.pid == pid for each in processes())


def kill(pid: int) -> None:
    """Send SIGKILL to one process."""
    os.kill(pid, signal.SIGKILL)
