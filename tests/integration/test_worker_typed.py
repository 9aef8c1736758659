"""Jobs with typed data, and what their context offers, in real children."""

from __future__ import annotations

import asyncio
import json
import logging
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import workerjobs
from tests.support.loop import in_loop, until
from tests.support.table import LEASE, count_rows, sql
from tests.support.workers import JOBS, Worker, finished, run_jobs, run_one, worker
from workerjobs import InvalidInputError, WorkerManager
from workerjobs.domain.job import JobState, NewJob
from workerjobs.jobs.registry import JobOptions

TYPED = str(Path(JOBS).with_name("typed_jobs.py"))
GOOD = {"to": ["ada@example.org"], "when": "2030-01-31T08:00:00Z"}


@in_loop
async def test_job_is_given_its_model(database_url: str) -> None:
    async with worker(database_url, modules=[TYPED]) as running:
        job = await run_one(running.store, "sendReport", GOOD | {"copies": "2"})
        assert job.result == {"to": ["ada@example.org"], "weekday": 3, "copies": 2, "job": job.id}
        assert (await run_one(running.store, "sendReportAsync", GOOD)).result == 1
        assert (await run_one(running.store, "area", {"kind": "square", "side": 3})).result == 9
        assert (await run_one(running.store, "plain", {"a": 1})).result == "dict"


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "missing": ("sendReport", {"to": ["a@b"]}, "data.when is missing: give a moment such as 2030-01-31T08:00:00Z"),
    "several": (
        "sendReportAsync",
        GOOD | {"copies": 0, "to": []},
        "data.copies is 0: give a whole number of at least 1; data.to is []: give a list of at least 1 item, each text",
    ),
    "validator": ("sendReport", GOOD | {"to": ["ada"]}, 'data.to is ["ada"]: every address needs an @'),
    "union": ("area", {"kind": "star"}, 'data.kind is "star": give "circle" or "square"'),
}


@in_loop
async def test_bad_data_fails_the_job_with_a_sentence(database_url: str) -> None:
    async with worker(database_url, modules=[TYPED]) as running:
        jobs = await run_jobs(running.store, *(NewJob(type=kind, data=data) for kind, data, _ in BAD.values()))
        assert {job.state for job in jobs} == {JobState.FAILED}
        assert [job.error for job in jobs] == [sentence for _, _, sentence in BAD.values()]
        assert running.metric("workerjobs_children_lost_total") == 0


def test_bad_data_leaves_no_traceback_and_a_jobs_own_error_does(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    @in_loop
    async def check() -> None:
        async with worker(database_url, modules=[TYPED]) as running:
            await run_one(running.store, "sendReport", {})
            await run_one(running.store, "wrongOwnData")

    check()
    bad, own = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert bad == (
        "Failed: data.to is missing: give a list of at least 1 item, each text; "
        "data.when is missing: give a moment such as 2030-01-31T08:00:00Z"
    )
    assert own.startswith("Failed: ValidationError: 1 validation error for Report")
    assert "in wrong_own_data" in own


@in_loop
async def test_children_tell_what_types_they_know(database_url: str) -> None:
    async with worker(database_url, modules=[TYPED, JOBS]) as running:
        types = await running.supervisor.known_types(wait_seconds=20)
        assert {"sendReport", "echo", "removeOldWorkerJobs"} <= set(types)
        report = types["sendReport"]
        assert report.where == f"{TYPED}:send_report"
        assert report.description == "Send a report."
        assert report.schema["required"] == ["to", "when"]
        assert (report.options.isolation, report.options.memory_mib, report.options.concurrency) == ("fresh", 256, 2)
        assert types["echo"].options == JobOptions()
        assert types["echo"].schema == {"type": "object"}


@in_loop
async def test_timeout_and_retries_of_the_type_hold_for_its_jobs(database_url: str) -> None:
    async with worker(database_url, modules=[TYPED]) as running:
        first = await run_one(running.store, "slow")
        assert first.error == "Job timed out after 0.3 s"
        of_first = f'select id, attempt from "workerJobs" where "rescheduledFromJob" = {first.id}'
        ((retry, attempt),) = await until(lambda: sql(database_url, of_first))
        assert attempt == 2
        assert (await finished(running.store, retry)).error == "Job timed out after 0.3 s"
        assert (await run_one(running.store, "slow", timeout_ms=100)).error == "Job timed out after 0.1 s"
        await until(lambda: count_rows(database_url, "finished is null") == 0)
        assert count_rows(database_url) == 4


def test_type_of_a_package_is_known_from_its_first_job_on(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / "shop-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[workerjobs.jobs]\norder = packaged_shop:order\n")
    (tmp_path / "packaged_shop.py").write_text(
        textwrap.dedent("""
            from pydantic import BaseModel
            from workerjobs import job

            class Order(BaseModel):
                count: int

            @job("order", memory_mib=64)
            def order(data: Order):
                return data.count
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    @in_loop
    async def check() -> None:
        async with worker(database_url, modules=[]) as running:
            before = (await running.supervisor.known_types(wait_seconds=20))["order"]
            assert before.where == "packaged_shop:order"
            assert before.schema == {"type": "object"}
            assert (await run_one(running.store, "order", {"count": 2})).result == 2
            after = (await running.supervisor.known_types())["order"]
            assert after.schema["required"] == ["count"]
            assert after.options == JobOptions(memory_mib=64)

    check()


def test_options_of_a_packages_types_hold_from_their_first_jobs_on(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first job of a type was claimed before anybody knew how it is run: no timeout ended it, no retry followed. Of
    a second type of the same module the worker learned nothing at all."""
    information = tmp_path / "mill-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mill\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[workerjobs.jobs]\ngrind = packaged_mill:grind\nsieve = packaged_mill:sieve\n"
    )
    (tmp_path / "packaged_mill.py").write_text(
        textwrap.dedent("""
            import time
            from workerjobs import RetryPolicy, job

            @job("grind", timeout_seconds=0.3, retry=RetryPolicy(1, initial_delay_ms=0))
            def grind(data):
                time.sleep(data["seconds"])

            @job("sieve", timeout_seconds=0.2, retry=RetryPolicy(1, initial_delay_ms=0))
            def sieve(data):
                time.sleep(data["seconds"])
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def check_options(running: Worker, job_type: str, error: str) -> None:
        first = await run_one(running.store, job_type, {"seconds": 30})
        assert first.error == error
        retries = f'select id from "workerJobs" where "rescheduledFromJob" = {first.id}'
        ((retry,),) = await until(lambda: sql(database_url, retries))
        await finished(running.store, retry)

    @in_loop
    async def check() -> None:
        async with worker(database_url, modules=[]) as running:
            await check_options(running, "grind", "Job timed out after 0.3 s")
            # Its child imports the module, and is not ended.
            assert (await run_one(running.store, "grind", {"seconds": 0})).success
            await check_options(running, "sieve", "Job timed out after 0.2 s")

    check()


def test_manager_refuses_bad_data_of_types_that_its_children_know(database_url: str) -> None:
    with WorkerManager(database_url=database_url, worker_count=1, job_modules=[TYPED]) as manager:
        with pytest.raises(InvalidInputError) as raised:
            manager.submit_job({"type": "sendReport", "data": {"to": "ada@example.org"}})
        assert raised.value.problems == [
            "data.when is missing: give a moment such as 2030-01-31T08:00:00Z",
            'data.to is "ada@example.org": give a list of at least 1 item, each text',
        ]
        assert count_rows(database_url, "type = 'sendReport'") == 0
        # What is wrong with the job itself comes first: the data may be no JSON at all.
        with pytest.raises(InvalidInputError, match="NUL"):
            manager.submit_job({"type": "sendReport", "data": {"to": "\x00"}})
        assert manager.wait_for_job(manager.submit_job({"type": "sendReport", "data": GOOD}).id, 30).success
        # Other workers may know it.
        manager.submit_job({"type": "someOtherWorkers", "data": {"a": 1}, "due": "2040-01-01"})


@in_loop
async def test_every_door_refuses_what_live_workers_do_not_take(database_url: str) -> None:
    async with worker(database_url, modules=[TYPED]) as running:

        async def are_published() -> bool:
            return bool(await running.store.schemas_of("default", "sendReport", LEASE))

        await until(are_published)
        assert await running.store.schemas_of("default", "plain", LEASE) == [{"type": "object"}]
        assert await running.store.schemas_of("other", "sendReport", LEASE) == []
        assert await running.store.schemas_of("default", "nobody's", LEASE) == []
        command = ["submit", "sendReport", "--data", '{"to": []}']
        ended = await asyncio.to_thread(workerjobs, *command, database_url=database_url)
        assert ended.returncode == 2
        assert ended.stderr == (
            "Error: data.when is missing: give a moment such as 2030-01-31T08:00:00Z\n"
            "Error: data.to is []: give a list of at least 1 item, each text\n"
        )

        def submit() -> None:
            # A manager whose own children know nothing of it.
            with WorkerManager(database_url=database_url, worker_count=1, job_modules=[]) as manager:
                manager.submit_job({"type": "sendReport", "data": {"to": []}})

        with pytest.raises(InvalidInputError, match=r"data\.when is missing"):
            await asyncio.to_thread(submit)
        assert count_rows(database_url, "type = 'sendReport'") == 0
        # Of another pool these workers say nothing.
        command = [*command, "--pool", "other"]
        assert (await asyncio.to_thread(workerjobs, *command, database_url=database_url)).returncode == 0
    sql(database_url, """update "workerJobWorkers" set "seenAt" = now() - interval '16 s'""")
    assert (await asyncio.to_thread(workerjobs, *command[:4], database_url=database_url)).returncode == 0


def test_manager_submits_although_its_children_can_not_start(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import os; os._exit(3)")
    with WorkerManager(database_url=database_url, worker_count=1, job_modules=[str(tmp_path / "ends.py")]) as manager:
        assert manager.submit_job({"type": "anything"}).state is JobState.PENDING


# --- the context


@in_loop
async def test_connection_is_opened_once_and_closed_at_the_end(database_url: str) -> None:
    async with worker(database_url, modules=[TYPED]) as running:
        first = await run_one(running.store, "connection", {"n": 1})
        failed = await run_one(running.store, "connection", {"n": 2, "fail": True})
        left = await run_one(running.store, "connection", {"n": 3, "leave open": True})
        asynchronous = await run_one(running.store, "asyncConnection")
        assert failed.error == "RuntimeError: failed with a connection open"
        # Without a commit of the job's own; what it left open is undone.
        assert sql(database_url, "select n from seen order by n") == [(1,), (2,), (3,)]
        assert first.result["pid"] == left.result["pid"], "the child went on"
        backends = {first.result["backend"], left.result["backend"], asynchronous.result}
        assert len(backends) == 3
        await until(lambda: not backends & {pid for (pid,) in sql(database_url, "select pid from pg_stat_activity")})
        names = """
            select count(*) from pg_stat_activity
            where application_name = 'workerjobs job' and datname = current_database()
        """
        await until(lambda: sql(database_url, names) == [(0,)])


@in_loop
async def test_job_that_is_stopped_sees_that_it_was(database_url: str, tmp_path: Path) -> None:
    async with worker(database_url, modules=[TYPED]) as running:
        (job,) = await running.store.submit([NewJob(type="watchCancelled", data={"folder": str(tmp_path)})])
        await until((tmp_path / "started").exists)
        await running.store.cancel([job.id])
        await until((tmp_path / "seen").exists)
        assert json.loads((tmp_path / "seen").read_text()) == [False, True]


@in_loop
async def test_child_loads_neither_pydantic_nor_a_driver_unless_a_job_needs_it(
    database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "light.py"
    file.write_text(
        textwrap.dedent("""
            import sys
            from workerjobs import JobContext, job

            @job("loaded")
            def loaded(data: dict, context: JobContext):
                return [name for name in ("pydantic", "jsonschema", "psycopg", "typer") if name in sys.modules]
        """)
    )
    async with worker(database_url, modules=[str(file)]) as running:
        assert (await run_one(running.store, "loaded")).result == []
