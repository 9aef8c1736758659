"""Many programs that schedule the same tags and lines at the same moment, in SQL and in Python."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice
from threading import Barrier
from typing import Any

import psycopg
import pytest

import workerjobs
from tests.support.cli import environment
from tests.support.table import count_rows, open_store, sql
from workerjobs import NewJob

SCHEDULERS = 16
ROUNDS = 12

Scheduler = Callable[[str, Sequence[str]], None]


def in_sql(url: str, tags: Sequence[str]) -> None:
    # One statement for all: the order of the calls is that of the tags.
    with psycopg.connect(url) as connection:
        connection.execute("select workerjobs.submit('x', tag => tag) from unnest(%s::text[]) as tag", [sorted(tags)])


def in_python(url: str, tags: Sequence[str]) -> None:
    with psycopg.connect(url) as connection:
        for tag in sorted(tags):
            workerjobs.submit(connection, NewJob(type="x", tag=tag))


def in_bulk(url: str, tags: Sequence[str]) -> None:
    with psycopg.connect(url) as connection:
        workerjobs.submit_many(connection, [NewJob(type="x", tag=tag) for tag in tags])


def by_store(url: str, tags: Sequence[str]) -> None:
    async def submit() -> None:
        async with open_store(url) as store:
            await store.submit([NewJob(type="x", tag=tag) for tag in tags])

    asyncio.run(submit())


def by_async_python(url: str, tags: Sequence[str]) -> None:
    async def submit() -> None:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await workerjobs.submit_many(connection, [NewJob(type="x", tag=tag) for tag in tags])

    asyncio.run(submit())


WAYS: Sequence[Scheduler] = (in_sql, in_python, in_bulk, by_store, by_async_python)


def at_once(schedulers: Sequence[Callable[[], None]]) -> None:
    """Run them in threads that start together; the first error is raised."""
    barrier = Barrier(len(schedulers))

    def run(scheduler: Callable[[], None]) -> None:
        barrier.wait(60)
        scheduler()

    with ThreadPoolExecutor(len(schedulers)) as pool:
        for future in [pool.submit(run, scheduler) for scheduler in schedulers]:
            future.result(60)


def test_sixteen_schedulers_of_one_tag_leave_one_pending_job(database_url: str) -> None:
    for _ in range(ROUNDS):
        at_once([partial(way, database_url, ["nightly"]) for way in islice(cycle(WAYS), SCHEDULERS)])
        assert count_rows(database_url, "finished is null") == 1
    assert count_rows(database_url) == ROUNDS * SCHEDULERS
    replaced = """result = '{"error": "Job cancelled due to new job being created"}'"""
    assert count_rows(database_url, replaced) == ROUNDS * SCHEDULERS - 1
    # The one that is left is the last one stored.
    (last,) = sql(database_url, 'select max(id) from "workerJobs"')
    assert sql(database_url, 'select id from "workerJobs" where finished is null') == [last]


PROGRAM = """
import sys, psycopg, workerjobs
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(100):
        if n % 2:
            workerjobs.submit(connection, {"type": "x", "tag": f"tag {n}"})
        else:
            connection.execute("select workerjobs.submit('x', tag => %s)", [f"tag {n}"])
"""


@pytest.fixture
def programs(database_url: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that schedule the same tags one after another, waiting for a line."""
    with ExitStack() as stack:
        started = []
        for _ in range(4):
            popen = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, database_url],
                env=environment(database_url),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(popen.wait, 10)
            stack.callback(popen.kill)
            started.append(popen)
        for popen in started:
            assert popen.stdout is not None
            assert popen.stdout.readline() == "ready\n"
        yield started


def test_schedulers_in_several_processes_leave_one_pending_job_of_each_tag(
    database_url: str, programs: list[subprocess.Popen[str]]
) -> None:
    for popen in programs:
        assert popen.stdin is not None
        popen.stdin.write("go\n")
        popen.stdin.flush()
    for popen in programs:
        _, errors = popen.communicate(timeout=120)
        assert popen.returncode == 0, errors
    assert count_rows(database_url) == 400
    pending = sql(database_url, 'select count(*), count(distinct tag) from "workerJobs" where finished is null')
    assert pending == [(100, 100)]


@pytest.mark.parametrize("seed", range(3))
def test_random_overlapping_tags_in_parallel_never_deadlock_and_leave_one_job_each(
    database_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    tags = [f"tag {n}" for n in range(8)]

    def some_tags() -> list[str]:
        # Also with repeats, in any order.
        return chance.choices(tags, k=chance.randint(1, 12))

    plans = [[(chance.choice(WAYS), some_tags()) for _ in range(6)] for _ in range(8)]
    used = {tag for plan in plans for _, chosen in plan for tag in chosen}

    def follow(plan: Sequence[tuple[Scheduler, Sequence[str]]]) -> None:
        for way, chosen in plan:
            way(database_url, chosen)

    at_once([partial(follow, plan) for plan in plans])
    pending = sql(database_url, 'select tag, count(*) from "workerJobs" where finished is null group by tag')
    assert dict(pending) == dict.fromkeys(used, 1)
    assert count_rows(database_url) == sum(len(chosen) for plan in plans for _, chosen in plan)


def test_bulk_of_more_tags_than_locks_and_single_tags_exclude_each_other(database_url: str) -> None:
    # Postgres has room for some 7,000 locks by default; each tag locked by itself, the bulk would fail.
    tags = [f"tag {n}" for n in range(20_000)]
    bulks = [partial(in_bulk, database_url, tags) for _ in range(2)]
    at_once([*bulks, *(partial(way, database_url, ["tag 7", "tag 19999"]) for way in WAYS)])
    pending = sql(database_url, 'select count(*), count(distinct tag) from "workerJobs" where finished is null')
    assert pending == [(20_000, 20_000)]


def test_sixteen_schedulers_of_one_key_leave_one_line(database_url: str) -> None:
    def schedule(number: int) -> None:
        cron = ["@hourly", "@daily", "@weekly"][number % 3]
        with psycopg.connect(database_url) as connection:
            if number % 2:
                workerjobs.schedule(connection, NewJob(type="x", cron_schedule=cron), key="k")
            else:
                connection.execute("select workerjobs.schedule('x', %s, key => 'k')", [cron])

    for _ in range(ROUNDS // 3):
        at_once([partial(schedule, number) for number in range(SCHEDULERS)])
        assert count_rows(database_url, "finished is null") == 1


def test_waiting_scheduler_sees_what_the_one_before_it_stored(database_url: str) -> None:
    def blocked(connection: psycopg.Connection[Any]) -> bool:
        row = connection.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            " and database = (select oid from pg_database where datname = current_database())"
        ).fetchone()
        return row != (0,)

    with psycopg.connect(database_url) as first, ThreadPoolExecutor(1) as pool:
        earlier = workerjobs.submit(first, NewJob(type="x", tag="t"))
        waiting = pool.submit(in_sql, database_url, ["t"])
        while not blocked(first):
            assert not waiting.done()
        first.commit()
        waiting.result(20)
    rows = sql(database_url, 'select id = %s, finished is null from "workerJobs" order by id', earlier.id)
    assert rows == [(True, False), (False, True)]
