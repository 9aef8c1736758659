"""The WorkerJob definition: what the API server refuses, with which sentence, and that Python refuses it as well."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.malformed import REFUSED
from tests.support.operators import WorkerJobs, workerjob
from workerjobs.errors import InvalidInputError
from workerjobs.kube.workerjob import LOCAL_CLUSTER, parse_workerjob

pytestmark = pytest.mark.cluster

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
    {"type": "x", "suspend": True, "cancel": False, "rerun": "2026-01-01T00:00", "historyLimit": 100_000},
    {"type": "x", "ttlSecondsAfterFinished": 0, "historyLimit": 1, "persistent": False},
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
