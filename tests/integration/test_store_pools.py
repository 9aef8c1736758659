"""What the tables say of pools: the jobs that wait, run and take so long; and which jobs a worker claims."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from tests.support.loop import in_loop
from tests.support.table import LEASE, open_store, sql
from workerjobs.domain.limits import LimitKind, PauseKind
from workerjobs.domain.scaling import Backlog, Demand
from workerjobs.ports.pools import PoolQuestion, ShownPool
from workerjobs.storage.api import PostgresApiStore
from workerjobs.storage.pools import MOST_COUNTED, RUNS_MEASURED
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.storage.queries import query

SOON = timedelta(seconds=30)

INSERT = """
    insert into "workerJobs" (type, pool, due, started, finished, success, "concurrencyKey", namespace, priority)
    select %s, %s, now() + %s::interval, now() - %s::interval, now() - %s::interval, case when %s then true end, %s, %s,
        n %% 3
    from generate_series(1, %s) as n
"""


def insert(
    url: str,
    count: int = 1,
    job_type: str = "report",
    *,
    pool: str = "default",
    due: str = "0",
    started: str | None = None,
    finished: str | None = None,
    key: str | None = None,
    namespace: str | None = None,
) -> None:
    sql(url, INSERT, job_type, pool, due, started, finished, finished is not None, key, namespace, count)


async def backlog(store: PostgresJobStore, pool: str = "default", *namespaces: str) -> Backlog:
    (found,) = await store.backlogs([PoolQuestion(pool, SOON, namespaces)])
    return found


@in_loop
async def test_jobs_are_counted_by_type_and_by_when_they_are_due(database_url: str) -> None:
    insert(database_url, 4)
    insert(database_url, 3, due="20 seconds")
    insert(database_url, 5, due="1 hour")
    insert(database_url, 2, "mail", key="k")
    insert(database_url, 1, "mail", key="k", due="20 seconds")
    insert(database_url, 6, "mail", started="10 seconds")
    insert(database_url, 7, pool="other")
    async with open_store(database_url) as store:
        found = await backlog(store)
        mail, report = found.demands
        # As none has ended, they take at least as long as those that run have taken.
        assert mail.mean_seconds == pytest.approx(10, abs=5)
        assert (mail.due, mail.due_soon, mail.running) == (2, 1, 6)
        assert report == Demand("report", due=4, due_soon=3, running=0, mean_seconds=None)
        assert (found.due, found.due_soon, found.running) == (6, 4, 6)
        first, second, third = await store.backlogs(
            [PoolQuestion("other", SOON), PoolQuestion("default", timedelta(hours=2)), PoolQuestion("none", SOON)]
        )
        assert (first.due, second.due_soon, third) == (7, 9, Backlog())
        assert await store.backlogs([]) == []


@in_loop
async def test_paused_jobs_ask_for_nobody_but_those_that_run_are_seen(database_url: str) -> None:
    insert(database_url, 4)
    insert(database_url, 2, "mail")
    insert(database_url, 1, started="1 second")
    async with open_store(database_url) as store:
        await store.pause(PauseKind.TYPE, "report")
        assert [(each.type, each.due, each.running) for each in (await backlog(store)).demands] == [
            ("mail", 2, 0),
            ("report", 0, 1),
        ]
        await store.pause(PauseKind.POOL, "default")
        assert [(each.type, each.due, each.running) for each in (await backlog(store)).demands] == [("report", 0, 1)]


@in_loop
async def test_durations_are_those_of_the_newest_runs_also_behind_a_long_backlog(database_url: str) -> None:
    insert(database_url, RUNS_MEASURED, started="1 hour", finished="50 minutes")
    insert(database_url, RUNS_MEASURED, started="8 seconds", finished="4 seconds")
    insert(database_url, 1, started="1 second")
    insert(database_url, 3 * RUNS_MEASURED)
    async with open_store(database_url) as store:
        (demand,) = (await backlog(store)).demands
        assert demand.mean_seconds == pytest.approx(4, abs=0.1)


@in_loop
async def test_very_many_jobs_are_counted_no_further_than_matters(database_url: str) -> None:
    insert(database_url, MOST_COUNTED + 500)
    insert(database_url, MOST_COUNTED + 500, "mail", key="k")
    async with open_store(database_url) as store:
        assert [each.due for each in (await backlog(store)).demands] == [MOST_COUNTED, MOST_COUNTED]


@in_loop
async def test_loads_tell_who_runs_what_and_since_when(database_url: str) -> None:
    async with open_store(database_url) as store:
        insert(database_url, 3)
        insert(database_url, 1, "mail")
        await store.claim("a", "default", 2, LEASE, ["report"])
        await store.claim("b", "default", 9, LEASE, ["report", "mail"])
        sql(database_url, """update "workerJobs" set started = now() - interval '1 minute' where type = 'mail'""")
        loads = await store.loads(["default"])
        assert [(each.owner, each.type, each.running) for each in loads] == [
            ("a", "report", 2),
            ("b", "mail", 1),
            ("b", "report", 1),
        ]
        assert loads[1].newest_seconds == pytest.approx(60, abs=10)
        assert await store.loads(["other"]) == []


@pytest.mark.parametrize("case", ["finished", "due tomorrow", "of other pools", "keyed"])
def test_counting_reads_a_few_pages_only(database_url: str, case: str) -> None:
    rows = 100_000
    match case:
        case "finished":
            insert(database_url, rows, started="2 minutes", finished="1 minute")
        case "due tomorrow":
            insert(database_url, rows, due="1 day")
        case "of other pools":
            insert(database_url, rows, pool="other")
        case "keyed":
            insert(database_url, rows, key="k", due="1 day")
    insert(database_url, 5, "mail")
    values = {"pools": "{default}", "ahead": [SOON], "namespaces": '{""}', "most": 1000, "sample": 1000}
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("set plan_cache_mode = force_generic_plan")
        connection.execute('analyze "workerJobs"')
        found = connection.execute(query("backlogs"), values).fetchall()
        assert [(row[1], row[2]) for row in found if row[2]] == [("mail", 5)]
        explain = b"explain (analyze, buffers, timing off) " + query("backlogs")
        text = "\n".join(line for (line,) in connection.execute(explain, values).fetchall())
    counts = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", text)
    assert counts is not None, text
    # The newest rows, for their durations, and up to `most` of a key's, are a few hundred; all rows are thousands.
    assert sum(int(count or 0) for count in counts.groups()) < 1200, text


# --- which jobs a worker claims


@in_loop
async def test_worker_of_some_namespaces_claims_their_jobs_and_no_others(database_url: str) -> None:
    for namespace in (None, "shop", "web"):
        insert(database_url, 1, namespace=namespace)
        insert(database_url, 1, namespace=namespace, key="k")
        insert(database_url, 1, "limited", namespace=namespace)
    ours = await PostgresJobStore.open(database_url, "workerjobs test", ["shop", "blog"])
    try:
        await ours.set_limit(LimitKind.TYPE, "limited", 5)
        types = ["report", "limited"]
        plain = await ours.claim("a", "default", 10, LEASE, ["report"])
        limited = await ours.claim_limited("a", "default", 10, LEASE, types)
        assert {job.namespace for job in (*plain, *limited.jobs)} == {"shop"}
        assert len(plain) + len(limited.jobs) == 3
        # What is left is not theirs, and does not keep them awake.
        assert await ours.next_due("default", types) is None
        assert (await backlog(ours, "default", "web")).due == 3
    finally:
        await ours.close()


@in_loop
async def test_pools_that_an_operator_shows_are_told_until_it_shows_them_no_more(database_url: str) -> None:
    media = ShownPool("u1", "shop", "media", "media", 4, 2, 1, "JobsWaiting", "46 jobs are due")
    mail = ShownPool("u2", "shop", "mail", "default", 1, 1, 1, "WorkerCount", "workerCount is 1")
    theirs = ShownPool("u3", "shop", "media", "media", 0, 0, 0, "NoJobs", "Nothing waits")
    store = await PostgresApiStore.open(database_url, "workerjobs test")
    try:
        await store.show_pools("ours", [], [media, mail])
        await store.show_pools("theirs", [], [theirs])
        changed = replace(media, ready=2)
        await store.show_pools("ours", ["shop"], [changed])
        assert await store.worker_pools() == [changed, theirs]
        # Who watches another namespace alone says nothing of these.
        elsewhere = replace(mail, uid="u4", namespace="web")
        await store.show_pools("ours", ["web"], [elsewhere])
        assert await store.worker_pools() == [changed, theirs, elsewhere]
        await store.show_pools("ours", [], [])
        assert await store.worker_pools() == [theirs]
    finally:
        await store.close()
