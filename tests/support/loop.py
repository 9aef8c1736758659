"""Async tests without a plugin, and waiting for conditions with a bound."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""How long is waited for an event that takes a second on an idle machine: some that run tests do much else."""
TEST_SECONDS = 240.0
"""No test but those that say so takes so long, several waits included; one that hangs fails here, where its tasks can
still clean up."""
LOOK_SECONDS = 0.01


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an ``async`` test function in an event loop of its own."""
    return in_loop_for(TEST_SECONDS)(test)


def in_loop_for(seconds: float) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]:
    """Do as `in_loop` with a limit of a test's own, which takes longer than others."""

    def decorate(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
        @functools.wraps(test)
        def run(*arguments: P.args, **fixtures: P.kwargs) -> None:
            async def bounded() -> None:
                async with asyncio.timeout(seconds):
                    await test(*arguments, **fixtures)

            asyncio.run(bounded())

        return run

    return decorate


@overload
async def until(condition: Callable[[], Awaitable[T]], *, seconds: float = ...) -> T: ...


@overload
async def until(condition: Callable[[], T], *, seconds: float = ...) -> T: ...


async def until(condition: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until a condition gives something true, and return that.

    Raises:
        AssertionError: It was not true in time.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if clock() > deadline:
            source = inspect.getsource(condition).strip() if inspect.isfunction(condition) else repr(condition)
            raise AssertionError(f"not true within {seconds} s: {source}")
        await asyncio.sleep(LOOK_SECONDS)
