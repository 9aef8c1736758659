"""What the doctor makes of facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workerjobs.domain.doctor import Finding, Status, examine, worst
from workerjobs.domain.doctor_facts import (
    Connections,
    CronLine,
    Facts,
    Index,
    Leases,
    Pool,
    Privileges,
    Schema,
    Server,
    Table,
    Tables,
    Transaction,
    UnknownType,
    Way,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SETTINGS = {
    "autovacuum": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "fsync": "on",
    "full_page_writes": "on",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": "0",
    "statement_timeout": "0",
    "synchronous_commit": "on",
    "track_counts": "on",
}
TABLE = Table(
    live_rows=1000,
    dead_rows=10,
    last_vacuum=NOW - timedelta(minutes=3),
    bytes=1 << 20,
    row_bytes=300.0,
    frozen_age=1000,
    is_vacuumed=True,
)
INDEX = Index(name="workerJobs_pending", bytes=1 << 20, entries=10_000, is_valid=True)
LINE = CronLine(
    job_id=7,
    key="builtin:removeOldWorkerJobs",
    type="removeOldWorkerJobs",
    schedule="0 0 * * * *",
    time_zone=None,
    is_unfinished=True,
    late=timedelta(0),
)
TABLES = Tables(
    table=TABLE,
    indexes=[INDEX],
    disabled_triggers=[],
    leases=Leases(expired=0, without_lease=0),
    pools=[],
    cron_lines=[LINE],
    workers=2,
    unknown_types=[],
)
HEALTHY = Facts(
    server=Server(now=NOW, version=180001, is_replica=False, encoding="UTF8"),
    settings=SETTINGS,
    clock_difference=timedelta(milliseconds=-2),
    connections=[Connections(place="server", used=20, allowed=97)],
    transactions=[Transaction(name="psql, pid 5", state="idle in transaction", age=timedelta(minutes=1))],
    way=Way(is_pooled=False, has_direct_url=False, announced_after=timedelta(milliseconds=1)),
    schema=Schema(version=2, compatible_from=1, release=2),
    privileges=[Privileges(name="workerJobs", missing=[])],
    tables=TABLES,
)


def with_settings(**changes: str) -> Facts:
    return replace(HEALTHY, settings=SETTINGS | changes)


def with_server(**changes: Any) -> Facts:
    return replace(HEALTHY, server=replace(HEALTHY.server, **changes))


def with_way(**changes: Any) -> Facts:
    return replace(HEALTHY, way=replace(HEALTHY.way, **changes))


def with_tables(**changes: Any) -> Facts:
    return replace(HEALTHY, tables=replace(TABLES, **changes))


def with_table(**changes: Any) -> Facts:
    return with_tables(table=replace(TABLE, **changes))


def with_index(**changes: Any) -> Facts:
    return with_tables(indexes=[INDEX, replace(INDEX, name="other", **changes)])


def with_pool(workers: int) -> Facts:
    return with_tables(pools=[Pool(name="mail", late=1500, waited=timedelta(hours=3), workers=workers)])


def with_line(**changes: Any) -> Facts:
    return with_tables(cron_lines=[LINE, replace(LINE, job_id=8, type="report", **changes)])


def with_transaction(**changes: Any) -> Facts:
    return replace(HEALTHY, transactions=[replace(HEALTHY.transactions[0], **changes)])


def find(facts: Facts, name: str) -> Finding:
    (finding,) = [finding for finding in examine(facts) if finding.name == name]
    return finding


def test_healthy_database_has_no_findings_but_good_ones() -> None:
    findings = examine(HEALTHY)
    assert {(finding.status, finding.advice) for finding in findings} == {(Status.OK, "")}
    assert worst(findings) is Status.OK
    names = [finding.name for finding in findings]
    assert len(names) == len(set(names))


CASES: dict[str, tuple[Facts, str, Status, str, str]] = {
    "too old a server": (with_server(version=130012), "version", Status.FAIL, "Postgres 13.12", "needs Postgres 14"),
    "newer server than tested": (with_server(version=190000), "version", Status.WARN, "19.0", "up to Postgres 18"),
    "no tables": (
        replace(HEALTHY, schema=Schema(version=None, compatible_from=None, release=2), tables=None),
        *("schema", Status.FAIL, "no WorkerJobs tables", "workerjobs migrate"),
    ),
    "schema too old": (
        replace(HEALTHY, schema=Schema(version=1, compatible_from=1, release=2), tables=None),
        *("schema", Status.FAIL, "version 1, this release has 2", "workerjobs migrate"),
    ),
    "schema too new": (
        replace(HEALTHY, schema=Schema(version=5, compatible_from=4, release=2)),
        *("schema", Status.FAIL, "version 5", "upgrade WorkerJobs: the schema works from version 4 on"),
    ),
    "newer schema that this release works with": (
        replace(HEALTHY, schema=Schema(version=5, compatible_from=2, release=2)),
        *("schema", Status.OK, "version 5", ""),
    ),
    "missing privileges": (
        replace(HEALTHY, privileges=[Privileges(name="workerJobs", missing=["delete"])]),
        *("privileges", Status.FAIL, "delete on workerJobs", "grant"),
    ),
    "the same privileges missing on many tables": (
        replace(
            HEALTHY,
            privileges=[
                *(Privileges(name=name, missing=["insert", "delete"]) for name in "abcde"),
                Privileges(name="f", missing=["usage"]),
            ],
        ),
        *("privileges", Status.FAIL, "insert, delete on a, b, c and 2 more; usage on f", "grant"),
    ),
    "replica": (with_server(is_replica=True), "writing", Status.FAIL, "replica", "primary"),
    "read-only account": (
        with_settings(default_transaction_read_only="on"),
        *("writing", Status.FAIL, "read-only", "default_transaction_read_only"),
    ),
    "other isolation": (
        with_settings(default_transaction_isolation="repeatable read"),
        *("writing", Status.WARN, "repeatable read", "read committed"),
    ),
    "other encoding": (with_server(encoding="SQL_ASCII"), "writing", Status.WARN, "SQL_ASCII", "UTF8"),
    "fsync off": (with_settings(fsync="off"), "durability", Status.FAIL, "fsync off", "set fsync on"),
    "full_page_writes off": (
        with_settings(full_page_writes="off"),
        *("durability", Status.FAIL, "full_page_writes off", "set full_page_writes on"),
    ),
    "commits not waited for": (
        with_settings(synchronous_commit="off"),
        *("durability", Status.WARN, "synchronous_commit off", "run again"),
    ),
    "clock a little ahead": (
        replace(HEALTHY, clock_difference=timedelta(seconds=1.5)),
        *("clock", Status.WARN, "1.500 s ahead of", "NTP"),
    ),
    "clock far behind": (
        replace(HEALTHY, clock_difference=timedelta(minutes=-2)),
        *("clock", Status.FAIL, "120.000 s behind", "NTP"),
    ),
    "pooler without a direct URL": (
        with_way(is_pooled=True, announced_after=None),
        *("pooler", Status.WARN, "DATABASE_DIRECT_URL is not set", "every 2 s"),
    ),
    "announcements behind a pooler": (
        with_way(is_pooled=True, announced_after=None),
        *("announcements", Status.WARN, "not tried", "see pooler"),
    ),
    "pooler with a direct URL": (
        with_way(is_pooled=True, has_direct_url=True),
        *("pooler", Status.OK, "DATABASE_DIRECT_URL is set", ""),
    ),
    "direct URL that does not answer": (
        with_way(is_pooled=True, has_direct_url=True, announced_after=None, problem="can't be reached"),
        *("pooler", Status.FAIL, "can't be reached", "correct DATABASE_DIRECT_URL"),
    ),
    "direct URL of another database": (
        with_way(is_pooled=True, has_direct_url=True, announced_after=None),
        *("announcements", Status.FAIL, "not heard", "the same database"),
    ),
    "many connections": (
        replace(HEALTHY, connections=[*HEALTHY.connections, Connections(place="account", used=8, allowed=10)]),
        *("connections", Status.WARN, "8 of 10 that the account allows", "raise the limit"),
    ),
    "no connection left": (
        replace(HEALTHY, connections=[Connections(place="server", used=97, allowed=97)]),
        *("connections", Status.FAIL, "97 of 97", "pooler"),
    ),
    "account without connections": (
        replace(HEALTHY, connections=[Connections(place="account", used=1, allowed=0)]),
        *("connections", Status.FAIL, "1 of 0", "raise"),
    ),
    "idle sessions are ended": (
        with_settings(idle_session_timeout="60000"),
        *("timeouts", Status.WARN, "idle_session_timeout", "alter role"),
    ),
    "short statements only": (
        with_settings(statement_timeout="500"),
        *("timeouts", Status.WARN, "statement_timeout of 500 ms", "alter role"),
    ),
    "long statements": (with_settings(statement_timeout="60000"), "timeouts", Status.OK, "off", ""),
    "short waits only": (with_settings(lock_timeout="10"), "timeouts", Status.WARN, "lock_timeout", "alter role"),
    "transaction left open": (
        with_transaction(age=timedelta(minutes=90)),
        *("transactions", Status.WARN, "psql, pid 5 (idle in transaction, 90 min)", "pg_terminate_backend"),
    ),
    "autovacuum off": (with_settings(autovacuum="off"), "vacuum", Status.FAIL, "autovacuum is off", "set autovacuum"),
    "statistics off": (with_settings(track_counts="off"), "vacuum", Status.FAIL, "autovacuum is off", "track_counts"),
    "autovacuum off for the table": (
        with_table(is_vacuumed=False),
        *("vacuum", Status.FAIL, "for the table", "reset (autovacuum_enabled)"),
    ),
    "many dead rows": (
        with_table(live_rows=100_000, dead_rows=90_000, last_vacuum=None),
        *("vacuum", Status.WARN, "90,000 dead, not vacuumed yet", "vacuum"),
    ),
    "many dead rows among very many": (
        with_table(live_rows=10_000_000, dead_rows=90_000),
        *("vacuum", Status.OK, "90,000 dead, vacuumed 3 min ago", ""),
    ),
    "wraparound": (with_table(frozen_age=1_500_000_000), "vacuum", Status.FAIL, "1,500,000,000", "freeze"),
    "empty table of a gigabyte": (
        with_table(live_rows=100_000, bytes=1 << 30),
        *("bloat", Status.WARN, "table 1.0 GiB", "vacuum full"),
    ),
    "full table of a gigabyte": (with_table(live_rows=2_000_000, bytes=1 << 30), "bloat", Status.OK, "1.0 GiB", ""),
    "table never analyzed": (with_table(row_bytes=None, bytes=1 << 30), "bloat", Status.OK, "1.0 GiB", ""),
    "empty index": (
        with_index(bytes=200 << 20, entries=500),
        *("bloat", Status.WARN, "indexes 201 MiB", 'reindex index concurrently "other"'),
    ),
    "large full index": (with_index(bytes=200 << 20, entries=5e6), "bloat", Status.OK, "201 MiB", ""),
    "index never analyzed": (with_index(bytes=200 << 20, entries=-1), "bloat", Status.OK, "201 MiB", ""),
    "invalid index": (with_index(is_valid=False), "objects", Status.FAIL, "invalid indexes: other", "reindex"),
    "disabled triggers": (
        with_tables(disabled_triggers=["announceInserted"]),
        *("objects", Status.FAIL, "announceInserted", "enable trigger"),
    ),
    "leases not rescued": (
        with_tables(leases=Leases(expired=4, without_lease=0)),
        *("leases", Status.FAIL, "4 running rows", "start a worker"),
    ),
    "rows without a lease": (
        with_tables(leases=Leases(expired=0, without_lease=2)),
        *("foreign rows", Status.WARN, "2 rows", "another program"),
    ),
    "nobody works on a pool": (
        with_pool(workers=0),
        *("due rows", Status.FAIL, "pool mail: 1,500, for up to 3 h", "WORKER_POOL=mail"),
    ),
    "pool is busy": (with_pool(workers=4), "due rows", Status.WARN, "pool mail", "more"),
    "bad schedule": (
        with_line(schedule="61 * * * *"),
        *("cron", Status.FAIL, "unreadable schedules: report (61 * * * *, job 8)", "submit them anew"),
    ),
    "bad zone": (with_line(time_zone="Mars/Phobos"), "cron", Status.FAIL, "unreadable", "anew"),
    "line without a next row": (
        with_line(is_unfinished=False),
        *("cron", Status.FAIL, "without a next row: report", "submit others anew"),
    ),
    "late line": (with_line(late=timedelta(hours=5)), "cron", Status.WARN, "late: report", "see due rows"),
    "line in time": (with_line(late=timedelta(seconds=30)), "cron", Status.OK, "2 lines", ""),
    "many bad lines": (
        with_tables(cron_lines=[replace(LINE, job_id=n, schedule="x") for n in range(5)]),
        *("cron", Status.FAIL, "and 2 more", "anew"),
    ),
    "no worker": (
        with_tables(workers=0, unknown_types=[UnknownType(type="mail", pool="default", count=3)]),
        *("types", Status.WARN, "no live worker", "workerjobs worker"),
    ),
    "no worker and nothing to do": (with_tables(workers=0), "types", Status.OK, "nothing is pending", ""),
    "unknown type": (
        with_tables(unknown_types=[UnknownType(type="mail", pool="default", count=3)]),
        *("types", Status.FAIL, "none knows mail (pool default, 3 rows)", "WORKER_JOB_MODULES"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_finding(case: str) -> None:
    facts, name, status, seen, advice = CASES[case]
    finding = find(facts, name)
    assert finding.status is status
    assert seen in finding.seen
    assert advice in finding.advice
    assert bool(finding.advice) == (status is not Status.OK)


def test_without_tables_only_the_server_is_judged() -> None:
    names = {finding.name for finding in examine(replace(HEALTHY, tables=None))}
    assert "version" in names
    assert "cron" not in names


def test_the_worst_finding_counts() -> None:
    assert worst([]) is Status.OK
    assert worst(examine(with_settings(synchronous_commit="off"))) is Status.WARN
    assert worst(examine(with_settings(synchronous_commit="off", fsync="off"))) is Status.FAIL
