"""The WorkerJob definition: what the API server refuses, with which sentence, and that Python refuses it as well."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.operators import WorkerJobs, workerjob
from workerjobs.errors import InvalidInputError
from workerjobs.kube.workerjob import LOCAL_CLUSTER, parse_workerjob

pytestmark = pytest.mark.cluster

COUNT = "cronSchedule must have five fields (minute, hour, day of month, month, day of week), six with the second first"
MOMENT = "due must be a moment with a time zone, such as 2030-01-31T08:00:00Z"


def part(name: str) -> str:
    return f"cronSchedule's {name} must be made of"


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("no type", {"data": {}}, "spec.type: Required value"),
    ("blank type", {"type": " "}, "type must not be empty"),
    ("type with a line end", {"type": "a\nb"}, "type must not hold control characters such as line ends"),
    ("long type", {"type": "x" * 251}, "spec.type: Too long: may not be more than 250"),
    ("type is a number", {"type": 5}, "spec.type in body must be of type string"),
    ("data is a list", {"type": "x", "data": [1]}, "spec.data in body must be of type object"),
    ("data is text", {"type": "x", "data": "a"}, "spec.data in body must be of type object"),
    ("negative user", {"type": "x", "userId": -1}, "spec.userId in body should be greater than or equal to 0"),
    ("huge user", {"type": "x", "userId": 2**31}, "spec.userId in body should be less than or equal to 2147483647"),
    ("empty tag", {"type": "x", "tag": ""}, "tag must not be empty: leave it out for a job without one"),
    ("long tag", {"type": "x", "tag": "x" * 251}, "spec.tag: Too long: may not be more than 250"),
    ("empty pool", {"type": "x", "pool": " "}, "pool must not be empty: leave it out for the pool default"),
    ("pool with a line end", {"type": "x", "pool": "a\nb"}, "pool must not hold control characters such as line ends"),
    ("due without a zone", {"type": "x", "due": "2030-01-31T08:00:00"}, MOMENT),
    ("due on a day alone", {"type": "x", "due": "2030-01-31"}, MOMENT),
    ("due in words", {"type": "x", "due": "tomorrow"}, MOMENT),
    ("due in a 13th month", {"type": "x", "due": "2030-13-31T08:00:00Z"}, MOMENT),
    ("due at the end of time", {"type": "x", "due": "9999-12-31T23:59:59Z"}, "due must lie in the years 1900 to 9900"),
    ("due before clocks", {"type": "x", "due": "1066-10-14T09:00:00Z"}, "due must lie in the years 1900 to 9900"),
    ("four fields", {"type": "x", "cronSchedule": "* * * *"}, COUNT),
    ("seven fields", {"type": "x", "cronSchedule": "* * * * * * *"}, COUNT),
    ("empty schedule", {"type": "x", "cronSchedule": ""}, COUNT),
    ("unknown name", {"type": "x", "cronSchedule": "@often"}, "cronSchedule must be one of @yearly, @annually,"),
    ("odd characters", {"type": "x", "cronSchedule": "* * * * $"}, "cronSchedule may hold digits, letters, blanks"),
    ("zone in the schedule", {"type": "x", "cronSchedule": "TZ=UTC 0 8 * * *"}, "must not begin with a time zone"),
    ("bad second", {"type": "x", "cronSchedule": "60 * * * * *"}, part("second (the first of six fields)")),
    ("bad minute", {"type": "x", "cronSchedule": "61 * * * *"}, part("minute")),
    ("bad minute of six", {"type": "x", "cronSchedule": "0 61 * * * *"}, part("minute")),
    ("bad hour", {"type": "x", "cronSchedule": "0 8-24 * * *"}, part("hour")),
    ("bad day", {"type": "x", "cronSchedule": "0 0 0 * *"}, part("day of month")),
    ("bad month", {"type": "x", "cronSchedule": "0 0 1 13 *"}, part("month")),
    ("bad day of week", {"type": "x", "cronSchedule": "0 0 * * 8"}, part("day of week")),
    (
        "long schedule",
        {"type": "x", "cronSchedule": "* " * 120},
        "spec.cronSchedule: Too long: may not be more than 200",
    ),
    ("zone without schedule", {"type": "x", "timeZone": "UTC"}, "timeZone needs a cronSchedule"),
    ("catching up without schedule", {"type": "x", "catchUp": "all"}, "catchUp needs a cronSchedule"),
    ("policy without schedule", {"type": "x", "concurrencyPolicy": "Forbid"}, "concurrencyPolicy needs a cronSchedule"),
    ("unknown catching up", {"type": "x", "cronSchedule": "@daily", "catchUp": "some"}, 'Unsupported value: "some"'),
    (
        "unknown policy",
        {"type": "x", "cronSchedule": "@daily", "concurrencyPolicy": "allow"},
        'Unsupported value: "allow"',
    ),
    (
        "more than all of a delay",
        {"type": "x", "retry": {"limit": 1, "jitter": 1.5}},
        "should be less than or equal to 1",
    ),
    (
        "zone with blanks",
        {"type": "x", "cronSchedule": "@daily", "timeZone": "Central European Time"},
        "timeZone must be an IANA name such as Europe/Berlin",
    ),
    ("persistent is text", {"type": "x", "persistent": "yes"}, "spec.persistent in body must be of type boolean"),
    ("low priority", {"type": "x", "priority": -32769}, "should be greater than or equal to -32768"),
    ("priority is a fraction", {"type": "x", "priority": 1.5}, "spec.priority in body must be of type integer"),
    ("empty key", {"type": "x", "concurrencyKey": ""}, "concurrencyKey must not be empty: leave it out"),
    ("key with a line end", {"type": "x", "concurrencyKey": "a\nb"}, "concurrencyKey must not hold control characters"),
    ("limit without a key", {"type": "x", "concurrencyLimit": 1}, "concurrencyLimit needs a concurrencyKey"),
    ("limit of none", {"type": "x", "concurrencyKey": "k", "concurrencyLimit": 0}, "greater than or equal to 1"),
    (
        "rate without a key",
        {"type": "x", "rateLimit": {"starts": 1, "periodSeconds": 1}},
        "rateLimit needs a concurrencyKey",
    ),
    (
        "rate without its period",
        {"type": "x", "concurrencyKey": "k", "rateLimit": {"starts": 1}},
        "spec.rateLimit.periodSeconds: Required value",
    ),
    ("no time at all", {"type": "x", "timeoutSeconds": 0}, "should be greater than or equal to 1"),
    ("too much time", {"type": "x", "timeoutSeconds": 2147484}, "should be less than or equal to 2147483"),
    ("timeout is text", {"type": "x", "timeoutSeconds": "5s"}, "spec.timeoutSeconds in body must be of type integer"),
    ("retry without limit", {"type": "x", "retry": {}}, "spec.retry.limit: Required value"),
    ("negative limit", {"type": "x", "retry": {"limit": -1}}, "should be greater than or equal to 0"),
    ("factor below one", {"type": "x", "retry": {"limit": 1, "factor": 0.9}}, "should be greater than or equal to 1"),
    (
        "longest delay below the first",
        {"type": "x", "retry": {"limit": 1, "initialDelaySeconds": 60, "maxDelaySeconds": 30}},
        "retry.maxDelaySeconds must not be below retry.initialDelaySeconds (10 when not given)",
    ),
    (
        "delay without its flag",
        {"type": "x", "autoRescheduleOnFailureDelaySeconds": 5},
        "autoRescheduleOnFailureDelaySeconds needs autoRescheduleOnFailure: true",
    ),
    ("kept less than nothing", {"type": "x", "removeDelaySeconds": -1}, "should be greater than or equal to 0"),
]

SCHEDULES = [
    "* * * * *",
    "*/10 * * * * *",
    " 0  0 1 1 * ",
    "@hourly",
    "@MINUTELY",
    "0 0 L * *",
    "0 0 L,15 * ?",
    "0 12 ? * MON-FRI",
    "0 0 * * FRI#2",
    "0 0 * * 5L",
    "0 0 * * FRI-SUN",
    "0 0 * * 7",
    "59 23 31 12 6",
    "00 08 01 01 *",
    "5,10-20/2,H 0-23/3 * jan-MAR,12 sun,Tue",
    "H H(8-17) * * *",
    "H/15 * * * *",
    "H(0-29)/10 * * * *",
    "0/15 30/2 8 * * *",
    "H H H H H",
]

ACCEPTED: list[dict[str, Any]] = [
    *({"type": "x", "cronSchedule": schedule} for schedule in SCHEDULES),
    {"type": "report ≥ Zürich", "tag": "ü" * 250, "data": {"a": {"b": [None, 1.5, "ü"]}}, "pool": "p" * 250},
    {"type": "x", "due": "2030-01-31T08:00:00.123456789-11:30", "priority": 32767, "userId": 2**31 - 1},
    {
        "type": "x",
        "cronSchedule": "@daily",
        "timeZone": "America/Argentina/ComodRivadavia",
        "due": "1900-01-01T00:00:00Z",
    },
    {"type": "x", "cronSchedule": "@daily", "timeZone": "Etc/GMT+8", "persistent": False},
    {"type": "x", "retry": {"limit": 0, "initialDelaySeconds": 0, "factor": 1, "maxDelaySeconds": 0}},
    {"type": "x", "retry": {"limit": 1_000_000, "initialDelaySeconds": 7200, "factor": 1000.0}},
    {"type": "x", "retry": {"limit": 1, "jitter": 0.5}},
    *(
        {"type": "x", "cronSchedule": "@daily", "catchUp": catch_up, "concurrencyPolicy": policy}
        for catch_up, policy in (("none", "Allow"), ("latest", "Forbid"), ("all", "Replace"))
    ),
    {"type": "x", "pool": "gpu", "concurrencyKey": "customer 7", "concurrencyLimit": 1},
    {"type": "x", "concurrencyKey": "k", "rateLimit": {"starts": 10, "periodSeconds": 60}},
    {"type": "x", "autoRescheduleOnFailure": True, "autoRescheduleOnFailureDelaySeconds": 2147483},
    {"type": "x", "autoRescheduleOnFailure": False, "timeoutSeconds": 1, "removeDelaySeconds": 0, "tag": None},
]


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> dict[str, str]:
    """What kubectl prints for each of the refused manifests, asked for in one call."""
    cluster = request.getfixturevalue("cluster")
    request.getfixturevalue("definition")
    items = [workerjob(f"case-{number}", case[1]) for number, case in enumerate(REFUSED)]
    documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    # Without kubectl's own look at them, which ends at the first one of a wrong shape.
    options = ("--dry-run=server", "--validate=false")
    said = cluster.kubectl("apply", *options, "-f", "-", input=documents, check=False).stderr
    return dict(re.findall(r'"(case-\d+)" is invalid: (.*)', said))


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[case[0] for case in REFUSED])
def test_manifest_is_refused_with_a_sentence(answers: dict[str, str], number: int) -> None:
    _, spec, sentence = REFUSED[number]
    assert sentence in answers[f"case-{number}"]
    if "must" in sentence and "in body" not in sentence:
        # One mistake, one sentence.
        assert answers[f"case-{number}"].count("Invalid value") == 1
    with pytest.raises(InvalidInputError):
        parse_workerjob(workerjob("x", spec), LOCAL_CLUSTER)


def test_manifests_that_are_right_are_accepted_by_the_api_server_and_by_python(jobs: WorkerJobs) -> None:
    items = [workerjob(f"case-{number}", spec) for number, spec in enumerate(ACCEPTED)]
    documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    applied = jobs.kubectl("apply", "--dry-run=server", "-f", "-", input=documents, check=False)
    assert applied.stderr == ""
    for item in items:
        parse_workerjob(item, LOCAL_CLUSTER)


def test_unknown_field_is_refused_by_name(jobs: WorkerJobs) -> None:
    document = json.dumps(workerjob("x", {"type": "x", "cronSchedul": "@daily"}))
    refused = jobs.kubectl("apply", "-f", "-", input=document, check=False)
    assert 'unknown field "spec.cronSchedul"' in refused.stderr


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"type": "other"}, "type can't be changed: delete the WorkerJob and create it anew"),
        ({"userId": 8}, "userId can't be changed: delete the WorkerJob and create it anew"),
        ({"userId": None}, "userId can't be changed: delete the WorkerJob and create it anew"),
    ],
    ids=["type", "userId", "userId left out"],
)
def test_type_and_user_can_not_be_changed(jobs: WorkerJobs, change: dict[str, Any], sentence: str) -> None:
    jobs.apply(workerjob("a", {"type": "report", "userId": 7}))
    spec = {"type": "report", "userId": 7, "data": {"a": 1}} | change
    refused = jobs.kubectl("apply", "-f", "-", input=json.dumps(workerjob("a", spec)), check=False)
    assert sentence in refused.stderr
    jobs.apply(workerjob("a", {"type": "report", "userId": 7, "data": {"a": 1}}))


def test_every_field_is_explained(jobs: WorkerJobs) -> None:
    explained = jobs.kubectl("get", "--raw", "/openapi/v3/apis/quickdapp.xyz/v1").stdout
    schema = json.loads(explained)["components"]["schemas"]["xyz.quickdapp.v1.WorkerJob"]
    missing: list[str] = []

    def visit(path: str, each: dict[str, Any]) -> None:
        if path and "description" not in each:
            missing.append(path)
        for name, field in each.get("properties", {}).items():
            visit(f"{path}.{name}" if path else name, field)
        if "items" in each:
            for name, field in each["items"].get("properties", {}).items():
                visit(f"{path}[].{name}", field)

    for name in ("spec", "status"):
        visit(name, schema["properties"][name])
    assert missing == []


def test_columns_are_those_that_people_look_for(jobs: WorkerJobs) -> None:
    jobs.apply(workerjob("a", {"type": "report", "cronSchedule": "@hourly"}))
    names = jobs.kubectl("get", "wj").stdout.splitlines()[0].split()
    assert names == ["NAME", "TYPE", "STATE", "SCHEDULE", "NEXT", "LAST", "AGE"]
    wide = jobs.kubectl("get", "wj", "-o", "wide").stdout.splitlines()[0].split()
    assert wide == [*names, "RESULT", "POOL", "JOB"]
