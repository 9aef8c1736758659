"""The store on real Postgres against a model in memory (tests/support/queue_model.py), by thousands of random steps.

Postgres' clock is the test's: ``now()`` is found in a schema before pg_catalog's (tests/support/test_clock.sql). So
moments are compared exactly, and hours pass at once. After every step the whole table is compared.

    WORKERJOBS_MODEL_EXAMPLES=5000 .venv/bin/python -m pytest tests/integration/test_store_model.py

looks for differences at random instead of repeating the same steps, and makes a failing example short.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.queue_model import HOURLY, QueueModel, Row, Run
from workerjobs.domain.job import Job, NewJob, RetryPolicy
from workerjobs.domain.json_text import encode_json
from workerjobs.domain.lifecycle import Outcome, Settlement, settle
from workerjobs.ports.jobs import JobQuery, Lease, Progress
from workerjobs.storage.postgres import PostgresJobStore

START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
LEASE = timedelta(seconds=15)
EXAMPLES = int(os.environ.get("WORKERJOBS_MODEL_EXAMPLES", "0"))
"""How many random examples to try; 0: the same few ones each time."""
STEPS = 50
COMPARED = [each.name for each in dataclasses.fields(Row)]

T = TypeVar("T")

OWNERS = st.sampled_from(["ann", "bob", "cleo"])
POOLS = st.sampled_from(["default"] * 5 + ["gpu"])
TYPES = ["mail", "report", "narrow"]
KNOWN = st.sampled_from([TYPES, TYPES, ["mail", "narrow"]])
TAGS = st.sampled_from([None, None, None, None, "a", "b"])
LIMITS = st.sampled_from([1, 2, 3, 100])
SECONDS_TO_DUE = st.sampled_from([None, None, -3600, 0, 5, 20, 4000])
KEYS: dict[str, dict[str, Any]] = {
    "one": {"concurrency_limit": 1},
    "two": {"concurrency_limit": 2},
    "rate": {"rate_limit": 2, "rate_period_ms": 60_000},
    "free": {},
}
"""Concurrency keys with what each job says of its limits."""
FAILING: list[dict[str, Any]] = [
    {},
    {"retry": RetryPolicy(limit=0)},
    {"retry": RetryPolicy(limit=3, initial_delay_ms=4000, factor=3.0, max_delay_ms=20_000)},
    {"auto_reschedule_on_failure": True, "auto_reschedule_on_failure_delay_ms": 7000},
]


@st.composite
def plain_jobs(draw: st.DrawFn, now: datetime) -> NewJob:
    seconds = draw(SECONDS_TO_DUE)
    key = draw(st.sampled_from([None] * 6 + [*KEYS]))
    return NewJob(
        # Under a key there is only one kind of limit: which job is looked at first is then no matter.
        type=draw(st.sampled_from(["mail", "mail", *TYPES] if key is None else ["mail", "report"])),
        due=None if seconds is None else now + timedelta(seconds=seconds),
        priority=draw(st.sampled_from([0, 0, 0, 0, 5, -1])),
        pool=draw(POOLS),
        tag=draw(TAGS),
        persistent=draw(st.booleans()),
        remove_delay_ms=draw(st.sampled_from([0, 1000])),
        concurrency_key=key,
        **draw(st.sampled_from(FAILING)),
        **(KEYS[key] if key else {}),
    )


@st.composite
def cron_jobs(draw: st.DrawFn, now: datetime) -> NewJob:
    hour = now.replace(minute=0, second=0, microsecond=0)
    return NewJob(
        type=draw(st.sampled_from(TYPES)),
        cron_schedule=HOURLY,
        cron_key=draw(st.sampled_from(["daily", "nightly"])),
        due=hour + timedelta(hours=draw(st.sampled_from([0, 1, 2]))),
        tag=draw(TAGS),
        **draw(st.sampled_from(FAILING)),
    )


class StoreMachine(RuleBasedStateMachine):
    """Calls the store and the model, and compares."""

    def __init__(
        self, url: str, loop: asyncio.AbstractEventLoop, stores: list[PostgresJobStore], steps: list[str]
    ) -> None:
        super().__init__()
        self.connection = psycopg.connect(url, autocommit=True)
        self.loop = loop
        self.store, self.other_store = stores
        self.steps = steps
        self.model = QueueModel(START, START - timedelta(hours=1))
        self.jobs: dict[Run, Job] = {}
        """What workers hold, or believe to hold, as they claimed it."""
        self.owner_of: dict[Run, str] = {}
        self.newest_token = 0

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.sql('truncate "workerJobs", "workerJobLimits", "workerJobPauses" restart identity')
        self.sql("select setval('workerjobs.fencing_token', 1, false)")
        self.set_clock()
        # Many of one kind, so that the order among them decides who gets which.
        dues = st.sampled_from([-3600, -60, -5, 0, 20])
        seconds = data.draw(st.lists(dues, min_size=5, max_size=8), label="seconds until due")
        jobs = [NewJob(type="mail", due=START + timedelta(seconds=each), **FAILING[2]) for each in seconds]
        self.wait(self.store.submit(jobs))
        self.model.submit(jobs)

    def teardown(self) -> None:
        self.connection.close()

    # --- helpers

    def sql(self, statement: str, *values: Any) -> None:
        self.connection.execute(statement.encode(), values)

    def set_clock(self) -> None:
        self.sql(
            "update test_clock.state set moment = %s, server_started = %s", self.model.now, self.model.server_started
        )

    def wait(self, operation: Awaitable[T]) -> T:
        return self.loop.run_until_complete(operation)

    def choose_runs(self, data: st.DataObject, most: int = 4) -> list[Run]:
        return data.draw(st.lists(st.sampled_from([*self.jobs]), min_size=1, max_size=most, unique=True), label="runs")

    def leases(self, runs: Sequence[Run]) -> list[Lease]:
        return [Lease(run.id, run.token) for run in runs]

    def take(self, jobs: Sequence[Job], rows: Sequence[Row], owner: str) -> None:
        """Note a claim: the model's rows get the tokens, each newer than all before."""
        self.model.claim(rows, owner, LEASE)
        self.adopt(jobs, owner)

    def adopt(self, jobs: Sequence[Job], owner: str) -> None:
        newest = self.newest_token
        for job in jobs:
            assert job.fencing_token is not None
            assert job.fencing_token > newest
            self.model.rows[job.id].fencing_token = job.fencing_token
            self.newest_token = max(self.newest_token, job.fencing_token)
            run = Run(job.id, job.fencing_token)
            self.jobs[run], self.owner_of[run] = job, owner
        assert len({job.fencing_token for job in jobs}) == len(jobs)

    # --- the clock

    @rule(seconds=st.sampled_from([1, 5, 16, 16, 60, 3600]))
    def pass_time(self, seconds: int) -> None:
        self.model.now += timedelta(seconds=seconds)
        self.set_clock()

    @rule()
    def pass_time_until_due(self) -> None:
        later = [row.due for row in self.model.rows.values() if row.is_pending and row.due > self.model.now]
        if later:
            self.model.now = min(later)
            self.set_clock()

    @rule()
    def restart_server(self) -> None:
        self.model.server_started = self.model.now
        self.set_clock()

    # --- submitting

    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        jobs = data.draw(st.lists(plain_jobs(self.model.now), min_size=2, max_size=6), label="jobs")
        stored = self.wait(self.store.submit(jobs))
        assert len(stored) == len(self.model.submit(jobs)) == len(jobs)

    @rule(data=st.data())
    def submit_bulk(self, data: st.DataObject) -> None:
        jobs = data.draw(st.lists(plain_jobs(self.model.now), min_size=2, max_size=6), label="jobs")
        assert self.wait(self.store.submit_bulk(jobs)) == len(self.model.submit(jobs, is_bulk=True))

    @rule(data=st.data())
    def submit_cron(self, data: st.DataObject) -> None:
        job = data.draw(cron_jobs(self.model.now), label="job")
        assert len(self.wait(self.store.submit([job]))) == len(self.model.submit([job]))

    @rule(data=st.data())
    def ensure_cron(self, data: st.DataObject) -> None:
        job = data.draw(cron_jobs(self.model.now), label="job")
        assert len(self.wait(self.store.ensure_cron([job]))) == len(self.model.ensure_cron(job))

    @rule(key=st.sampled_from(["daily", "nightly"]))
    def unschedule(self, key: str) -> None:
        row = self.connection.execute("select workerjobs.unschedule(%s)", [key]).fetchone()
        assert row == (self.model.unschedule(key),)

    @precondition(lambda self: self.model.finished())
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.model.finished()), label="id")
        assert len(self.wait(self.store.retry([job_id]))) == len(self.model.retry(job_id))

    # --- claiming

    @rule(owner=OWNERS, pool=POOLS, limit=LIMITS, types=KNOWN)
    def claim(self, owner: str, pool: str, limit: int, types: list[str]) -> None:
        rows = self.model.claimable(pool, types)[:limit]
        jobs = self.wait(self.store.claim(owner, pool, limit, LEASE, types))
        assert [job.id for job in jobs] == [row.id for row in rows]
        self.take(jobs, rows, owner)

    @rule(owner=OWNERS, limit=st.sampled_from([1, 2]))
    def claim_a_few(self, owner: str, limit: int) -> None:
        self.claim(owner, "default", limit, TYPES)

    @rule(owner=OWNERS, pool=POOLS, types=KNOWN)
    def claim_at_once(self, owner: str, pool: str, types: list[str]) -> None:
        """Which of the two gets a job is chance: so both are one owner's, and its jobs are noted in one order."""

        async def both() -> list[list[Job]]:
            claims = (store.claim(owner, pool, 100, LEASE, types) for store in (self.store, self.other_store))
            return list(await asyncio.gather(*claims))

        rows = {row.id: row for row in self.model.claimable(pool, types)[:100]}
        claimed = sorted((job for jobs in self.wait(both()) for job in jobs), key=lambda job: job.id)
        assert [job.id for job in claimed] == sorted(rows)
        self.take(claimed, [rows[job.id] for job in claimed], owner)

    @rule(owner=OWNERS, pool=POOLS, limit=LIMITS, types=KNOWN)
    def claim_limited(self, owner: str, pool: str, limit: int, types: list[str]) -> None:
        rows, unlimited = self.model.admissible(pool, types, limit, LEASE)
        claim = self.wait(self.store.claim_limited(owner, pool, limit, LEASE, types))
        assert ([job.id for job in claim.jobs], claim.unlimited) == ([row.id for row in rows], unlimited)
        self.take(claim.jobs, rows, owner)

    @rule(owner=OWNERS, pool=POOLS, types=KNOWN)
    def claim_and_lose_the_answer(self, owner: str, pool: str, types: list[str]) -> None:
        """What pickup does about it is `release_strays`, at some later moment."""
        rows = self.model.claimable(pool, types)[:2]
        jobs = self.wait(self.store.claim(owner, pool, 2, LEASE, types))
        self.take(jobs, rows, owner)
        for job in jobs:
            del self.jobs[Run(job.id, job.fencing_token or 0)]

    @rule(owner=OWNERS)
    def release_strays(self, owner: str) -> None:
        known = [run for run in self.jobs if self.owner_of[run] == owner]
        released = self.wait(self.store.release_strays(owner, self.leases(known)))
        assert set(released) == self.model.release_strays(owner, known)

    # --- running

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        runs = self.choose_runs(data)
        renewal = self.wait(self.store.renew(self.leases(runs), LEASE))
        held = self.model.renew(runs, LEASE)
        assert renewal.held == held.keys()
        assert renewal.cancel_requested == {job_id for job_id, is_cancelled in held.items() if is_cancelled}

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), current=st.integers(0, 9))
    def report(self, data: st.DataObject, current: int) -> None:
        (run,) = self.choose_runs(data, 1)
        self.wait(self.store.save_progress([Progress(run.id, run.token, encode_json({"current": current}))]))
        self.model.report(run, {"current": current})

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), success=st.booleans(), is_answer_lost=st.booleans())
    def settle(self, data: st.DataObject, success: bool, is_answer_lost: bool) -> None:
        """Runs end, also such as were rescued or cancelled long ago; an answer that was lost is asked for again."""
        lines: set[str] = set()
        runs = []
        for run in self.choose_runs(data):
            # Of two rows of one line, which one the next tick follows is not said.
            key = self.jobs[run].cron_key
            if key is None or key not in lines:
                runs.append(run)
                lines |= {key} if key is not None else set()
        settlements = self.end(runs, success)
        if is_answer_lost:
            self.compare()
            assert not self.wait(self.store.settle(settlements)).stored

    def end(self, runs: Sequence[Run], success: bool) -> list[Settlement]:
        result = {"n": 1} if success else {"error": "no paper"}
        outcome = Outcome(True, encode_json(result)) if success else Outcome.failure("no paper")
        settlements = [settle(self.jobs[run], outcome, now=self.model.now) for run in runs]
        settled = self.wait(self.store.settle(settlements))
        stored = self.model.settle([(run, success, result) for run in runs])
        assert not settled.refused
        assert not settled.without_follow_up
        assert settled.stored == stored
        assert settled.stale == {run.id for run in runs} - stored
        return settlements

    @precondition(lambda self: self.stale())
    @rule(data=st.data(), success=st.booleans(), what=st.sampled_from(["settle", "settle", "renew", "release"]))
    def go_on_after_the_lease_was_lost(self, data: st.DataObject, success: bool, what: str) -> None:
        """A worker that was thought dead is not; most often another one has the job by now."""
        runs = data.draw(st.lists(st.sampled_from(self.stale()), min_size=1, max_size=4, unique=True), label="runs")
        if what == "settle":
            outcome = Outcome(success, '{"error": "stale"}')
            settlements = [settle(self.jobs[run], outcome, now=self.model.now) for run in runs]
            settled = self.wait(self.store.settle(settlements))
            assert not settled.stored
            assert settled.stale == {run.id for run in runs}
        elif what == "renew":
            assert not self.wait(self.store.renew(self.leases(runs), LEASE)).held
        else:
            assert not self.wait(self.store.release(self.leases(runs)))

    def held(self) -> list[Run]:
        return [run for run in self.jobs if self.model.holds(run) is not None]

    def stale(self) -> list[Run]:
        return [run for run in self.jobs if self.model.holds(run) is None]

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), were_begun=st.booleans())
    def release(self, data: st.DataObject, were_begun: bool) -> None:
        runs = self.choose_runs(data)
        leases = self.leases(runs)
        released = self.store.release(leases) if were_begun else self.store.release([], leases)
        assert set(self.wait(released)) == self.model.release(runs, were_begun=were_begun)

    @precondition(lambda self: len(self.jobs) > 8)
    @rule(owner=OWNERS)
    def crash(self, owner: str) -> None:
        """The owner ends without a word: nothing renews its leases any more."""
        self.jobs = {run: job for run, job in self.jobs.items() if self.owner_of[run] != owner}

    @rule(owner=OWNERS, limit=LIMITS, seconds_ago=st.sampled_from([0, 0, 0, 6]))
    def rescue(self, owner: str, limit: int, seconds_ago: int) -> None:
        asked = self.model.now - timedelta(seconds=seconds_ago)
        rescue = self.wait(self.store.rescue(owner, LEASE, limit, asked=asked))
        released, taken = self.model.rescue(owner, LEASE, limit) if seconds_ago < 5 else (set(), [])
        assert {job.id for job in rescue.released} == released
        assert {job.id for job in rescue.taken} == {row.id for row in taken}
        self.adopt(rescue.taken, owner)

    @rule(owner=OWNERS)
    def lose_workers_and_claim_again(self, owner: str) -> None:
        """The usual end of a lost worker: its jobs run elsewhere within a lease and a few seconds."""
        self.model.now += LEASE + timedelta(seconds=1)
        self.set_clock()
        self.rescue(owner, 100, 0)
        self.compare()
        self.claim(owner, "default", 100, TYPES)

    @precondition(lambda self: self.held())
    @rule(data=st.data(), times=st.sampled_from([3, 4]), owner=OWNERS)
    def lose_the_workers_of_one_job(self, data: st.DataObject, times: int, owner: str) -> None:
        """A job lost so many workers before that it takes too many steps to come here, and loses one more."""
        run = data.draw(st.sampled_from(self.held()), label="run")
        self.model.rows[run.id].rescues = times
        self.sql('update "workerJobs" set rescues = %s where id = %s', times, run.id)
        self.lose_workers_and_claim_again(owner)

    # --- managing

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from([*self.model.rows]), min_size=1, max_size=3), label="ids")
        assert {job.id for job in self.wait(self.store.cancel(ids))} == self.model.cancel(set(ids))

    @precondition(lambda self: self.held())
    @rule(data=st.data(), success=st.booleans())
    def cancel_a_run_and_settle_it(self, data: st.DataObject, success: bool) -> None:
        """It may have ended before its worker heard of the cancel."""
        run = data.draw(st.sampled_from(self.held()), label="run")
        assert {job.id for job in self.wait(self.store.cancel([run.id]))} == self.model.cancel([run.id])
        self.end([run], success)

    @rule(job_type=st.sampled_from(TYPES))
    def pause_or_resume(self, job_type: str) -> None:
        if job_type in self.model.paused_types:
            self.sql("""delete from "workerJobPauses" where kind = 'type' and name = %s""", job_type)
        else:
            self.sql("""insert into "workerJobPauses" (kind, name) values ('type', %s)""", job_type)
        self.model.paused_types ^= {job_type}

    @rule(concurrency=st.sampled_from([None, 0, 1, 2]))
    def limit_type(self, concurrency: int | None) -> None:
        self.sql("""delete from "workerJobLimits" where kind = 'type' and name = 'narrow'""")
        self.model.type_limits.pop("narrow", None)
        if concurrency is not None:
            self.sql(
                "insert into \"workerJobLimits\" (kind, name, concurrency) values ('type', 'narrow', %s)", concurrency
            )
            self.model.type_limits["narrow"] = concurrency

    @rule(limit=LIMITS)
    def prune(self, limit: int) -> None:
        assert self.wait(self.store.prune(limit)) == self.model.prune(limit)

    @rule()
    def remove_unused(self) -> None:
        self.wait(self.store.remove_unused())

    # --- what holds after every step

    @invariant()
    def compare(self) -> None:
        found = {job.id: job for job in self.wait(self.store.list(JobQuery(limit=100_000)))}
        for job_id in sorted(found.keys() - self.model.rows.keys()):
            # The database chose the ids; rows of one call come in its order, but for follow-ups, which have no order.
            job = found[job_id]
            row = next(row for row in self.model.new if _is_same(row, job, but=("id",)))
            self.model.new.remove(row)
            row.id = job_id
            self.model.rows[job_id] = row
        assert not self.model.new, "rows that are missing in the table"
        assert found.keys() == self.model.rows.keys()
        for job_id, job in found.items():
            row = self.model.rows[job_id]
            assert _is_same(row, job), _differences(row, job)
        self.steps.append("")

    @invariant()
    def compare_next_due(self) -> None:
        for pool in ("default", "gpu"):
            assert self.wait(self.store.next_due(pool, TYPES)) == self.model.next_due(pool, TYPES)


def _is_same(row: Row, job: Job, but: Sequence[str] = ()) -> bool:
    return all(getattr(row, name) == getattr(job, name) for name in COMPARED if name not in but)


def _differences(row: Row, job: Job) -> str:
    return f"row {job.id}: " + ", ".join(
        f"{name} is {getattr(job, name)!r} and not {getattr(row, name)!r}"
        for name in COMPARED
        if getattr(row, name) != getattr(job, name)
    )


@pytest.mark.slow
@pytest.mark.timeout(1800 if EXAMPLES else 600)
def test_random_steps_leave_the_table_as_the_model_says(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(Path(__file__).parents[1].joinpath("support/test_clock.sql").read_bytes())
    steps: list[str] = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        stores = [runner.run(PostgresJobStore.open(database_url, "workerjobs test")) for _ in range(2)]
        try:
            run_state_machine_as_test(
                lambda: StoreMachine(database_url, loop, stores, steps),  # type: ignore[arg-type]  # any callable does
                settings=settings(
                    max_examples=EXAMPLES or 80,
                    stateful_step_count=STEPS,
                    derandomize=not EXAMPLES,
                    database=None,
                    deadline=None,
                    print_blob=True,
                    # Making a failing example short takes minutes; its steps are printed all the same.
                    phases=[Phase.generate, *([Phase.shrink] if EXAMPLES else [])],
                    suppress_health_check=[*HealthCheck],
                ),
            )
        finally:
            for store in stores:
                runner.run(store.close())
    print(f"{len(steps):,} steps without a difference")
    assert len(steps) > (0 if EXAMPLES else 1000)
