"""What `workerjobs doctor` makes of a database: one small check per concern, from facts gathered at one moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from workerjobs.domain.doctor_facts import LATE, SETTINGS, CronLine, Facts, Tables
from workerjobs.domain.schedule import CronSchedule
from workerjobs.domain.words import span
from workerjobs.errors import InvalidScheduleError

OLDEST_VERSION, NEWEST_VERSION = 14, 18
"""Major versions of Postgres that WorkerJobs is tested with."""
WARN_CLOCK, FAIL_CLOCK = timedelta(seconds=1), timedelta(seconds=60)
WARN_CONNECTIONS, FAIL_CONNECTIONS = 0.8, 0.95
"""Share of the connections allowed that are taken."""
OLD_TRANSACTION = timedelta(minutes=5)
DEAD_ROWS, DEAD_SHARE = 10_000, 0.3
"""From both on, autovacuum is behind."""
BLOATED_BYTES, BLOATED_TIMES = 128 << 20, 6
"""A table of so many bytes that takes so many times what its rows need has mostly air in it."""
BLOATED_INDEX_BYTES, BLOATED_ENTRY_BYTES = 64 << 20, 400
"""An entry of any index of the table takes up to 100 bytes."""
OLD_WRAPAROUND = 1_000_000_000
"""Transactions since rows were last frozen; Postgres stops writing at 2 billion."""
LONG_STATEMENT_MS = 5_000
SHOWN = 3
"""Examples named in a finding."""


class Status(StrEnum):
    """How bad a finding is: ``warn`` works and may not stay so, ``fail`` does harm now."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    status: Status
    seen: str
    advice: str = ""
    """What to do; empty where all is well."""


# --- checks of the server


def check_version(facts: Facts) -> Finding:
    """The server's version."""
    major, minor = divmod(facts.server.version, 10_000)
    seen = f"Postgres {major}.{minor}"
    if major < OLDEST_VERSION:
        return _fail("version", seen, f"WorkerJobs needs Postgres {OLDEST_VERSION} or newer")
    if major > NEWEST_VERSION:
        return _warn("version", seen, f"WorkerJobs is tested up to Postgres {NEWEST_VERSION}")
    return _ok("version", seen)


def check_schema(facts: Facts) -> Finding:
    """WorkerJobs' tables beside this release."""
    schema = facts.schema
    if schema.version is None:
        return _fail("schema", "no WorkerJobs tables", "run `workerjobs migrate`")
    seen = f"version {schema.version}, this release has {schema.release}"
    if schema.version < schema.release:
        return _fail("schema", seen, "run `workerjobs migrate`")
    if schema.compatible_from is not None and schema.compatible_from > schema.release:
        return _fail("schema", seen, f"upgrade WorkerJobs: the schema works from version {schema.compatible_from} on")
    return _ok("schema", seen)


def check_privileges(facts: Facts) -> Finding:
    """What the account may do with the tables."""
    lacking: dict[str, list[str]] = defaultdict(list)
    for each in facts.privileges:
        if each.missing:
            lacking[", ".join(each.missing)].append(each.name)
    if lacking:
        missing = "; ".join(f"{privileges} on {_some(names)}" for privileges, names in lacking.items())
        return _fail("privileges", f"missing: {missing}", "grant them, or use the account that migrated the database")
    return _ok("privileges", "the account may do all that WorkerJobs does")


def check_writing(facts: Facts) -> Finding:
    """Whether and how transactions write."""
    if facts.server.is_replica:
        return _fail("writing", "the server is a read-only replica", "let DATABASE_URL name the primary")
    if facts.settings.get("default_transaction_read_only") == "on":
        return _fail(
            "writing",
            "transactions are read-only by default",
            "alter role … set default_transaction_read_only = off",
        )
    isolation = facts.settings.get("default_transaction_isolation", "read committed")
    if isolation != "read committed":
        return _warn(
            "writing",
            f"transactions are {isolation} by default",
            "alter role … set default_transaction_isolation = 'read committed': others make workers that claim at "
            "the same time fail and try again",
        )
    if facts.server.encoding != "UTF8":
        return _warn(
            "writing",
            f"the database's encoding is {facts.server.encoding}",
            "use a database with encoding UTF8: jobs with other characters are refused",
        )
    return _ok("writing", f"{isolation}, {facts.server.encoding}")


def check_durability(facts: Facts) -> Finding:
    """Whether what was confirmed outlives a crash of the server."""
    values = {name: facts.settings.get(name, "?") for name in ("fsync", "full_page_writes", "synchronous_commit")}
    seen = ", ".join(f"{name} {value}" for name, value in values.items())
    off = [name for name in ("fsync", "full_page_writes") if values[name] == "off"]
    if off:
        return _fail("durability", seen, f"set {' and '.join(off)} on: a crash of the machine may destroy the database")
    if values["synchronous_commit"] == "off":
        return _warn(
            "durability",
            seen,
            "with synchronous_commit on, a crash of the server loses nothing; off, jobs submitted in the last second "
            "may be gone and jobs settled in it run again",
        )
    return _ok("durability", seen)


def check_clock(facts: Facts) -> Finding:
    """The clocks of this machine and the database's."""
    off = abs(facts.clock_difference)
    order = "ahead of" if facts.clock_difference > timedelta(0) else "behind"
    seen = f"the database's clock is {off.total_seconds():.3f} s {order} this machine's"
    advice = "synchronize the clocks (NTP): moments given by programs and shown to people are off by that"
    if off > FAIL_CLOCK:
        return _fail("clock", seen, advice)
    return _warn("clock", seen, advice) if off > WARN_CLOCK else _ok("clock", seen)


def check_pooler(facts: Facts) -> Finding:
    """How announcements and migrations get past a pooler."""
    way = facts.way
    if way.problem is not None:
        return _fail("pooler", way.problem, "correct DATABASE_DIRECT_URL")
    if not way.is_pooled:
        return _ok("pooler", "none" if not way.has_direct_url else "none found on the way of DATABASE_URL")
    if not way.has_direct_url:
        return _warn(
            "pooler",
            "DATABASE_URL leads through a pooler, DATABASE_DIRECT_URL is not set",
            "set it to the server's own address: without it workers can't hear of jobs and look every 2 s",
        )
    return _ok("pooler", "DATABASE_URL leads through a pooler, DATABASE_DIRECT_URL is set")


def check_announcements(facts: Facts) -> Finding:
    """Whether workers hear of new jobs."""
    way = facts.way
    if way.announced_after is not None:
        return _ok("announcements", f"heard after {way.announced_after.total_seconds() * 1000:.1f} ms")
    if way.is_pooled and not way.has_direct_url:
        return _warn("announcements", "not tried, as a pooler keeps them back", "see pooler")
    return _fail(
        "announcements",
        "what was announced was not heard",
        "let DATABASE_DIRECT_URL name the same database as DATABASE_URL, past any pooler",
    )


def check_connections(facts: Facts) -> Finding:
    """How many connections are left."""
    if not facts.connections:
        return _ok("connections", "no limit is known")
    fullest = max(facts.connections, key=lambda each: each.used / max(1, each.allowed))
    seen = f"{fullest.used} of {fullest.allowed} that the {fullest.place} allows are taken"
    share = fullest.used / max(1, fullest.allowed)
    advice = "raise the limit, or put a pooler between: each worker needs two, jobs what they open themselves"
    if share >= FAIL_CONNECTIONS:
        return _fail("connections", seen, advice)
    return _warn("connections", seen, advice) if share >= WARN_CONNECTIONS else _ok("connections", seen)


def check_timeouts(facts: Facts) -> Finding:
    """Limits that end WorkerJobs' own sessions and statements."""
    read = {name: int(facts.settings.get(name, "0")) for name in SETTINGS if name.endswith("_timeout")}
    problems = []
    if read["idle_session_timeout"]:
        problems.append("idle_session_timeout ends the connections that workers listen on")
    if 0 < read["statement_timeout"] < LONG_STATEMENT_MS:
        problems.append(f"statement_timeout of {read['statement_timeout']} ms cancels large submits")
    if 0 < read["lock_timeout"] < LONG_STATEMENT_MS:
        problems.append(f"lock_timeout of {read['lock_timeout']} ms fails submits that wait for another of their tag")
    if problems:
        return _warn("timeouts", "; ".join(problems), "alter role … set … = 0 for WorkerJobs' account")
    idle = read["idle_in_transaction_session_timeout"]
    return _ok("timeouts", f"idle_in_transaction_session_timeout {f'{idle} ms' if idle else 'off'}")


def check_transactions(facts: Facts) -> Finding:
    """Transactions left open: nothing that ended after they began can be vacuumed."""
    old = [each for each in facts.transactions if each.age >= OLD_TRANSACTION]
    if not old:
        return _ok("transactions", f"none is open for {span(OLD_TRANSACTION)}")
    named = [f"{each.name} ({each.state}, {span(each.age)})" for each in old]
    return _warn(
        "transactions",
        f"{len(old)} open for long: {_some(named)}",
        "end them (pg_terminate_backend, rollback prepared) and set idle_in_transaction_session_timeout: while they "
        "last, dead rows stay and claims get slower",
    )


# --- checks of the tables


def check_vacuum(facts: Facts, tables: Tables) -> Finding:
    """Whether autovacuum keeps up."""
    table = tables.table
    when = f"vacuumed {span(facts.server.now - table.last_vacuum)} ago" if table.last_vacuum else "not vacuumed yet"
    seen = f"{table.live_rows:,} rows, {table.dead_rows:,} dead, {when}"
    if facts.settings.get("autovacuum") == "off" or facts.settings.get("track_counts") == "off":
        return _fail("vacuum", f"autovacuum is off; {seen}", "set autovacuum and track_counts on")
    if not table.is_vacuumed:
        advice = 'alter table "workerJobs" reset (autovacuum_enabled)'
        return _fail("vacuum", f"autovacuum is off for the table; {seen}", advice)
    if table.frozen_age > OLD_WRAPAROUND:
        advice = 'vacuum (freeze) "workerJobs", and see why autovacuum does not get to it'
        return _fail("vacuum", f"{table.frozen_age:,} transactions since the last freeze; {seen}", advice)
    if table.dead_rows > DEAD_ROWS and table.dead_rows > DEAD_SHARE * (table.live_rows + table.dead_rows):
        return _warn(
            "vacuum", seen, 'vacuum "workerJobs"; see transactions, and whether autovacuum_max_workers is full'
        )
    return _ok("vacuum", seen)


def check_bloat(facts: Facts, tables: Tables) -> Finding:
    """Whether table and indexes are much larger than what they hold."""
    table = tables.table
    seen = f"table {_size(table.bytes)}, indexes {_size(sum(index.bytes for index in tables.indexes))}"
    advice = []
    needed = (table.row_bytes or 0) * table.live_rows
    if table.row_bytes is not None and table.bytes > max(BLOATED_BYTES, BLOATED_TIMES * needed):
        advice.append('vacuum full "workerJobs" while the workers are stopped, or pg_repack')
    advice += [
        f'reindex index concurrently "{index.name}"'
        for index in tables.indexes
        if index.entries >= 0
        and index.bytes > BLOATED_INDEX_BYTES
        and index.bytes > BLOATED_ENTRY_BYTES * index.entries
    ]
    return _warn("bloat", f"{seen}, mostly empty", "; ".join(advice)) if advice else _ok("bloat", seen)


def check_objects(facts: Facts, tables: Tables) -> Finding:
    """Indexes and triggers that do not work."""
    invalid = [index.name for index in tables.indexes if not index.is_valid]
    if tables.disabled_triggers:
        return _fail(
            "objects",
            f"disabled triggers: {_some(tables.disabled_triggers)}",
            'alter table "workerJobs" enable trigger user: without them workers look every 30 s',
        )
    if invalid:
        return _fail("objects", f"invalid indexes: {_some(invalid)}", "reindex index concurrently …")
    return _ok("objects", f"{len(tables.indexes)} indexes and all triggers work")


def check_leases(facts: Facts, tables: Tables) -> Finding:
    """Whether rows of lost workers are rescued."""
    if tables.leases.expired:
        return _fail(
            "leases",
            f"{tables.leases.expired} running rows whose lease ran out are not rescued",
            "start a worker: any one rescues rows of all pools, from a lease after its start on",
        )
    return _ok("leases", "no expired lease is left lying")


def check_foreign_rows(facts: Facts, tables: Tables) -> Finding:
    """Rows that another program started and did not finish."""
    if tables.leases.without_lease:
        return _warn(
            "foreign rows",
            f"{tables.leases.without_lease} rows run without a lease for more than half an hour",
            "they were started by another program, and any worker rescues them: start one, and see that the program "
            "finishes what it starts",
        )
    return _ok("foreign rows", "none runs without a lease for long")


def check_due(facts: Facts, tables: Tables) -> Finding:
    """Due rows that wait."""
    seen = [f"pool {each.name}: {each.late:,}, for up to {span(each.waited)}" for each in tables.pools]
    if not seen:
        return _ok("due rows", f"none waits for more than {span(LATE)}")
    deserted = [each.name for each in tables.pools if not each.workers]
    if deserted:
        return _fail("due rows", f"waiting: {_some(seen)}", f"start workers with WORKER_POOL={deserted[0]}")
    return _warn(
        "due rows",
        f"waiting: {_some(seen)}",
        "their workers are busy, or limits hold rows back: more workers, more children each, or higher limits",
    )


def check_cron(facts: Facts, tables: Tables) -> Finding:
    """Cron lines that can't go on, do not go on, or are late."""
    lines = tables.cron_lines
    bad = [_name(line) for line in lines if not _is_readable(line)]
    if bad:
        return _fail("cron", f"unreadable schedules: {_some(bad)}", "cancel these jobs and submit them anew")
    missing = [_name(line) for line in lines if not line.is_unfinished]
    if missing:
        return _fail(
            "cron",
            f"lines without a next row: {_some(missing)}",
            "workers make built-in lines again, an operator those of its WorkerJobs; submit others anew",
        )
    late = [f"{_name(line)} by {span(line.late)}" for line in lines if line.late > LATE]
    if late:
        return _warn("cron", f"late: {_some(late)}", "see due rows")
    return _ok("cron", f"{len(lines)} lines, each with its next row")


def check_types(facts: Facts, tables: Tables) -> Finding:
    """Pending rows of types that no live worker knows."""
    seen = f"{tables.workers} live workers"
    if not tables.workers:
        if tables.unknown_types:
            return _warn("types", "no live worker, and rows are pending", "start one: `workerjobs worker`")
        return _ok("types", "no live worker, and nothing is pending")
    if tables.unknown_types:
        unknown = [f"{each.type} (pool {each.pool}, {each.count:,} rows)" for each in tables.unknown_types]
        return _fail(
            "types",
            f"{seen}; none knows {_some(unknown)}",
            "start workers with WORKER_JOB_MODULES that define them, or cancel the rows",
        )
    return _ok("types", f"{seen} know all pending types")


SERVER_CHECKS: Sequence[Callable[[Facts], Finding]] = (
    check_version,
    check_schema,
    check_privileges,
    check_writing,
    check_durability,
    check_clock,
    check_pooler,
    check_announcements,
    check_connections,
    check_timeouts,
    check_transactions,
)
TABLE_CHECKS: Sequence[Callable[[Facts, Tables], Finding]] = (
    check_vacuum,
    check_bloat,
    check_objects,
    check_leases,
    check_foreign_rows,
    check_due,
    check_cron,
    check_types,
)


def examine(facts: Facts) -> list[Finding]:
    """Run all checks that the facts allow."""
    return list(_findings(facts))


def worst(findings: Sequence[Finding]) -> Status:
    """The status of the whole."""
    return max((finding.status for finding in findings), key=list(Status).index, default=Status.OK)


def _findings(facts: Facts) -> Iterator[Finding]:
    for check in SERVER_CHECKS:
        yield check(facts)
    if facts.tables is not None:
        for check_table in TABLE_CHECKS:
            yield check_table(facts, facts.tables)


def _ok(name: str, seen: str) -> Finding:
    return Finding(name, Status.OK, seen)


def _warn(name: str, seen: str, advice: str) -> Finding:
    return Finding(name, Status.WARN, seen, advice)


def _fail(name: str, seen: str, advice: str) -> Finding:
    return Finding(name, Status.FAIL, seen, advice)


def _is_readable(line: CronLine) -> bool:
    try:
        CronSchedule.parse(line.schedule, line.time_zone, identity=line.key or "")
    except InvalidScheduleError:
        return False
    return True


def _name(line: CronLine) -> str:
    return f"{line.type} ({line.schedule}, job {line.job_id})"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
