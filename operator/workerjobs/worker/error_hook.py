"""The error hook: a function of the user's that is told, in the job's process, of every job that fails."""

from __future__ import annotations

import contextvars
import importlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from workerjobs.jobs.context import JobContext

log = logging.getLogger(__name__)

HOOK_SECONDS = 5.0
"""The job's result waits so long for the hook, at most."""
VARIABLE = "WORKERJOBS_ERROR_HOOK"


class ErrorHook:
    """Calls the hook; whatever it does costs the job nothing but time.

    Args:
        function: Called with the exception and the job's context.
    """

    def __init__(self, function: Callable[[BaseException, JobContext], Any]) -> None:
        self._function = function

    @classmethod
    def load(cls, target: str) -> ErrorHook | None:
        """Find the function; what keeps it from being found is logged, and then there is no hook.

        Args:
            target: As "module:function".
        """
        module, _, path = target.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for name in path.split("."):
                found = getattr(found, name)
        except BaseException:
            # Whatever a user's module raises.
            log.exception("%s=%s can't be imported: failed jobs are not reported", VARIABLE, target)
            return None
        if not callable(found):
            log.error("%s=%s is no function: failed jobs are not reported", VARIABLE, target)
            return None
        return cls(found)

    def call(self, failure: BaseException, context: JobContext) -> bool:
        """Report a failure; returns whether the hook has ended, well or not.

        It runs in a thread, as nothing else can be left alone that does not end.
        """
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run, failure, context), name="error-hook", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            log.error("%s was not called: %s", VARIABLE, error)
            return True
        thread.join(HOOK_SECONDS)
        if thread.is_alive():
            log.error("%s did not end within %g s and is left alone", VARIABLE, HOOK_SECONDS)
            return False
        return True

    def _run(self, failure: BaseException, context: JobContext) -> None:
        try:
            self._function(failure, context)
        except BaseException:
            log.exception("%s failed", VARIABLE)
