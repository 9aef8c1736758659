"""The operator as a process, on a real API server and a real Postgres."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.loop import in_loop
from tests.support.operators import Operators, Proxy, WorkerJobs, eventually, workerjob
from tests.support.table import FAILURE, claim_all, count_rows, open_store, read, settlement, sql
from workerjobs.domain.job import Job
from workerjobs.domain.lifecycle import Outcome, settle
from workerjobs.ports.jobs import Lease, Progress
from workerjobs.storage.postgres import PostgresJobStore

pytestmark = pytest.mark.cluster

TIME_TO_CANCEL = timedelta(seconds=2)


def database_now(url: str) -> datetime:
    moment: datetime = sql(url, "select clock_timestamp()")[0][0]
    return moment


async def claim_when_there(store: PostgresJobStore, count: int = 1) -> list[Job]:
    """Claim jobs as soon as they are in the table."""
    found: list[Job] = []
    deadline = time.monotonic() + 60
    while len(found) < count:
        found += await claim_all(store)
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return found


def shows_failed_run(jobs: WorkerJobs, job: Job) -> bool:
    assert job.started is not None
    status = jobs.status("a")
    failed = [each["status"] for each in status.get("conditions", ()) if each["type"] == "Failed"]
    return status.get("lastRun") == f"{job.started:%Y-%m-%dT%H:%M:%SZ}" and failed == ["True"]


# --- one job


@in_loop
async def test_job_goes_from_manifest_to_row_and_its_ends_to_the_status(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    jobs.apply(workerjob("a", {"type": "report", "data": {"z": 1, "a": 2}, "userId": 7, "priority": 3}))
    pending = jobs.wait("a", "Pending")
    assert pending["observedGeneration"] == 1
    async with open_store(database_url) as store:
        (job,) = await claim_when_there(store)
        assert (job.id, job.type, job.data_json, job.user_id, job.priority) == (
            pending["jobId"],
            "report",
            '{"a":2,"z":1}',  # kubectl sorts
            7,
            3,
        )
        assert (job.namespace, job.resource_name, job.resource_uid) == (jobs.namespace, "a", jobs.uid("a"))
        jobs.wait("a", "Running")
        await store.save_progress([Progress(job.id, job.fencing_token or 0, '{"current": 1, "total": 4}')])
        eventually(lambda: jobs.status("a").get("progress") == {"current": 1, "total": 4, "percent": 25})
        await store.settle([settlement(job, Outcome(success=True, result_json='{"rows": [1, null]}'))])
    jobs.kubectl("wait", "--for=condition=Complete", "wj/a", "--timeout=50s")
    status = jobs.status("a")
    assert (status["state"], status["result"]) == ("Succeeded", {"rows": [1, None]})
    assert status["lastRun"].startswith("20")
    assert "progress" not in status


@in_loop
async def test_job_that_is_retried_is_failed_only_at_its_end(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    jobs.apply(workerjob("a", {"type": "report", "retry": {"limit": 1, "initialDelaySeconds": 0}}))
    async with open_store(database_url) as store:
        for attempt in (1, 2):
            (job,) = await claim_when_there(store)
            assert job.attempt == attempt
            jobs.wait("a", "Running")
            await store.settle([settle(job, FAILURE, now=await store.now())])
            if attempt == 1:
                status = jobs.wait("a", "Pending")
                assert (status["attempt"], status["error"]) == (2, "no paper")
                assert jobs.condition("a", "Failed")["reason"] == "RetryWaiting"
    status = jobs.wait("a", "Failed")
    assert (status["attempt"], status["error"], status["result"]) == (2, "no paper", {"error": "no paper"})
    jobs.kubectl("wait", "--for=condition=Failed", "wj/a", "--timeout=50s")


@in_loop
async def test_cron_job_shows_its_next_and_its_last_run(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    jobs.apply(workerjob("a", {"type": "report", "cronSchedule": "* * * * * *"}))
    assert "nextDue" in jobs.wait("a", "Scheduled")
    async with open_store(database_url) as store:
        for _ in range(2):
            (job,) = await claim_when_there(store)
            assert job.cron_key == f"resource:{job.cluster_id}:{jobs.uid('a')}"
            await store.settle([settle(job, FAILURE, now=await store.now())])
            eventually(partial(shows_failed_run, jobs, job))
            shown = jobs.status("a")
            assert shown["nextDue"] > shown["lastRun"]
    # It goes on after a failure, as one line.
    assert count_rows(database_url, "finished is null") == 1


def test_spec_that_only_python_can_judge_is_invalid_and_disturbs_nothing(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operator = operators.start()
    jobs.apply(
        workerjob("zone", {"type": "x", "cronSchedule": "@daily", "timeZone": "Europe/Berlim"}),
        workerjob("day", {"type": "x", "cronSchedule": "0 0 30 2 *"}),
        workerjob("text", {"type": "x", "data": {"a": "\0"}}),
        workerjob("good"),
    )
    jobs.wait("good", "Pending")
    for name, sentence in (
        ("zone", "spec.timeZone: time zone 'Europe/Berlim' is unknown: accepted are IANA names such as Europe/Berlin"),
        ("day", "spec.cronSchedule: cron schedule '0 0 30 2 *' never comes: there is no day 30 in FEB"),
        ("text", "spec.data can't be stored: a string holds a NUL character, which Postgres can't store"),
    ):
        jobs.wait(name, "Invalid")
        accepted = jobs.condition(name, "Accepted")
        assert (accepted["status"], accepted["reason"], accepted["message"]) == ("False", "SpecRefused", sentence)
    assert count_rows(database_url) == 1
    # Corrected, it is taken.
    jobs.apply(workerjob("day", {"type": "x", "cronSchedule": "0 0 28 2 *"}))
    jobs.wait("day", "Scheduled")
    operator.stop()
    assert operator.complaints() == []


def test_resources_get_no_annotations_and_no_finalizers(operators: Operators, jobs: WorkerJobs) -> None:
    operators.start()
    jobs.kubectl("create", "-f", "-", input=json.dumps(workerjob("a", labels={"app": "shop"})))
    jobs.wait("a", "Pending")
    jobs.apply(workerjob("a", {"type": "report", "priority": 5}, labels={"app": "shop"}))
    eventually(lambda: jobs.status("a")["observedGeneration"] == 2)
    metadata = jobs.get("a")["metadata"]
    assert "finalizers" not in metadata
    assert list(metadata["annotations"]) == ["kubectl.kubernetes.io/last-applied-configuration"]


# --- changes


@in_loop
async def test_change_reaches_a_pending_job_and_not_a_running_one(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    jobs.apply(workerjob("a", {"type": "report", "data": {"n": 1}}))
    first = jobs.wait("a", "Pending")
    jobs.apply(workerjob("a", {"type": "report", "data": {"n": 2}, "due": "2000-01-01T00:00:00Z"}))
    eventually(lambda: jobs.status("a")["observedGeneration"] == 2)
    async with open_store(database_url) as store:
        (job,) = await claim_when_there(store)
        assert (job.id, job.data, job.resource_generation) == (first["jobId"], {"n": 2}, 2)
        jobs.apply(workerjob("a", {"type": "report", "data": {"n": 3}}))
        eventually(lambda: jobs.status("a")["observedGeneration"] == 3)
        assert (await read(store, job)).data == {"n": 2}


def test_status_that_someone_changed_is_put_right(operators: Operators, jobs: WorkerJobs) -> None:
    operators.start()
    jobs.apply(workerjob("a"))
    before = jobs.wait("a", "Pending")
    jobs.kubectl("patch", "wj/a", "--subresource=status", "--type=merge", '--patch={"status": {"state": "Great"}}')
    jobs.wait("a", "Pending")
    assert jobs.status("a") == before


def test_deleted_pending_job_is_cancelled_within_two_seconds(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    jobs.apply(workerjob("a"), workerjob("b"))
    jobs.wait("a", "Pending")
    jobs.wait("b", "Pending")
    jobs.delete("a")
    deleted = database_now(database_url)
    eventually(
        lambda: sql(database_url, 'select "resourceName" from "workerJobs" where finished is not null') == [("a",)]
    )
    ((cancelled, result),) = sql(
        database_url, 'select finished, result from "workerJobs" where "resourceName" = %s', "a"
    )
    assert cancelled - deleted <= TIME_TO_CANCEL
    assert result == {"error": "Job cancelled as its WorkerJob was deleted"}


@in_loop
async def test_running_job_of_a_deleted_resource_is_asked_to_stop_and_a_cron_line_ends(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    jobs.apply(workerjob("a", {"type": "report", "cronSchedule": "* * * * * *"}))
    async with open_store(database_url) as store:
        (job,) = await claim_when_there(store)
        jobs.delete("a")
        deleted = database_now(database_url)
        (asked,) = eventually(lambda: sql(database_url, 'select "updatedAt" from "workerJobs" where "cancelRequested"'))
        assert asked[0] - deleted <= TIME_TO_CANCEL
        await store.settle([settle(job, Outcome.failure("Job cancelled"), now=await store.now())])
    assert count_rows(database_url, "finished is null") == 0


def test_resource_made_anew_under_its_name_is_another_job(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    for _ in range(3):
        jobs.apply(workerjob("a"))
        jobs.wait("a", "Pending")
        jobs.kubectl("delete", "wj/a")
    jobs.apply(workerjob("a"))
    jobs.wait("a", "Pending")
    eventually(lambda: count_rows(database_url, "finished is null") == 1)
    assert count_rows(database_url) == 4


# --- while the operator is away


@in_loop
async def test_what_happened_while_the_operator_was_away_is_found_at_its_return(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    away = operators.start()
    jobs.apply(*(workerjob(name, {"type": name}) for name in ("kept", "changed", "deleted", "run")))
    for name in ("kept", "changed", "deleted", "run"):
        jobs.wait(name, "Pending")
    away.stop()

    jobs.apply(workerjob("changed", {"type": "changed", "priority": 9}), workerjob("new", {"type": "new"}))
    jobs.delete("deleted")
    async with open_store(database_url) as store:
        (job,) = [job for job in await claim_all(store) if job.type == "run"]
        await store.settle([settlement(job)])
        # The others go back.
        others = sql(database_url, 'select id, "fencingToken" from "workerJobs" where finished is null')
        await store.release([Lease(*row) for row in others])

    operators.start()
    jobs.wait("run", "Succeeded")
    jobs.wait("new", "Pending")
    eventually(lambda: jobs.status("changed")["observedGeneration"] == 2)
    assert sql(database_url, 'select priority from "workerJobs" where type = %s', "changed") == [(9,)]
    eventually(lambda: count_rows(database_url, "type = 'deleted' and finished is not null") == 1)
    assert jobs.states() == {"kept": "Pending", "changed": "Pending", "new": "Pending", "run": "Succeeded"}
    assert count_rows(database_url) == 5


@in_loop
async def test_job_whose_rows_were_pruned_shows_its_end_and_does_not_run_again(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    away = operators.start()
    jobs.apply(workerjob("kept"), workerjob("removed"), workerjob("seen"))
    for name in ("kept", "removed", "seen"):
        jobs.wait(name, "Pending")
    async with open_store(database_url) as store:
        claimed = {job.resource_name: job for job in await claim_all(store)}
        await store.settle([settlement(claimed["seen"])])
        jobs.wait("seen", "Succeeded")
        away.stop()
        await store.settle([settlement(claimed["kept"]), settlement(claimed["removed"])])
        sql(database_url, """update "workerJobs" set "removeAt" = now() - interval '1 day'""")
        await store.prune(1000)
        # The newest row of a resource that exists stays; by hand it goes.
        assert count_rows(database_url) == 3
        sql(database_url, 'delete from "workerJobs" where "resourceName" <> %s', "kept")

        operators.start()
        jobs.wait("kept", "Succeeded")
        jobs.wait("removed", "Cancelled")
        assert jobs.condition("removed", "Failed")["reason"] == "RowsRemoved"
        assert jobs.status("seen")["state"] == "Succeeded"
        jobs.apply(workerjob("seen", {"type": "report", "data": {"again": True}}))
        eventually(lambda: jobs.status("seen")["observedGeneration"] == 2)
        assert jobs.status("seen")["state"] == "Succeeded"
        assert await claim_all(store) == []
    assert count_rows(database_url) == 1


def test_cron_line_whose_rows_were_removed_goes_on(operators: Operators, jobs: WorkerJobs, database_url: str) -> None:
    operators.start()
    jobs.apply(workerjob("a", {"type": "report", "cronSchedule": "@yearly", "due": "2000-01-01T00:00:00Z"}))
    jobs.wait("a", "Scheduled")
    sql(database_url, 'delete from "workerJobs"')
    # Nothing tells of that; a change of the resource makes the operator look.
    jobs.apply(workerjob("a", {"type": "report", "cronSchedule": "@yearly", "priority": 1}))
    eventually(lambda: count_rows(database_url, "finished is null and due > now()") == 1)


def test_operator_that_is_killed_amid_200_resources_doubles_none_and_all_reach_their_ends(
    operators: Operators, jobs: WorkerJobs, worker: None, database_url: str
) -> None:
    killed = operators.start()
    killed.wait_until_watching()
    names = [f"job-{number:03}" for number in range(200)]
    # Every tenth means to fail.
    specs: list[dict[str, Any]] = [
        {"type": "failTwice"} if number % 10 == 0 else {"type": "countPrimes", "data": {"upTo": number}}
        for number in range(200)
    ]
    manifests = [workerjob(name, spec) for name, spec in zip(names, specs, strict=True)]
    applying = threading.Thread(target=jobs.apply, args=manifests)
    applying.start()
    mine = '"resourceName" is not null'
    eventually(lambda: count_rows(database_url, mine) >= 20)
    killed.kill()
    mirrored = count_rows(database_url, mine)
    operators.start()
    applying.join()
    ends = {
        name: "Failed" if spec["type"] == "failTwice" else "Succeeded" for name, spec in zip(names, specs, strict=True)
    }
    eventually(lambda: jobs.states() == ends)
    assert mirrored < 200
    found = sql(database_url, f'select "resourceName", id from "workerJobs" where {mine} order by 1')
    assert [name for name, _ in found] == names
    for (_, job_id), each, spec in zip(found, sorted(jobs.all(), key=name_of), specs, strict=True):
        assert each["status"]["jobId"] == job_id
        if spec["type"] == "countPrimes":
            assert each["status"]["result"]["upTo"] == spec["data"]["upTo"]


def name_of(resource: dict[str, Any]) -> str:
    return str(resource["metadata"]["name"])


def test_operators_of_two_clusters_on_one_database_leave_each_others_rows_alone(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    first = operators.start(WORKERJOBS_CLUSTER_ID="first")
    jobs.apply(workerjob("a"), workerjob("gone"))
    jobs.wait("a", "Pending")
    jobs.wait("gone", "Pending")
    first.stop()
    jobs.delete("gone")
    # Another cluster's operator: it has never heard of the first one's rows, and finds resources of its own.
    second = operators.start(WORKERJOBS_CLUSTER_ID="second")
    eventually(lambda: count_rows(database_url, "\"clusterId\" = 'second'") == 1)
    second.stop()
    assert sql(database_url, 'select "clusterId", "resourceName", finished from "workerJobs" order by 1, 2') == [
        ("first", "a", None),
        ("first", "gone", None),
        ("second", "a", None),
    ]
    operators.start(WORKERJOBS_CLUSTER_ID="first")
    eventually(lambda: count_rows(database_url, "finished is not null") == 1)
    assert sql(database_url, 'select "clusterId", "resourceName" from "workerJobs" where finished is not null') == [
        ("first", "gone")
    ]


# --- outages


def test_outage_of_the_database_is_said_once_and_caught_up_with(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operator = operators.start()
    jobs.apply(workerjob("a"))
    jobs.wait("a", "Pending")
    name = database_url.rpartition("/")[2]
    server = database_url.removesuffix(name) + "postgres"
    sql(server, f'alter database "{name}" allow_connections false')
    sql(server, "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", name)
    jobs.apply(workerjob("b"))
    jobs.delete("a")
    eventually(lambda: [each for each in operator.complaints() if "not currently accepting" in each])
    time.sleep(2)  # several more tries
    sql(server, f'alter database "{name}" allow_connections true')
    jobs.wait("b", "Pending")
    eventually(lambda: count_rows(database_url, "finished is not null") == 1)
    operator.stop()
    # Each loop, and the listener, said it when it began.
    assert len(operator.complaints()) <= 6
    assert not any("exception" in each for each in operator.said())


def test_outage_of_the_api_is_said_and_caught_up_with(
    operators: Operators, jobs: WorkerJobs, database_url: str, tmp_path: Path
) -> None:
    proxy = Proxy(jobs.cluster, tmp_path)
    operator = operators.start(KUBECONFIG=str(proxy.kubeconfig))
    jobs.apply(workerjob("a", {"type": "report"}), workerjob("gone"))
    jobs.wait("a", "Pending")
    jobs.wait("gone", "Pending")
    proxy.cut()
    jobs.apply(workerjob("b"), workerjob("a", {"type": "report", "priority": 1}))
    jobs.delete("gone")
    # The table goes on: a change of a row is a status to write.
    sql(database_url, """update "workerJobs" set due = '2030-01-01', "updatedAt" = now() where "resourceName" = 'a'""")
    eventually(lambda: any("can't be reached" in each for each in operator.complaints()))
    time.sleep(3)  # several more tries
    # Each watch says it when it is interrupted, and when it can't be begun again; kopf, of its two, all four tries.
    own = [each for each in operator.complaints() if not each.startswith("kopf:")]
    assert len(own) <= 6
    assert len(operator.complaints()) - len(own) <= 8
    proxy.restore()
    jobs.wait("b", "Pending")
    eventually(lambda: jobs.status("a")["observedGeneration"] == 2)
    # The watch has missed that deletion for ever; a new operator, or the next minute's list, has not.
    operators.start()
    eventually(lambda: count_rows(database_url, "finished is not null and \"resourceName\" = 'gone'") == 1)
    operator.stop()
    assert not any("exception" in each for each in operator.said())
    proxy.cut()


def test_right_that_is_missing_is_said_in_a_sentence(
    operators: Operators, jobs: WorkerJobs, restricted_kubeconfig: str
) -> None:
    operator = operators.start(KUBECONFIG=restricted_kubeconfig, WORKERJOBS_CLUSTER_ID="restricted")
    who = f'User "system:serviceaccount:{jobs.namespace}:default" cannot list'
    refused = "The Kubernetes API refuses GET"
    sentences = (
        f"{refused} /apis/quickdapp.xyz/v1/namespaces/{jobs.namespace}/workerjobs: workerjobs.quickdapp.xyz is "
        f"forbidden: {who}",
        f"Worker pods of {jobs.namespace} can't be watched: {refused} /api/v1/namespaces/{jobs.namespace}/pods: pods "
        f"is forbidden: {who}",
        f"Nodes can't be watched: {refused} /api/v1/nodes: nodes is forbidden: {who}",
    )
    eventually(lambda: len(operator.complaints()) == len(sentences))
    time.sleep(2)
    # Each is said once.
    for sentence, said in zip(sorted(sentences), sorted(operator.complaints()), strict=True):
        assert said.startswith(sentence)
    both = "workerjobs.quickdapp.xyz,workerpools.quickdapp.xyz"
    jobs.kubectl("create", "role", "jobs", "--verb=list,watch", f"--resource={both}")
    jobs.kubectl("create", "role", "status", "--verb=patch", "--resource=workerjobs.quickdapp.xyz/status")
    for role in ("jobs", "status"):
        jobs.kubectl("create", "rolebinding", role, f"--role={role}", f"--serviceaccount={jobs.namespace}:default")
    jobs.apply(workerjob("a"))
    jobs.wait("a", "Pending")


def test_cluster_id_without_the_right_to_read_it_ends_with_a_sentence(
    operators: Operators, restricted_kubeconfig: str
) -> None:
    operator = operators.start(KUBECONFIG=restricted_kubeconfig)
    assert operator.wait() == 1
    assert "Error: The Kubernetes API refuses GET /api/v1/namespaces/kube-system: " in operator.log.read_text()
    assert "Traceback" not in operator.log.read_text()


def test_operator_without_a_cluster_ends_with_a_sentence(operators: Operators) -> None:
    operator = operators.start(KUBECONFIG="/nowhere/kubeconfig")
    assert operator.wait() == 1
    assert operator.log.read_text() == (
        "Error: No Kubernetes cluster to work for: there is no kubeconfig /nowhere/kubeconfig; "
        "KUBECONFIG names another one\n"
    )


# --- tags


def test_two_cron_jobs_of_one_tag_do_not_cancel_each_other_for_ever(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    spec = {"type": "report", "cronSchedule": "@daily", "tag": "both"}
    jobs.apply(workerjob("a", spec))
    jobs.wait("a", "Scheduled")
    jobs.apply(workerjob("b", spec))
    jobs.wait("b", "Scheduled")
    eventually(lambda: count_rows(database_url, "finished is null") == 2)
    before = count_rows(database_url)
    jobs.apply(workerjob("c"))
    jobs.wait("c", "Pending")
    assert count_rows(database_url) == before + 1
