"""What jobs are given, what they return, and how they fail."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import timedelta
from typing import Any

import pytest

from tests.support.loop import in_loop, until
from tests.support.workers import run_jobs, run_one, worker
from workerjobs.domain.job import JobState, NewJob
from workerjobs.domain.lifecycle import MAX_ERROR_LENGTH


@in_loop
async def test_job_is_given_its_data_and_context_in_a_process_of_its_own(database_url: str) -> None:
    async with worker(database_url) as running:
        job = await run_one(running.store, "context", {"z": 1, "a": 2}, user_id=5, tag="nightly")
        assert job.state is JobState.SUCCEEDED
        seen = job.result
        assert seen["job_id"] == job.id
        assert (seen["job_type"], seen["attempt"], seen["user_id"], seen["tag"]) == ("context", 1, 5, "nightly")
        assert seen["fencing_token"] == job.fencing_token
        assert seen["database_url"] == database_url
        assert seen["keys"] == ["z", "a"]
        assert seen["stdin"] == ""
        # It leads its own group and is in no session with the supervisor: a terminal's Ctrl-C does not reach it.
        assert seen["pid"] == seen["pgid"]
        assert seen["sid"] != os.getsid(0)
        assert [seen["pid"]] == running.supervisor.child_pids
        assert seen["ppid"] == running.nursery
        # A warm child runs one job after another.
        again = await run_one(running.store, "context")
        assert again.result["pid"] == seen["pid"]
        assert again.result["fencing_token"] > seen["fencing_token"]


GOOD: dict[str, Any] = {
    "none": None,
    "text": "Zürich 🚀 \\u0000",
    "tuple": [1, 2.5, True],
    "largest": "x" * (2**20 - 2),
    "deepest": ...,
}


@in_loop
async def test_what_a_job_returns_is_its_result(database_url: str) -> None:
    async with worker(database_url, children=2) as running:
        jobs = await run_jobs(running.store, *(NewJob(type="return", data={"what": what}) for what in GOOD))
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    for what, job in zip(GOOD, jobs, strict=True):
        if what == "deepest":
            assert job.result_json == "[" * 100 + "]" * 100
        else:
            assert job.result == GOOD[what]


NOT_JSON = "The job's result is not JSON that can be stored: "
BAD = {
    "too large": "The job's result has 1,048,577 bytes of JSON: at most 1,048,576 are stored (1 MiB)",
    "too large in bytes": "The job's result has 1,048,578 bytes of JSON: at most 1,048,576 are stored (1 MiB)",
    "too deep": "The job's result is nested deeper than 100 levels",
    "much too deep": "The job's result is nested deeper than 100 levels",
    "holding itself": "The job's result is nested deeper than 100 levels",
    "NaN": f"{NOT_JSON}Out of range float values are not JSON compliant",
    "infinity": f"{NOT_JSON}Out of range float values are not JSON compliant",
    "NUL": f"{NOT_JSON}a string holds a NUL character, which Postgres can't store",
    "NUL in a key": f"{NOT_JSON}a string holds a NUL character, which Postgres can't store",
    "surrogate": f"{NOT_JSON}a string holds half of a surrogate pair, which is no Unicode text",
    "object": f"{NOT_JSON}Object of type object is not JSON serializable",
    "set": f"{NOT_JSON}Object of type set is not JSON serializable",
    "bytes": f"{NOT_JSON}Object of type bytes is not JSON serializable",
    "tuple as key": f"{NOT_JSON}keys must be str, int, float, bool or None, not tuple",
    "huge number": f"{NOT_JSON}Exceeds the limit (4300 digits) for integer string conversion",
}


@in_loop
async def test_result_that_is_no_storable_json_fails_its_job_with_the_reason(database_url: str) -> None:
    async with worker(database_url, children=2) as running:
        jobs = await run_jobs(running.store, *(NewJob(type="return", data={"what": what}) for what in BAD))
        assert {job.state for job in jobs} == {JobState.FAILED}
        errors = {what: job.error or "" for what, job in zip(BAD, jobs, strict=True)}
        # Python adds to one of them how its limit can be raised, and which value it was.
        shown = {what: error[: len(BAD[what])] for what, error in errors.items()}
        assert shown == BAD
        assert max(map(len, errors.values())) < 250
        # None of them cost a child.
        assert running.metric("workerjobs_children_lost_total") == 0
        assert (await run_one(running.store, "echo", {"a": 1})).result == {"a": 1}


ERRORS = {
    "plain": "RuntimeError: no paper",
    "without text": "ValueError",
    "silent": "SilentError",
    "wrong": "WrongError",
    "long": f"ValueError: {'x' * (MAX_ERROR_LENGTH - 13)}…",
    "unstorable": "ValueError: a\ufffdb\\ud800c",
    "exit": "SystemExit: 3",
    "exit with text": "SystemExit: stopping here",
    "interrupt": "KeyboardInterrupt",
    "generator exit": "GeneratorExit",
    "group": "ExceptionGroup: several (2 sub-exceptions)",
    "memory": "MemoryError",
    "recursion": "RecursionError: maximum recursion depth exceeded",
}


@in_loop
async def test_exception_fails_the_job_with_a_short_error(database_url: str) -> None:
    async with worker(database_url, children=2) as running:
        jobs = await run_jobs(running.store, *(NewJob(type="raise", data={"what": what}) for what in ERRORS))
        assert {job.state for job in jobs} == {JobState.FAILED}
        assert {what: job.result for what, job in zip(ERRORS, jobs, strict=True)} == {
            what: {"error": error} for what, error in ERRORS.items()
        }
        assert running.metric("workerjobs_children_lost_total") == 0


@in_loop
async def test_exception_of_an_async_job_fails_it_too(database_url: str) -> None:
    kinds = ("plain", "exit", "interrupt", "group")
    async with worker(database_url) as running:
        jobs = await run_jobs(running.store, *(NewJob(type="raiseAsync", data={"what": what}) for what in kinds))
        assert [job.error for job in jobs] == [ERRORS[what] for what in kinds]
        assert running.metric("workerjobs_children_lost_total") == 0


@in_loop
async def test_traceback_is_in_the_log_from_the_jobs_function_on(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(database_url) as running:
        job = await run_one(running.store, "raise", {"what": "plain"})
        await run_one(running.store, "raise", {"what": "long"})
    failed, long = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (failed.__dict__["job_id"], failed.__dict__["job_type"], failed.__dict__["attempt"]) == (job.id, "raise", 1)
    first, *trace = failed.message.splitlines()
    assert first == "Failed: RuntimeError: no paper"
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[1].endswith("in fail")
    assert trace[-1] == "RuntimeError: no paper"
    assert len(long.message) < 300_000


@in_loop
async def test_unknown_type_fails_the_job(database_url: str) -> None:
    async with worker(database_url) as running:
        job = await run_one(running.store, "noSuchType")
        assert job.state is JobState.FAILED
        assert job.result == {"error": "Unknown job type: noSuchType"}
        assert job.started is not None


@in_loop
async def test_function_that_takes_no_data_fails_its_job(database_url: str) -> None:
    async with worker(database_url) as running:
        job = await run_one(running.store, "noArguments")
    assert job.error == "TypeError: no_arguments() takes 0 positional arguments but 1 was given"


@in_loop
async def test_many_jobs_run_side_by_side_and_none_is_mixed_up(database_url: str) -> None:
    async with worker(database_url, children=4) as running:
        jobs = await run_jobs(running.store, *(NewJob(type="echo", data={"n": n}) for n in range(300)))
        assert [job.result for job in jobs] == [{"n": n} for n in range(300)]
        assert running.metric("workerjobs_jobs_settled_total", type="echo", outcome="succeeded") == 300
        assert running.metric("workerjobs_jobs_running") == 0
        assert running.metric("workerjobs_children", state="idle") == 4


@in_loop
async def test_job_due_later_starts_when_it_is_due(database_url: str) -> None:
    """Within 50 ms; a round in which this machine was busy is followed by another."""
    async with worker(database_url) as running:

        async def are_on_time() -> bool:
            first = await running.store.now() + timedelta(seconds=1.1)
            dues = [first + n * timedelta(seconds=0.13) for n in range(4)]
            jobs = await run_jobs(running.store, *(NewJob(type="echo", due=due) for due in dues))
            waits = [job.started - job.due for job in jobs if job.started is not None]
            assert len(waits) == len(dues)
            assert min(waits) >= timedelta(0)
            return max(waits) <= timedelta(milliseconds=50)

        await until(are_on_time)


@in_loop
async def test_worker_takes_jobs_of_its_pool_only(database_url: str) -> None:
    async with worker(database_url, pool="heavy") as running:
        (other,) = await running.store.submit([NewJob(type="echo", priority=9)])
        mine = await run_one(running.store, "echo", pool="heavy")
        assert mine.state is JobState.SUCCEEDED
        await asyncio.sleep(0)
        left = await running.store.get(other.id)
        assert left is not None
        assert left.state is JobState.PENDING
