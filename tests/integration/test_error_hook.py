"""The error hook, with the real SDK of Sentry and a receiver of what it sends."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.collector import collector
from tests.support.loop import in_loop, until
from tests.support.table import open_store
from tests.support.workers import JOBS, run_one, worker_process
from workerjobs import JobContext
from workerjobs.domain.job import RetryPolicy
from workerjobs.errors import InvalidSettingsError
from workerjobs.settings import worker_settings
from workerjobs.worker import error_hook
from workerjobs.worker.error_hook import ErrorHook

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"
CONTEXT = JobContext(job_id=7, job_type="echo")


@in_loop
async def test_the_example_for_sentry_reports_failed_jobs(database_url: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n# shop_errors\.py\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "shop_errors.py").write_text(example)
    with collector() as collected:
        dsn = f"http://key@{urlsplit(collected.url).netloc}/1"
        async with (
            worker_process(
                database_url,
                tmp_path,
                SENTRY_DSN=dsn,
                WORKERJOBS_ERROR_HOOK="shop_errors:report",
                PYTHONPATH=str(tmp_path),
            ),
            open_store(database_url) as store,
        ):
            assert (await run_one(store, "echo", {"a": 1})).state == "succeeded"
            failed = await run_one(store, "raise", {"what": "plain"})
            await until(lambda: collected.bodies.get("/api/1/envelope/"))
        events = [
            json.loads(line)
            for body in collected.bodies["/api/1/envelope/"]
            for line in body.splitlines()
            if b'"exception"' in line
        ]
        (event,) = events
        assert event["exception"]["values"][-1]["type"] == "RuntimeError"
        assert event["tags"]["job_type"] == "raise"
        assert event["contexts"]["job"] | {"type": ""} == {"id": failed.id, "attempt": 1, "type": ""}


@in_loop
async def test_a_hook_that_fails_or_ends_its_process_costs_no_job_its_error(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "bad_hooks.py").write_text(
        "import logging, os, sys\n"
        "from workerjobs import job\n"
        "@job('raiseFresh', isolation='fresh')\n"
        "def raise_fresh(data):\n"
        "    raise RuntimeError('no paper')\n"
        "def fail(error, context):\n"
        "    if context.tag == 'exit':\n"
        "        os._exit(7)\n"
        "    logging.getLogger('hooks').warning('%s: %s', context.job_type, error)\n"
        "    sys.exit(3)\n"
    )
    async with (
        worker_process(
            database_url,
            tmp_path,
            WORKERJOBS_ERROR_HOOK="bad_hooks:fail",
            PYTHONPATH=str(tmp_path),
            WORKER_JOB_MODULES=f"{JOBS},bad_hooks",
        ) as process,
        open_store(database_url) as store,
    ):
        failed = await run_one(store, "raise", {"what": "plain"})
        unstorable = await run_one(store, "raise", {"what": "plain"}, retry=RetryPolicy(limit=0))
        # Also where nothing of the process is left to tell it.
        gone = [await run_one(store, job_type, {"what": "plain"}, tag="exit") for job_type in ("raise", "raiseFresh")]
        assert {job.error for job in (failed, unstorable, *gone)} == {"RuntimeError: no paper"}
        assert await until(lambda: len(process.said("WORKERJOBS_ERROR_HOOK failed")) == 2)
        (told, _) = process.said("raise: ")
        assert (told["job_id"], told["logger"]) == (failed.id, "workerjobs.job.hooks")


def test_a_hook_that_does_not_end_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(error_hook, "HOOK_SECONDS", 0.02)
    going_on = threading.Event()
    try:
        assert not ErrorHook(lambda error, context: going_on.wait()).call(ValueError("x"), CONTEXT)
        assert "did not end within 0.02 s" in caplog.text
    finally:
        going_on.set()
    told = []
    assert ErrorHook(lambda error, context: told.append((str(error), context.job_id))).call(ValueError("x"), CONTEXT)
    assert told == [("x", 7)]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no_such_module:report", "can't be imported"),
        ("json:no_such_function", "can't be imported"),
        ("json:__doc__", "is no function"),
    ],
)
def test_a_hook_that_is_not_there_is_said(target: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    assert ErrorHook.load(target) is None
    assert f"WORKERJOBS_ERROR_HOOK={target} {said}" in caplog.text


def test_a_hook_is_named_as_module_and_function() -> None:
    assert (
        worker_settings({"WORKERJOBS_ERROR_HOOK": "shop.errors:Hooks.report"}).error_hook == "shop.errors:Hooks.report"
    )
    for text in ("report", "shop.errors", "a b:c", ":report", "shop:"):
        with pytest.raises(InvalidSettingsError, match="give module:function"):
            worker_settings({"WORKERJOBS_ERROR_HOOK": text})
