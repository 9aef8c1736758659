"""QuickDapp's own tables: the view ``worker_jobs`` in its shape, and taking over its table of that name.

QuickDapp's server keeps its jobs in ``worker_jobs`` and reads and writes it through drizzle-orm. The view lets it go on
doing so while WorkerJobs runs the jobs. Not part of the numbered migrations, since it costs others an index.

Source:
    QuickDapp/QuickDapp 3.17.0, packages/variant-web3/src/server/db: schema.ts, worker.ts, migrations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from workerjobs.errors import DatabaseUnavailableError, NotFoundError, SchemaError
from workerjobs.storage.connection import address_of, connect_blocking, connection_errors
from workerjobs.storage.migrate import migrate_url
from workerjobs.storage.queries import query

VIEW_COMMENT = "The table workerJobs in QuickDapp's shape, by WorkerJobs (1)"
"""By which the view is known, and whether this release has to make it anew."""
LOCK_SECONDS = 10
"""How long to wait for others to end their transactions on the tables; they wait meanwhile as well."""

_NUMBER, _TEXT, _JSON = ("integer", "bigint"), ("text", "character varying"), ("json", "jsonb")
_MOMENT, _FLAG = ("timestamp with time zone",), ("boolean",)
_DATES = {"created_at": _MOMENT, "updated_at": _MOMENT}

WORKER_JOBS: Mapping[str, tuple[str, ...]] = {
    "id": _NUMBER,
    "tag": _TEXT,
    "type": _TEXT,
    "user_id": _NUMBER,
    "data": _JSON,
    "due": _MOMENT,
    "started": _MOMENT,
    "finished": _MOMENT,
    "remove_at": _MOMENT,
    "success": _FLAG,
    "result": _JSON,
    "cron_schedule": _TEXT,
    "auto_reschedule_on_failure": _FLAG,
    "auto_reschedule_on_failure_delay": _NUMBER,
    "remove_delay": _NUMBER,
    "rescheduled_from_job": _NUMBER,
    "persistent": _FLAG,
    **_DATES,
}
"""The columns of the table that can be adopted, with the types that they may have."""

OTHER_TABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "notifications": {"id": _NUMBER, "user_id": _NUMBER, "data": _JSON, "read": _FLAG, **_DATES},
    "settings": {"id": _NUMBER, "key": _TEXT, "value": _TEXT, **_DATES},
    "user_auth": {"id": _NUMBER, "user_id": _NUMBER, "auth_type": _TEXT, "auth_identifier": _TEXT, **_DATES},
    "users": {"id": _NUMBER, "disabled": _FLAG, "settings": _JSON, **_DATES},
}
"""Columns that QuickDapp's other tables need; more of them are fine."""


@dataclass(slots=True)
class Adoption:
    """What taking over a table did, or would do."""

    rows: dict[str, int] = field(default_factory=dict)
    """How many there are in each state."""
    renumbered: list[int] = field(default_factory=list)
    """Ids of rows that ``"workerJobs"`` had before and that have new ids now: QuickDapp's rows keep theirs."""
    created: list[str] = field(default_factory=list)
    """QuickDapp's tables that were missing."""
    was_done: bool = False
    """The table is the view already: nothing was to be done."""


def install_quickdapp(url: str) -> list[str]:
    """Make the view ``worker_jobs`` and those of QuickDapp's other tables that are missing, in a migrated database.

    Returns:
        Names of what was made; empty where all was there.

    Raises:
        SchemaError: There is a table ``worker_jobs``, which has to be adopted, or another table has another shape.
        DatabaseUnavailableError: No server answers at the URL, or the table is locked for long.
    """
    with _transaction(url) as connection:
        kind = _kind_of_worker_jobs(connection)
        if kind == "table":
            raise SchemaError(
                f"The database {address_of(url)} has a table worker_jobs: take it over with `workerjobs adopt`"
            )
        _check([*_view_problems(kind), *_other_tables_problems(connection)], url)
        created = _create_tables(connection)
        if kind != "own view":
            _create_view(connection)
            created.append("worker_jobs")
        return created


def adopt(url: str, *, dry_run: bool = False) -> Adoption:
    """Take over QuickDapp's table ``worker_jobs``: its rows with their ids, then the view in its place.

    All of it is one transaction. Started again, it finds nothing to do.

    Args:
        url: The database; it is migrated first where it has to be.
        dry_run: Only look: no row is written and no table locked.

    Raises:
        NotFoundError: There is no ``worker_jobs``.
        SchemaError: The table can't be adopted as it is; the message says what has to be changed.
        DatabaseUnavailableError: No server answers at the URL, or the tables are locked for long.
    """
    if not dry_run:
        # Looked at first: a table that can't be adopted leaves the database as it was.
        if adopt(url, dry_run=True).was_done:
            return Adoption(was_done=True, created=install_quickdapp(url))
        migrate_url(url)
    with _transaction(url, read_only=dry_run) as connection:
        kind = _kind_of_worker_jobs(connection)
        if kind is None:
            raise NotFoundError(
                f"The database {address_of(url)} has no table worker_jobs to adopt: "
                "`workerjobs migrate --quickdapp` makes the view for a new one"
            )
        if kind == "own view":
            return Adoption(was_done=True)
        if kind == "table" and not dry_run:
            connection.execute(query("quickdapp/lock_tables"))
        _check([*_view_problems(kind), *_worker_jobs_problems(connection)], url)
        _check(_other_tables_problems(connection), url)
        adoption = Adoption(_counts(connection), _colliding(connection, url), _missing_tables(connection))
        if not dry_run:
            _take_over(connection, adoption)
        return adoption


def _take_over(connection: psycopg.Connection[Any], adoption: Adoption) -> None:
    grants = _rows(connection, "grants")
    if adoption.renumbered:
        connection.execute(query("quickdapp/renumber"), {"ids": adoption.renumbered})
    # Before the rows: with them, it would write the table a second time.
    connection.execute(query("quickdapp/create_short_id"))
    connection.execute(query("quickdapp/create_as_jsonb"))
    connection.execute(query("quickdapp/copy_rows"))
    connection.execute(query("quickdapp/drop_as_jsonb"))
    connection.execute(query("quickdapp/continue_ids"))
    connection.execute(query("quickdapp/drop_table"))
    _create_tables(connection)
    _create_view(connection)
    for grant in grants:
        _grant(connection, grant["grantee"], grant["privileges"])
    # The planner would take the table for nearly empty until autovacuum comes by.
    connection.execute('analyze "workerJobs"')


def _create_tables(connection: psycopg.Connection[Any]) -> list[str]:
    missing = _missing_tables(connection)
    if missing:
        connection.execute(query("quickdapp/create_tables"))
    return missing


def _create_view(connection: psycopg.Connection[Any]) -> None:
    connection.execute(query("quickdapp/create_short_id"))
    connection.execute(query("quickdapp/create_view"))
    connection.execute(sql.SQL("comment on view worker_jobs is {}").format(VIEW_COMMENT))


def _grant(connection: psycopg.Connection[Any], grantee: str | None, privileges: list[str]) -> None:
    """Let a role do with the view what it could do with the table."""
    role = sql.SQL("public") if grantee is None else sql.Identifier(grantee)
    rights = sql.SQL(", ").join(map(sql.SQL, privileges))
    connection.execute(sql.SQL("grant {} on worker_jobs to {}").format(rights, role))
    # The announcing triggers call functions there, in the name of who writes.
    connection.execute(sql.SQL("grant usage on schema workerjobs to {}").format(role))


# --- looking


def _kind_of_worker_jobs(connection: psycopg.Connection[Any]) -> str | None:
    """What ``worker_jobs`` is: "table", "own view", "older view" of an earlier release, "other", or None."""
    row = next(iter(_rows(connection, "relation")), None)
    if row is None:
        return None
    if row["kind"] in ("r", "p"):
        return "table"
    if row["kind"] == "v" and (row["comment"] or "").startswith(VIEW_COMMENT.partition(" (")[0]):
        return "own view" if row["comment"] == VIEW_COMMENT else "older view"
    return "other"


def _view_problems(kind: str | None) -> list[str]:
    return ["worker_jobs is neither a table nor the view that WorkerJobs makes"] if kind == "other" else []


def _worker_jobs_problems(connection: psycopg.Connection[Any]) -> list[str]:
    columns = _columns(connection, ["worker_jobs"])["worker_jobs"]
    unknown = [f"worker_jobs has a column {name}, which would be lost" for name in columns if name not in WORKER_JOBS]
    dependents = [f"{row['dependent']} depends on worker_jobs" for row in _rows(connection, "dependents")]
    return _shape_problems("worker_jobs", WORKER_JOBS, columns) + unknown + dependents


def _other_tables_problems(connection: psycopg.Connection[Any]) -> list[str]:
    return [
        problem
        for table, columns in _columns(connection, OTHER_TABLES).items()
        for problem in _shape_problems(table, OTHER_TABLES[table], columns)
    ]


def _shape_problems(table: str, wanted: Mapping[str, tuple[str, ...]], columns: Mapping[str, str]) -> list[str]:
    problems = []
    for name, types in wanted.items():
        if name not in columns:
            problems.append(f"{table} has no column {name} ({types[0]})")
        elif columns[name] not in types:
            problems.append(f"{table}.{name} is {columns[name]} instead of {' or '.join(types)}")
    return problems


def _missing_tables(connection: psycopg.Connection[Any]) -> list[str]:
    found = _columns(connection, OTHER_TABLES)
    return [table for table in OTHER_TABLES if table not in found]


def _columns(connection: psycopg.Connection[Any], tables: Any) -> dict[str, dict[str, str]]:
    """The columns of those tables that exist, with their types."""
    found: dict[str, dict[str, str]] = {}
    for row in _rows(connection, "columns", tables=list(tables)):
        found.setdefault(row["table_name"], {})[row["column_name"]] = row["type"]
    return found


def _counts(connection: psycopg.Connection[Any]) -> dict[str, int]:
    return {row["state"]: row["count"] for row in _rows(connection, "count_rows")}


def _colliding(connection: psycopg.Connection[Any], url: str) -> list[int]:
    """Rows that have ids of rows to adopt; none of them may be running, as its worker knows it by its id."""
    if not _columns(connection, ["workerJobs"]):
        return []
    rows = _rows(connection, "colliding")
    running = [f"job {row['id']} is running under an id of worker_jobs" for row in rows if row["is_running"]]
    if running:
        _check([*running, "stop the workers and adopt again"], url)
    return [row["id"] for row in rows]


def _check(problems: list[str], url: str) -> None:
    if problems:
        raise SchemaError(f"The database {address_of(url)} can't serve QuickDapp as it is: {'; '.join(problems)}")


# --- the connection


def _rows(connection: psycopg.Connection[Any], name: str, **values: Any) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query(f"quickdapp/{name}"), values).fetchall()


@contextmanager
def _transaction(url: str, *, read_only: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """Open one transaction that takes turns with migrations and looks where QuickDapp's tables are."""
    with connection_errors(url), connect_blocking(url, "workerjobs quickdapp") as connection:
        connection.read_only = read_only
        try:
            connection.execute(query("lock_migrations"))
            connection.execute(query("quickdapp/pin_schemas"))
            connection.execute(f"set local lock_timeout = '{LOCK_SECONDS}s'".encode())
            yield connection
        except psycopg.errors.LockNotAvailable as error:
            raise DatabaseUnavailableError(
                f"The tables in {address_of(url)} are in use: stop QuickDapp's server and the workers, and try again"
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise SchemaError(
                f"The account may not do this in {address_of(url)}: {str(error).splitlines()[0]}"
            ) from error
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            raise SchemaError(
                f"A row of worker_jobs in {address_of(url)} can't be taken over: {'; '.join(str(error).splitlines())}"
            ) from error
