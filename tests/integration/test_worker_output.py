"""What jobs print, log and report while they run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import open_store, read
from tests.support.workers import Told, finished, run_one, worker, worker_process
from workerjobs.domain.job import JobState, NewJob

MIB = 2**20


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log of WorkerJobs from info on."""
    caplog.set_level(logging.INFO, logger="workerjobs")
    return caplog


def lines(log: pytest.LogCaptureFixture, logger: str, job_id: int) -> list[str]:
    """Messages of a logger about a job."""
    return [
        record.message for record in log.records if record.name == logger and record.__dict__.get("job_id") == job_id
    ]


# --- output


@pytest.mark.parametrize("line", ["x" * 99, "x", "", "x" * 30_000], ids=["lines", "short", "empty", "long"])
def test_job_that_prints_100_mb_succeeds_and_the_log_stays_small(database_url: str, tmp_path: Path, line: str) -> None:
    @in_loop
    async def check() -> None:
        told = Told(tmp_path)
        async with worker_process(database_url, tmp_path, count=2) as process, open_store(database_url) as store:
            (neighbour,) = await store.submit([NewJob(type="hold", data=told.data())])
            await told.run(neighbour)
            job = await run_one(store, "print", {"line": line, "bytes": 100 * 10**6})
            assert job.state is JobState.SUCCEEDED
            told.go()
            assert (await finished(store, neighbour)).state is JobState.SUCCEEDED
            await until(lambda: [record for record in process.said("Succeeded") if record["job_id"] == job.id])
            assert process.log.stat().st_size < 1.5 * MIB
            (dropped,) = process.said("were dropped")
            assert dropped["job_id"] == job.id
            assert int(dropped["message"].split()[0]) > 98 * 10**6
            # Counting begins anew with the next job.
            short = await run_one(store, "print", {"line": "here again", "bytes": 30})
            assert [record["message"] for record in process.records() if record.get("job_id") == short.id] == [
                "here again",
                "here again",
                "Succeeded",
            ]

    check()


@in_loop
async def test_printed_lines_are_logged_with_the_job_while_it_runs(
    database_url: str, log: pytest.LogCaptureFixture
) -> None:
    async with worker(database_url) as running:
        job = await run_one(running.store, "printBinary")
        assert job.state is JobState.SUCCEEDED
    assert lines(log, "workerjobs.output", job.id) == [
        "\\xff\\xfe no text",
        "\\ud800 half a pair a\x00b \x1b[31mred",
        "without an end",
    ]


@pytest.mark.parametrize("job_type", ["closeOutput", "replaceOutput"])
def test_job_that_spoils_its_output_succeeds_and_the_next_one_has_good_streams(
    database_url: str, log: pytest.LogCaptureFixture, job_type: str
) -> None:
    @in_loop
    async def check() -> None:
        async with worker(database_url) as running:
            assert (await run_one(running.store, job_type)).result == "done"
            after = await run_one(running.store, "print", {"line": "hello", "bytes": 6})
            assert after.state is JobState.SUCCEEDED
            assert lines(log, "workerjobs.output", after.id) == ["hello"]
            assert running.metric("workerjobs_children_lost_total") == 0

    check()


# --- log records


@in_loop
async def test_log_records_of_a_job_carry_its_id_type_and_attempt(database_url: str, tmp_path: Path) -> None:
    async with worker_process(database_url, tmp_path) as process, open_store(database_url) as store:
        job = await run_one(store, "log")
        records = [record for record in process.records() if record.get("job_id") == job.id]
        for record in records:
            assert (record["job_type"], record["attempt"]) == ("log", 1)
            assert record["timestamp"].endswith("Z")
        shown = [(record["logger"], record["level"], record["message"].splitlines()[0]) for record in records]
        assert sorted(shown) == sorted(
            [
                ("workerjobs.job", "info", "from the context: 1"),
                ("workerjobs.job.shop.orders", "warning", "from a library"),
                ("workerjobs.job", "error", "with a traceback"),
                ("workerjobs.output", "info", "printed"),
                ("workerjobs.worker.supervisor", "info", "Succeeded"),
            ]
        )
        (traced,) = process.said("with a traceback")
        assert traced["message"].rstrip().endswith("ValueError: caught")

        failed = await run_one(store, "raise", {"what": "plain"})
        (record,) = process.said("Failed: RuntimeError: no paper")
        assert (record["job_id"], record["job_type"], record["level"]) == (failed.id, "raise", "error")
        assert record["message"].rstrip().endswith("RuntimeError: no paper")
        assert "in fail" in record["message"]


@in_loop
async def test_log_level_counts_in_the_children_too(database_url: str, tmp_path: Path) -> None:
    async with (
        worker_process(database_url, tmp_path, WORKER_LOG_LEVEL="debug") as process,
        open_store(database_url) as store,
    ):
        await run_one(store, "log")
        assert process.said("hidden at info")


@in_loop
async def test_huge_log_message_is_cut_and_its_job_goes_on(database_url: str, log: pytest.LogCaptureFixture) -> None:
    async with worker(database_url) as running:
        job = await run_one(running.store, "logMuch", {"bytes": 40 * MIB})
        assert job.result == "done"
    (message,) = lines(log, "workerjobs.job", job.id)
    assert len(message) < 110_000
    assert "characters left out" in message


# --- progress


@in_loop
async def test_last_progress_is_stored_however_quickly_it_came(database_url: str) -> None:
    async with worker(database_url) as running:
        job = await run_one(running.store, "steps", {"steps": 2000})
        assert job.state is JobState.SUCCEEDED
        assert job.progress == {"current": 2000, "total": 2000, "message": "step 2000"}
        failed = await run_one(running.store, "stepsAndFail")
        assert failed.state is JobState.FAILED
        assert failed.progress == {"current": 2, "total": 3, "message": "the last"}


@in_loop
async def test_progress_shows_while_the_job_runs(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with worker(database_url) as running:
        arguments = [0.5, None, "half " + "x" * 5000]
        (job,) = await running.store.submit([NewJob(type="progress", data=told.data(arguments=arguments))])

        async def shown() -> Any:
            return (await read(running.store, job)).progress

        progress = await until(shown)
        assert progress == {"current": 0.5, "total": None, "message": ("half " + "x" * 5000)[:1000]}
        assert (await read(running.store, job)).state is JobState.RUNNING
        told.go()
        assert (await finished(running.store, job)).result == "done"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["half"], "TypeError: progress: current is 'half', give a number"),
        ([1, True], "TypeError: progress: total is True, give a number"),
        ([1, 2, "a\x00b"], "ValueError: a string holds a NUL character, which Postgres can't store"),
    ],
)
def test_progress_that_is_none_fails_the_job(database_url: str, arguments: list[Any], error: str) -> None:
    @in_loop
    async def check() -> None:
        async with worker(database_url) as running:
            job = await run_one(running.store, "badProgress", {"arguments": [repr(each) for each in arguments]})
            assert job.error == error
            assert job.progress is None

    check()
