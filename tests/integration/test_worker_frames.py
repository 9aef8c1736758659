"""Many tiny jobs sent to a child at once: each of them still is a job of its own."""

from __future__ import annotations

import itertools
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import count_rows, read, sql
from tests.support.workers import JOBS, PROCESS_JOBS, Told, Worker, finished, run_jobs, worker
from workerjobs.domain.job import Job, JobState, NewJob
from workerjobs.worker.dispatch import FRAME_SECONDS, Dispatch
from workerjobs.worker.output import LIMIT_BYTES, LINE_BYTES, Output, mark
from workerjobs.worker.process import Child
from workerjobs.worker.running import RunningJob

RUNS = "create table runs (n int primary key, pid int)"
"""A job that runs twice violates the key and fails."""


RUN_SECONDS = FRAME_SECONDS / 120


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The ids of the jobs of every frame that is sent; on any machine frames grow to about 120 jobs."""
    sent: list[list[int]] = []
    send, ran = Child.send, Dispatch.ran
    monkeypatch.setattr(Dispatch, "ran", lambda dispatch, seconds: ran(dispatch, [RUN_SECONDS] * len(seconds)))

    def note(child: Child, runs: Sequence[RunningJob], now: float) -> None:
        sent.append([running.job.id for running in runs])
        send(child, runs, now)

    monkeypatch.setattr(Child, "send", note)
    return sent


async def warm_up(running: Worker, frames: list[list[int]], database_url: str) -> None:
    """Let every child connect, and the worker learn that jobs are tiny."""
    sql(database_url, RUNS)
    numbers = itertools.count()

    async def is_warm() -> bool:
        await run_jobs(running.store, *(NewJob(type="tiny", data={"n": next(numbers)}) for _ in range(250)))
        return max(map(len, frames[-20:])) >= 100

    await until(is_warm)
    frames.clear()
    sql(database_url, "truncate runs")


def behind(frames: list[list[int]], job: Job) -> int:
    """How many jobs were sent behind a job in its first frame."""
    frame = next(frame for frame in frames if job.id in frame)
    return len(frame) - frame.index(job.id) - 1


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("SIGSEGV", "The job's process was killed by signal SIGSEGV"),
        ("exit code 7", "The job's process ended with exit code 7"),
        ("memory", "The job exceeded 128 MiB of memory (peak "),
    ],
)
def test_job_that_ends_its_process_in_a_frame_costs_itself_alone(
    database_url: str, frames: list[list[int]], how: str, error: str
) -> None:
    @in_loop
    async def check() -> None:
        async with worker(database_url, children=2, modules=[JOBS, PROCESS_JOBS]) as running:
            await warm_up(running, frames, database_url)
            new = [NewJob(type="tiny", data={"n": n} | ({"how": how} if n == 90 else {})) for n in range(200)]
            jobs = await run_jobs(running.store, *new, seconds=60)
            assert behind(frames, jobs[90]) > 0
            assert {job.data["n"]: job.error for job in jobs if not job.success} == {90: jobs[90].error}
            assert (jobs[90].error or "").startswith(error)
            assert {(job.attempt, job.rescues) for job in jobs} == {(1, 0)}
            assert running.metric("workerjobs_jobs_running") == 0
        assert sql(database_url, "select count(*) from runs") == [(200,)]
        assert count_rows(database_url, "finished is null") == 0

    check()


@pytest.mark.parametrize(("reason", "error"), [("cancel", "Job cancelled"), ("timeout", "Job timed out after 3 s")])
def test_job_that_is_stopped_in_a_frame_stops_alone(
    database_url: str, frames: list[list[int]], reason: str, error: str
) -> None:
    @in_loop
    async def check() -> None:
        async with worker(database_url, children=2, modules=[JOBS, PROCESS_JOBS]) as running:
            await warm_up(running, frames, database_url)
            timeout = 3000 if reason == "timeout" else None
            stored = await running.store.submit(
                [
                    NewJob(
                        type="tiny",
                        data={"n": n} | ({"how": "hold"} if n == 90 else {}),
                        # It counts from each job's own start.
                        timeout_ms=timeout,
                    )
                    for n in range(200)
                ]
            )
            if reason == "cancel":
                await until(lambda: sql(database_url, "select 1 from runs where n = 90"))
                await running.store.cancel([stored[90].id])
            jobs = [await finished(running.store, job, seconds=60) for job in stored]
            assert behind(frames, jobs[90]) > 0
            assert {job.data["n"]: job.error for job in jobs if not job.success} == {90: jobs[90].error}
            assert jobs[90].error == error
            assert {(job.attempt, job.rescues) for job in jobs} == {(1, 0)}
        assert sql(database_url, "select count(*) from runs") == [(200,)]

    check()


@in_loop
async def test_jobs_of_a_frame_that_are_cancelled_before_their_turn_never_begin(
    database_url: str, frames: list[list[int]]
) -> None:
    async with worker(database_url, modules=[JOBS, PROCESS_JOBS]) as running:
        await warm_up(running, frames, database_url)
        stored = await running.store.submit(
            [NewJob(type="tiny", data={"n": n} | ({"how": "hold"} if n == 0 else {})) for n in range(5)]
        )
        await until(lambda: sql(database_url, "select 1 from runs where n = 0"))
        await running.store.cancel([job.id for job in stored[2:]])
        await running.store.cancel([stored[0].id])
        jobs = [await finished(running.store, job) for job in stored]
        assert [job.error for job in jobs] == ["Job cancelled", None] + ["Job cancelled"] * 3
    assert sql(database_url, "select n from runs order by n") == [(0,), (1,)]


@in_loop
async def test_row_of_each_job_of_a_frame_says_when_that_job_started(
    database_url: str, frames: list[list[int]]
) -> None:
    async with worker(database_url, children=2, modules=[JOBS, PROCESS_JOBS]) as running:
        await warm_up(running, frames, database_url)
        jobs = await run_jobs(running.store, *(NewJob(type="who") for _ in range(300)))
    assert max(map(len, frames)) > 5
    by_process = defaultdict(list)
    for job in jobs:
        assert job.started is not None
        assert job.finished is not None
        by_process[job.result["pid"]].append((job.started, job.finished))
    for times in by_process.values():
        moments = list(itertools.chain.from_iterable(sorted(times)))
        assert moments == sorted(moments)
        assert len({started for started, _ in times}) == len(times)


@in_loop
async def test_slow_job_at_the_head_of_a_frame_does_not_hold_up_those_behind_it(
    database_url: str, frames: list[list[int]], tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker(database_url, children=2, modules=[JOBS, PROCESS_JOBS]) as running:
        await warm_up(running, frames, database_url)
        slow, *tiny = await running.store.submit(
            [
                NewJob(type="hold", data=told.data(), priority=1),
                *(NewJob(type="tiny", data={"n": n}) for n in range(200)),
            ]
        )
        pid = (await told.run(slow))["pid"]
        jobs = [await finished(running.store, job) for job in tiny]
        assert (await read(running.store, slow)).state is JobState.RUNNING
        assert behind(frames, slow) > 0
        assert {job.state for job in jobs} == {JobState.SUCCEEDED}
        assert pid not in {job.result["pid"] for job in jobs}
        told.go()
        assert (await finished(running.store, slow)).state is JobState.SUCCEEDED
    assert len(told.runs(slow)) == 1
    assert sql(database_url, "select count(*) from runs") == [(200,)]


@in_loop
async def test_jobs_behind_a_slow_one_are_run_by_another_worker_where_there_is_no_other_child(
    database_url: str, frames: list[list[int]], tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker(database_url, modules=[JOBS, PROCESS_JOBS], grace=0) as first:
        await warm_up(first, frames, database_url)
        slow, *tiny = await first.store.submit(
            [
                NewJob(type="hold", data=told.data(), priority=1),
                *(NewJob(type="tiny", data={"n": n}) for n in range(50)),
            ]
        )
        await told.run(slow)
        assert behind(frames, slow) > 0
        async with worker(database_url, modules=[JOBS, PROCESS_JOBS]) as second:
            jobs = [await finished(second.store, job) for job in tiny]
            assert {job.result["pid"] for job in jobs} <= set(second.supervisor.child_pids)
        assert {(job.state, job.attempt, job.rescues) for job in jobs} == {(JobState.SUCCEEDED, 1, 0)}
        told.go()
        assert (await finished(first.store, slow)).state is JobState.SUCCEEDED
    assert len(told.runs(slow)) == 1


@in_loop
async def test_job_that_waits_in_vain_behind_a_slow_one_has_not_started_for_its_rate(
    database_url: str, frames: list[list[int]], tmp_path: Path
) -> None:
    told = Told(tmp_path)
    async with worker(database_url, modules=[JOBS, PROCESS_JOBS]) as running:
        await warm_up(running, frames, database_url)
        slow, limited = await running.store.submit(
            [
                NewJob(type="hold", data=told.data(), priority=1, concurrency_key="a"),
                NewJob(type="tiny", data={"n": 0}, concurrency_key="b", rate_limit=1, rate_period_ms=86_400_000),
            ]
        )
        await told.run(slow)
        assert behind(frames, slow) == 1
        given_back = """started is null and "concurrencyKey" = 'b'"""
        await until(lambda: count_rows(database_url, given_back) == 1)
        told.go()
        assert (await finished(running.store, limited)).success
        assert (await finished(running.store, slow)).success


@in_loop
async def test_what_each_job_of_a_frame_prints_is_logged_as_its_own(
    database_url: str, frames: list[list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="workerjobs.output")
    async with worker(database_url, children=2, modules=[JOBS, PROCESS_JOBS]) as running:
        await warm_up(running, frames, database_url)
        lengths = {50: 16_370, 51: 16_380, 52: 16_384, 53: 16_390, 100: 3_000_000, 101: 65_536, 150: 1_100_000}
        jobs = await run_jobs(
            running.store,
            *(NewJob(type="tinyPrint", data={"n": n, "bytes": lengths.get(n, 0)}) for n in range(300)),
            seconds=60,
        )
    assert max(map(len, frames)) > 5
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    said = defaultdict(list)
    for record in caplog.records:
        if record.name == "workerjobs.output":
            said[record.__dict__.get("job_id")].append(record.getMessage())
    assert None not in said
    for job in jobs:
        n, lines = job.data["n"], said[job.id]
        length = lengths.get(n, 0)
        first = [f"first of {n}"] if n % 3 == 0 else []
        if length < 2**20:
            assert "".join(lines) == "".join([*first, "x" * length, f"last of {n}"]), n
        else:
            assert lines[: len(first)] == first
            assert set("".join(lines[len(first) : -1])) == {"x"}
            assert "bytes of output were dropped" in lines[-1]


@pytest.mark.parametrize("length", [0, 5, LINE_BYTES - 4, LINE_BYTES - 1, LINE_BYTES, LIMIT_BYTES + 5000])
def test_mark_between_jobs_is_read_wherever_a_piece_ends(caplog: pytest.LogCaptureFixture, length: int) -> None:
    """A mark whose beginning ended up in a piece of a long line gave the next job's output to the one before it."""
    caplog.set_level(logging.INFO, logger="workerjobs.output")

    @in_loop
    async def read_it(cut: int) -> None:
        read_end, write_end = os.pipe()
        output = Output(read_end, lambda job_id: {"job_id": job_id} if job_id else {})
        output.begin(6)
        for piece in (b"x" * length + mark(7)[:cut], mark(7)[cut:] + b"hello"):
            for start in range(0, len(piece), 2**15):
                os.write(write_end, piece[start : start + 2**15])
                output.drain()
        output.finish()
        output.close()
        os.close(write_end)

    for cut in range(1, len(mark(7))):
        caplog.clear()
        read_it(cut)
        told = [(record.__dict__["job_id"], record.getMessage()) for record in caplog.records]
        assert (7, "hello") in told, cut
        assert [text for job_id, text in told if job_id == 7] == ["hello"], cut
        if length <= LINE_BYTES:
            assert "".join(text for job_id, text in told if job_id == 6) == "x" * length, cut
