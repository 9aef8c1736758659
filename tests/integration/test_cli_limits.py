"""The commands for pauses, limits and workers, as processes, on a real database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.cli import workerjobs, workerjobs_json
from tests.support.loop import in_loop
from tests.support.table import open_store, sql
from workerjobs.ports.workers import WorkerRecord


def test_pool_and_type_are_paused_and_resumed(database_url: str) -> None:
    said = workerjobs("pause", "type", "report", "--reason", "the printer burns", database_url=database_url)
    assert said.stdout == "The type report is paused\n"
    workerjobs("pause", "pool", "gpu", database_url=database_url)
    pool, job_type = workerjobs_json("pauses", database_url=database_url)
    assert (pool["kind"], pool["name"], pool["reason"]) == ("pool", "gpu", None)
    assert (job_type["kind"], job_type["name"], job_type["reason"]) == ("type", "report", "the printer burns")
    listed = workerjobs("pauses", database_url=database_url)
    assert "the printer burns" in listed.stdout
    said = workerjobs("resume", "type", "report", database_url=database_url)
    assert said.stdout == "The type report is resumed\n"
    workerjobs("resume", "pool", "gpu", database_url=database_url)
    assert workerjobs_json("pauses", database_url=database_url) == []
    again = workerjobs("resume", "pool", "gpu", database_url=database_url)
    assert (again.returncode, again.stderr) == (1, "Error: The pool gpu is not paused\n")


def test_limits_are_set_listed_and_removed(database_url: str) -> None:
    said = workerjobs("limit", "set", "key", "k", "--concurrency", "3", "--rate", "10/1m", database_url=database_url)
    assert said.stdout == "The key k is limited to 3 at once and 10/1m starts\n"
    workerjobs("limit", "set", "type", "report", "--rate", "1/500ms", database_url=database_url)
    key, job_type = workerjobs_json("limit", "list", database_url=database_url)
    assert key == {
        "kind": "key",
        "name": "k",
        "concurrency": 3,
        "rateLimit": 10,
        "ratePeriod": 60_000,
        "running": 0,
    }
    assert (job_type["concurrency"], job_type["rateLimit"], job_type["ratePeriod"]) == (None, 1, 500)
    assert "10/1m" in workerjobs("limit", "list", database_url=database_url).stdout
    said = workerjobs("limit", "remove", "key", "k", database_url=database_url)
    assert said.stdout == "The key k has no limit any more\n"
    workerjobs("limit", "remove", "type", "report", database_url=database_url)
    assert workerjobs_json("limit", "list", database_url=database_url) == []
    again = workerjobs("limit", "remove", "key", "k", database_url=database_url)
    assert (again.returncode, again.stderr) == (1, "Error: No limit is set for the key k\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["limit", "set", "key", "k"], "no limit is given"),
        (["limit", "set", "key", "k", "--rate", "10"], "--rate is '10': give starts/period, such as 10/1m"),
        (["limit", "set", "key", "k", "--rate", "0/1m"], "rate's starts is 0"),
        (["limit", "set", "type", " ", "--concurrency", "1"], "name is ' '"),
        (["pause", "type", ""], "name is ''"),
        (["submit", "report", "--concurrency-limit", "1"], "concurrencyLimit needs a concurrencyKey"),
        (["submit", "report", "--concurrency-key", "k", "--rate", "often"], "--rate is 'often'"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(database_url: str, arguments: list[str], sentence: str) -> None:
    said = workerjobs(*arguments, database_url=database_url)
    assert said.returncode == 2
    assert sentence in said.stderr
    assert "Traceback" not in said.stderr


def test_submitted_job_has_the_limits_of_its_options(database_url: str) -> None:
    options = ("--concurrency-key", "k", "--concurrency-limit", "2", "--rate", "5/1h")
    job = workerjobs_json("submit", "report", *options, database_url=database_url)
    assert (job["concurrencyKey"], job["concurrencyLimit"], job["rateLimit"], job["ratePeriod"]) == (
        "k",
        2,
        5,
        3_600_000,
    )


def test_live_workers_are_listed(database_url: str) -> None:
    assert workerjobs("workers", database_url=database_url).stderr == "No workers.\n"

    @in_loop
    async def show() -> None:
        async with open_store(database_url) as store:
            await store.show_worker(
                WorkerRecord("me", "gpu", "host", 7, "1.2", 4, ("b", "a"), "{}", True, datetime.now(UTC))
            )

    show()
    # However long the commands take.
    sql(database_url, """update "workerJobWorkers" set "seenAt" = now() + interval '1 hour'""")
    (worker,) = workerjobs_json("workers", database_url=database_url)
    del worker["started"], worker["seen"]
    assert worker == {
        "owner": "me",
        "pool": "gpu",
        "host": "host",
        "pid": 7,
        "version": "1.2",
        "children": 4,
        "running": 0,
        "isDraining": True,
        "types": ["b", "a"],
    }
    listed = workerjobs("workers", database_url=database_url).stdout
    assert "draining" in listed
    assert "gpu" in listed
