"""`make chaos-smoke`: jobs that are all accounted for, while their workers are killed and their database is restarted.

Every second some children, and every other second on average a supervisor, are killed with SIGKILL; twice Postgres
stops in immediate mode, which ends it as a crash would, and is started again. Workers are started again by this script,
as an init system does it. Then every row is looked at:

- each is in a final state, and became so exactly once (a trigger counts);
- each submitted job is there, with as many retries as its policy gives it for the failures it had, and no more;
- each run left its own trace (job, fencing token), no row ran more often than it was rescued, plus once, and what is
  stored as success is what the run with the row's last token returned;
- each failure is one that a kill explains: the child was killed, or its worker five times;
- a cron line still has its next run, and no tick twice;
- no process is left.

Exit code 1, with what was found, where any of that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from tests.support.cli import environment
from tests.support.server import IMMEDIATE, OwnServer, own_server
from tests.support.table import open_store
from tests.support.workers import Process, processes, supervised_by
from workerjobs.domain.job import NewJob, RetryPolicy

RETRY_LIMIT = 4
RETRY = RetryPolicy(limit=RETRY_LIMIT, initial_delay_ms=200, factor=2.0, max_delay_ms=1000)
CRON_KEY = "chaos tick"
END_SECONDS = 30.0
"""How long workers may take to end after SIGTERM."""
MARK = "WORKERJOBS_CHAOS"
"""Variable that all processes of a run inherit."""

WATCH = """
create table public.effects (
    job_id bigint, token bigint, pid integer, at timestamptz default clock_timestamp(), primary key (job_id, token)
);
create table public.ends (job_id bigint, token bigint, at timestamptz default clock_timestamp());
create table public.violations (job_id bigint, what text);
create function public.watch() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        insert into public.violations values (old.id, 'the row was deleted');
    elsif new.finished is not null and (tg_op = 'INSERT' or old.finished is null) then
        insert into public.ends values (new.id, new."fencingToken");
    elsif old.finished is not null then
        insert into public.violations values (new.id, 'the row was changed after it was finished');
    end if;
    return null;
end $$;
create trigger watch after update or delete on "workerJobs" for each row execute function public.watch();
create trigger watch_inserted after insert on "workerJobs" for each row when (new.finished is not null)
    execute function public.watch();
"""

VIOLATIONS = """
select 'not in a final state', id::text from "workerJobs" where finished is null
union all
select what, job_id::text from violations
union all
select 'finished ' || count(e.job_id) || ' times', j.id::text
from "workerJobs" as j left join ends as e on e.job_id = j.id
where j.finished is not null group by j.id having count(e.job_id) <> 1
union all
select 'a success without its own run', j.id::text from "workerJobs" as j
where j.success and not exists (select from effects as e where e.job_id = j.id and e.token = j."fencingToken")
union all
select 'a result of another job: ' || result::text, id::text from "workerJobs"
where success and result::text <> data ->> 'n'
union all
select 'ran ' || count(*) || ' times and was rescued ' || j.rescues || ' times', j.id::text
from "workerJobs" as j join effects as e on e.job_id = j.id
group by j.id having count(*) > j.rescues + 1
union all
select 'failed for no reason that was given: ' || (result ->> 'error'), id::text from "workerJobs"
where not success and (started is not null and not "cancelRequested")
    and result ->> 'error' !~ 'killed by signal SIGKILL|Worker lost 5 times|ended with its worker'
union all
select 'cancelled, and nobody did that', id::text from "workerJobs"
where not success and (started is null or "cancelRequested") and "cronKey" is null
union all
select 'has ' || count(next.id) || ' retries', j.id::text
from "workerJobs" as j left join "workerJobs" as next on next."rescheduledFromJob" = j.id and next."cronKey" is null
where j.finished is not null
group by j.id
having count(next.id) <> (not j.success and j."cronKey" is null and coalesce(j.attempt <= j."retryLimit", false))::int
union all
select 'the tick ' || tick || ' is there twice', string_agg(id::text, ', ') from "workerJobs"
where "cronKey" is not null group by "cronKey", tick having count(*) > 1
"""

FIGURES = """
select count(*), count(*) filter (where success), count(*) filter (where not success and "cronKey" is null),
    coalesce(sum(rescues), 0), count(*) filter (where attempt > 1), count(*) filter (where "cronKey" is not null),
    (select count(*) from effects)
from "workerJobs"
"""


@dataclass
class Counts:
    """What was done to them."""

    children: int = 0
    supervisors: int = 0
    starts: int = 0
    restarts: int = 0


@dataclass
class Chaos:
    """One run."""

    server: OwnServer
    folder: Path
    workers: int
    children: int
    random: random.Random
    counts: Counts = field(default_factory=Counts)
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    is_over: bool = False

    def start_worker(self, slot: int) -> None:
        with self.folder.joinpath(f"worker-{slot}.log").open("ab") as output:
            self.running[slot] = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.chaos_worker", "--children", str(self.children)],
                env=environment(self.server.url, **{MARK: self.folder.name}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.counts.starts += 1

    async def keep_workers(self) -> None:
        """Start what ended, as an init system does."""
        while not self.is_over:
            for slot in range(self.workers):
                if slot not in self.running or self.running[slot].poll() is not None:
                    self.start_worker(slot)
            await asyncio.sleep(0.1)

    async def kill(self) -> None:
        """Once a second: one or two children, and with an even chance a supervisor."""
        while True:
            await asyncio.sleep(1)
            living = [popen.pid for popen in self.running.values() if popen.poll() is None]
            children = [each.pid for pid in living for each in self._children(pid)]
            for pid in self.random.sample(children, min(len(children), self.random.choice([1, 2]))):
                self.counts.children += _kill(pid)
            if living and self.random.random() < 0.5:
                self.counts.supervisors += _kill(self.random.choice(living))

    def _children(self, supervisor: int) -> list[Process]:
        """The processes that run jobs: the nursery's children."""
        parents = processes()
        below = supervised_by(supervisor)
        return [each for each in below if parents.get(each) in {other.pid for other in below}]

    async def restart_server(self, finished: int) -> None:
        print(f"  Postgres is stopped in immediate mode with {finished:,} jobs finished", flush=True)
        await asyncio.to_thread(self.server.stop, IMMEDIATE)
        await asyncio.sleep(1)
        await asyncio.to_thread(self.server.start)
        self.counts.restarts += 1

    async def stop_workers(self) -> None:
        self.is_over = True
        for popen in self.running.values():
            if popen.poll() is None:
                popen.terminate()
        deadline = time.monotonic() + END_SECONDS
        while any(popen.poll() is None for popen in self.running.values()) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def left_processes(self) -> list[str]:
        """What still lives of the run; nurseries get two seconds to see that their supervisor is gone."""
        deadline = time.monotonic() + 10
        while (left := list(_marked(self.folder.name))) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        return left

    def kill_all(self) -> None:
        for popen in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                popen.kill()
            popen.wait()


def _kill(pid: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return 1
    return 0


def _marked(mark: str) -> Iterator[str]:
    wanted = f"{MARK}={mark}".encode()
    for each in processes():
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{each.pid}/environ").read_bytes().split(b"\0"):
                command = Path(f"/proc/{each.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield f"{each.pid}: {command}"


def _ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def make_jobs(count: int, rng: random.Random) -> list[NewJob]:
    """Mostly short ones; a hundredth is long enough to be killed in its middle, a third is retried."""
    return [
        NewJob(
            type="effect",
            data={"n": number, "milliseconds": rng.choice([500, 2000]) if number % 100 == 0 else rng.randrange(30)},
            priority=rng.choice([0, 0, 1]),
            retry=RETRY if number % 3 == 0 else None,
        )
        for number in range(count)
    ]


async def submit(url: str, jobs: list[NewJob]) -> set[int]:
    async with open_store(url) as store:
        tick = NewJob(
            type="effect", data={"n": -1, "milliseconds": 1}, cron_schedule="* * * * * *", cron_key=CRON_KEY, priority=2
        )
        await store.submit([tick])
        stored = await store.submit(jobs)
    return {job.id for job in stored}


async def run_chaos(chaos: Chaos, jobs: int, limit_seconds: float) -> list[str]:
    """Run it all; returns what is wrong."""
    url = chaos.server.url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(WATCH.encode())
    submitted = await submit(url, make_jobs(jobs, chaos.random))
    began = time.monotonic()
    problems: list[str] = []
    helpers = [asyncio.create_task(chaos.keep_workers()), asyncio.create_task(chaos.kill())]
    restart_at = [jobs // 3, 2 * jobs // 3]
    try:
        while True:
            await asyncio.sleep(0.5)
            for helper in helpers:
                if helper.done():
                    helper.result()
            finished, left = _ask(
                url,
                "select count(*) filter (where finished is not null), count(*) filter (where finished is null) "
                'from "workerJobs" where "cronKey" is null',
            )[0]
            if left == 0:
                break
            if time.monotonic() - began > limit_seconds:
                problems.append(f"after {limit_seconds:g} s {left:,} jobs are not finished")
                break
            if restart_at and finished >= restart_at[0]:
                restart_at.pop(0)
                await chaos.restart_server(finished)
        took = time.monotonic() - began
        helpers[1].cancel()
        problems += await _end_cron_line(url)
        await chaos.stop_workers()
        if alive := [popen.pid for popen in chaos.running.values() if popen.poll() is None]:
            problems.append(f"supervisors do not end: {alive}")
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.wait(helpers)
        chaos.kill_all()
    problems += [f"a process is left: {each}" for each in await chaos.left_processes()]
    stored = {job_id for (job_id,) in _ask(url, 'select id from "workerJobs"')}
    problems += [f"job {job_id}: lost" for job_id in sorted(submitted - stored)]
    problems += [f"job {job_id}: {what}" for what, job_id in _ask(url, VIOLATIONS)]
    _print_figures(chaos, jobs, took, _ask(url, FIGURES)[0])
    return problems


async def _end_cron_line(url: str) -> list[str]:
    """A cron line lives through everything: its next run is there; then it ends."""
    unfinished = f"""from "workerJobs" where "cronKey" = '{CRON_KEY}' and finished is null"""
    lines = _ask(url, f"select count(*) {unfinished}")[0][0]
    problems = [] if lines == 1 else [f"the cron line has {lines} unfinished rows instead of one"]
    _ask(url, f"select workerjobs.unschedule('{CRON_KEY}')")
    deadline = time.monotonic() + 30
    while _ask(url, f"select count(*) {unfinished}")[0][0] and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    return problems


def _print_figures(chaos: Chaos, jobs: int, took: float, figures: tuple[Any, ...]) -> None:
    rows, succeeded, failed, rescues, retries, ticks, runs = figures
    counts = chaos.counts
    for name, value in {
        "jobs submitted": jobs,
        "rows at the end": rows,
        "  of them retries": retries,
        "  of them runs of a cron line": ticks,
        "  succeeded": succeeded,
        "  failed, each by a kill": failed,
        "runs begun (attempts)": runs,
        "rescues from lost workers": rescues,
        "children killed": counts.children,
        "supervisors killed": counts.supervisors,
        "supervisors started": counts.starts,
        "Postgres restarts (immediate)": counts.restarts,
    }.items():
        print(f"  {name:<32}{value:>9,}")
    print(f"  {'duration':<32}{took:>7.1f} s", flush=True)


def run(jobs: int, *, workers: int, children: int, seed: int, limit_seconds: float, folder: Path) -> list[str]:
    """Run on a server of its own; returns what is wrong."""
    with own_server() as server:
        chaos = Chaos(server, folder, workers, children, random.Random(seed))
        return asyncio.run(run_chaos(chaos, jobs, limit_seconds))


def main() -> int:
    """Run, print, and say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--children", type=int, default=3, help="of each worker")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--limit-seconds", type=float, default=300.0)
    arguments = parser.parse_args()
    print(
        f"{arguments.jobs:,} jobs, {arguments.workers} workers with {arguments.children} children, "
        f"seed {arguments.seed}",
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix=f"workerjobs-chaos-{uuid4().hex[:8]}-"))
    problems = run(
        arguments.jobs,
        workers=arguments.workers,
        children=arguments.children,
        seed=arguments.seed,
        limit_seconds=arguments.limit_seconds,
        folder=folder,
    )
    for problem in problems[:50]:
        print(f"VIOLATION  {problem}")
    if problems:
        print(f"{len(problems):,} violations; logs are in {folder}")
        return 1
    for log in folder.iterdir():
        log.unlink()
    folder.rmdir()
    print("All jobs are accounted for.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
