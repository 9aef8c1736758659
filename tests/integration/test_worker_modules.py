"""Where workers find jobs: modules by name, files by path, and those that can't be imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.loop import in_loop, until
from tests.support.table import open_store
from tests.support.workers import JOBS, run_one, worker, worker_process
from workerjobs.domain.job import JobState

MODULE = """
from workerjobs import JobContext, job
{more}

@job("{job_type}")
def run(data, context: JobContext):
    return {result}
"""


def write(file: Path, job_type: str, *, more: str = "", result: str = "context.job_type") -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text(MODULE.format(job_type=job_type, more=more, result=result))
    return str(file)


@in_loop
async def test_job_module_is_found_by_its_path_with_files_beside_it(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "my jobs"
    own = write(folder / "shop-jobs.py", "byPath", more="from prices import PRICE", result="PRICE")
    (folder / "prices.py").write_text("PRICE = 5")
    async with worker(database_url, modules=[own, JOBS]) as running:
        assert (await run_one(running.store, "byPath")).result == 5
        assert (await run_one(running.store, "echo", {"a": 1})).result == {"a": 1}


@in_loop
async def test_folder_gives_the_jobs_of_all_its_files(database_url: str, tmp_path: Path) -> None:
    write(tmp_path / "jobs" / "orders.py", "order", more="from prices import PRICE", result="PRICE")
    write(tmp_path / "jobs" / "prices.py", "price", more="PRICE = 5")
    write(tmp_path / "jobs" / "broken.py", "never", more="import no_such_package")
    async with worker(database_url, modules=[str(tmp_path / "jobs")]) as running:
        assert (await run_one(running.store, "order")).result == 5
        assert (await run_one(running.store, "price")).result == "price"
        broken = await run_one(running.store, "never")
        assert broken.error is not None
        assert f"job module {tmp_path}/jobs/broken.py can't be imported" in broken.error


@in_loop
async def test_job_module_is_found_by_its_name(database_url: str, tmp_path: Path) -> None:
    write(tmp_path / "shop" / "orders.py", "byName")
    async with (
        worker_process(database_url, tmp_path, WORKER_JOB_MODULES="shop.orders", PYTHONPATH=str(tmp_path)),
        open_store(database_url) as store,
    ):
        assert (await run_one(store, "byName")).result == "byName"


@in_loop
async def test_sample_jobs_run_when_their_module_is_named(database_url: str) -> None:
    async with worker(database_url, modules=["workerjobs.jobs.samples"]) as running:
        primes = await run_one(running.store, "countPrimes", {"upTo": 1000})
        assert primes.result == {"upTo": 1000, "primes": 168}
        rows = await run_one(running.store, "importRows", {"rows": 3, "delaySeconds": 0})
        assert rows.result == {"imported": 3}
        assert rows.progress == {"current": 3, "total": 3, "message": "row 3"}
        assert (await run_one(running.store, "failTwice")).error == (
            "RuntimeError: attempt 1 fails, as it was asked to (2 failures)"
        )
        asked = await run_one(running.store, "httpRequest", {"url": "file:///etc/passwd"})
        assert asked.error == "ValueError: url is 'file:///etc/passwd': give an http or https address"


BROKEN = {
    "raises": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    "syntax": ("this is no Python", "SyntaxError: invalid syntax"),
    "import": ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    "exits": ("import sys; sys.exit('usage: shop')", "SystemExit: usage: shop"),
}


@pytest.mark.parametrize(("more", "reason"), BROKEN.values(), ids=BROKEN)
def test_job_module_that_can_not_be_imported_costs_only_its_own_types(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, more: str, reason: str
) -> None:
    broken = write(tmp_path / "broken.py", "mine", more=more)

    @in_loop
    async def check() -> None:
        async with worker(database_url, modules=[broken, JOBS]) as running:
            assert (await run_one(running.store, "echo", {"a": 1})).result == {"a": 1}
            job = await run_one(running.store, "mine")
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert job.error.startswith(f"Unknown job type: mine (job module {broken} can't be imported: {reason}")
            await until(lambda: f"The job module {broken} can't be imported" in caplog.text)

    check()
    assert "Traceback" in caplog.text


@in_loop
async def test_missing_job_module_is_named(database_url: str) -> None:
    async with worker(database_url, modules=["no_such_module", "/no/such/file.py"]) as running:
        job = await run_one(running.store, "mine")
        assert job.error == (
            "Unknown job type: mine (job module no_such_module can't be imported: ModuleNotFoundError: No module named "
            "'no_such_module'; job module /no/such/file.py can't be imported: ImportError: there is no file "
            "/no/such/file.py)"
        )


@in_loop
async def test_job_module_that_ends_the_child_is_reported_and_tried_again(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    once = tmp_path / "once"
    broken = write(tmp_path / "broken.py", "mine", more=f"import os; os.path.exists({str(once)!r}) or os._exit(3)")
    async with worker(database_url, modules=[broken]) as running:
        message = "A child ended with exit code 3 before it was ready; starting another in 1.0 s"
        await until(lambda: message in caplog.text)
        once.touch()
        assert (await run_one(running.store, "mine")).result == "mine"


@in_loop
async def test_each_place_of_a_child_has_its_own_backoff(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        (tmp_path / f"crash-{number}").touch()
    # The first three that start: two at once, and one of those that come after them.
    crash = f"""
import os, pathlib
for ticket in pathlib.Path({str(tmp_path)!r}).glob("crash-*"):
    try:
        ticket.unlink()
    except FileNotFoundError:
        continue
    os._exit(3)
"""
    fragile = write(tmp_path / "fragile.py", "mine", more=crash)

    def delays() -> list[str]:
        return [record.message.rpartition(" in ")[2] for record in caplog.records if "before it was" in record.message]

    async with worker(database_url, children=2, modules=[fragile]) as running:
        assert (await run_one(running.store, "mine")).result == "mine"
        await until(lambda: running.metric("workerjobs_children", state="idle") == 2)
        assert delays() == ["1.0 s", "1.0 s", "2.0 s"]


@in_loop
async def test_two_functions_for_one_type_are_refused(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = write(tmp_path / "first.py", "mine", result="1")
    second = write(tmp_path / "second.py", "mine", result="2")
    async with worker(database_url, modules=[first, second]) as running:
        assert (await run_one(running.store, "mine")).result == 1
    assert f"Two functions for the job type 'mine': {first}:run, {second}:run" in caplog.text
