"""What the operator tells over HTTP: its metrics, and backlogs for who scales by them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.loop import in_loop
from tests.support.operators import Operators, WorkerJobs, eventually, workerjob
from tests.support.pools import WorkerPools
from tests.support.table import open_store, sql
from workerjobs.domain.job import NewJob
from workerjobs.domain.limits import PauseKind

pytestmark = pytest.mark.cluster

TOKEN = "a-token-of-the-test"
HOST = {"WORKER_HEALTH_PORT": "0", "WORKER_LOG_LEVEL": "debug"}


def url_of(operator: Any) -> str:
    """Where the operator says that its probes are."""
    said = eventually(lambda: [each["message"] for each in operator.said() if "metrics at" in each["message"]])
    return str(said[0]).rpartition(" ")[2]


def get(url: str, token: str | None = None, **options: Any) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers, **options)  # http, to this machine
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@in_loop
async def test_backlog_of_a_pool_is_told_as_json_to_who_knows_the_token(
    operators: Operators, jobs: WorkerJobs, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    at = url_of(operators.start(**HOST, WORKERJOBS_BACKLOG_TOKEN_FILE=str(file)))
    page = f"{at}/backlog/{jobs.namespace}/gpu"
    status, text = get(page, TOKEN)
    missing = f"There is no WorkerPool gpu in namespace {jobs.namespace}"
    assert (status, json.loads(text)["error"]) == (404, missing)
    pools = WorkerPools(jobs.cluster, jobs.namespace)
    pools.apply("gpu", workerCount=0, types=["report"], maxWorkers=2)
    assert json.loads(get(page, TOKEN)[1]) == {"backlog": 0, "running": 0, "desired": 0}
    named = f'workerpool="{jobs.namespace}/gpu"'
    eventually(lambda: metrics_of(at).get(f"workerjobs_workerpool_desired_pods{{{named}}}") == 0)
    assert metrics_of(at)[f'workerjobs_workerpool_pods{{state="ready",{named}}}'] == 0
    async with open_store(database_url) as store:
        later = datetime.now(UTC) + timedelta(hours=1)
        waiting = [NewJob(type="report", pool="gpu") for _ in range(3)]
        # In another pool, of a type that this one's workers do not take, and not due yet.
        other = [NewJob(type=kind, pool=pool) for kind, pool in (("report", "default"), ("mail", "gpu"))]
        other.append(NewJob(type="report", pool="gpu", due=later))
        await store.submit([*waiting, *other])
        await store.claim("a worker", "gpu", 1, timedelta(minutes=1), ["report"])
        status, text = get(page, TOKEN)
        assert (status, json.loads(text)) == (200, {"backlog": 2, "running": 1, "desired": 1})
        # As many as the work asks for, within the pool's bounds, and whatever was asked for so far.
        pools.patch("gpu", replicas=1)
        sql(database_url, """update "workerJobs" set started = now() - interval '1 hour' where started is not null""")
        assert json.loads(get(page, TOKEN)[1])["desired"] == 2
        # Paused jobs ask for no workers.
        await store.pause(PauseKind.POOL, "gpu")
        assert json.loads(get(page, TOKEN)[1]) == {"backlog": 0, "running": 1, "desired": 1}
        pools.patch("gpu", paused=True)
        assert json.loads(get(page, TOKEN)[1])["desired"] == 0
    for given in (None, "wrong", ""):
        status, text = get(page, given)
        assert (status, json.loads(text)["error"][:14]) == (401, "Give the token")
    status, text = get(f"{at}/backlog/elsewhere/gpu", TOKEN)
    assert (status, json.loads(text)["error"]) == (404, "There is no WorkerPool gpu in namespace elsewhere")
    assert get(f"{at}/backlog/gpu", TOKEN) == (404, '{"error": "Ask for /backlog/NAMESPACE/POOL"}\n')
    assert get(page, TOKEN, method="POST")[0] == 405


def test_operator_without_a_token_tells_no_backlogs_and_a_short_token_is_refused(
    operators: Operators, jobs: WorkerJobs
) -> None:
    at = url_of(operators.start(**HOST))
    status, text = get(f"{at}/backlog/{jobs.namespace}/default", TOKEN)
    assert (status, "WORKERJOBS_BACKLOG_TOKEN is not set" in text) == (404, True)
    refused = operators.start(WORKERJOBS_BACKLOG_TOKEN="short")
    assert refused.wait() != 0
    assert "The token of WORKERJOBS_BACKLOG_TOKEN is too short: give 16 characters" in refused.log.read_text()


def test_metrics_tell_of_passes_calls_leadership_and_the_watch(operators: Operators, jobs: WorkerJobs) -> None:
    lease = {"WORKERJOBS_LEASE": f"{jobs.namespace}/operator"}
    leader = operators.start(**HOST, **lease)
    jobs.apply(workerjob("a"))
    jobs.wait("a", "Pending")
    other = operators.start(**HOST, **lease)
    values = metrics_of(url_of(leader))
    assert values["workerjobs_operator_is_leader"] == 1
    assert values["workerjobs_operator_leader_transitions_total"] == 1
    assert values["workerjobs_operator_reconcile_seconds_count"] >= 1
    assert values["workerjobs_operator_queue"] == 0
    assert values["workerjobs_listening"] == 1
    assert values['workerjobs_operator_failures_total{what="workerpools"}'] == 0
    assert values["process_resident_memory_bytes"] > 0
    assert values["workerjobs_operator_watch_age_seconds"] < 90
    assert values['workerjobs_operator_api_calls_total{code="200",resource="workerjobs/status",verb="PATCH"}'] >= 1
    assert values['workerjobs_operator_api_calls_total{code="200",resource="pods",verb="WATCH"}'] >= 1
    at = url_of(other)
    eventually(lambda: metrics_of(at)["workerjobs_operator_leader_transitions_total"] == 1)
    assert metrics_of(at)["workerjobs_operator_is_leader"] == 0
    # Who stands by is ready: it could take over.
    assert get(f"{at}/readyz") == (200, "ok\n")


def metrics_of(url: str) -> dict[str, float]:
    lines = [line for line in get(f"{url}/metrics")[1].splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
