"""Job types: the `job` decorator, and how a type's name leads to its function."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, TypeGuard, TypeVar, get_args

from msgspec import structs

from workerjobs.domain.data_schema import ANY_OBJECT, Schema
from workerjobs.domain.job import Job, RetryPolicy
from workerjobs.domain.job_checks import MAX_MILLISECONDS, retry_problems
from workerjobs.domain.json_text import encode_json
from workerjobs.errors import InvalidInputError, WorkerJobsError
from workerjobs.jobs.arguments import Arguments, place_of
from workerjobs.jobs.modules import files_of, import_job_module
from workerjobs.settings import MAX_MEMORY_MIB, MIN_MEMORY_MIB, Isolation

JobFunction = Callable[..., Any]
"""Called with the job's data, and with its context where it takes a second argument; plain or ``async``."""
F = TypeVar("F", bound=JobFunction)

CHAIN_JOBS = {
    "chainWebhook": "workerjobs.jobs.chain_webhook:deliver",
    "deployMulticall3": "workerjobs.jobs.deploy_multicall3:deploy_multicall3",
    "watchChain": "workerjobs.jobs.watch_chain:watch_chain",
}
"""Types that workers know which have chains, as "module:function"; a module is imported when its first job runs."""
BUILTIN_JOBS = {"removeOldWorkerJobs": "workerjobs.jobs.prune:remove_old_worker_jobs", **CHAIN_JOBS}
"""All types that need no module of a user."""
ENTRY_POINT_GROUP = "workerjobs.jobs"
"""Installed packages offer types under this group: ``name = "module:function"``."""
MAX_TIMEOUT_SECONDS = MAX_MILLISECONDS // 1000
MAX_CONCURRENCY = 1_000_000


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How all jobs of a type run; what a job itself says wins.

    Raises:
        ValueError: A value is not accepted; names all of those.
    """

    isolation: Isolation = "warm"
    """warm: in a process that runs one job after another. fresh: each in a process of its own."""
    memory_mib: int | None = None
    """Memory, in MiB, that one job may take with the processes it starts."""
    timeout_seconds: float | None = None
    """For jobs that name no timeout."""
    concurrency: int | None = None
    """How many jobs of the type run at once, over all workers."""
    retry: RetryPolicy | None = None
    """For jobs that name no retry policy."""

    def __post_init__(self) -> None:
        memory, timeout, concurrency = self.memory_mib, self.timeout_seconds, self.concurrency
        problems = []
        if self.isolation not in get_args(Isolation):
            problems.append(f'isolation is {self.isolation!r}: give "warm" or "fresh"')
        if memory is not None and not (_is_whole(memory) and MIN_MEMORY_MIB <= memory <= MAX_MEMORY_MIB):
            accepted = f"a whole number of MiB from {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}"
            problems.append(f"memory_mib is {memory!r}: give {accepted}")
        is_number = _is_whole(timeout) or isinstance(timeout, float)
        if timeout is not None and not (is_number and 0.001 <= timeout <= MAX_TIMEOUT_SECONDS):
            problems.append(f"timeout_seconds is {timeout!r}: give seconds from 0.001 to {MAX_TIMEOUT_SECONDS}")
        if concurrency is not None and not (_is_whole(concurrency) and 1 <= concurrency <= MAX_CONCURRENCY):
            problems.append(f"concurrency is {concurrency!r}: give a whole number from 1 to {MAX_CONCURRENCY}")
        if isinstance(self.retry, RetryPolicy):
            problems += retry_problems(self.retry)
        elif self.retry is not None:
            problems.append(f"retry is {self.retry!r}: give a number of retries or a RetryPolicy")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True)
class JobType:
    """A type of job that this process can run."""

    name: str
    function: JobFunction
    options: JobOptions = JobOptions()

    @cached_property
    def arguments(self) -> Arguments:
        """What the function is called with."""
        return Arguments(self.function)

    def describe(self) -> JobDescription:
        """Say what this type is, for those who don't have the function."""
        text = inspect.getdoc(self.function) or ""
        return JobDescription(
            type=self.name,
            where=place_of(self.function),
            description=text.partition("\n")[0].strip(),
            schema=self.arguments.schema,
            options=self.options,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDescription:
    """What is known of a type outside of the processes that run it."""

    type: str
    where: str
    """Its function, as "module:function"."""
    description: str = ""
    """The first line of the function's docstring."""
    schema: Schema = field(default_factory=lambda: ANY_OBJECT)
    """JSON Schema of its jobs' data."""
    options: JobOptions = JobOptions()
    is_loaded: bool = True
    """False: its module was not imported yet, and only name and place are known."""


_decorated: dict[str, JobType] = {}


def with_defaults(job: Job, options: JobOptions) -> Job:
    """Give a job its type's timeout and retry policy where it names none of its own."""
    changes: dict[str, Any] = {}
    if options.timeout_seconds is not None and job.timeout_ms is None:
        changes["timeout_ms"] = max(1, round(options.timeout_seconds * 1000))
    retry = options.retry
    if retry is not None and job.retry_limit is None and not job.auto_reschedule_on_failure:
        changes |= {
            "retry_limit": retry.limit,
            "retry_initial_delay_ms": retry.initial_delay_ms,
            "retry_factor": retry.factor,
            "retry_max_delay_ms": retry.max_delay_ms,
            "retry_jitter": retry.jitter,
        }
    return structs.replace(job, **changes) if changes else job


def job(
    job_type: str,
    *,
    isolation: Isolation = "warm",
    memory_mib: int | None = None,
    timeout_seconds: float | None = None,
    concurrency: int | None = None,
    retry: RetryPolicy | int | None = None,
) -> Callable[[F], F]:
    """Make a function the one that runs jobs of a type.

    The function is called with the job's data and, if it takes two arguments, with its
    `workerjobs.JobContext`. The data is a dict, or a pydantic model where the first argument is annotated
    with one. What the function returns becomes the job's result and must be JSON.

    Args:
        job_type: The name that jobs are submitted under.
        isolation: "warm" runs one job after another in a process, "fresh" each in a process of its own.
        memory_mib: Memory, in MiB, that one job may take with the processes it starts.
        timeout_seconds: For jobs that name no timeout.
        concurrency: How many jobs of the type run at once, over all workers.
        retry: For jobs that name no retry policy; a number is the policy's limit.

    Examples:
        >>> @job("greet", timeout_seconds=10)
        ... def greet(data):
        ...     return f"Hello {data['name']}"
        >>> greet({"name": "Ada"})
        'Hello Ada'

    Raises:
        ValueError: An option is not accepted, or another function has the type already.
    """
    if not isinstance(job_type, str) or not job_type.strip():
        raise ValueError(f'@job needs the job type as text, such as @job("sendReport"), not {job_type!r}')
    policy: Any = RetryPolicy(retry) if _is_whole(retry) else retry
    try:
        options = JobOptions(
            isolation=isolation,
            memory_mib=memory_mib,
            timeout_seconds=timeout_seconds,
            concurrency=concurrency,
            retry=policy,
        )
    except ValueError as error:
        raise ValueError(f"@job({job_type!r}): {error}") from None

    def register(function: F) -> F:
        earlier = _decorated.get(job_type)
        if earlier is not None and _source_of(earlier.function) != _source_of(function):
            places = f"{place_of(earlier.function)}, {place_of(function)}"
            raise ValueError(f"Two functions for the job type {job_type!r}: {places}")
        _decorated[job_type] = JobType(job_type, function, options)
        return function

    return register


class UnknownJobTypeError(WorkerJobsError):
    """No function runs this type of job in this worker."""


class Registry:
    """The job types that one process knows.

    Args:
        modules: The users' modules: names, paths of ``.py`` files, or folders of them.
        has_chains: Whether it knows `CHAIN_JOBS`: a worker without chains would claim jobs that it can only fail.
    """

    def __init__(self, modules: Sequence[str] = (), *, has_chains: bool = True) -> None:
        self._modules = modules
        self.failures: dict[str, BaseException] = {}
        """Why modules could not be imported, by their names."""
        self._loaded: dict[str, JobType] = {}
        self._targets = {name: at for name, at in BUILTIN_JOBS.items() if has_chains or name not in CHAIN_JOBS}
        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            self._targets.setdefault(entry_point.name, entry_point.value)

    def import_modules(self) -> None:
        """Import the users' modules, so that their ``@job`` functions are known; those that fail are `failures`."""
        for name in self._modules:
            for each in files_of(name) or [name]:
                try:
                    import_job_module(each)
                except (Exception, SystemExit) as error:  # noqa: BLE001
                    # Whatever a user's module raises must cost only its own job types; a script may call sys.exit.
                    self.failures[each] = error

    def types(self) -> list[str]:
        """Names of all job types, sorted."""
        return sorted({*self._targets, *_decorated})

    def problems(self) -> list[str]:
        """Say which modules can't be imported, and why."""
        return [
            f"job module {name} can't be imported: {type(error).__name__}: {error}"
            for name, error in self.failures.items()
        ]

    def is_loaded(self, job_type: str) -> bool:
        """Whether finding a type imports nothing."""
        return job_type in _decorated or job_type in self._loaded

    def find(self, job_type: str) -> JobType:
        """Find a type, importing its module if that was not done yet.

        Raises:
            UnknownJobTypeError: There is none; the message names modules that failed to import.
        """
        if job_type in _decorated:
            return _decorated[job_type]
        if job_type not in self._targets:
            broken = "; ".join(self.problems())
            raise UnknownJobTypeError(f"Unknown job type: {job_type}" + (f" ({broken})" if broken else ""))
        if job_type not in self._loaded:
            module_name, _, attribute = self._targets[job_type].partition(":")
            function = getattr(importlib.import_module(module_name), attribute)
            # Importing it may have decorated it, with options.
            self._loaded[job_type] = _decorated.get(job_type) or JobType(job_type, function)
        return self._loaded[job_type]

    def type_of(self, function: JobFunction) -> JobType:
        """Find the type that a function runs; one that was not made a job is a type of its own name."""
        known = (each for each in _decorated.values() if each.function is function)
        return next(known, None) or JobType(getattr(function, "__name__", "job"), function)

    def descriptions(self, *, load: bool = False) -> dict[str, JobDescription]:
        """Describe all types, by name.

        Args:
            load: Import the modules of all types. Otherwise those that wait for their first job are described by
                their name alone.
        """
        described = {}
        for name in self.types():
            if load or self.is_loaded(name):
                try:
                    described[name] = self.find(name).describe()
                    continue
                except (Exception, SystemExit) as error:  # noqa: BLE001  # of the user's modules and annotations
                    self.failures[self._targets.get(name, name)] = error
            where = self._targets.get(name) or place_of(_decorated[name].function)
            described[name] = JobDescription(type=name, where=where, is_loaded=False)
        return described

    def check(self, job_type: str, data: object) -> None:
        """Refuse data that a type's function would not take.

        Args:
            job_type: The type.
            data: JSON that can be stored.

        Raises:
            InvalidInputError: There is no such type, or the data is not accepted (`InvalidDataError`).
        """
        try:
            arguments = self.find(job_type).arguments
        except UnknownJobTypeError as error:
            nearest = difflib.get_close_matches(job_type, self.types(), n=1)
            hint = f": did you mean {nearest[0]}?" if nearest else f": known are {', '.join(self.types())}"
            raise InvalidInputError(f"{error}{hint}") from None
        arguments.parse(encode_json(data))


def _source_of(function: JobFunction) -> tuple[str, str]:
    """Tell functions apart by where they are written: a file may be imported under two names."""
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None)
    return (code.co_filename if code else inner.__module__, place_of(inner).rpartition(":")[2])
