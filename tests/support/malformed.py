"""WorkerJobs that can't be right: what they are, their spec, and a part of the sentence that says so.

`REFUSED` by the API server when they are applied; `REFUSED_BY_OPERATOR` by the operator alone.
"""

from __future__ import annotations

from typing import Any

COUNT = "cronSchedule must have five fields (minute, hour, day of month, month, day of week), six with the second first"
MOMENT = "due must be a moment with a time zone, such as 2030-01-31T08:00:00Z"


SOURCE = {"name": "page", "key": "title"}


def _nested(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels):
        data = {"a": data}
    return data


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
    ("suspend is text", {"type": "x", "suspend": "yes"}, "spec.suspend in body must be of type boolean"),
    ("cancel is a number", {"type": "x", "cancel": 1}, "spec.cancel in body must be of type boolean"),
    ("rerun is a number", {"type": "x", "rerun": 1}, "spec.rerun in body must be of type string"),
    ("empty rerun", {"type": "x", "rerun": ""}, "rerun must not be empty: leave it out, or give a new token"),
    ("rerun of the first run", {"type": "x", "rerun": "initial"}, "rerun must not be 'initial', which the first run"),
    ("no history at all", {"type": "x", "historyLimit": 0}, "should be greater than or equal to 1"),
    (
        "history of what is kept for ever",
        {"type": "x", "historyLimit": 1, "persistent": True},
        "historyLimit can't go with persistent: true",
    ),
    ("deleted before its end", {"type": "x", "ttlSecondsAfterFinished": -1}, "should be greater than or equal to 0"),
    (
        "end of a cron job",
        {"type": "x", "cronSchedule": "@daily", "ttlSecondsAfterFinished": 1},
        "ttlSecondsAfterFinished can't go with a cronSchedule: a cron job has no end",
    ),
    ("dataFrom is an object", {"type": "x", "dataFrom": {}}, "spec.dataFrom in body must be of type array"),
    (
        "dataFrom without a source",
        {"type": "x", "dataFrom": [{"name": "a"}]},
        "dataFrom takes one source for each name",
    ),
    (
        "dataFrom of two sources",
        {"type": "x", "dataFrom": [{"name": "a", "secretKeyRef": SOURCE, "configMapKeyRef": SOURCE}]},
        "dataFrom takes one source for each name: secretKeyRef or configMapKeyRef",
    ),
    (
        "dataFrom without a name",
        {"type": "x", "dataFrom": [{"secretKeyRef": SOURCE}]},
        "spec.dataFrom[0].name: Required value",
    ),
    (
        "dataFrom outside the namespace",
        {"type": "x", "dataFrom": [{"name": "a", "secretKeyRef": SOURCE | {"name": "../other"}}]},
        "name must be lower-case letters, digits, - and .",
    ),
    (
        "dataFrom without a key",
        {"type": "x", "dataFrom": [{"name": "a", "configMapKeyRef": {"name": "page"}}]},
        "spec.dataFrom[0].configMapKeyRef.key: Required value",
    ),
    (
        "dataFrom for one field twice",
        {"type": "x", "dataFrom": [{"name": "a", "configMapKeyRef": SOURCE}] * 2},
        "spec.dataFrom[1]: Duplicate value",
    ),
]

NEVER = "never comes"
CANT = "can't be read"
REFUSED_BY_OPERATOR: list[tuple[str, dict[str, Any], str]] = [
    (
        "unknown zone",
        {"type": "x", "cronSchedule": "@daily", "timeZone": "Europe/Berlim"},
        "'Europe/Berlim' is unknown",
    ),
    ("30 February", {"type": "x", "cronSchedule": "0 0 30 2 *"}, NEVER),
    ("31 April", {"type": "x", "cronSchedule": "0 0 31 4 *"}, NEVER),
    ("31st of short months", {"type": "x", "cronSchedule": "0 0 31 2,4,6,9,11 *"}, NEVER),
    ("range that runs backwards", {"type": "x", "cronSchedule": "30-10 * * * *"}, "spec.cronSchedule"),
    ("step of nothing", {"type": "x", "cronSchedule": "*/0 * * * *"}, "spec.cronSchedule"),
    ("step beyond the field", {"type": "x", "cronSchedule": "0/99999999999999999999 * * * *"}, "spec.cronSchedule"),
    ("hash beyond the field", {"type": "x", "cronSchedule": "H(50-70) * * * *"}, "spec.cronSchedule"),
    ("hash that runs backwards", {"type": "x", "cronSchedule": "H(30-10) * * * *"}, "spec.cronSchedule"),
    ("seventh Friday", {"type": "x", "cronSchedule": "0 0 * * FRI#7"}, "spec.cronSchedule"),
    ("due on 30 February", {"type": "x", "due": "2030-02-30T08:00:00Z"}, "spec.due is '2030-02-30T08:00:00Z'"),
    ("NUL in data", {"type": "x", "data": {"a": "\0"}}, "spec.data can't be stored: a string holds a NUL character"),
    ("NUL in a name of data", {"type": "x", "data": {"a\0": 1}}, "spec.data can't be stored: a string holds a NUL"),
    ("deep data", {"type": "x", "data": _nested(101)}, "spec.data is nested deeper than 100 levels"),
    ("large data", {"type": "x", "data": {"a": "x" * 1_100_000}}, "spec.data has 1,100,008 bytes of JSON"),
    (
        "dataFrom for what data has",
        {"type": "x", "data": {"a": 1}, "dataFrom": [{"name": "a", "configMapKeyRef": SOURCE}]},
        "spec.dataFrom gives a, which data has too",
    ),
]
