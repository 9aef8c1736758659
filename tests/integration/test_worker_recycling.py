"""Children that have run many jobs are replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import count_rows, sql
from tests.support.workers import JOBS, PROCESS_JOBS, Told, finished, gone, process, run_jobs, run_one, worker
from workerjobs.domain.job import JobState, NewJob


@in_loop
async def test_children_are_replaced_after_some_jobs_and_each_job_runs_once(database_url: str) -> None:
    sql(database_url, "create table runs (n int primary key, pid int)")
    async with worker(database_url, children=2, modules=[PROCESS_JOBS], child_max_jobs=50) as running:
        await until(lambda: len(running.supervisor.child_pids) == 2)
        first = set(running.supervisor.child_pids)
        n = 0
        while len(sql(database_url, "select distinct pid from runs")) < 6:
            jobs = await run_jobs(
                running.store, *(NewJob(type="tiny", data={"n": n + each}) for each in range(200)), seconds=60
            )
            assert {(job.state, job.attempt, job.rescues) for job in jobs} == {(JobState.SUCCEEDED, 1, 0)}
            n += 200
        assert sql(database_url, "select count(*) from runs") == [(n,)]
        assert running.metric("workerjobs_children_lost_total") == 0
        await until(lambda: len(running.supervisor.child_pids) == 2)
        assert not first & set(running.supervisor.child_pids)


@in_loop
async def test_child_that_never_has_nothing_to_do_is_replaced_too(database_url: str) -> None:
    async with worker(database_url, modules=[PROCESS_JOBS], child_max_jobs=100) as running:
        await running.store.submit([NewJob(type="who") for _ in range(5000)])
        await until(lambda: count_rows(database_url, "finished is null") == 0, seconds=60)
        await until(lambda: len(running.supervisor.child_pids) == 1)
    assert sql(database_url, 'select distinct success, attempt, rescues from "workerJobs"') == [(True, 1, 0)]
    # No process ran a job twice: each counts its calls.
    calls = """select count(*) = max((result->>'calls')::int) from "workerJobs" group by result->>'pid'"""
    each = sql(database_url, calls)
    assert set(each) == {(True,)}
    assert len(each) > 2


WAITING_MODULE = """
import pathlib, time

while pathlib.Path({gate!r}).exists():
    time.sleep(0.01)
"""


@in_loop
async def test_child_that_is_replaced_ends_its_job_before_the_other_begins(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    gate, module = tmp_path / "gate", tmp_path / "waiting_module.py"
    module.write_text(WAITING_MODULE.format(gate=str(gate)))
    async with worker(database_url, modules=[JOBS, PROCESS_JOBS, str(module)], child_max_jobs=1) as running:
        await until(lambda: running.metric("workerjobs_children", state="idle") == 1)
        # The one that takes its place can't be ready before the next job is running.
        gate.touch()
        first = await run_one(running.store, "who")
        (held,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        run = await told.run(held)
        assert run["pid"] == first.result["pid"]
        old = process(run["pid"])
        assert running.metric("workerjobs_children", state="starting") == 1
        gate.unlink()
        await until(lambda: any(child.was_ready and child.replaces for child in running.supervisor._children))
        # The old one is given no frames behind its job, or it might never end; the new one's turn has not come.
        assert [child.can_take for child in running.supervisor._children] == [False, False]
        (waiting,) = await running.store.submit([NewJob(type="who")])
        told.go()
        assert (await finished(running.store, held)).state is JobState.SUCCEEDED
        done = await finished(running.store, waiting)
        assert done.result["pid"] != run["pid"]
        assert done.started is not None
        ended = (await finished(running.store, held)).finished
        assert ended is not None
        assert done.started >= ended
        await gone([old])
        assert running.metric("workerjobs_children_lost_total") == 0


@in_loop
async def test_child_stays_when_the_one_that_should_replace_it_can_not_start(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "fragile.py").write_text(
        f"import os, pathlib\nif pathlib.Path({str(tmp_path / 'broken')!r}).exists():\n    os._exit(9)\n"
    )
    modules = [PROCESS_JOBS, str(tmp_path / "fragile.py")]
    async with worker(database_url, modules=modules, child_max_jobs=3) as running:
        first = await run_one(running.store, "who")
        (tmp_path / "broken").touch()
        jobs = await run_jobs(running.store, *(NewJob(type="who") for _ in range(3)))
        await until(lambda: "A child ended with exit code 9 before it was ready" in caplog.text)
        jobs += await run_jobs(running.store, *(NewJob(type="who") for _ in range(2)))
        assert {job.result["pid"] for job in jobs} == {first.result["pid"]}
        (tmp_path / "broken").unlink()

        async def pid() -> bool:
            return bool((await run_one(running.store, "who")).result["pid"] != first.result["pid"])

        await until(pid)
        await until(lambda: len(running.supervisor.child_pids) == 1)


@in_loop
async def test_child_that_dies_while_it_is_replaced_makes_room_for_the_other(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url, modules=[JOBS, PROCESS_JOBS], child_max_jobs=2) as running:
        jobs = await running.store.submit(
            [NewJob(type="who"), NewJob(type="who"), NewJob(type="hold", data=told.data())]
        )
        await told.run(jobs[2])
        await running.store.cancel([jobs[2].id])
        assert (await finished(running.store, jobs[2])).error == "Job cancelled"
        assert (await run_one(running.store, "who")).state is JobState.SUCCEEDED
        await until(lambda: len(running.supervisor.child_pids) == 1)
