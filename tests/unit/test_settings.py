"""Reading settings from the environment."""

from __future__ import annotations

from typing import Any

import pytest

from workerjobs.errors import InvalidSettingsError
from workerjobs.settings import database_url, operator_settings, worker_settings

URL = "postgresql://ada:secret-word@localhost:5432/jobs"


def test_nothing_set_gives_the_defaults() -> None:
    settings = worker_settings({})
    assert settings.database_url is None
    assert settings.worker_count == "cpus"
    assert settings.log_level == "info"
    assert settings.job_modules == ()
    assert settings.pool == "default"
    assert settings.grace_seconds == 20
    assert (settings.health_host, settings.health_port) == ("127.0.0.1", 8090)
    assert settings.database_wait_seconds == 0
    assert settings.builtin_jobs is True
    assert (settings.isolation, settings.job_memory_mib) == ("warm", None)
    assert (settings.child_max_jobs, settings.child_max_mib) == (100_000, 1024)
    assert settings.renew_seconds * 3 <= settings.lease_seconds


def test_operator_has_no_default_pool_where_nothing_is_set() -> None:
    settings = operator_settings({})
    assert (settings.worker_count, settings.default_pool) == (None, None)
    assert (settings.database_secret, settings.chain_secret) == ("workerjobs-database", "workerjobs-chain")
    assert (settings.database_url_key, settings.database_direct_url_key) == ("url", "directUrl")
    assert (settings.namespaces, settings.cluster_id) == ((), None)


def test_operator_hands_on_what_all_workers_with_chains_are_to_know() -> None:
    given = {"WEB3_SUPPORTED_CHAINS": " base ", "WEB3_POOL": "", "WEB3_SERVER_WALLET_PRIVATE_KEY": "0x1"}
    assert operator_settings(given).chain_variables == {"WEB3_SUPPORTED_CHAINS": "base"}


def test_empty_means_not_set() -> None:
    assert worker_settings({"WORKER_COUNT": "", "DATABASE_URL": "  ", "WORKER_JOB_MODULES": " , "}) == (
        worker_settings({})
    )


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("DATABASE_URL", f" {URL} ", "database_url", URL),
        ("DATABASE_URL", "postgres:///jobs", "database_url", "postgres:///jobs"),
        ("WORKER_COUNT", "1", "worker_count", 1),
        ("WORKER_COUNT", "1000", "worker_count", 1000),
        ("WORKER_COUNT", "cpus", "worker_count", "cpus"),
        ("WORKER_COUNT", "auto", "worker_count", "auto"),
        ("WORKER_LOG_LEVEL", "TRACE", "log_level", "trace"),
        ("WORKER_JOB_MODULES", "shop.jobs, /srv/jobs.py,", "job_modules", ("shop.jobs", "/srv/jobs.py")),
        ("WORKER_POOL", "heavy", "pool", "heavy"),
        ("WORKER_GRACE_SECONDS", "0.5", "grace_seconds", 0.5),
        ("WORKER_HEALTH_HOST", "0.0.0.0", "health_host", "0.0.0.0"),
        ("WORKER_HEALTH_PORT", "0", "health_port", 0),
        ("WORKER_HEALTH_PORT", "off", "health_port", None),
        ("DATABASE_WAIT_SECONDS", "60", "database_wait_seconds", 60),
        ("WORKER_BUILTIN_JOBS", "Off", "builtin_jobs", False),
        ("WORKER_ISOLATION", "Fresh", "isolation", "fresh"),
        ("WORKER_JOB_MEMORY_MIB", "32", "job_memory_mib", 32),
        ("WORKER_JOB_MEMORY_MIB", "0", "job_memory_mib", None),
        ("WORKER_CHILD_MAX_JOBS", "1", "child_max_jobs", 1),
        ("WORKER_CHILD_MAX_JOBS", "0", "child_max_jobs", 0),
        ("WORKER_CHILD_MAX_MIB", "2048", "child_max_mib", 2048),
    ],
)
def test_value_is_read(name: str, text: str, field: str, value: Any) -> None:
    assert getattr(worker_settings({name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text", "accepted"),
    [
        *(
            ("WORKER_COUNT", text, 'a number from 1 to 1000, "cpus" or "auto"')
            for text in ("0", "-1", "+1", "abc", "1.5", "1e3", "1001", "1_0", "\u0661", "AUTO", "CPUS")
        ),
        ("WORKER_LOG_LEVEL", "verbose", "trace, debug, info, warn, error"),
        *(
            ("WORKER_GRACE_SECONDS", text, "seconds from 0 to 86400")
            for text in ("-1", "86401", "nan", "inf", "20s", "abc")
        ),
        *(("WORKER_HEALTH_PORT", text, 'a port from 0 to 65535, or "off"') for text in ("-1", "65536", "http", "1.5")),
        ("DATABASE_WAIT_SECONDS", "-5", "seconds from 0 to 86400"),
        ("WORKER_BUILTIN_JOBS", "no", "on or off"),
        ("WORKER_ISOLATION", "cold", "warm or fresh"),
        *(
            ("WORKER_JOB_MEMORY_MIB", text, "MiB from 32 to 1048576, or 0 for no limit")
            for text in ("31", "-1", "1048577", "256M", "1_000")
        ),
        ("WORKER_CHILD_MAX_JOBS", "-1", "a number from 0 to 2147483647"),
        ("WORKER_CHILD_MAX_MIB", "1.5", "MiB from 0 to 1048576"),
    ],
)
def test_bad_value_is_refused_with_what_is_accepted(name: str, text: str, accepted: str) -> None:
    with pytest.raises(InvalidSettingsError) as raised:
        worker_settings({name: text})
    assert raised.value.problems == [f"{name}={text!r} is not accepted: give {accepted}"]


def test_all_problems_are_reported_at_once() -> None:
    bad = {"WORKER_COUNT": "0", "WORKER_LOG_LEVEL": "loud", "DATABASE_URL": "mysql://", "WORKER_HEALTH_PORT": "x"}
    with pytest.raises(InvalidSettingsError) as raised:
        worker_settings(bad)
    assert sorted(problem.partition("=")[0].split()[0] for problem in raised.value.problems) == sorted(bad)
    with pytest.raises(InvalidSettingsError) as raised:
        operator_settings(bad)
    assert len(raised.value.problems) == 4


@pytest.mark.parametrize(
    "text", [URL.replace("postgresql", "mysql"), "secret-word", "host=localhost password=secret-word"]
)
def test_refused_database_url_is_not_repeated(text: str) -> None:
    for read in (database_url, worker_settings, operator_settings):
        with pytest.raises(InvalidSettingsError) as raised:
            read({"DATABASE_URL": text})
        assert "secret-word" not in str(raised.value)
        assert str(raised.value).startswith("DATABASE_URL is not accepted: give postgresql://")


@pytest.mark.parametrize(("text", "count"), [("2", 2), ("cpus", "cpus"), ("auto", "auto")])
def test_operators_worker_count_is_the_default_pools(text: str, count: object) -> None:
    assert operator_settings({"WORKER_COUNT": text}).worker_count == count
    with pytest.raises(InvalidSettingsError, match='or "auto"'):
        operator_settings({"WORKER_COUNT": "many"})


def test_direct_url_stands_beside_the_other_one() -> None:
    both = {"DATABASE_URL": URL, "DATABASE_DIRECT_URL": f"{URL}2"}
    for read in (worker_settings, operator_settings):
        settings = read(both)
        assert (settings.database_url, settings.database_direct_url) == (URL, f"{URL}2")
        assert read({"DATABASE_URL": URL}).database_direct_url is None
        with pytest.raises(InvalidSettingsError) as raised:
            read({"DATABASE_DIRECT_URL": URL, "WORKER_LOG_LEVEL": "loud"})
        assert raised.value.problems == [
            "DATABASE_DIRECT_URL needs DATABASE_URL, the same database through its pooler",
            "WORKER_LOG_LEVEL='loud' is not accepted: give trace, debug, info, warn, error",
        ]
        with pytest.raises(InvalidSettingsError, match="DATABASE_DIRECT_URL is not accepted") as raised:
            read({"DATABASE_URL": URL, "DATABASE_DIRECT_URL": "mysql://a:secret@h"})
        assert "secret" not in str(raised.value)
