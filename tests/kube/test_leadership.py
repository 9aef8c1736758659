"""Two operators, one that acts: who is killed or stopped is replaced, and writes nothing afterwards."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from tests.support.cluster.controlplane import Cluster
from tests.support.loop import in_loop
from tests.support.operators import Operator, Operators, Proxy, WorkerJobs, eventually, workerjob
from tests.support.table import count_rows, sql
from workerjobs.errors import DatabaseUnavailableError, LeadershipLostError
from workerjobs.kube.election import LEASE_SECONDS, LeaseState, Move, decide
from workerjobs.ports.workers import Leadership
from workerjobs.storage.fenced import FencedJobStore

SECONDS_TO_TAKE_OVER = 15.0


@pytest.fixture
def lease(jobs: WorkerJobs) -> dict[str, str]:
    """The environment of operators that share a Lease of this test."""
    return {"WORKERJOBS_LEASE": f"{jobs.namespace}/workerjobs-operator"}


def spec_of(jobs: WorkerJobs) -> dict[str, Any]:
    found = jobs.kubectl("get", "lease", "workerjobs-operator", "-o", "json", check=False)
    spec: dict[str, Any] = json.loads(found.stdout)["spec"] if found.returncode == 0 else {}
    return spec


def leading(operator: Operator) -> bool:
    return any(each["message"].startswith("Leading, as number") for each in operator.said())


def standing_by(operator: Operator) -> bool:
    return any(each["message"].startswith("Standing by") for each in operator.said())


def pair(operators: Operators, lease: dict[str, str], **of_first: str) -> tuple[Operator, Operator]:
    """Start two operators; returns the leader, and the one that stands by."""
    first = operators.start(**lease | {"POD_NAME": "operator-1"} | of_first)
    eventually(lambda: leading(first))
    second = operators.start(**lease | {"POD_NAME": "operator-2"})
    eventually(lambda: standing_by(second))
    return first, second


def rows_by_name(url: str) -> dict[str, int]:
    found = sql(url, 'select "resourceName", count(*) from "workerJobs" group by 1')
    return {str(name): int(count) for name, count in found}


# --- deciding


@pytest.mark.parametrize(
    ("lease_state", "unchanged", "move"),
    [
        (LeaseState(None, 0, None), 0.0, Move.TAKE),
        (LeaseState(None, 3, "7"), 0.0, Move.TAKE),  # given back
        (LeaseState("me", 3, "7"), 0.0, Move.RENEW),
        (LeaseState("other", 3, "7"), LEASE_SECONDS - 0.1, Move.WAIT),
        (LeaseState("other", 3, "7"), LEASE_SECONDS, Move.TAKE),
    ],
)
def test_lease_is_taken_where_nobody_holds_it_or_its_holder_has_not_renewed_it(
    lease_state: LeaseState, unchanged: float, move: Move
) -> None:
    assert decide(lease_state, "me", unchanged) is move


# --- the fence


@in_loop
async def test_store_of_one_that_does_not_lead_any_more_reads_and_writes_nothing(database_url: str) -> None:
    refusals: list[str] = []
    first = FencedJobStore(database_url, "first", lambda: refusals.append("first"))
    second = FencedJobStore(database_url, "second", lambda: refusals.append("second"))
    try:
        with pytest.raises(LeadershipLostError):
            await first.now()
        refusals.clear()
        one, two = Leadership("here/ns/lease", 1, "first"), Leadership("here/ns/lease", 2, "second")
        assert await first.lead(one) == one
        await first.now()
        assert await second.lead(two) == two
        with pytest.raises(LeadershipLostError):
            await first.release_lost([])
        assert refusals == ["first"]
        await second.now()
        # It learns of the later one, and counts on from that.
        assert await first.lead(one) == two
        third = Leadership("here/ns/lease", 3, "first")
        assert await first.lead(third) == third
        with pytest.raises(LeadershipLostError):
            await second.now()
        # Another cluster's operators are nobody's rivals.
        elsewhere = Leadership("there/ns/lease", 1, "second")
        assert await second.lead(elsewhere) == elsewhere
        await first.now()
    finally:
        await first.close()
        await second.close()


@in_loop
async def test_leader_that_was_stopped_within_a_transaction_keeps_nobody_from_taking_over(database_url: str) -> None:
    first = FencedJobStore(database_url, "first", lambda: None)
    second = FencedJobStore(database_url, "second", lambda: None)
    try:
        await first.lead(Leadership("lease", 1, "first"))

        async def be_stopped_while_another_takes_over() -> None:
            async with first._connected() as connection:
                await connection.execute("insert into \"workerJobs\" (type) values ('late')")
                began = time.monotonic()
                assert (await second.lead(Leadership("lease", 2, "second"))).holder == "second"
                assert time.monotonic() - began < LEASE_SECONDS
                await connection.execute("select 1")

        with pytest.raises(DatabaseUnavailableError):
            await be_stopped_while_another_takes_over()
        assert count_rows(database_url) == 0
        with pytest.raises(LeadershipLostError):
            await first.now()
    finally:
        await first.close()
        await second.close()


# --- operators as processes


@pytest.mark.cluster
def test_one_of_two_operators_acts_and_gives_the_lease_back_when_it_ends(
    operators: Operators, jobs: WorkerJobs, lease: dict[str, str], database_url: str
) -> None:
    first, second = pair(operators, lease)
    assert spec_of(jobs)["holderIdentity"].startswith("operator-1_")
    jobs.apply(workerjob("a"), workerjob("b"))
    jobs.wait("a", "Pending")
    first.stop()
    # Given back, and not left to run out.
    assert not (spec_of(jobs).get("holderIdentity") or "").startswith("operator-1_")
    eventually(lambda: leading(second))
    jobs.apply(workerjob("c"))
    jobs.wait("c", "Pending")
    assert rows_by_name(database_url) == {"a": 1, "b": 1, "c": 1}
    transitions = spec_of(jobs)["leaseTransitions"]
    assert sql(database_url, 'select transitions from "workerJobLeaders"') == [(transitions,)]
    second.stop()
    assert [*first.complaints(), *second.complaints()] == []


@pytest.mark.cluster
@pytest.mark.slow
def test_killed_leader_is_replaced_within_fifteen_seconds_and_nothing_is_doubled(
    operators: Operators, jobs: WorkerJobs, lease: dict[str, str], database_url: str
) -> None:
    first, second = pair(operators, lease)
    jobs.apply(*(workerjob(f"before-{number}") for number in range(50)))
    jobs.wait("before-0", "Pending")
    first.kill()
    began = time.monotonic()
    # Known to nobody that acts, and one is gone before anybody does.
    jobs.apply(*(workerjob(f"meanwhile-{number}") for number in range(50)))
    jobs.delete("before-1")
    eventually(lambda: leading(second))
    assert time.monotonic() - began < SECONDS_TO_TAKE_OVER
    eventually(lambda: len(rows_by_name(database_url)) == 100)
    eventually(lambda: count_rows(database_url, "finished is not null and \"resourceName\" = 'before-1'") == 1)
    eventually(lambda: set(jobs.states().values()) == {"Pending"})
    assert set(rows_by_name(database_url).values()) == {1}
    assert second.complaints() == []


@pytest.mark.cluster
@pytest.mark.slow
def test_leader_that_was_stopped_for_thirty_seconds_writes_nothing_when_it_goes_on_and_ends(
    operators: Operators, jobs: WorkerJobs, lease: dict[str, str], database_url: str
) -> None:
    first, second = pair(operators, lease)
    cron = {"type": "report", "cronSchedule": "@daily"}
    jobs.apply(*(workerjob(f"before-{number}") for number in range(20)), workerjob("cron", cron))
    jobs.wait("cron", "Scheduled")
    first.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        jobs.apply(*(workerjob(f"meanwhile-{number}") for number in range(20)))
        jobs.delete("before-1")
        eventually(lambda: leading(second))
        eventually(lambda: len(rows_by_name(database_url)) == 41)
        eventually(lambda: len(jobs.states()) == 40 and None not in jobs.states().values())
        time.sleep(max(0.0, 30 - (time.monotonic() - began)))
        before = sql(database_url, 'select * from "workerJobs" order by id')
        versions = {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in jobs.all()}
    finally:
        first.process.send_signal(signal.SIGCONT)
    assert first.wait() == 1
    assert "Traceback" not in first.log.read_text()
    assert sql(database_url, 'select * from "workerJobs" order by id') == before
    assert {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in jobs.all()} == versions
    assert set(rows_by_name(database_url).values()) == {1}
    assert second.process.poll() is None


@pytest.mark.cluster
@pytest.mark.slow
def test_leader_that_loses_the_api_server_ends_and_the_other_takes_over(
    operators: Operators, jobs: WorkerJobs, cluster: Cluster, lease: dict[str, str], tmp_path: Any
) -> None:
    proxy = Proxy(cluster, tmp_path)
    first, second = pair(operators, lease, KUBECONFIG=str(proxy.kubeconfig))
    proxy.cut()
    assert first.wait() == 1
    eventually(lambda: leading(second))
    assert "could not be renewed for 5 s: this operator ends" in first.log.read_text()


@pytest.mark.cluster
@pytest.mark.slow
def test_lease_that_was_deleted_is_made_anew_and_counts_on_from_what_the_database_knows(
    operators: Operators, jobs: WorkerJobs, lease: dict[str, str], database_url: str
) -> None:
    first = operators.start(**lease)
    eventually(lambda: leading(first))
    eventually(lambda: transitions_of(database_url) == [(1,)])
    sql(database_url, 'update "workerJobLeaders" set transitions = 7')  # as many had led before
    first.kill()
    jobs.kubectl("delete", "lease", "workerjobs-operator")
    second = operators.start(**lease)
    jobs.apply(workerjob("a"))
    jobs.wait("a", "Pending")
    eventually(lambda: spec_of(jobs)["leaseTransitions"] == 8)
    assert transitions_of(database_url) == [(8,)]
    assert second.process.poll() is None


def transitions_of(url: str) -> list[tuple[Any, ...]]:
    return sql(url, 'select transitions from "workerJobLeaders"')
