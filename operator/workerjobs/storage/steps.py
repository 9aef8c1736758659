"""Operations written once and performed on either kind of psycopg connection, synchronous or not.

An operation is a generator: it yields what the database is to do, is sent the rows that came of it, and returns its
result. It holds all statements and all values; what differs between the two kinds of connection is here alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeGuard, TypeVar, overload

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import BaseRowFactory

from workerjobs.errors import InvalidInputError, NotFoundError, SchemaError
from workerjobs.storage.queries import query

Row = TypeVar("Row")
T = TypeVar("T")

SyncConnection: TypeAlias = psycopg.Connection[Any]
AsyncConnection: TypeAlias = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Statement(Generic[Row]):
    """A statement of ``sql/``; sends back its rows."""

    name: str
    values: Mapping[str, Any]
    row_factory: BaseRowFactory[Row]


@dataclass(frozen=True, slots=True)
class CopyIn:
    """Rows for a table, in the text format of COPY; sends back nothing."""

    table: str
    """As SQL writes it, with its schema and quotes where needed."""
    columns: Sequence[str]
    blocks: Iterable[str]

    @property
    def statement(self) -> sql.Composed:
        """The COPY statement."""
        names = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        return sql.SQL("copy {} ({}) from stdin").format(sql.SQL(self.table), names)


@dataclass(frozen=True, slots=True)
class Work:
    """Something that takes time and no database; sends back its result, alone in a list.

    An event loop has others to serve meanwhile, so there it is done in a thread, as is the making of what is copied.
    """

    function: Callable[[], Any]


Steps: TypeAlias = Generator[Statement[Any] | CopyIn | Work, list[Any], T]


class _Course(Generic[T]):
    """An operation under way."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self._result: T

    def begin(self) -> Statement[Any] | CopyIn | Work | None:
        """Give the first step; None: there is none."""
        return self._advance(None)

    def go_on(self, rows: list[Any]) -> Statement[Any] | CopyIn | Work | None:
        """Give the next step after what came of the last one; None: it is over."""
        return self._advance(rows)

    def _advance(self, rows: list[Any] | None) -> Statement[Any] | CopyIn | Work | None:
        try:
            return next(self._steps) if rows is None else self._steps.send(rows)
        except StopIteration as end:
            self._result = end.value
            return None

    @property
    def result(self) -> T:
        """What the operation returned."""
        return self._result


def is_asynchronous(connection: object) -> TypeGuard[AsyncConnection]:
    """Whether a connection has to be awaited."""
    return isinstance(connection, psycopg.AsyncConnection)


@overload
def perform(connection: SyncConnection, steps: Steps[T], *, atomically: bool = ...) -> T: ...
@overload
def perform(connection: AsyncConnection, steps: Steps[T], *, atomically: bool = ...) -> Awaitable[T]: ...
def perform(connection: SyncConnection | AsyncConnection, steps: Steps[T], *, atomically: bool = False) -> Any:
    """Carry out an operation on a connection, in whatever transaction that is.

    Args:
        connection: Whose transaction goes on; it is begun as by any other statement, and never ended here.
        steps: The operation.
        atomically: All steps or none: in one transaction where the connection would commit each by itself, else after a
            savepoint, so that the caller's transaction can go on without them.

    Returns:
        What the operation returns; an awaitable of it for an asynchronous connection.

    Raises:
        InvalidInputError: The database refuses the values.
        NotFoundError: It has no such job.
        SchemaError: It has no WorkerJobs tables.
        psycopg.Error: Everything else.
    """
    if is_asynchronous(connection):
        return _perform_async(connection, steps, atomically)
    if isinstance(connection, psycopg.Connection):
        return _perform_sync(connection, steps, atomically)
    raise TypeError(f"connection is a {type(connection).__name__}: give a psycopg.Connection or AsyncConnection")


def _perform_sync(connection: SyncConnection, steps: Steps[T], atomically: bool) -> T:
    course = _Course(steps)
    with _refusals(), ExitStack() as stack:
        step = course.begin()
        while step is not None:
            if isinstance(step, Work):
                rows = [step.function()]
            else:
                if atomically:
                    if _has_yet_to_begin(connection):
                        connection.execute(_BEGIN)
                    stack.enter_context(connection.transaction())
                    atomically = False
                rows = _ask_sync(connection, step)
            step = course.go_on(rows)
    return course.result


def _ask_sync(connection: SyncConnection, step: Statement[Any] | CopyIn) -> list[Any]:
    with psycopg.Cursor(connection) as cursor:
        if isinstance(step, Statement):
            cursor.row_factory = step.row_factory
            return cursor.execute(query(step.name), step.values).fetchall()
        with cursor.copy(step.statement) as copy:
            for block in step.blocks:
                copy.write(block)
    return []


async def _perform_async(connection: AsyncConnection, steps: Steps[T], atomically: bool) -> T:
    course = _Course(steps)
    with _refusals():
        async with AsyncExitStack() as stack:
            step = course.begin()
            while step is not None:
                if isinstance(step, Work):
                    rows = [await asyncio.to_thread(step.function)]
                else:
                    if atomically:
                        if _has_yet_to_begin(connection):
                            await connection.execute(_BEGIN)
                        await stack.enter_async_context(connection.transaction())
                        atomically = False
                    rows = await _ask_async(connection, step)
                step = course.go_on(rows)
    return course.result


async def _ask_async(connection: AsyncConnection, step: Statement[Any] | CopyIn) -> list[Any]:
    async with psycopg.AsyncCursor(connection) as cursor:
        if isinstance(step, Statement):
            cursor.row_factory = step.row_factory
            return await (await cursor.execute(query(step.name), step.values)).fetchall()
        async with cursor.copy(step.statement) as copy:
            blocks = iter(step.blocks)
            while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                await copy.write(block)
    return []


_BEGIN = b"select"
"""Nothing: psycopg begins a transaction with the first statement, and its `transaction` would end one that it began."""


def _has_yet_to_begin(connection: SyncConnection | AsyncConnection) -> bool:
    return not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in WorkerJobs' words what the database refuses."""
    try:
        yield
    except psycopg.errors.NoDataFound as error:
        raise NotFoundError(_sentence(error)) from error
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.FeatureNotSupported) as error:
        # What WorkerJobs' functions raise: a problem, and what is accepted.
        raise InvalidInputError(". ".join(filter(None, [_sentence(error), error.diag.message_hint]))) from error
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise InvalidInputError(f"The database refuses the job: {_sentence(error)}") from error
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction) as error:
        raise SchemaError(f"The database lacks WorkerJobs' functions, run `workerjobs migrate`: {error}") from error


def _sentence(error: psycopg.Error) -> str:
    message = error.diag.message_primary or (str(error).strip().splitlines() or [type(error).__name__])[0]
    return message[:1].upper() + message[1:]
