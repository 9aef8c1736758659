"""What a WorkerJob manifest asks for: from the manifest, as kubectl or a file gives it, to a `NewJob`.

Refuses all that the resource definition (``manifests/crds/workerjobs.yaml``) makes the API server refuse, as
`workerjobs apply` has no API server, and what only Python can see: unknown time zones, a 30 February, data that
Postgres can't store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from workerjobs.domain.data_from import parse_references
from workerjobs.domain.job import FIRST_RUN, CatchUp, ConcurrencyPolicy, NewJob, ResourceRef, RetryPolicy
from workerjobs.domain.job_checks import MAX_NAME, job_problems
from workerjobs.domain.parsing import unknown_name
from workerjobs.errors import InvalidInputError

GROUP = "quickdapp.xyz"
VERSION = "v1"
KIND = "WorkerJob"
PLURAL = "workerjobs"
LOCAL_CLUSTER = "local"
"""Cluster id of manifests applied without a cluster; their uid is ``namespace/name``."""

MAX_SECONDS = (2**31 - 1) // 1000
"""Durations are ints of milliseconds in the table: 24.8 days."""
MAX_TTL_SECONDS = 2**31 - 1
MAX_HISTORY = 100_000

_TOP_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")
_SPEC_FIELDS = (
    "type",
    "data",
    "userId",
    "tag",
    "due",
    "cronSchedule",
    "timeZone",
    "catchUp",
    "concurrencyPolicy",
    "persistent",
    "priority",
    "pool",
    "concurrencyKey",
    "concurrencyLimit",
    "rateLimit",
    "timeoutSeconds",
    "retry",
    "autoRescheduleOnFailure",
    "autoRescheduleOnFailureDelaySeconds",
    "removeDelaySeconds",
    "suspend",
    "cancel",
    "rerun",
    "dataFrom",
    "historyLimit",
    "ttlSecondsAfterFinished",
)
_RATE_FIELDS = ("starts", "periodSeconds")
_RETRY_FIELDS = ("limit", "initialDelaySeconds", "factor", "maxDelaySeconds", "jitter")

# Kubernetes documentation, "Object Names and IDs": RFC 1123 subdomains and labels.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_MOMENT_WANTED = "give a moment with a time zone, such as 2030-01-31T08:00:00Z"

# Schedules name no year, so one that has a tick after this moment always has.
_ANY_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


def parse_workerjob(manifest: object, cluster_id: str) -> NewJob:
    """Read a WorkerJob manifest.

    Args:
        manifest: As parsed from JSON or YAML, of any shape.
        cluster_id: Whose it is; `LOCAL_CLUSTER` for a manifest that no cluster has seen.

    Returns:
        The job, with its `NewJob.resource`; a cron job's ``cron_key`` is the resource's identity.

    Raises:
        InvalidInputError: All problems that were found, each with the path of its field, such as ``spec.cronSchedule``.
    """
    if not isinstance(manifest, Mapping):
        raise InvalidInputError(f"the document is {_shown(manifest)}: give a {KIND} manifest")
    problems = _unknown("", manifest, _TOP_FIELDS)
    for name, wanted in (("apiVersion", f"{GROUP}/{VERSION}"), ("kind", KIND)):
        if manifest.get(name) != wanted:
            problems.append(f"{name} is {_shown(manifest.get(name))}: give {wanted}")
    resource = _resource(manifest.get("metadata"), cluster_id, problems)
    spec = manifest.get("spec")
    if not isinstance(spec, Mapping):
        problems.append(f"spec is {_shown(spec)}: give an object with the job's type")
        raise InvalidInputError(problems)
    job = _job(_Fields("spec", spec, _SPEC_FIELDS, problems), resource)
    if problems:
        raise InvalidInputError(problems)
    return job


def _resource(metadata: object, cluster_id: str, problems: list[str]) -> ResourceRef:
    """Read what names the object; the API server has checked that of its own objects, so this is for files."""
    given = metadata if isinstance(metadata, Mapping) else {}
    name, namespace = given.get("name"), given.get("namespace", "default")
    if not isinstance(name, str) or len(name) > 253 or not _NAME.fullmatch(name):
        problems.append(f"metadata.name is {_shown(name)}: give lower-case letters, digits, - and .")
    if not isinstance(namespace, str) or len(namespace) > 63 or not _LABEL.fullmatch(namespace):
        problems.append(f"metadata.namespace is {_shown(namespace)}: give lower-case letters, digits and -")
    local_uid = f"{namespace}/{name}"
    return ResourceRef(
        cluster_id=cluster_id,
        namespace=str(namespace),
        name=str(name),
        uid=local_uid if cluster_id == LOCAL_CLUSTER else str(given.get("uid", local_uid)),
        generation=int(given.get("generation", 1)) if cluster_id != LOCAL_CLUSTER else 1,
    )


def _job(spec: _Fields, resource: ResourceRef) -> NewJob:
    if "type" not in spec:
        spec.problem("type", "is missing: give the job's type")
    is_cron = "cronSchedule" in spec
    auto = spec.get("autoRescheduleOnFailure", False)
    if "autoRescheduleOnFailureDelaySeconds" in spec and auto is False:
        spec.problem("autoRescheduleOnFailureDelaySeconds", "needs autoRescheduleOnFailure: true")
    of_cron_jobs = {"catchUp": CatchUp.NONE, "concurrencyPolicy": ConcurrencyPolicy.FORBID}
    for name, usual in of_cron_jobs.items():
        if not is_cron and spec.get(name) == usual:
            # Of no effect, and refused all the same, as it is with the others.
            spec.problem(name, "needs a cronSchedule")
    rate_limit, rate_period_ms = _rate(spec)
    job = NewJob(
        type=spec.get("type", "-"),
        data=spec.get("data", {}),
        user_id=_whole(spec.get("userId", 0)),
        tag=spec.get("tag"),
        due=_due(spec),
        cron_schedule=spec.get("cronSchedule"),
        time_zone=spec.get("timeZone"),
        cron_key=f"resource:{resource.cluster_id}:{resource.uid}" if is_cron else None,
        catch_up=spec.get("catchUp", CatchUp.NONE),
        concurrency_policy=spec.get("concurrencyPolicy", ConcurrencyPolicy.FORBID),
        persistent=spec.get("persistent", False),
        priority=_whole(spec.get("priority", 0)),
        pool=spec.get("pool", "default"),
        concurrency_key=spec.get("concurrencyKey"),
        concurrency_limit=_whole(spec.get("concurrencyLimit")),
        rate_limit=rate_limit,
        rate_period_ms=rate_period_ms,
        timeout_ms=spec.milliseconds("timeoutSeconds", None, low=1),
        remove_delay_ms=spec.milliseconds("removeDelaySeconds", 0) or 0,
        auto_reschedule_on_failure=auto,
        auto_reschedule_on_failure_delay_ms=spec.milliseconds("autoRescheduleOnFailureDelaySeconds", 0) or 0,
        retry=_retry(spec),
        data_from=_data_from(spec, resource),
        resource=_wishes(spec, resource, is_cron=is_cron),
    )
    # The same rules as for any job; their sentences begin with the field, or with what they read in it.
    for problem in job_problems(job, now=_ANY_MOMENT):
        if problem.startswith("cron schedule"):
            spec.problem("cronSchedule", problem, separator=": ")
        elif problem.startswith("time zone"):
            spec.problem("timeZone", problem, separator=": ")
        else:
            name, _, rest = problem.partition(" ")
            spec.problem(name, rest)
    return job


def _wishes(spec: _Fields, resource: ResourceRef, *, is_cron: bool) -> ResourceRef:
    """Read what concerns the resource and all its runs, not a row."""
    rerun = spec.get("rerun")
    if rerun is not None:
        if not isinstance(rerun, str) or not rerun.strip() or len(rerun) > MAX_NAME or not rerun.isprintable():
            spec.problem("rerun", f"is {_shown(rerun)}: give a text of at most {MAX_NAME} characters, such as a date")
        elif rerun == FIRST_RUN:
            spec.problem("rerun", f"is {rerun!r}, which the first run is called: give another text")
    if "ttlSecondsAfterFinished" in spec and is_cron:
        spec.problem("ttlSecondsAfterFinished", "can't go with a cronSchedule: a cron job has no end")
    if "historyLimit" in spec and spec.get("persistent") is True:
        spec.problem("historyLimit", "can't go with persistent: true, which keeps all rows")
    return replace(
        resource,
        run_key=FIRST_RUN if rerun is None else str(rerun),
        is_suspended=spec.flag("suspend"),
        is_cancelled=spec.flag("cancel"),
        history_limit=spec.number("historyLimit", 1, MAX_HISTORY),
        ttl_seconds=spec.number("ttlSecondsAfterFinished", 0, MAX_TTL_SECONDS),
    )


def _data_from(spec: _Fields, resource: ResourceRef) -> Sequence[Mapping[str, Any]]:
    given = spec.get("dataFrom")
    if given is None:
        return ()
    if resource.cluster_id == LOCAL_CLUSTER:
        spec.problem(
            "dataFrom", "needs a Kubernetes cluster, which has the Secrets and ConfigMaps: put them in data here"
        )
    try:
        references = parse_references(given)
    except InvalidInputError as error:
        for problem in error.problems:
            spec.problem("dataFrom", problem, separator="")
        return ()
    data = spec.get("data")
    if isinstance(data, Mapping):
        for reference in references:
            if reference.field in data:
                spec.problem("dataFrom", f"gives {reference.field}, which data has too")
    return [dict(each) for each in given]


def _due(spec: _Fields) -> datetime | None:
    text = spec.get("due")
    if text is None:
        return None
    try:
        if not isinstance(text, str) or not _MOMENT.fullmatch(text):
            raise ValueError
        moment = datetime.fromisoformat(text)
    except ValueError:
        spec.problem("due", f"is {_shown(text)}: {_MOMENT_WANTED}")
        return None
    if not 1900 <= moment.year <= 9900:  # Far from where clocks, and Postgres' own range as Python reads it, end.
        spec.problem("due", f"is {_shown(text)}: give a moment in the years 1900 to 9900")
        return None
    return moment


def _retry(spec: _Fields) -> RetryPolicy | None:
    given = spec.get("retry")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        spec.problem("retry", f"is {_shown(given)}: give an object such as {{limit: 3}}")
        return None
    retry = _Fields("spec.retry", given, _RETRY_FIELDS, spec.problems)
    if "limit" not in retry:
        retry.problem("limit", "is missing: give the number of retries")
    usual = RetryPolicy(limit=0)
    initial_ms = retry.milliseconds("initialDelaySeconds", usual.initial_delay_ms)
    # A first delay above the usual longest one is meant as it stands.
    longest_ms = retry.milliseconds("maxDelaySeconds", max(usual.max_delay_ms, initial_ms))
    if longest_ms < initial_ms:
        retry.problem("maxDelaySeconds", f"must not be below initialDelaySeconds ({initial_ms // 1000})")
    return RetryPolicy(
        limit=_whole(retry.get("limit", 0)),
        initial_delay_ms=initial_ms,
        factor=retry.get("factor", usual.factor),
        max_delay_ms=longest_ms,
        jitter=retry.get("jitter", usual.jitter),
    )


def _rate(spec: _Fields) -> tuple[Any, Any]:
    given = spec.get("rateLimit")
    if given is None:
        return None, None
    if not isinstance(given, Mapping):
        spec.problem("rateLimit", f"is {_shown(given)}: give an object such as {{starts: 10, periodSeconds: 60}}")
        return None, None
    rate = _Fields("spec.rateLimit", given, _RATE_FIELDS, spec.problems)
    for name, meaning in (("starts", "number of starts"), ("periodSeconds", "period in seconds")):
        if name not in rate:
            rate.problem(name, f"is missing: give the {meaning}")
    return _whole(rate.get("starts", 1)), rate.milliseconds("periodSeconds", 1000, low=1)


class _Fields:
    """The fields of one object of a manifest; null means not given, as it does for kubectl."""

    def __init__(self, path: str, given: Mapping[Any, Any], known: Sequence[str], problems: list[str]) -> None:
        self.problems = problems
        self._path = path
        self._values = {name: value for name, value in given.items() if value is not None}
        problems += _unknown(f"{path}.", given, known)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value, of whatever type it has."""
        return self._values.get(name, default)

    def problem(self, name: str, text: str, *, separator: str = " ") -> None:
        """Add a sentence about a field."""
        self.problems.append(f"{self._path}.{name}{separator}{text}")

    def flag(self, name: str) -> bool:
        """A field that is true or false; false where it is missing or wrong."""
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            self.problem(name, f"is {_shown(value)}: give true or false")
        return value is True

    def number(self, name: str, low: int, high: int) -> int | None:
        """A whole number in a range; None where it is missing or wrong."""
        value = _whole(self._values.get(name))
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high):
            self.problem(name, f"is {_shown(value)}: give a whole number from {low} to {high}")
            return None
        return value

    def milliseconds(self, name: str, default: Any, *, low: int = 0) -> Any:
        """A duration that the manifest gives in seconds; the default, in milliseconds, where it is missing or wrong."""
        if name not in self._values:
            return default
        seconds = _whole(self._values[name])
        if isinstance(seconds, bool) or not isinstance(seconds, int) or not low <= seconds <= MAX_SECONDS:
            self.problem(name, f"is {_shown(seconds)}: give a whole number of seconds from {low} to {MAX_SECONDS}")
            return default
        return seconds * 1000


def _unknown(prefix: str, given: Mapping[Any, Any], known: Sequence[str]) -> list[str]:
    return [
        f"{prefix}{name}: {unknown_name(name, known)}" if prefix else unknown_name(name, known)
        for name in given
        if name not in known
    ]


def _whole(value: Any) -> Any:
    """Make 5.0 an int, as Kubernetes does; anything else stays what it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: object) -> str:
    text = "missing" if value is None else ascii(value)
    return text if len(text) <= 60 else text[:57] + "…"
