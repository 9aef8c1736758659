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
from workerjobs.ports.resources import ResourceState, RunCounts

TICK = NOON + timedelta(minutes=1)
TICK_AFTER = TICK + timedelta(minutes=1)
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
    ended = [row for row in rows if row.finished is not None]
    last_end = state.last_end or max((row.finished for row in ended if row.finished is not None), default=None)
    ticks = state.used_ticks | {row.tick for row in ended if row.tick is not None}
    state = dataclasses.replace(state, last_end=last_end, used_ticks=ticks)
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
        TICK_AFTER,
    ),
    ("the one-time job becomes a cron job", cron(2), [pending()], TICK),
    ("a first run is asked for", cron(2, due=NOON + timedelta(days=1)), [tick()], NOON + timedelta(days=1)),
    ("a first run was asked for once", cron(2, due=NOON - timedelta(days=1)), [tick()], TICK),
    (
        "a far tick of another schedule was cancelled",
        cron(2, cron_schedule="@hourly"),
        [
            succeeded(cron_key=KEY, success=False, started=None, tick=NOON + timedelta(days=300)),
            tick(id=8, cron_schedule="@yearly"),
        ],
        NOON + timedelta(hours=1),
    ),
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
        TICK_AFTER,
    ),
    ("only a retry waits", cron(), [pending(rescheduled_from_job=6, attempt=2)], TICK),
    ("its first run lies in the past", cron(due=NOON - timedelta(days=1)), [succeeded(tick=NOON)], TICK),
    ("its first run is to come", cron(due=NOON + timedelta(days=1)), [], NOON + timedelta(days=1)),
    ("its first run was cancelled", cron(due=TICK), [succeeded(success=False, started=None, tick=TICK)], TICK_AFTER),
    ("the job that runs was a one-time job", cron(2), [running_job(resource_generation=1)], TICK),
]


@pytest.mark.parametrize(("job", "rows", "due"), [case[1:] for case in LINES], ids=[case[0] for case in LINES])
def test_cron_line_without_a_row_is_restored_at_a_tick_that_was_not_used(
    job: NewJob, rows: list[Job], due: datetime
) -> None:
    assert decide(resource(job), *rows) == Actions(restore=[dataclasses.replace(job, due=due)])


def test_tick_that_was_cancelled_before_a_rerun_ended_is_not_restored() -> None:
    cancelled = known_as(used_ticks=frozenset({TICK}))
    (line,) = decide(resource(cron()), succeeded(), state=cancelled).restore
    assert line.due == TICK_AFTER


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


# --- what concerns a resource and all its runs


def wishing(job: NewJob, **wishes: Any) -> NewJob:
    assert job.resource is not None
    return dataclasses.replace(job, resource=dataclasses.replace(job.resource, **wishes))


def known_as(**changes: Any) -> ResourceState:
    return dataclasses.replace(RECORDED, **changes)


def test_suspended_resource_is_held_back_once_and_resumed_with_its_next_tick() -> None:
    held = known_as(is_suspended=True)
    for job, row, tick_of in ((one_time(), pending(), None), (cron(), tick(), TICK)):
        assert decide(resource(wishing(job, is_suspended=True)), row).suspend == ["u"]
        (write,) = decide(resource(wishing(job, is_suspended=True)), row, state=held).statuses
        assert (write.status["state"], "nextDue" in write.status) == ("Suspended", False)
        assert decide(resource(job), row, state=held).resume == {"u": tick_of}


def test_cancelled_resource_loses_its_rows_but_for_what_continues_its_line() -> None:
    held = known_as(is_suspended=True)
    retry = pending(id=8, attempt=2, rescheduled_from_job=7)
    asked = running_job(id=9, cancel_requested=True, resource_generation=1)
    wished = wishing(cron(), is_cancelled=True)
    running = running_job(id=7, cron_key=KEY, resource_generation=1)
    assert decide(resource(wished), running, retry, asked, tick(id=10), state=held).cancel == {"u": [7, 8]}
    assert decide(resource(wished), asked, tick(id=10), state=held).cancel == {}
    assert decide(resource(wishing(one_time(), is_cancelled=True)), pending(), state=held).cancel == {"u": [7]}


def test_new_token_is_one_more_run_at_once_outside_the_line() -> None:
    wished = wishing(cron(due=TICK), run_key="b")
    (again,) = decide(resource(wished), tick(id=10), state=known_as(run_keys=frozenset({"initial", "a"}))).submit
    assert (again.due, again.cron_schedule, again.cron_key, again.rescheduled_from_job) == (None, None, None, 10)
    assert again.resource is not None
    assert again.resource.is_beside_line
    assert decide(resource(wished), tick(), state=known_as(run_keys=frozenset({"b"}))).submit == []
    # No token asks for nothing.
    assert decide(resource(cron()), tick(), state=known_as(run_keys=frozenset({"b"}))).submit == []


def test_history_is_kept_as_was_asked_and_looked_at_again_while_there_is_too_much() -> None:
    wished = resource(wishing(one_time(), history_limit=3))
    assert decide(wished, succeeded()).keep == {"u": 3}
    assert decide(wished, succeeded(), state=known_as(history_limit=3)).keep == {}
    much = decide(wished, succeeded(), state=known_as(history_limit=3, has_surplus=True))
    assert (much.keep, much.look_again) == ({"u": 3}, {"u": NOON})
    assert decide(resource(one_time()), succeeded(), state=known_as(history_limit=3)).keep == {"u": None}


def complete_since(moment: datetime) -> dict[str, Any]:
    """A status that says since when a job is complete."""
    (write,) = decide(resource(one_time()), succeeded(), now=moment).statuses
    return dict(write.status)


def test_resource_is_deleted_when_its_time_is_up_and_looked_at_again_then() -> None:
    wished = resource(wishing(one_time(), ttl_seconds=60))
    before = decide(wished, succeeded())
    assert (before.delete, before.look_again) == ([], {"u": NOON + timedelta(seconds=60)})
    assert decide(wished, succeeded(), now=NOON + timedelta(seconds=60)).delete == [wished]
    later = NOON + timedelta(days=1)
    assert decide(wished, succeeded(), pending(id=8), now=later).delete == []
    # A rerun was over before the run that it was stored beside.
    outlasted = known_as(last_end=NOON + timedelta(seconds=30))
    still = decide(wished, succeeded(), state=outlasted, now=NOON + timedelta(seconds=60))
    assert (still.delete, still.look_again) == ([], {"u": NOON + timedelta(seconds=90)})
    short = resource(
        wishing(one_time(), ttl_seconds=60, history_limit=1), status=complete_since(NOON + timedelta(seconds=30))
    )
    assert decide(short, succeeded(), state=known_as(history_limit=1), now=NOON + timedelta(seconds=60)).delete == []
    # Rows that someone removed: its status tells when it ended.
    (write,) = before.statuses
    gone = dataclasses.replace(wished, status=write.status)
    assert decide(gone, now=later).delete == [gone]


TYPES: list[tuple[str, list[Job], dict[str, set[str]], bool]] = [
    ("a worker knows it", [pending()], {"default": {"report"}}, True),
    ("no worker is there", [pending()], {}, True),
    ("workers of another pool", [pending()], {"gpu": {"other"}}, True),
    ("no worker knows it", [pending()], {"default": {"other"}}, False),
    ("it has run", [succeeded()], {"default": {"other"}}, True),
    (
        "it failed for that",
        [succeeded(success=False, result_json='{"error": "Unknown job type: report"}')],
        {},
        False,
    ),
]


@pytest.mark.parametrize(
    ("rows", "types", "is_accepted"), [case[1:] for case in TYPES], ids=[case[0] for case in TYPES]
)
def test_type_that_no_worker_knows_is_not_accepted(rows: list[Job], types: Any, is_accepted: bool) -> None:
    (write,) = decide(resource(one_time()), *rows, types=types).statuses
    accepted = write.status["conditions"][0]
    assert (accepted["status"], accepted["reason"]) == (
        ("True", "SpecAccepted") if is_accepted else ("False", "TypeUnknown")
    )


# --- Events


def news(known: Resource, *rows: Job, before: Actions, **changes: Any) -> list[str]:
    (earlier,) = before.statuses
    actions = decide(dataclasses.replace(known, status=earlier.status), *rows, **changes)
    return [event.reason for write in actions.statuses for event in write.events]


def test_events_tell_of_what_changed() -> None:
    known = resource(one_time(), status={})
    first = decide(known, pending())
    assert [event.reason for write in first.statuses for event in write.events] == ["Accepted"]
    assert news(known, running_job(resource_generation=1), before=first) == []
    one = known_as(counts=RunCounts(succeeded=1))
    assert news(known, succeeded(), before=first, state=one) == ["Succeeded"]
    failed = succeeded(success=False, result_json='{"error": "no paper"}')
    one = known_as(counts=RunCounts(failed=1))
    assert news(known, failed, before=first, state=one) == ["Failed"]
    assert news(known, failed, pending(id=8, attempt=2), before=first, state=one) == ["Rescheduled"]
    held = known_as(is_suspended=True)
    suspended = resource(wishing(one_time(), is_suspended=True), status={})
    assert news(suspended, pending(), before=first, state=held) == ["Suspended"]
    assert news(resource(None, problems=("wrong",)), pending(), before=first) == ["Refused"]
    # Where it is not known what was said before, nothing is news.
    assert [write.events for write in decide(resource(one_time()), pending()).statuses] == [()]
