"""Jobs that have a process of their own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import open_store, sql
from tests.support.workers import (
    PROCESS_JOBS,
    Told,
    finished,
    gone,
    is_alive,
    kill,
    process,
    processes,
    run_jobs,
    run_one,
    worker,
    worker_process,
)
from workerjobs.domain.job import JobState, NewJob
from workerjobs.worker import children

KILLED = "The job's process was killed by signal SIGKILL"


@in_loop
async def test_fresh_jobs_are_forked_from_one_warm_child_and_leave_nothing_in_it(database_url: str) -> None:
    async with worker(database_url, modules=[PROCESS_JOBS]) as running:
        jobs = await run_jobs(running.store, *(NewJob(type="whoFresh") for _ in range(5)), NewJob(type="who"))
        *fresh, warm = [job.result for job in jobs]
        assert len({each["pid"] for each in fresh}) == 5
        assert [each["calls"] for each in fresh] == [1] * 5
        assert {each["parent"] for each in fresh} == {warm["pid"]} == set(running.supervisor.child_pids)
        # One group, so that a signal to the child's group reaches the job with all that it started.
        assert {each["group"] for each in fresh} == {warm["pid"]}
        assert (warm["parent"], warm["calls"]) == (running.nursery, 1)


@in_loop
async def test_fresh_jobs_have_connection_progress_and_output(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="workerjobs")
    async with worker(database_url, modules=[PROCESS_JOBS]) as running:
        jobs = await run_jobs(running.store, *(NewJob(type="connectFresh") for _ in range(3)))
    for job in jobs:
        assert job.state is JobState.SUCCEEDED, job.error
        assert job.progress == {"current": 1, "total": 1, "message": None}
    printed = [record.__dict__["job_id"] for record in caplog.records if record.message == "connected"]
    assert printed == [job.id for job in jobs]


@in_loop
async def test_worker_can_run_every_job_fresh(database_url: str, tmp_path: Path) -> None:
    async with (
        worker_process(database_url, tmp_path, WORKER_ISOLATION="fresh", WORKER_JOB_MODULES=PROCESS_JOBS),
        open_store(database_url) as store,
    ):
        jobs = await run_jobs(store, *(NewJob(type="who") for _ in range(3)), NewJob(type="removeOldWorkerJobs"))
        assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 4
        assert len({job.result["pid"] for job in jobs[:3]}) == 3


@in_loop
async def test_fresh_job_that_ends_its_process_fails_alone_and_its_child_stays(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    ends = {
        "SIGKILL": KILLED,
        "SIGSEGV": "The job's process was killed by signal SIGSEGV",
        "SIGTERM": "The job's process ended with exit code 0",
        "exit code 0": "The job's process ended with exit code 0",
        "exit code 7": "The job's process ended with exit code 7",
    }
    async with worker(database_url, children=2, isolation="fresh") as running:
        (neighbour,) = await running.store.submit([NewJob(type="hold", data=told.data())])
        await told.run(neighbour)
        await until(lambda: running.metric("workerjobs_children", state="idle") == 1)
        before = running.supervisor.child_pids
        jobs = await run_jobs(running.store, *(NewJob(type="end", data={"how": how}) for how in ends))
        assert {how: job.error for how, job in zip(ends, jobs, strict=True)} == ends
        assert running.supervisor.child_pids == before
        # Where the group is killed, the child is too.
        assert (await run_one(running.store, "end", {"how": "its group"})).error == KILLED
        # What a job forks is not taken for it.
        assert (await run_one(running.store, "fork")).result == "done"
        told.go()
        assert (await finished(running.store, neighbour)).state is JobState.SUCCEEDED
        assert len(told.runs(neighbour)) == 1


@in_loop
async def test_fresh_job_that_dies_in_the_middle_of_a_message_fails_and_the_next_one_runs(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", logger="workerjobs.job")
    async with worker(database_url, modules=[PROCESS_JOBS], isolation="fresh") as running:
        for _ in range(3):
            died, after = await run_jobs(running.store, NewJob(type="dieWhileLogging"), NewJob(type="who"))
            assert died.error == "The job's process ended with exit code 7"
            assert after.state is JobState.SUCCEEDED


@pytest.mark.parametrize("job_type", ["hold", "holdAsync"])
def test_fresh_job_that_is_cancelled_can_clean_up_and_leaves_no_process(
    database_url: str, tmp_path: Path, job_type: str
) -> None:
    @in_loop
    async def check() -> None:
        told = Told(tmp_path)
        async with worker(database_url, isolation="fresh") as running:
            (job,) = await running.store.submit([NewJob(type=job_type, data=told.data())])
            pid = (await told.run(job))["pid"]
            family = [process(pid), *map(process, running.supervisor.child_pids)]
            await running.store.cancel([job.id])
            assert (await finished(running.store, job)).error == "Job cancelled"
            assert len(told.runs(job, "interrupted")) == 1
            await gone(family)
            assert (await run_one(running.store, "echo")).state is JobState.SUCCEEDED

    check()


@in_loop
async def test_fresh_job_that_ignores_its_timeout_is_killed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "KILL_SECONDS", 0.5)
    told = Told(tmp_path)
    async with worker(database_url, isolation="fresh") as running:
        data = told.data(how="ignores SIGTERM")
        (job,) = await running.store.submit([NewJob(type="never", data=data, timeout_ms=1000)])
        pid = (await told.run(job))["pid"]
        assert (await finished(running.store, job)).error == "Job timed out after 1 s"
        await until(lambda: not is_alive(pid))


@in_loop
async def test_fresh_job_does_not_outlive_its_child_or_its_supervisor(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with (
        worker_process(database_url, tmp_path, WORKER_ISOLATION="fresh") as running,
        open_store(database_url) as store,
    ):
        first, second = await store.submit([NewJob(type="hold", data=told.data()) for _ in range(2)])
        run = process((await told.run(first))["pid"])
        kill(processes()[run])
        await gone([run], seconds=2)
        assert (await finished(store, first)).error == KILLED
        run = process((await told.run(second))["pid"])
        running.send(signal.SIGKILL)
        await gone([run], seconds=2)


@in_loop
async def test_fresh_job_that_left_its_group_is_interrupted_and_killed_all_the_same(
    database_url: str, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker(database_url, modules=[PROCESS_JOBS]) as running:
        first, second = await running.store.submit([NewJob(type="holdApart", data=told.data()) for _ in range(2)])
        run = process((await told.run(first))["pid"])
        await running.store.cancel([first.id])
        assert (await finished(running.store, first)).error == "Job cancelled"
        assert len(told.runs(first, "interrupted")) == 1
        await gone([run])
        run = process((await told.run(second))["pid"])
        kill(processes()[run])
        await gone([run], seconds=2)
        assert (await finished(running.store, second)).error == KILLED


@in_loop
async def test_child_with_threads_is_not_forked_but_runs_one_fresh_job(database_url: str, tmp_path: Path) -> None:
    module = tmp_path / "threaded.py"
    module.write_text("import threading, time\nthreading.Thread(target=time.sleep, args=[600], daemon=True).start()\n")
    async with worker(database_url, modules=[PROCESS_JOBS, str(module)]) as running:
        jobs = await run_jobs(running.store, *(NewJob(type="whoFresh") for _ in range(3)))
        results = [job.result for job in jobs]
        assert len({each["pid"] for each in results}) == 3
        assert [(each["parent"], each["calls"], each["threads"]) for each in results] == [(running.nursery, 1, 2)] * 3
        assert running.metric("workerjobs_children_lost_total") == 0
        # Warm jobs share one all the same.
        warm = [job.result["pid"] for job in await run_jobs(running.store, *(NewJob(type="who") for _ in range(3)))]
        assert len(set(warm)) == 1


@in_loop
async def test_fresh_job_that_crashes_in_a_frame_costs_no_other(database_url: str) -> None:
    sql(database_url, "create table runs (n int primary key, pid int)")
    async with worker(database_url, children=2, modules=[PROCESS_JOBS], isolation="fresh") as running:
        new = [NewJob(type="tiny", data={"n": n} | ({"how": "SIGSEGV"} if n == 30 else {})) for n in range(60)]
        jobs = await run_jobs(running.store, *new, seconds=60)
    assert [job.data["n"] for job in jobs if job.state is not JobState.SUCCEEDED] == [30]
    assert jobs[30].error == "The job's process was killed by signal SIGSEGV"
    assert sql(database_url, "select count(*), count(distinct pid) from runs") == [(60, 60)]
