"""What a valid job is, how one is read, and what a stored one says of itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import NOON, running_job
from workerjobs.domain.job import JobState, NewJob, RetryPolicy
from workerjobs.domain.job_checks import DATA_LIMIT_BYTES, MAX_MILLISECONDS, MAX_NAME, check_job, job_problems
from workerjobs.domain.json_text import MAX_NESTING, decode_json, encode_json
from workerjobs.domain.parsing import parse_job
from workerjobs.errors import InvalidInputError


def nested(depth: int, innermost: Any = 1) -> dict[str, Any]:
    """Data of a number of levels, of which the innermost holds a value."""
    data: dict[str, Any] = {"a": innermost}
    for _ in range(depth - 1):
        data = {"a": data}
    return data


def problems(**changes: Any) -> list[str]:
    return job_problems(NewJob(**({"type": "report"} | changes)), now=NOON)


# --- what can be stored


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"type": "x" * MAX_NAME, "tag": "ein Etikett, ≥ 1", "pool": "heavy"},
        {"user_id": 2**31 - 1, "priority": 2**15 - 1, "timeout_ms": MAX_MILLISECONDS},
        {"user_id": 0, "priority": -(2**15), "timeout_ms": 1},
        {"data": {"text": "x" * (DATA_LIMIT_BYTES - len('{"text":""}'))}},
        {"data": nested(MAX_NESTING)},
        {"data": {"\\u0000": "\\u0000 as six characters"}},
        {"due": datetime(1999, 1, 1, tzinfo=UTC)},
        {"due": NOON.astimezone(timezone(timedelta(hours=5, minutes=45)))},
        {"cron_schedule": "0 0 29 2 *", "time_zone": "Europe/Berlin"},
        {"cron_schedule": "@hourly", "catch_up": "all", "concurrency_policy": "Replace"},
        {"retry": RetryPolicy(limit=0, jitter=1)},
        {"retry": RetryPolicy(limit=1_000_000, initial_delay_ms=0, factor=1, max_delay_ms=MAX_MILLISECONDS)},
    ],
    ids=lambda changes: ",".join(changes) or "type alone",
)
def test_valid_job_has_no_problems(changes: dict[str, Any]) -> None:
    assert problems(**changes) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"type": ""}, "type is '': give a text that is not empty"),
        ({"type": "  "}, "type is '  ': give a text that is not empty"),
        ({"type": None}, "type is None: give a text that is not empty"),
        ({"type": 5}, "type is 5: give a text that is not empty"),
        ({"type": "x" * 251}, "type has 251 characters: at most 250 are accepted"),
        ({"type": "a\x00b"}, r"type is 'a\x00b': control characters"),
        ({"type": "a\ud800"}, r"type is 'a\ud800': control characters"),
        ({"tag": ""}, "tag is '': give a text"),
        ({"tag": "a\nb"}, r"tag is 'a\nb': control characters"),
        ({"pool": None}, "pool is None: give a text"),
        ({"user_id": -1}, "userId is -1: give a whole number from 0 to 2147483647"),
        ({"user_id": 2**31}, "userId is 2147483648: give a whole number from 0 to 2147483647"),
        ({"user_id": True}, "userId is True: give a whole number"),
        ({"user_id": "5"}, "userId is '5': give a whole number"),
        ({"priority": 40000}, "priority is 40000: give a whole number from -32768 to 32767"),
        ({"priority": 1.5}, "priority is 1.5: give a whole number"),
        ({"priority": float("nan")}, "priority is nan: give a whole number"),
        ({"remove_delay_ms": -1}, "removeDelay is -1: give a whole number from 0"),
        ({"timeout_ms": 0}, "timeout is 0: give a whole number from 1 to 2147483647"),
        ({"timeout_ms": 2**31}, "timeout is 2147483648"),
        ({"auto_reschedule_on_failure_delay_ms": -5}, "autoRescheduleOnFailureDelay is -5"),
        ({"persistent": "yes"}, "persistent is 'yes': give true or false"),
        ({"auto_reschedule_on_failure": 1}, "autoRescheduleOnFailure is 1: give true or false"),
        (
            {"due": NOON.replace(tzinfo=None)},
            "due is datetime.datetime(2026, 1, 1, 12, 0): give a moment with a time zone",
        ),
        ({"due": "tomorrow"}, "due is 'tomorrow': give a moment with a time zone"),
        ({"retry": RetryPolicy(limit=-1)}, "retry.limit is -1"),
        ({"retry": RetryPolicy(limit=1, factor=0.5)}, "retry.factor is 0.5: give a number from 1 to 1000"),
        ({"retry": RetryPolicy(limit=1, factor=float("nan"))}, "retry.factor is nan"),
        ({"retry": RetryPolicy(limit=1, initial_delay_ms=-1)}, "retry.initialDelay is -1"),
        ({"retry": RetryPolicy(limit=1, max_delay_ms=2**31)}, "retry.maxDelay is 2147483648"),
        ({"retry": RetryPolicy(limit=1, jitter=1.5)}, "retry.jitter is 1.5: give a number from 0 to 1"),
        ({"retry": RetryPolicy(limit=1, jitter=float("nan"))}, "retry.jitter is nan"),
        ({"catch_up": "latest"}, "catchUp needs a cronSchedule"),
        ({"concurrency_policy": "Allow"}, "concurrencyPolicy needs a cronSchedule"),
        ({"cron_schedule": "@hourly", "catch_up": "some"}, "catchUp is 'some': give one of none, latest, all"),
        ({"cron_schedule": "@hourly", "catch_up": []}, "catchUp is []: give one of none, latest, all"),
        (
            {"cron_schedule": "@hourly", "concurrency_policy": "allow"},
            "concurrencyPolicy is 'allow': give one of Allow, Forbid, Replace",
        ),
        ({"cron_schedule": "61 * * * *"}, "minute '61': 61 is out of range"),
        ({"cron_schedule": "* * *"}, "has 3 fields"),
        ({"cron_schedule": "0 0 30 2 *"}, "never comes: there is no day 30 in FEB"),
        ({"cron_schedule": 5}, "cronSchedule is 5 with timeZone None: give text"),
        ({"cron_schedule": "@hourly", "time_zone": "Mars/Phobos"}, "'Mars/Phobos' is unknown"),
        ({"time_zone": "UTC"}, "timeZone needs a cronSchedule"),
        ({"data": [1]}, "data is [1]: give an object, such as {}"),
        ({"data": None}, "data is None: give an object"),
        ({"data": "text"}, "data is 'text': give an object"),
        ({"data": {"a": "x\x00"}}, "data can't be stored: a string holds a NUL character"),
        ({"data": {"\x00": 1}}, "a string holds a NUL character"),
        ({"data": {"a": [{"b": ("\x00",)}]}}, "a string holds a NUL character"),
        ({"data": {"a": "\ud800"}}, "half of a surrogate pair"),
        ({"data": {"\udfff": 1}}, "half of a surrogate pair"),
        ({"data": {"a": float("nan")}}, "data can't be stored: Out of range float values"),
        ({"data": {"a": float("-inf")}}, "data can't be stored: Out of range float values"),
        ({"data": {"a": {1, 2}}}, "Object of type set is not JSON serializable"),
        ({"data": {("a", "b"): 1}}, "keys must be str"),
        (
            {"data": {"text": "x" * DATA_LIMIT_BYTES}},
            "data has 1,048,587 bytes of JSON: at most 1,048,576 are accepted",
        ),
        ({"data": {"text": "ä" * (DATA_LIMIT_BYTES // 2)}}, "data has 1,048,587 bytes of JSON"),
        ({"data": nested(MAX_NESTING + 1)}, "data is nested deeper than 100 levels"),
        ({"data": nested(50_000)}, "data is nested deeper than 100 levels"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_problem_is_named_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    (problem,) = problems(**changes)
    assert sentence in problem
    assert len(problem) < 250
    assert problem.isprintable()


def test_data_that_holds_itself_is_refused() -> None:
    data: dict[str, Any] = {}
    data |= {"again": data, "and again": data}
    assert problems(data=data) == ["data is nested deeper than 100 levels"]


def test_all_problems_are_raised_at_once() -> None:
    with pytest.raises(InvalidInputError) as raised:
        check_job(NewJob(type="", priority=99_999, data={"a": "\x00"}, cron_schedule="x"), now=NOON)
    assert len(raised.value.problems) == 4
    for word in ("type", "priority", "data", "cron schedule"):
        assert word in str(raised.value)


# --- JSON that Postgres takes


def test_json_keeps_key_order_and_characters() -> None:
    assert encode_json({"z": 1, "a": "Zürich 🚀", "m": None}) == '{"z":1,"a":"Zürich 🚀","m":null}'


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | texts


@given(scalars | st.dictionaries(texts, scalars | st.floats(allow_nan=False, allow_infinity=False) | st.lists(scalars)))
def test_json_is_what_the_standard_library_writes_and_reads(value: Any) -> None:
    text = encode_json(value)
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert decode_json(text) == value


@pytest.mark.parametrize("text", ["1e400", "12345678901234567890123", '"\\ud800"', '{"a":1,"a":2}', "-0.0", " [1] "])
def test_unusual_json_is_read_as_the_standard_library_reads_it(text: str) -> None:
    assert repr(decode_json(text)) == repr(json.loads(text))


@pytest.mark.parametrize("value", ["\\u0000", {"\\u0000": ["\\u0000"]}, nested(90, "\\u0000")], ids=type)
def test_text_that_only_looks_like_an_escape_is_taken(value: object) -> None:
    assert json.loads(encode_json(value)) == value


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("a\x00", "NUL character"),
        (nested(90, "\x00"), "NUL character"),
        (["\udc00"], "surrogate"),
        (float("inf"), "Out of range"),
        (object(), "not JSON serializable"),
        (nested(100_000), "nested deeper than 100 levels"),
        (10**5000, "digits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_json_for_postgres_is_refused_with_the_reason(value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        encode_json(value)


# --- stored jobs


@pytest.mark.parametrize(
    ("started", "finished", "success", "cancel_requested", "expected"),
    [
        (None, None, None, False, JobState.PENDING),
        (NOON, None, None, False, JobState.RUNNING),
        (NOON, None, None, True, JobState.RUNNING),
        (NOON, NOON, True, False, JobState.SUCCEEDED),
        (NOON, NOON, True, True, JobState.SUCCEEDED),
        (NOON, NOON, False, False, JobState.FAILED),
        (NOON, NOON, False, True, JobState.CANCELLED),
        (None, NOON, False, True, JobState.CANCELLED),
        (None, NOON, False, False, JobState.CANCELLED),
    ],
)
def test_state_follows_from_the_row(
    started: datetime | None,
    finished: datetime | None,
    success: bool | None,
    cancel_requested: bool,
    expected: JobState,
) -> None:
    job = running_job(started=started, finished=finished, success=success, cancel_requested=cancel_requested)
    assert job.state is expected
    assert job.state.is_final == (finished is not None)


def test_error_is_that_of_the_result() -> None:
    failed = running_job(finished=NOON, success=False, result_json='{"error": "no paper"}')
    assert failed.error == "no paper"
    assert running_job(finished=NOON, success=True, result_json='{"error": "is data here"}').error is None
    assert running_job(finished=NOON, success=False, result_json="[1]").error is None
    assert running_job(finished=NOON, success=False, result_json=None).error is None
    assert running_job().error is None


def test_to_dict_has_every_column_under_its_own_name() -> None:
    job = running_job(
        data_json='{"z": 1, "a": 2}',
        result_json='{"error": "x"}',
        progress_json=None,
        due=NOON.astimezone(timezone(timedelta(hours=2))),
        remove_delay_ms=5,
        auto_reschedule_on_failure_delay_ms=6,
        retry_initial_delay_ms=7,
        timeout_ms=8,
        resource_uid="uid",
    )
    row = job.to_dict()
    assert row["state"] == "running"
    assert list(row["data"]) == ["z", "a"]
    assert row["result"] == {"error": "x"}
    assert row["progress"] is None
    assert row["due"] == "2026-01-01T12:00:00+00:00"
    assert (row["removeDelay"], row["autoRescheduleOnFailureDelay"], row["retryInitialDelay"]) == (5, 6, 7)
    assert (row["timeoutMs"], row["resourceUid"], row["rescheduledFromJob"]) == (8, "uid", None)
    assert not [name for name in row if "_" in name]
    json.dumps(row)


# --- reading


def test_mapping_with_the_tables_names_is_read() -> None:
    job = parse_job(
        {
            "type": "report",
            "data": {"a": 1},
            "userId": 5,
            "tag": None,
            "due": "2030-01-31T08:00:00+02:00",
            "removeDelay": 1000,
            "timeoutMs": 50,
            "autoRescheduleOnFailure": True,
            "autoRescheduleOnFailureDelay": 7,
            "retry": {"limit": 3, "initialDelay": 10, "factor": 1.5, "maxDelay": 99, "jitter": 0.5},
            "catchUp": "latest",
            "concurrencyPolicy": "Allow",
        }
    )
    assert job == NewJob(
        type="report",
        data={"a": 1},
        user_id=5,
        due=datetime(2030, 1, 31, 6, tzinfo=UTC),
        remove_delay_ms=1000,
        timeout_ms=50,
        auto_reschedule_on_failure=True,
        auto_reschedule_on_failure_delay_ms=7,
        retry=RetryPolicy(limit=3, initial_delay_ms=10, factor=1.5, max_delay_ms=99, jitter=0.5),
        catch_up="latest",
        concurrency_policy="Allow",
    )


def test_pythons_names_are_read_too() -> None:
    job = parse_job({"type": "report", "user_id": 5, "cron_schedule": "@daily", "retry": RetryPolicy(limit=1)})
    assert job == NewJob(type="report", user_id=5, cron_schedule="@daily", retry=RetryPolicy(limit=1))


def test_moment_without_a_zone_is_utc() -> None:
    assert parse_job({"type": "report", "due": "2030-01-31"}).due == datetime(2030, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        ({}, ["type is missing: give the job's type"]),
        ({"type": "x", "cronShedule": "@daily"}, ["unknown field 'cronShedule': did you mean cronSchedule?"]),
        ({"type": "x", "wibble": 1}, ["unknown field 'wibble': accepted: autoRescheduleOnFailure,"]),
        ({"type": "x", 5: 1}, ["unknown field 5"]),
        ({"type": "x", "due": "soon"}, ["due is 'soon': give a moment such as 2030-01-31T08:00:00Z"]),
        ({"type": "x", "retry": {"factor": 2}}, ["retry.limit is missing"]),
        ({"type": "x", "retry": {"limit": 2, "delay": 2}}, ["retry.unknown field 'delay'"]),
        ({"type": "x", "retry": 3}, ["retry is 3: give an object such as {'limit': 3}"]),
        ({"due": "soon", "tga": "x"}, ["unknown field 'tga': did you mean tag?", "type is missing", "due is 'soon'"]),
    ],
    ids=str,
)
def test_what_can_not_be_read_is_named(given: dict[Any, Any], sentences: list[str]) -> None:
    with pytest.raises(InvalidInputError) as raised:
        parse_job(given)
    assert len(raised.value.problems) == len(sentences)
    for problem, sentence in zip(raised.value.problems, sentences, strict=True):
        assert problem.startswith(sentence)
