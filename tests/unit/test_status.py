"""The status of a WorkerJob: what its rows say."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.support.factories import NOON, running_job
from workerjobs.domain.job import Job
from workerjobs.kube.status import RESULT_LIMIT_BYTES, status_of

LATER = NOON + timedelta(minutes=5)


def pending(**changes: Any) -> Job:
    return running_job(
        **{"started": None, "lease_owner": None, "lease_deadline": None, "fencing_token": None} | changes
    )


def finished(result: object = None, **changes: Any) -> Job:
    text = json.dumps(result)
    return running_job(**{"finished": LATER, "success": True, "result_json": text, "lease_deadline": None} | changes)


def failed(error: str = "broken", **changes: Any) -> Job:
    return finished({"error": error}, success=False, **changes)


def status(*rows: Job, is_cron: bool = False, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"generation": 1, "problems": (), "previous": {}, "now": NOON} | changes
    return status_of(rows, is_cron=is_cron, **given)


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Each condition, but for that of a job which was never suspended."""
    found = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    return {name: each for name, each in found.items() if each != ("False", "NotSuspended")}


def facts(status: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name not in ("conditions", "observedGeneration")}


ONE_TIME: list[tuple[str, list[Job], dict[str, Any], dict[str, tuple[str, str]]]] = [
    (
        "pending",
        [pending(id=1)],
        {"state": "Pending", "jobId": 1, "attempt": 1, "nextDue": "2026-01-01T12:00:00Z"},
        {
            "Accepted": ("True", "SpecAccepted"),
            "Running": ("False", "JobWaiting"),
            "Complete": ("False", "JobWaiting"),
            "Failed": ("False", "JobWaiting"),
        },
    ),
    (
        "running",
        [running_job(id=1, progress_json='{"current": 2, "total": 8, "message": "row 2"}')],
        {
            "state": "Running",
            "jobId": 1,
            "attempt": 1,
            "lastRun": "2026-01-01T12:00:00Z",
            "progress": {"current": 2, "total": 8, "message": "row 2", "percent": 25},
        },
        {
            "Accepted": ("True", "SpecAccepted"),
            "Running": ("True", "JobRunning"),
            "Complete": ("False", "JobRunning"),
            "Failed": ("False", "JobRunning"),
        },
    ),
    (
        "succeeded",
        [finished({"rows": 3}, id=1)],
        {
            "state": "Succeeded",
            "jobId": 1,
            "attempt": 1,
            "lastRun": "2026-01-01T12:00:00Z",
            "result": {"rows": 3},
        },
        {
            "Accepted": ("True", "SpecAccepted"),
            "Running": ("False", "JobSucceeded"),
            "Complete": ("True", "JobSucceeded"),
            "Failed": ("False", "JobSucceeded"),
        },
    ),
    (
        "waits for its retry",
        [failed(id=1), pending(id=2, attempt=2, due=LATER)],
        {
            "state": "Pending",
            "jobId": 2,
            "attempt": 2,
            "lastRun": "2026-01-01T12:00:00Z",
            "nextDue": "2026-01-01T12:05:00Z",
            "result": {"error": "broken"},
            "error": "broken",
        },
        {
            "Accepted": ("True", "SpecAccepted"),
            "Running": ("False", "JobWaiting"),
            "Complete": ("False", "JobWaiting"),
            "Failed": ("False", "RetryWaiting"),
        },
    ),
    (
        "runs again",
        [failed(id=1), running_job(id=2, attempt=2, started=LATER)],
        {
            "state": "Running",
            "jobId": 2,
            "attempt": 2,
            "lastRun": "2026-01-01T12:05:00Z",
            "result": {"error": "broken"},
            "error": "broken",
        },
        {
            "Accepted": ("True", "SpecAccepted"),
            "Running": ("True", "JobRunning"),
            "Complete": ("False", "JobRunning"),
            "Failed": ("False", "JobRunning"),
        },
    ),
    (
        "failed for good",
        [failed("Unknown job type: x", id=2, attempt=2)],
        {
            "state": "Failed",
            "jobId": 2,
            "attempt": 2,
            "lastRun": "2026-01-01T12:00:00Z",
            "result": {"error": "Unknown job type: x"},
            "error": "Unknown job type: x",
        },
        {
            "Accepted": ("True", "SpecAccepted"),
            "Running": ("False", "JobFailed"),
            "Complete": ("False", "JobFailed"),
            "Failed": ("True", "JobFailed"),
        },
    ),
    (
        "cancelled before it ran",
        [failed("Job cancelled", id=1, started=None, cancel_requested=True)],
        {
            "state": "Cancelled",
            "jobId": 1,
            "attempt": 1,
            "result": {"error": "Job cancelled"},
            "error": "Job cancelled",
        },
        {
            "Accepted": ("True", "SpecAccepted"),
            "Running": ("False", "JobCancelled"),
            "Complete": ("False", "JobCancelled"),
            "Failed": ("True", "JobCancelled"),
        },
    ),
]


@pytest.mark.parametrize(
    ("rows", "expected", "expected_conditions"), [case[1:] for case in ONE_TIME], ids=[case[0] for case in ONE_TIME]
)
def test_status_of_a_one_time_job(
    rows: list[Job], expected: dict[str, Any], expected_conditions: dict[str, tuple[str, str]]
) -> None:
    found = status(*rows)
    assert facts(found) == expected
    assert conditions(found) == expected_conditions


CRON: list[tuple[str, list[Job], dict[str, Any], tuple[str, str]]] = [
    (
        "before its first run",
        [pending(id=1, due=LATER)],
        {"state": "Scheduled", "jobId": 1, "attempt": 1, "nextDue": "2026-01-01T12:05:00Z"},
        ("False", "JobWaiting"),
    ),
    (
        "runs",
        [finished("x", id=1), running_job(id=2, started=LATER)],
        {"state": "Running", "jobId": 2, "attempt": 1, "lastRun": "2026-01-01T12:05:00Z", "result": "x"},
        ("False", "JobSucceeded"),
    ),
    (
        "between runs, the last one failed",
        [failed(id=1), pending(id=2, due=LATER)],
        {
            "state": "Scheduled",
            "jobId": 1,
            "attempt": 1,
            "lastRun": "2026-01-01T12:00:00Z",
            "nextDue": "2026-01-01T12:05:00Z",
            "result": {"error": "broken"},
            "error": "broken",
        },
        ("True", "JobFailed"),
    ),
    (
        "a retry comes before the next tick",
        [failed(id=1), pending(id=2, due=LATER), pending(id=3, due=NOON + timedelta(seconds=5), attempt=2)],
        {
            "state": "Scheduled",
            "jobId": 1,
            "attempt": 1,
            "lastRun": "2026-01-01T12:00:00Z",
            "nextDue": "2026-01-01T12:00:05Z",
            "result": {"error": "broken"},
            "error": "broken",
        },
        ("True", "JobFailed"),
    ),
]


@pytest.mark.parametrize(("rows", "expected", "has_failed"), [case[1:] for case in CRON], ids=[c[0] for c in CRON])
def test_status_of_a_cron_job(rows: list[Job], expected: dict[str, Any], has_failed: tuple[str, str]) -> None:
    found = status(*rows, is_cron=True)
    assert facts(found) == expected
    assert conditions(found)["Failed"] == has_failed
    assert conditions(found)["Complete"] == ("False", "JobRecurs")


def test_refused_spec_is_invalid_and_says_why() -> None:
    found = status(problems=["spec.a is wrong", "spec.b is wrong"], generation=4)
    assert facts(found) == {"state": "Invalid"}
    assert found["observedGeneration"] == 4
    assert conditions(found) == {
        "Accepted": ("False", "SpecRefused"),
        "Running": ("False", "NoJob"),
        "Complete": ("False", "NoJob"),
        "Failed": ("False", "NoJob"),
    }
    assert found["conditions"][0]["message"] == "spec.a is wrong; spec.b is wrong"


def test_refused_change_leaves_the_earlier_job_going_and_says_so() -> None:
    found = status(pending(id=1), problems=["spec.a is wrong"])
    assert (found["state"], found["jobId"]) == ("Invalid", 1)
    assert found["conditions"][0]["message"] == "spec.a is wrong; what an earlier generation asked for goes on"


def test_condition_keeps_the_moment_of_its_last_change() -> None:
    first = status(pending(id=1))
    second = status(running_job(id=1), previous=first, now=LATER)
    moments = {each["type"]: each["lastTransitionTime"] for each in second["conditions"]}
    assert moments == {
        "Accepted": "2026-01-01T12:00:00Z",
        "Running": "2026-01-01T12:05:00Z",
        "Complete": "2026-01-01T12:00:00Z",
        "Failed": "2026-01-01T12:00:00Z",
        "Suspended": "2026-01-01T12:00:00Z",
    }
    assert status(running_job(id=1), previous=second, now=LATER + timedelta(hours=1)) == second


def test_last_run_is_remembered_where_its_row_is_gone() -> None:
    previous = {"lastRun": "2025-12-31T00:00:00Z"}
    assert status(pending(id=9), is_cron=True, previous=previous)["lastRun"] == "2025-12-31T00:00:00Z"
    assert status(running_job(id=9), is_cron=True, previous=previous)["lastRun"] == "2026-01-01T12:00:00Z"


def test_status_outlives_rows_that_someone_removed() -> None:
    succeeded = status(finished({"rows": 3}, id=1))
    assert status(previous=succeeded, now=LATER) == succeeded | {
        "conditions": [
            succeeded["conditions"][0],
            succeeded["conditions"][1] | {"reason": "NoJob", "message": "The job's rows were removed from the table"},
            *succeeded["conditions"][2:],
        ]
    }
    removed = status(previous=status(pending(id=1)), now=LATER)
    assert removed["state"] == "Cancelled"
    assert "nextDue" not in removed
    assert conditions(removed)["Failed"] == ("True", "RowsRemoved")
    assert status(previous=removed, now=LATER + timedelta(hours=1)) == removed


RESULTS: list[tuple[str, object, dict[str, Any]]] = [
    ("null is left out", None, {}),
    ("text", "done", {"result": "done"}),
    ("a number", 3.5, {"result": 3.5}),
    ("false", False, {"result": False}),
    ("as large as numbers get", [2**64 + 1, -1e308], {"result": [2**64 + 1, -1e308]}),
    ("larger than Kubernetes' numbers", {"n": 10**400}, {"result": '{"n": 1' + "0" * 400 + "}"}),
    ("a list with null", [None, {"a": None}], {"result": [None, {"a": None}]}),
    ("as long as may be", "x" * (RESULT_LIMIT_BYTES - 2), {"result": "x" * (RESULT_LIMIT_BYTES - 2)}),
    (
        "too long",
        ["x" * RESULT_LIMIT_BYTES],
        {"result": '["' + "x" * (RESULT_LIMIT_BYTES - 2) + "…", "resultCut": True},
    ),
]


@pytest.mark.parametrize(("result", "expected"), [case[1:] for case in RESULTS], ids=[case[0] for case in RESULTS])
def test_result_is_shown_as_json_or_its_beginning_as_text(result: object, expected: dict[str, Any]) -> None:
    found = status(finished(result))
    assert {name: value for name, value in found.items() if name.startswith("result")} == expected


def test_cut_result_ends_in_a_whole_character() -> None:
    text = "ü" * RESULT_LIMIT_BYTES
    job = finished(None, result_json=json.dumps(text, ensure_ascii=False))
    assert status(job)["result"] == '"' + "ü" * (RESULT_LIMIT_BYTES // 2 - 1) + "…"


PROGRESS: list[tuple[str, str | None, object]] = [
    ("none", None, None),
    ("no total", '{"current": 2}', {"current": 2}),
    ("total of nothing", '{"current": 0, "total": 0}', {"current": 0, "total": 0}),
    ("beyond its total", '{"current": 9, "total": 3}', {"current": 9, "total": 3, "percent": 100}),
    ("fractions", '{"current": 0.5, "total": 1.5}', {"current": 0.5, "total": 1.5, "percent": 33}),
    ("of another shape", '{"current": "many", "message": 5}', None),
    ("no object", "[1]", None),
]


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in PROGRESS], ids=[case[0] for case in PROGRESS])
def test_progress_is_shown_as_far_as_it_can_be_read(text: str | None, expected: object) -> None:
    assert status(running_job(progress_json=text)).get("progress") == expected
