"""Operations written once and performed on either kind of psycopg connection, synchronous or not.

An operation is a generator: it yields what the database is to do, is sent the rows that came of it, and returns its
result. It holds all statements and all values; what differs between the two kinds of connection is here alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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


Steps: TypeAlias = Generator[Statement[Any] | CopyIn, list[Any], T]


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
        atomically: Put the steps into one transaction where the connection would commit each by itself.

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
    if atomically and _commits_each_statement(connection):
        with connection.transaction():
            return _perform_sync(connection, steps, False)
    rows: list[Any] | None = None
    with _refusals():
        while True:
            try:
                step = next(steps) if rows is None else steps.send(rows)
            except StopIteration as end:
                result: T = end.value
                return result
            with psycopg.Cursor(connection) as cursor:
                if isinstance(step, CopyIn):
                    rows = []
                    with cursor.copy(step.statement) as copy:
                        for block in step.blocks:
                            copy.write(block)
                else:
                    cursor.row_factory = step.row_factory
                    rows = cursor.execute(query(step.name), step.values).fetchall()


async def _perform_async(connection: AsyncConnection, steps: Steps[T], atomically: bool) -> T:
    if atomically and _commits_each_statement(connection):
        async with connection.transaction():
            return await _perform_async(connection, steps, False)
    rows: list[Any] | None = None
    with _refusals():
        while True:
            try:
                step = next(steps) if rows is None else steps.send(rows)
            except StopIteration as end:
                result: T = end.value
                return result
            async with psycopg.AsyncCursor(connection) as cursor:
                if isinstance(step, CopyIn):
                    rows = []
                    async with cursor.copy(step.statement) as copy:
                        for block in step.blocks:
                            await copy.write(block)
                else:
                    cursor.row_factory = step.row_factory
                    rows = await (await cursor.execute(query(step.name), step.values)).fetchall()


def _commits_each_statement(connection: SyncConnection | AsyncConnection) -> bool:
    return connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


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
