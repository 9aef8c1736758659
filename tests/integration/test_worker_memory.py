"""Memory: limits of jobs, and children that keep too much."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.loop import in_loop, until
from tests.support.workers import JOBS, PROCESS_JOBS, Told, finished, gone, process, run_jobs, run_one, worker
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.worker import memory_watch

EXCEEDED = re.compile(r"The job exceeded (\d+) MiB of memory \(peak (\d+) MiB\)")
REFUSED = re.compile(r"The job exceeded (\d+) MiB of memory \(peak (\d+) MiB, it asked for more at once\)")


def exceeded(job: Job, pattern: re.Pattern[str] = EXCEEDED) -> tuple[int, int]:
    """The limit and the peak that a job's error names."""
    match = pattern.fullmatch(job.error or "")
    assert match is not None, (job.state, job.error)
    return int(match[1]), int(match[2])


@pytest.mark.parametrize("job_type", ["takeLimited", "takeLimitedFresh"])
def test_job_that_grows_past_its_limit_is_killed_and_its_neighbour_goes_on(
    database_url: str, tmp_path: Path, job_type: str
) -> None:
    @in_loop
    async def check() -> None:
        told = Told(tmp_path)
        async with worker(database_url, children=2, modules=[JOBS, PROCESS_JOBS]) as running:
            (neighbour,) = await running.store.submit([NewJob(type="hold", data=told.data())])
            await told.run(neighbour)
            job = await run_one(running.store, job_type, {"how": "slowly", "mib": 2000, "seconds": 600})
            limit, peak = exceeded(job)
            assert limit == 128
            assert 128 < peak < 400
            told.go()
            assert (await finished(running.store, neighbour)).state is JobState.SUCCEEDED

    check()


@pytest.mark.parametrize("job_type", ["takeLimited", "takeLimitedFresh"])
def test_job_that_asks_for_too_much_at_once_is_refused_it_and_its_child_stays(database_url: str, job_type: str) -> None:
    @in_loop
    async def check() -> None:
        async with worker(database_url, modules=[PROCESS_JOBS]) as running:
            before = await run_one(running.store, "who")
            job = await run_one(running.store, job_type, {"how": "at once", "mib": 4000})
            limit, peak = exceeded(job, REFUSED)
            assert limit == 128
            assert 5 < peak <= 128
            after = await run_one(running.store, "who")
            assert after.result["pid"] == before.result["pid"]
            # The limit was that job's alone.
            assert after.result["data_limit"] == before.result["data_limit"]
            assert (await run_one(running.store, "take", {"how": "at once", "mib": 400})).state is JobState.SUCCEEDED

    check()


@in_loop
async def test_memory_of_programs_that_a_job_starts_counts_and_they_end_with_it(database_url: str) -> None:
    async with worker(database_url, modules=[PROCESS_JOBS]) as running:
        (child,) = map(process, await until(lambda: running.supervisor.child_pids))
        job = await run_one(running.store, "takeLimited", {"how": "in a program", "mib": 150})
        limit, peak = exceeded(job)
        assert limit == 128
        assert peak > 128
        await gone([child])


@in_loop
async def test_job_within_its_limit_succeeds_also_where_others_took_more_before(database_url: str) -> None:
    async with worker(database_url, modules=[PROCESS_JOBS]) as running:
        assert (await run_one(running.store, "take", {"how": "slowly", "mib": 300})).state is JobState.SUCCEEDED
        data = {"how": "slowly", "mib": 60, "seconds": 0.3}
        assert (await run_one(running.store, "takeLimited", data)).state is JobState.SUCCEEDED
        _, peak = exceeded(await run_one(running.store, "takeLimited", {"how": "at once", "mib": 4000}), REFUSED)
        assert peak <= 128


@in_loop
async def test_worker_can_limit_all_jobs_and_a_type_knows_better(database_url: str) -> None:
    async with worker(database_url, modules=[PROCESS_JOBS], memory_mib=64) as running:
        jobs = await run_jobs(
            running.store,
            NewJob(type="take", data={"how": "slowly", "mib": 90, "seconds": 600}),
            NewJob(type="takeLimited", data={"how": "slowly", "mib": 90, "seconds": 0.3}),
        )
        assert exceeded(jobs[0])[0] == 64
        assert jobs[1].state is JobState.SUCCEEDED, jobs[1].error


@in_loop
async def test_memory_that_a_fresh_job_shares_with_its_child_counts_once(database_url: str, tmp_path: Path) -> None:
    module = tmp_path / "large.py"
    module.write_text("kept = bytearray(b'x') * (80 << 20)\n")
    async with worker(database_url, modules=[PROCESS_JOBS, str(module)]) as running:
        data = {"how": "slowly", "mib": 4, "seconds": 0.5}
        job = await run_one(running.store, "takeLimitedFresh", data)
        assert job.state is JobState.SUCCEEDED, job.error


@in_loop
async def test_kernel_would_take_jobs_before_their_supervisor(database_url: str) -> None:
    def score(pid: int | str) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    async with worker(database_url, modules=[PROCESS_JOBS]) as running:
        for job_type in ("who", "whoFresh"):
            assert (await run_one(running.store, job_type)).result["oom_score_adj"] == 1000
        assert score(running.nursery) == score("self") < 1000


# --- children


@in_loop
async def test_child_that_keeps_too_much_is_replaced_and_no_job_is_lost(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="workerjobs")
    monkeypatch.setattr(memory_watch, "CHILDREN_EVERY_SECONDS", 0.05)
    async with worker(database_url, modules=[PROCESS_JOBS], child_max_mib=100) as running:
        (old,) = map(process, await until(lambda: running.supervisor.child_pids))
        first = await run_one(running.store, "take", {"how": "slowly", "mib": 120, "keep": True})
        await gone([old])
        after = await run_jobs(running.store, *(NewJob(type="who") for _ in range(3)))
        (new,) = running.supervisor.child_pids
        assert {job.result["pid"] for job in after} == {new}
        assert new != first.result["pid"]
        assert running.metric("workerjobs_children_lost_total") == 0
    assert "Replacing a child: it has 1" in caplog.text


@in_loop
async def test_child_whose_modules_take_more_than_it_may_keep_is_not_replaced_for_ever(database_url: str) -> None:
    async with worker(database_url, modules=[PROCESS_JOBS], child_max_mib=1) as running:
        first = await run_one(running.store, "who")
        for _ in range(3):
            await running.supervisor._recycling.step()
        assert (await run_one(running.store, "who")).result["pid"] == first.result["pid"]
        assert running.supervisor.child_pids == [first.result["pid"]]
