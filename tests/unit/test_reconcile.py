"""What is to be done about resources and their rows."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.support.factories import NOON, resource_job, running_job
from workerjobs.domain.job import Job, NewJob
from workerjobs.kube.reconcile import Actions, Resource, StatusWrite, reconcile
from workerjobs.ports import ResourceState

TICK = NOON + timedelta(minutes=1)
KEY = "resource:here:u"


def one_time(generation: int = 1, **changes: Any) -> NewJob:
    return resource_job("u", generation=generation, **changes)


def cron(generation: int = 1, **changes: Any) -> NewJob:
    return resource_job("u", generation=generation, **{"cron_schedule": "* * * * *", "cron_key": KEY} | changes)


def resource(job: NewJob | None, **changes: Any) -> Resource:
    known = Resource(
        uid="u",
        namespace="shop",
        name="job-u",
        generation=job.resource.generation if job is not None and job.resource is not None else 1,
        job=job,
    )
    return dataclasses.replace(known, **changes)


def pending(**changes: Any) -> Job:
    waiting = {"started": None, "lease_owner": None, "lease_deadline": None, "fencing_token": None}
    return running_job(**waiting | {"resource_uid": "u", "resource_generation": 1} | changes)


def tick(**changes: Any) -> Job:
    return pending(**{"cron_schedule": "* * * * *", "cron_key": KEY, "tick": TICK, "due": TICK} | changes)


def succeeded(**changes: Any) -> Job:
    ended = {"finished": NOON, "success": True, "result_json": "null", "lease_deadline": None}
    return running_job(**ended | {"resource_uid": "u", "resource_generation": 1} | changes)


RECORDED = ResourceState(run_keys=frozenset({"initial"}))


def decide(
    known: Resource, *rows: Job, state: ResourceState = RECORDED, types: Any = None, now: datetime = NOON
) -> Actions:
    return reconcile([known], {"u": rows} if rows else {}, {"u": state}, types or {}, now=now)


def test_new_resource_gets_its_first_row_before_a_status() -> None:
    assert decide(resource(one_time()), state=ResourceState()) == Actions(submit=[one_time()])
    assert decide(resource(cron()), state=ResourceState()) == Actions(submit=[cron()])


def test_refused_resource_gets_a_status_alone() -> None:
    actions = decide(resource(None, problems=("spec.x is wrong",)))
    assert (actions.submit, actions.update, actions.restore) == ([], [], [])
    assert [write.status["state"] for write in actions.statuses] == ["Invalid"]


ROWS: list[tuple[str, NewJob, list[Job], str]] = [
    ("pending", one_time(), [pending()], "Pending"),
    ("running", one_time(), [running_job(resource_generation=1)], "Running"),
    ("an older generation runs", one_time(2), [running_job(resource_generation=1)], "Running"),
    ("an older generation is finished", one_time(2), [succeeded()], "Succeeded"),
    ("a newer generation is pending", one_time(1), [pending(resource_generation=2)], "Pending"),
    ("waits for its next tick", cron(), [succeeded(cron_key=KEY), tick(id=8)], "Scheduled"),
    ("its tick runs", cron(), [running_job(cron_key=KEY, cron_schedule="* * * * *")], "Running"),
]


@pytest.mark.parametrize(("job", "rows", "state"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS])
def test_resource_whose_rows_are_as_they_should_be_gets_a_status_alone(
    job: NewJob, rows: list[Job], state: str
) -> None:
    actions = decide(resource(job), *rows)
    assert (actions.submit, actions.update, actions.restore) == ([], [], [])
    assert [write.status["state"] for write in actions.statuses] == [state]


@pytest.mark.parametrize(("job", "rows", "state"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS])
def test_nothing_is_done_a_second_time(job: NewJob, rows: list[Job], state: str) -> None:
    (write,) = decide(resource(job), *rows).statuses
    later = NOON + timedelta(hours=1)
    assert decide(resource(job, status=write.status), *rows, now=later) == Actions()


def test_status_is_written_where_it_is_not_known() -> None:
    (write,) = decide(resource(one_time()), pending()).statuses
    assert decide(resource(one_time(), status=None), pending()).statuses == [write]


def test_progress_alone_is_not_urgent() -> None:
    first = running_job(progress_json='{"current": 1}')
    (write,) = decide(resource(one_time()), first).statuses
    assert write.is_urgent
    second = msgspec.structs.replace(first, progress_json='{"current": 2}')
    (again,) = decide(resource(one_time(), status=write.status), second).statuses
    assert again == StatusWrite("u", "shop", "job-u", {**write.status, "progress": {"current": 2}}, is_urgent=False)


# --- rows that were removed


def test_one_time_job_whose_rows_were_removed_does_not_run_again() -> None:
    status = decide(resource(one_time()), succeeded()).statuses[0].status
    actions = decide(resource(one_time(), status=status))
    assert (actions.submit, actions.update, actions.restore) == ([], [], [])
    assert [write.status["state"] for write in actions.statuses] == ["Succeeded"]


# --- newer generations


def test_pending_row_is_brought_up_to_a_newer_generation() -> None:
    assert decide(resource(one_time(2, priority=5)), pending()) == Actions(update=[one_time(2, priority=5)])
    assert decide(resource(one_time(2)), pending(resource_generation=None)).update == [one_time(2)]


def test_pending_retry_is_brought_up_to_a_newer_generation() -> None:
    retry = pending(id=8, attempt=2, rescheduled_from_job=7)
    assert decide(resource(one_time(2)), succeeded(success=False), retry).update == [one_time(2)]


TICKS: list[tuple[str, NewJob, list[Job], datetime]] = [
    ("the schedule stays", cron(2, data={"a": 1}), [tick()], TICK),
    ("the schedule stays, and its tick waits for a worker", cron(2), [tick(tick=NOON, due=NOON)], NOON),
    (
        "the schedule stays, and a retry waits beside its tick",
        cron(2),
        [tick(tick=NOON, due=NOON), pending(id=8, rescheduled_from_job=6, attempt=2)],
        NOON,
    ),
    ("the schedule changes", cron(2, cron_schedule="@hourly"), [tick()], NOON + timedelta(hours=1)),
    (
        "the zone changes",
        cron(2, cron_schedule="30 8 * * *", time_zone="Europe/Berlin"),
        [tick(cron_schedule="30 8 * * *")],
        datetime(2026, 1, 2, 7, 30, tzinfo=UTC),
    ),
    (
        "the new schedule's next tick was run already",
        cron(2),
        [succeeded(cron_key=KEY, tick=TICK), tick(id=8, cron_schedule="@hourly", due=NOON + timedelta(hours=1))],
        TICK + timedelta(minutes=1),
    ),
    ("the one-time job becomes a cron job", cron(2), [pending()], TICK),
    ("a first run is asked for", cron(2, due=NOON + timedelta(days=1)), [tick()], NOON + timedelta(days=1)),
    ("a first run was asked for once", cron(2, due=NOON - timedelta(days=1)), [tick()], TICK),
]


@pytest.mark.parametrize(("job", "rows", "due"), [case[1:] for case in TICKS], ids=[case[0] for case in TICKS])
def test_tick_of_an_updated_cron_job(job: NewJob, rows: list[Job], due: datetime) -> None:
    assert decide(resource(job), *rows) == Actions(update=[dataclasses.replace(job, due=due)])


def test_cron_job_that_becomes_a_one_time_job_keeps_its_own_due_moment() -> None:
    assert decide(resource(one_time(2)), tick()).update == [one_time(2)]


# --- cron lines that lost their row

LINES: list[tuple[str, NewJob, list[Job], datetime]] = [
    ("all rows were removed", cron(), [], TICK),
    ("the next row was removed", cron(), [succeeded(cron_key=KEY, tick=NOON)], TICK),
    (
        "the next tick was cancelled",
        cron(),
        [succeeded(cron_key=KEY, success=False, started=None, tick=TICK)],
        TICK + timedelta(minutes=1),
    ),
    ("only a retry waits", cron(), [pending(rescheduled_from_job=6, attempt=2)], TICK),
    ("its first run lies in the past", cron(due=NOON - timedelta(days=1)), [succeeded(tick=NOON)], TICK),
    ("its first run is to come", cron(due=NOON + timedelta(days=1)), [], NOON + timedelta(days=1)),
    ("the job that runs was a one-time job", cron(2), [running_job(resource_generation=1)], TICK),
]


@pytest.mark.parametrize(("job", "rows", "due"), [case[1:] for case in LINES], ids=[case[0] for case in LINES])
def test_cron_line_without_a_row_is_restored_at_a_tick_that_was_not_used(
    job: NewJob, rows: list[Job], due: datetime
) -> None:
    assert decide(resource(job), *rows) == Actions(restore=[dataclasses.replace(job, due=due)])


def test_hashed_schedule_is_restored_where_its_line_would_be() -> None:
    daily = cron(cron_schedule="H H * * *")
    (restored,) = decide(resource(daily)).restore
    (again,) = decide(resource(daily), now=NOON + timedelta(days=1)).restore
    assert restored.due is not None
    assert again.due == restored.due + timedelta(days=1)


# --- many at once


def test_each_resource_is_looked_at_by_itself() -> None:
    jobs = {uid: resource_job(uid) for uid in ("new", "waiting", "changed")}
    resources = [Resource(uid, "shop", f"job-{uid}", 2 if uid == "changed" else 1, job) for uid, job in jobs.items()]
    rows = {
        "waiting": [pending(resource_uid="waiting")],
        "changed": [pending(resource_uid="changed")],
        "stranger": [pending(resource_uid="stranger")],
    }
    states = dict.fromkeys(("waiting", "changed"), RECORDED)
    actions = reconcile(resources, rows, states, {}, now=NOON)
    assert actions.submit == [jobs["new"]]
    assert actions.update == [jobs["changed"]]
    assert [write.uid for write in actions.statuses] == ["waiting"]
