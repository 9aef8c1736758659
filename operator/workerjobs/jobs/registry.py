"""Job types: the `job` decorator, and how a type's name leads to its function."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from workerjobs.errors import WorkerJobsError

log = logging.getLogger(__name__)

JobFunction = Callable[..., Any]
"""Called with the job's data, and with its context where it takes a second argument; plain or ``async``."""
F = TypeVar("F", bound=JobFunction)

BUILTIN_JOBS = {"removeOldWorkerJobs": "workerjobs.jobs.prune:remove_old_worker_jobs"}
"""Types that every worker knows, as "module:function"; a module is imported when its first job runs."""
ENTRY_POINT_GROUP = "workerjobs.jobs"
"""Installed packages offer types under this group: ``name = "module:function"``."""

_decorated: dict[str, JobFunction] = {}


def job(job_type: str) -> Callable[[F], F]:
    """Make a function the one that runs jobs of a type.

    The function is called with the job's data (a dict) and, if it takes two arguments, with its
    `workerjobs.jobs.context.JobContext`. What it returns becomes the job's result and must be JSON.

    Example:
        >>> @job("greet")
        ... def greet(data):
        ...     return f"Hello {data['name']}"
        >>> greet({"name": "Ada"})
        'Hello Ada'

    Raises:
        ValueError: Another function has the type already.
    """
    if not isinstance(job_type, str) or not job_type.strip():
        raise ValueError(f'@job needs the job type as text, such as @job("sendReport"), not {job_type!r}')

    def register(function: F) -> F:
        earlier = _decorated.get(job_type)
        if earlier is not None and _place_of(earlier) != _place_of(function):
            raise ValueError(
                f"Two functions for the job type {job_type!r}: {_place_of(earlier)}, {_place_of(function)}"
            )
        _decorated[job_type] = function
        return function

    return register


class UnknownJobTypeError(WorkerJobsError):
    """No function runs this type of job in this worker."""


class Registry:
    """The job types that one process knows."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = modules
        self._problems: dict[str, str] = {}
        self._loaded: dict[str, JobFunction] = {}
        self._targets = dict(BUILTIN_JOBS)
        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            self._targets.setdefault(entry_point.name, entry_point.value)

    def import_modules(self) -> None:
        """Import the users' modules, so that their ``@job`` functions are known; those that fail are left out."""
        for name in self._modules:
            try:
                import_job_module(name)
            except (Exception, SystemExit) as error:
                # Whatever a user's module raises must cost only its own job types; a script may call sys.exit.
                log.exception("The job module %s can't be imported", name)
                self._problems[name] = f"{type(error).__name__}: {error}"

    def types(self) -> list[str]:
        """Names of all job types, sorted."""
        return sorted({*self._targets, *_decorated})

    def problems(self) -> list[str]:
        """Say which modules can't be imported, and why."""
        return [f"job module {name} can't be imported: {why}" for name, why in self._problems.items()]

    def function_for(self, job_type: str) -> JobFunction:
        """Find the function that runs a type.

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
            self._loaded[job_type] = getattr(importlib.import_module(module_name), attribute)
        return self._loaded[job_type]


def import_job_module(name: str) -> None:
    """Import a module by name, or a ``.py`` file by its path.

    Raises:
        ImportError: There is no such module or file. Besides, whatever the module itself raises.
    """
    if not name.endswith(".py") and "/" not in name:
        importlib.import_module(name)
        return
    path = Path(name).resolve()
    if not path.is_file():
        raise ImportError(f"there is no file {name}")
    module_name = f"workerjobs_jobs_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is no Python file")
    # Files beside it can be imported, as if it had been started as a script.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


def _place_of(function: JobFunction) -> str:
    return f"{function.__module__}:{function.__qualname__}"
