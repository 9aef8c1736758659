"""WorkerJob manifests: what they ask for, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from workerjobs.domain.job import NewJob, ResourceRef, RetryPolicy
from workerjobs.errors import InvalidInputError
from workerjobs.kube.workerjob import LOCAL_CLUSTER, parse_workerjob


def manifest(spec: object, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "quickdapp.xyz/v1",
        "kind": "WorkerJob",
        "metadata": {"name": "nightly", "namespace": "shop", "uid": "u-1", "generation": 3} | metadata,
        "spec": spec,
    }


def parse(spec: object) -> NewJob:
    return parse_workerjob(manifest(spec), "here")


def problems_of(document: object, cluster_id: str = "here") -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        parse_workerjob(document, cluster_id)
    return caught.value.problems


# --- what a manifest asks for

RESOURCE = ResourceRef("here", "shop", "nightly", "u-1", 3)


def test_manifest_with_a_type_alone_is_a_job_of_defaults() -> None:
    assert parse({"type": "report"}) == NewJob(type="report", resource=RESOURCE)


def test_every_field_reaches_the_job() -> None:
    spec = {
        "type": "report",
        "data": {"b": 1, "a": [None, "ü"]},
        "userId": 7,
        "tag": "t",
        "due": "2030-01-31T08:00:00.5+01:00",
        "cronSchedule": "H 8 * * MON-FRI",
        "timeZone": "Europe/Berlin",
        "persistent": True,
        "priority": -5,
        "pool": "gpu",
        "concurrencyKey": "customer 7",
        "concurrencyLimit": 2,
        "rateLimit": {"starts": 10, "periodSeconds": 60},
        "timeoutSeconds": 30,
        "catchUp": "all",
        "concurrencyPolicy": "Replace",
        "retry": {"limit": 3, "initialDelaySeconds": 5, "factor": 1.5, "maxDelaySeconds": 60, "jitter": 0.25},
        "autoRescheduleOnFailure": True,
        "autoRescheduleOnFailureDelaySeconds": 10,
        "removeDelaySeconds": 86_400,
        "suspend": True,
        "cancel": True,
        "rerun": "2026-01-01",
        "dataFrom": [{"name": "key", "secretKeyRef": {"name": "mail", "key": "api-key"}}],
    }
    assert parse(spec) == NewJob(
        type="report",
        data={"b": 1, "a": [None, "ü"]},
        user_id=7,
        tag="t",
        due=datetime(2030, 1, 31, 7, 0, 0, 500_000, tzinfo=UTC),
        cron_schedule="H 8 * * MON-FRI",
        time_zone="Europe/Berlin",
        cron_key="resource:here:u-1",
        persistent=True,
        priority=-5,
        pool="gpu",
        concurrency_key="customer 7",
        concurrency_limit=2,
        rate_limit=10,
        rate_period_ms=60_000,
        timeout_ms=30_000,
        retry=RetryPolicy(limit=3, initial_delay_ms=5_000, factor=1.5, max_delay_ms=60_000, jitter=0.25),
        catch_up="all",
        concurrency_policy="Replace",
        auto_reschedule_on_failure=True,
        auto_reschedule_on_failure_delay_ms=10_000,
        remove_delay_ms=86_400_000,
        data_from=[{"name": "key", "secretKeyRef": {"name": "mail", "key": "api-key"}}],
        resource=dataclasses.replace(RESOURCE, run_key="2026-01-01", is_suspended=True, is_cancelled=True),
    )


def test_how_long_rows_and_resource_are_kept_reaches_the_resource() -> None:
    job = parse({"type": "x", "ttlSecondsAfterFinished": 5.0, "historyLimit": 3})
    assert job.resource == dataclasses.replace(RESOURCE, ttl_seconds=5, history_limit=3)


def test_data_from_outside_of_a_cluster_is_refused_with_a_sentence() -> None:
    document = manifest({"type": "x", "dataFrom": [{"name": "a", "secretKeyRef": {"name": "s", "key": "k"}}]})
    assert problems_of(document, LOCAL_CLUSTER) == [
        "spec.dataFrom needs a Kubernetes cluster, which has the Secrets and ConfigMaps: put them in data here"
    ]


def test_null_is_not_given_and_whole_floats_are_whole_numbers() -> None:
    spec = {"type": "report", "tag": None, "data": None, "retry": None, "priority": 5.0, "timeoutSeconds": 2.0}
    job = parse(spec)
    assert (job.tag, job.data, job.retry, job.priority, job.timeout_ms) == (None, {}, None, 5, 2000)
    assert isinstance(job.priority, int)


def test_first_delay_above_the_usual_longest_one_is_meant() -> None:
    job = parse({"type": "report", "retry": {"limit": 1, "initialDelaySeconds": 7200}})
    assert job.retry == RetryPolicy(limit=1, initial_delay_ms=7_200_000, max_delay_ms=7_200_000)


def test_manifest_without_a_cluster_is_known_by_namespace_and_name() -> None:
    bare = {"apiVersion": "quickdapp.xyz/v1", "kind": "WorkerJob", "metadata": {"name": "n"}, "spec": {"type": "x"}}
    assert parse_workerjob(bare, LOCAL_CLUSTER).resource == ResourceRef("local", "default", "n", "default/n", 1)
    # One that was read from a cluster, too: it is the same manifest.
    assert parse_workerjob(manifest({"type": "x"}), LOCAL_CLUSTER).resource == ResourceRef(
        "local", "shop", "nightly", "shop/nightly", 1
    )
    cron = manifest({"type": "x", "cronSchedule": "@hourly"})
    assert parse_workerjob(cron, LOCAL_CLUSTER).cron_key == "resource:local:shop/nightly"


# --- what is wrong with a manifest: (name, spec, the one problem)

PROBLEMS: list[tuple[str, object, str]] = [
    ("no spec", None, "spec is missing: give an object with the job's type"),
    ("spec is a list", [1], "spec is [1]: give an object with the job's type"),
    ("no type", {}, "spec.type is missing: give the job's type"),
    ("blank type", {"type": "  "}, "spec.type is '  ': give a text that is not empty"),
    ("type is a number", {"type": 5}, "spec.type is 5: give a text that is not empty"),
    (
        "type with a line end",
        {"type": "a\nb"},
        "spec.type is 'a\\nb': control characters (NUL, line ends, …) are not accepted",
    ),
    ("long type", {"type": "x" * 251}, "spec.type has 251 characters: at most 250 are accepted"),
    ("empty tag", {"type": "x", "tag": ""}, "spec.tag is '': give a text that is not empty"),
    ("data is a list", {"type": "x", "data": [1]}, "spec.data is [1]: give an object, such as {}"),
    (
        "data with NUL",
        {"type": "x", "data": {"a": "\0"}},
        "spec.data can't be stored: a string holds a NUL character, which Postgres can't store",
    ),
    (
        "data over 1 MiB",
        {"type": "x", "data": {"a": "x" * 2**20}},
        "spec.data has 1,048,584 bytes of JSON: at most 1,048,576 are accepted (1 MiB)",
    ),
    ("negative user", {"type": "x", "userId": -1}, "spec.userId is -1: give a whole number from 0 to 2147483647"),
    ("user is text", {"type": "x", "userId": "7"}, "spec.userId is '7': give a whole number from 0 to 2147483647"),
    (
        "priority too high",
        {"type": "x", "priority": 32768},
        "spec.priority is 32768: give a whole number from -32768 to 32767",
    ),
    (
        "priority is a fraction",
        {"type": "x", "priority": 1.5},
        "spec.priority is 1.5: give a whole number from -32768 to 32767",
    ),
    ("blank pool", {"type": "x", "pool": " "}, "spec.pool is ' ': give a text that is not empty"),
    ("key is a number", {"type": "x", "concurrencyKey": 7}, "spec.concurrencyKey is 7: give a text that is not empty"),
    (
        "limit without a key",
        {"type": "x", "concurrencyLimit": 1},
        "spec.concurrencyLimit needs a concurrencyKey: the jobs that share a key share its limits",
    ),
    (
        "rate without a key",
        {"type": "x", "rateLimit": {"starts": 1, "periodSeconds": 1}},
        "spec.rateLimit needs a concurrencyKey: the jobs that share a key share its limits",
    ),
    (
        "rate without starts",
        {"type": "x", "concurrencyKey": "k", "rateLimit": {"periodSeconds": 1}},
        "spec.rateLimit.starts is missing: give the number of starts",
    ),
    (
        "rate in words",
        {"type": "x", "concurrencyKey": "k", "rateLimit": "10/1m"},
        "spec.rateLimit is '10/1m': give an object such as {starts: 10, periodSeconds: 60}",
    ),
    (
        "rate without a period",
        {"type": "x", "concurrencyKey": "k", "rateLimit": {"starts": 1, "periodSeconds": 0}},
        "spec.rateLimit.periodSeconds is 0: give a whole number of seconds from 1 to 2147483",
    ),
    (
        "limit of none",
        {"type": "x", "concurrencyKey": "k", "concurrencyLimit": 0},
        "spec.concurrencyLimit is 0: give a whole number from 1 to 1000000",
    ),
    ("persistent is text", {"type": "x", "persistent": "yes"}, "spec.persistent is 'yes': give true or false"),
    (
        "timeout of nothing",
        {"type": "x", "timeoutSeconds": 0},
        "spec.timeoutSeconds is 0: give a whole number of seconds from 1 to 2147483",
    ),
    (
        "timeout is text",
        {"type": "x", "timeoutSeconds": "5s"},
        "spec.timeoutSeconds is '5s': give a whole number of seconds from 1 to 2147483",
    ),
    (
        "timeout is a flag",
        {"type": "x", "timeoutSeconds": True},
        "spec.timeoutSeconds is True: give a whole number of seconds from 1 to 2147483",
    ),
    (
        "kept too long",
        {"type": "x", "removeDelaySeconds": 2147484},
        "spec.removeDelaySeconds is 2147484: give a whole number of seconds from 0 to 2147483",
    ),
    (
        "delay without its flag",
        {"type": "x", "autoRescheduleOnFailureDelaySeconds": 5},
        "spec.autoRescheduleOnFailureDelaySeconds needs autoRescheduleOnFailure: true",
    ),
    (
        "due without a zone",
        {"type": "x", "due": "2030-01-31T08:00:00"},
        "spec.due is '2030-01-31T08:00:00': give a moment with a time zone, such as 2030-01-31T08:00:00Z",
    ),
    (
        "due on a day that never comes",
        {"type": "x", "due": "2030-02-30T08:00:00Z"},
        "spec.due is '2030-02-30T08:00:00Z': give a moment with a time zone, such as 2030-01-31T08:00:00Z",
    ),
    (
        "due at the end of time",
        {"type": "x", "due": "9999-12-31T23:59:59-12:00"},
        "spec.due is '9999-12-31T23:59:59-12:00': give a moment in the years 1900 to 9900",
    ),
    (
        "zone without a schedule",
        {"type": "x", "timeZone": "UTC"},
        "spec.timeZone needs a cronSchedule",
    ),
    ("catching up without a schedule", {"type": "x", "catchUp": "all"}, "spec.catchUp needs a cronSchedule"),
    ("usual catching up without one", {"type": "x", "catchUp": "none"}, "spec.catchUp needs a cronSchedule"),
    (
        "policy without a schedule",
        {"type": "x", "concurrencyPolicy": "Forbid"},
        "spec.concurrencyPolicy needs a cronSchedule",
    ),
    (
        "unknown policy",
        {"type": "x", "cronSchedule": "@hourly", "concurrencyPolicy": "Queue"},
        "spec.concurrencyPolicy is 'Queue': give one of Allow, Forbid, Replace",
    ),
    (
        "more than all of a delay",
        {"type": "x", "retry": {"limit": 1, "jitter": 2}},
        "spec.retry.jitter is 2: give a number from 0 to 1",
    ),
    (
        "unknown zone",
        {"type": "x", "cronSchedule": "@daily", "timeZone": "Europe/Berlim"},
        "spec.timeZone: time zone 'Europe/Berlim' is unknown: accepted are IANA names such as Europe/Berlin",
    ),
    (
        "bad minute",
        {"type": "x", "cronSchedule": "61 * * * *"},
        "spec.cronSchedule: cron schedule '61 * * * *', minute '61': 61 is out of range, accepted are 0-59",
    ),
    (
        "a day that never comes",
        {"type": "x", "cronSchedule": "0 0 30 2 *"},
        "spec.cronSchedule: cron schedule '0 0 30 2 *' never comes: there is no day 30 in FEB",
    ),
    ("schedule is a number", {"type": "x", "cronSchedule": 5}, "spec.cronSchedule is 5 with timeZone None: give text"),
    ("retry is a number", {"type": "x", "retry": 3}, "spec.retry is 3: give an object such as {limit: 3}"),
    ("retry without limit", {"type": "x", "retry": {}}, "spec.retry.limit is missing: give the number of retries"),
    (
        "negative limit",
        {"type": "x", "retry": {"limit": -1}},
        "spec.retry.limit is -1: give a whole number from 0 to 1000000",
    ),
    (
        "factor below one",
        {"type": "x", "retry": {"limit": 1, "factor": 0.5}},
        "spec.retry.factor is 0.5: give a number from 1 to 1000",
    ),
    (
        "longest delay below the first",
        {"type": "x", "retry": {"limit": 1, "maxDelaySeconds": 5}},
        "spec.retry.maxDelaySeconds must not be below initialDelaySeconds (10)",
    ),
    (
        "misspelt field",
        {"type": "x", "cronSchedul": "@daily"},
        "spec.cronSchedul: unknown field 'cronSchedul': did you mean cronSchedule?",
    ),
    (
        "misspelt field of retry",
        {"type": "x", "retry": {"limit": 1, "initialDelay": 5}},
        "spec.retry.initialDelay: unknown field 'initialDelay': did you mean initialDelaySeconds?",
    ),
    (
        "field of a later time",
        {"type": "x", "zzz": 1},
        "spec.zzz: unknown field 'zzz': accepted: autoRescheduleOnFailure, autoRescheduleOnFailureDelaySeconds, "
        "cancel, catchUp, concurrencyKey, concurrencyLimit, concurrencyPolicy, cronSchedule, data, dataFrom, due, "
        "historyLimit, persistent, pool, priority, rateLimit, removeDelaySeconds, rerun, retry, suspend, tag, "
        "timeZone, timeoutSeconds, ttlSecondsAfterFinished, type, userId",
    ),
    ("suspend is text", {"type": "x", "suspend": "yes"}, "spec.suspend is 'yes': give true or false"),
    ("cancel is a number", {"type": "x", "cancel": 1}, "spec.cancel is 1: give true or false"),
    (
        "rerun is empty",
        {"type": "x", "rerun": " "},
        "spec.rerun is ' ': give a text of at most 250 characters, such as a date",
    ),
    (
        "rerun by the first run's name",
        {"type": "x", "rerun": "initial"},
        "spec.rerun is 'initial', which the first run is called: give another text",
    ),
    ("no history", {"type": "x", "historyLimit": 0}, "spec.historyLimit is 0: give a whole number from 1 to 100000"),
    (
        "history of what is kept for ever",
        {"type": "x", "historyLimit": 3, "persistent": True},
        "spec.historyLimit can't go with persistent: true, which keeps all rows",
    ),
    (
        "negative time to live",
        {"type": "x", "ttlSecondsAfterFinished": -1},
        "spec.ttlSecondsAfterFinished is -1: give a whole number from 0 to 2147483647",
    ),
    (
        "time to live of a cron job",
        {"type": "x", "cronSchedule": "@daily", "ttlSecondsAfterFinished": 1},
        "spec.ttlSecondsAfterFinished can't go with a cronSchedule: a cron job has no end",
    ),
    (
        "dataFrom is an object",
        {"type": "x", "dataFrom": {}},
        "spec.dataFrom is no list: give one of {name, secretKeyRef} and {name, configMapKeyRef}",
    ),
    (
        "dataFrom without a source",
        {"type": "x", "dataFrom": [{"name": "a"}]},
        "spec.dataFrom[0] has no source: give one of secretKeyRef and configMapKeyRef",
    ),
    (
        "dataFrom of two sources",
        {"type": "x", "dataFrom": [{"name": "a", "secretKeyRef": {}, "configMapKeyRef": {}}]},
        "spec.dataFrom[0] has secretKeyRef and configMapKeyRef: give one of secretKeyRef and configMapKeyRef",
    ),
    (
        "dataFrom of no name",
        {"type": "x", "dataFrom": [{"secretKeyRef": {"name": "s", "key": "k"}}]},
        "spec.dataFrom[0].name is None: give the name of a field of data",
    ),
    (
        "dataFrom of a Secret in another namespace",
        {"type": "x", "dataFrom": [{"name": "a", "secretKeyRef": {"name": "s", "key": "k", "namespace": "n"}}]},
        "spec.dataFrom[0].secretKeyRef.namespace: unknown field 'namespace': did you mean name?",
    ),
    (
        "dataFrom of a Secret outside the API",
        {"type": "x", "dataFrom": [{"name": "a", "secretKeyRef": {"name": "../s", "key": "k"}}]},
        "spec.dataFrom[0].secretKeyRef.name is '../s': give the name of a Secret",
    ),
    (
        "dataFrom of no key",
        {"type": "x", "dataFrom": [{"name": "a", "configMapKeyRef": {"name": "s"}}]},
        "spec.dataFrom[0].configMapKeyRef.key is None: give one of its keys",
    ),
    (
        "dataFrom for one field twice",
        {"type": "x", "dataFrom": [{"name": "a", "configMapKeyRef": {"name": "s", "key": k}} for k in "ab"]},
        "spec.dataFrom gives a twice",
    ),
    (
        "dataFrom for a field of data",
        {"type": "x", "data": {"a": 1}, "dataFrom": [{"name": "a", "configMapKeyRef": {"name": "s", "key": "k"}}]},
        "spec.dataFrom gives a, which data has too",
    ),
]


@pytest.mark.parametrize(("spec", "problem"), [case[1:] for case in PROBLEMS], ids=[case[0] for case in PROBLEMS])
def test_problem_names_the_field_and_what_is_accepted(spec: object, problem: str) -> None:
    assert problems_of(manifest(spec)) == [problem]


DOCUMENTS: list[tuple[str, object, list[str]]] = [
    ("nothing", None, ["the document is missing: give a WorkerJob manifest"]),
    ("text", "hello", ["the document is 'hello': give a WorkerJob manifest"]),
    (
        "another kind",
        manifest({"type": "x"}) | {"apiVersion": "batch/v1", "kind": "Job"},
        ["apiVersion is 'batch/v1': give quickdapp.xyz/v1", "kind is 'Job': give WorkerJob"],
    ),
    (
        "no name",
        manifest({"type": "x"}) | {"metadata": {}},
        ["metadata.name is missing: give lower-case letters, digits, - and ."],
    ),
    (
        "names that Kubernetes refuses",
        manifest({"type": "x"}, name="Nightly_Job", namespace="a.b"),
        [
            "metadata.name is 'Nightly_Job': give lower-case letters, digits, - and .",
            "metadata.namespace is 'a.b': give lower-case letters, digits and -",
        ],
    ),
    ("misspelt spec", manifest({"type": "x"}) | {"sepc": 1}, ["unknown field 'sepc': did you mean spec?"]),
]


@pytest.mark.parametrize(
    ("document", "problems"), [case[1:] for case in DOCUMENTS], ids=[case[0] for case in DOCUMENTS]
)
def test_document_that_is_no_workerjob_is_refused(document: object, problems: list[str]) -> None:
    assert problems_of(document) == problems


def test_all_problems_are_found_at_once() -> None:
    spec = {"cronSchedule": "61 25 * * *", "timeZone": "Mars", "priority": "high", "retry": {"factor": 0}, "foo": 1}
    paths = [problem.split(":")[0].split(" is ")[0] for problem in problems_of(manifest(spec))]
    assert sorted(paths) == [
        "spec.cronSchedule",
        "spec.cronSchedule",
        "spec.foo",
        "spec.priority",
        "spec.retry.factor",
        "spec.retry.limit",
        "spec.timeZone",
        "spec.type",
    ]
