"""`workerjobs.testing`: jobs run inline."""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from tests.support import typed_jobs
from tests.support.loop import in_loop
from tests.support.table import sql
from workerjobs import JobContext, job
from workerjobs.errors import InvalidDataError, InvalidInputError, ResultRefusedError
from workerjobs.jobs.registry import UnknownJobTypeError
from workerjobs.testing import ProgressReport, run_job

GOOD = {"to": ["ada@example.org"], "when": "2030-01-31T08:00:00Z"}


def test_job_runs_by_its_function_and_by_its_type() -> None:
    for which in (typed_jobs.send_report, "sendReport"):
        assert run_job(which, GOOD).result == {"to": GOOD["to"], "weekday": 3, "copies": 1, "job": 1}
    assert run_job(typed_jobs.send_report_async, GOOD | {"copies": 4}).result == 4


def test_result_is_as_it_comes_back_from_the_row() -> None:
    def give(data: dict[str, Any]) -> Any:
        return data["what"], {1: (2,)}

    assert run_job(give, {"what": None}).result == [None, {"1": [2]}]
    for bad in (math.nan, object(), "\x00", "x" * 2**20):
        with pytest.raises(ResultRefusedError):
            run_job(lambda data, bad=bad: bad)


def test_progress_and_logs_are_given() -> None:
    logger = logging.getLogger("shop")

    @job("reports")
    async def report(data: dict[str, Any], context: JobContext) -> None:
        context.log.info("begins with %s", data)
        logger.debug("not shown")
        for number in range(3):
            context.progress(number, 3, f"step {number}")
        context.progress(4.5)
        logger.warning("ends")

    root, level = logging.getLogger(), logging.getLogger().level
    run = run_job(report, {"a": 1})
    assert run.progress == [
        *(ProgressReport(number, 3, f"step {number}") for number in range(3)),
        ProgressReport(4.5),
    ]
    assert run.messages == ["begins with {'a': 1}", "ends"]
    assert [record.levelname for record in run.logs] == ["INFO", "WARNING"]
    assert root.level == level
    assert run_job(report, {}).messages == ["begins with {}", "ends"]


def test_context_is_as_chosen() -> None:
    def show(data: dict[str, Any], context: JobContext) -> Any:
        return [context.job_type, context.attempt, context.user_id, context.tag, context.cancelled]

    assert run_job(show).result == ["show", 1, 0, None, False]
    assert run_job(show, attempt=2, user_id=7, tag="a", cancelled=True).result == ["show", 2, 7, "a", True]


def test_errors_are_as_they_come() -> None:
    def fail(data: dict[str, Any], context: JobContext) -> None:
        context.progress("half")  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="progress: current is 'half', give a number"):
        run_job(fail)
    with pytest.raises(InvalidDataError, match=r"^data.when is missing: give a moment"):
        run_job(typed_jobs.send_report, {"to": ["a@b"]})
    with pytest.raises(InvalidInputError, match="NUL"):
        run_job(typed_jobs.plain, {"a": "\x00"})
    with pytest.raises(UnknownJobTypeError, match="Unknown job type: nobody's"):
        run_job("nobody's")


def test_modules_are_found_as_workers_find_them(tmp_path: Path) -> None:
    file = tmp_path / "testing_jobs.py"
    file.write_text("from workerjobs import job\n\n@job('fromFile')\ndef run(data):\n    return 5\n")
    assert run_job("fromFile", modules=[str(tmp_path)]).result == 5
    with pytest.raises(ModuleNotFoundError):
        run_job("fromFile", modules=["no_such_module"])


def test_job_works_on_a_real_database(database_url: str) -> None:
    run_job(typed_jobs.use_connection, {"n": 1, "leave open": True}, database_url=database_url)
    with pytest.raises(RuntimeError, match="failed with a connection open"):
        run_job("connection", {"n": 2, "fail": True}, database_url=database_url)
    assert sql(database_url, "select n from seen order by n") == [(1,), (2,)]
    assert run_job("asyncConnection", database_url=database_url).result > 0
    assert run_job("removeOldWorkerJobs", database_url=database_url).result == {"removed": 0}
    with pytest.raises(RuntimeError, match="this job runs without a database"):
        run_job("connection", {"n": 1})


@in_loop
async def test_async_test_runs_a_job_in_a_thread() -> None:
    assert (await asyncio.to_thread(run_job, "sendReportAsync", GOOD)).result == 1
