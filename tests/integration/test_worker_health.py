"""Probes and metrics of a worker."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.support.loop import in_loop, until
from tests.support.table import allow_connections, open_store
from tests.support.workers import Told, WorkerProcess, finished, run_one, worker_process
from workerjobs.app import probes
from workerjobs.domain.job import NewJob
from workerjobs.errors import InvalidSettingsError
from workerjobs.storage.migrate import migrate_url
from workerjobs.web.health import STALLED_SECONDS, HealthServer


def get(url: str) -> tuple[int, str]:
    """Ask, and give the status and the text."""
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def ask(url: str) -> tuple[int, str]:
    return await asyncio.to_thread(get, url)


async def metrics(url: str) -> dict[str, float]:
    """All samples, by name and labels."""
    _, text = await ask(f"{url}/metrics")
    return {
        " ".join([sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def url_of(process: WorkerProcess) -> str:
    """Where a worker with log level debug serves."""
    (record,) = await until(lambda: process.said("Probes and metrics at"))
    found = re.search(r"http://\S+", record["message"])
    assert found is not None
    return found[0]


@pytest.mark.slow
@in_loop
async def test_probes_stay_good_while_a_busy_worker_has_no_database(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with (
        worker_process(
            database_url, tmp_path, count=2, WORKER_HEALTH_PORT="0", WORKER_LOG_LEVEL="debug", WORKER_GRACE_SECONDS="1"
        ) as process,
        open_store(database_url) as store,
    ):
        url = await url_of(process)
        (job,) = await store.submit([NewJob(type="hold", data=told.data())])
        await told.run(job)
        assert await ask(f"{url}/healthz") == (200, "ok\n")
        assert await ask(f"{url}/readyz") == (200, "ok\n")
        assert (await metrics(url))["workerjobs_database_up"] == 1
        allow_connections(database_url, False)
        try:

            async def is_down() -> bool:
                return (await metrics(url))["workerjobs_database_up"] == 0

            await until(is_down)
            assert await ask(f"{url}/healthz") == (200, "ok\n")
            assert await ask(f"{url}/readyz") == (200, "ok\n")
            # The first word about it is a warning, once; the rest is for those who look closely.
            warnings = [record for record in process.records() if record["level"] == "warning"]
            assert 1 <= len(warnings) <= 6
        finally:
            allow_connections(database_url, True)

        async def is_up() -> bool:
            return (await metrics(url))["workerjobs_database_up"] == 1

        await until(is_up)
        told.go()
        async with open_store(database_url) as again:
            await finished(again, job)


@in_loop
async def test_metrics_count_what_the_worker_does(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with (
        worker_process(database_url, tmp_path, count=3, WORKER_HEALTH_PORT="0", WORKER_LOG_LEVEL="debug") as process,
        open_store(database_url) as store,
    ):
        url = await url_of(process)
        (holding,) = await store.submit([NewJob(type="hold", data=told.data())])
        await told.run(holding)
        for _ in range(3):
            await run_one(store, "echo")
        await run_one(store, "raise", {"what": "plain"})
        await run_one(store, "end", {"how": "SIGKILL"})
        # The row is finished a moment before the worker has counted it, and a new child is there a moment later.
        expected = {
            "workerjobs_jobs_settled_total outcome=succeeded type=echo": 3.0,
            "workerjobs_jobs_settled_total outcome=failed type=raise": 1.0,
            "workerjobs_jobs_settled_total outcome=failed type=end": 1.0,
            "workerjobs_job_duration_seconds_count type=echo": 3.0,
            "workerjobs_job_pickup_seconds_count": 6.0,
            "workerjobs_children_lost_total": 1.0,
            "workerjobs_children state=busy": 1.0,
            "workerjobs_children state=idle": 2.0,
            "workerjobs_children state=starting": 0.0,
            "workerjobs_children state=stopping": 0.0,
            "workerjobs_jobs_running": 1.0,
            "workerjobs_database_up": 1.0,
            "workerjobs_listening": 1.0,
            "workerjobs_settlements_waiting": 0.0,
            "workerjobs_settlements_refused_total reason=lease": 0.0,
            "workerjobs_jobs_stopped_total reason=timed_out": 0.0,
        }

        async def as_expected() -> bool:
            samples = await metrics(url)
            return {name: samples.get(name) for name in expected} == expected

        await until(as_expected)
        assert (await metrics(url))["workerjobs_claim_duration_seconds_count"] >= 6
        assert (await metrics(url))["workerjobs_settle_duration_seconds_count"] >= 1
        process.send(signal.SIGTERM)
        await until(lambda: process.said("Stopping: 1 jobs are running"))
        # Probed to the end: a draining worker lives.
        assert (await ask(f"{url}/healthz"))[0] == 200
        told.go()
        await process.ended()


@in_loop
async def test_worker_waits_for_its_database_and_says_so_before_it_is_ready(
    empty_database_url: str, tmp_path: Path
) -> None:
    migrate = asyncio.create_task(asyncio.to_thread(_migrate_when_asked, empty_database_url, tmp_path / "worker.log"))
    async with (
        worker_process(empty_database_url, tmp_path, DATABASE_WAIT_SECONDS="180") as process,
        open_store(empty_database_url) as store,
    ):
        assert len(process.said("Waiting: The database")) == 1
        await run_one(store, "echo")
    await migrate
    assert migrate_url(empty_database_url) == []


def _migrate_when_asked(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while not (log.exists() and "Waiting: The database" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    migrate_url(url)


# --- the server by itself


def test_health_follows_the_loop_and_readiness_the_start() -> None:
    state = {"life": 0.0, "started": False}
    server = HealthServer(
        "127.0.0.1",
        0,
        seconds_since_life=lambda: state["life"],
        is_started=lambda: bool(state["started"]),
        registry=CollectorRegistry(),
    )
    try:
        assert get(f"{server.url}/healthz") == (200, "ok\n")
        assert get(f"{server.url}/readyz") == (503, "starting\n")
        state["started"] = True
        assert get(f"{server.url}/readyz") == (200, "ok\n")
        state["life"] = STALLED_SECONDS + 5
        assert get(f"{server.url}/healthz") == (503, "stalled for 15 s\n")
        assert get(f"{server.url}/readyz") == (200, "ok\n")
        assert get(f"{server.url}/other")[0] == 404
    finally:
        server.close()


def test_all_addresses_are_those_of_both_families() -> None:
    server = serve(0, "::")
    assert server is not None
    try:
        assert get(f"{server.url}/healthz") == (200, "ok\n")
        if socket.has_dualstack_ipv6():
            assert get(f"http://[::1]:{server.port}/healthz") == (200, "ok\n")
    finally:
        server.close()


def serve(port: int, host: str = "127.0.0.1") -> HealthServer | None:
    return probes.serve_health(
        host,
        port,
        seconds_since_life=lambda: 0,
        is_started=lambda: True,
        registry=CollectorRegistry(),
        role="worker",
    )


def test_port_that_is_taken_is_refused_where_it_was_chosen_and_replaced_where_it_is_the_default(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSettingsError) as raised:
            serve(port)
        assert f"WORKER_HEALTH_PORT={port} can't be used on 127.0.0.1: it is taken" in str(raised.value)
        monkeypatch.setattr(probes, "DEFAULT_HEALTH_PORT", port)
        server = serve(port)
        assert server is not None
        try:
            assert server.port != port
            assert f"Port {port} is taken: probes and metrics are at {server.url}" in caplog.text
        finally:
            server.close()


def test_no_port_serves_nothing() -> None:
    assert (
        probes.serve_health(
            "127.0.0.1",
            None,
            seconds_since_life=lambda: 0,
            is_started=lambda: True,
            registry=CollectorRegistry(),
            role="worker",
        )
        is None
    )
