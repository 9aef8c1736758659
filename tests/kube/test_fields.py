"""What each field of a WorkerJob does: applied with kubectl, seen in the row, in a worker, and in the status."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.job_data import ALLOWED, make_secret, reference, token_of, worker_in_cluster
from tests.support.loop import in_loop
from tests.support.operators import MANIFESTS, Operators, WorkerJobs, eventually, workerjob
from tests.support.table import FAILURE, SUCCESS, claim_all, count_rows, open_store, settlement, sql
from tests.support.workers import Told, worker_process
from workerjobs.domain.lifecycle import Outcome, settle
from workerjobs.worker.sealing import can_seal

pytestmark = pytest.mark.cluster


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """What jobs tell."""
    folder = tmp_path / "told"
    folder.mkdir()
    return Told(folder)


def set_field(jobs: WorkerJobs, name: str, **fields: Any) -> int:
    """Change fields of a WorkerJob's spec; returns its generation."""
    patch = json.dumps({"spec": fields})
    patched = jobs.kubectl("patch", f"wj/{name}", "--type=merge", f"--patch={patch}", "-o", "json").stdout
    return int(json.loads(patched)["metadata"]["generation"])


def observed(jobs: WorkerJobs, name: str, generation: int) -> dict[str, Any]:
    """Wait until the operator has seen a generation; returns the status."""
    eventually(lambda: jobs.status(name).get("observedGeneration") == generation)
    return jobs.status(name)


def column(url: str, name: str, where: str = "true") -> list[Any]:
    """Read one column of the table, oldest row first."""
    return [row[0] for row in sql(url, f'select {name} from "workerJobs" where {where} order by id')]


# --- fields that reach the row as they are


ROW_FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    ({"data": {"z": 1, "a": [None]}}, "data", {"a": [None], "z": 1}),
    ({"userId": 7}, '"userId"', 7),
    ({"tag": "nightly"}, "tag", "nightly"),
    ({"due": "2031-01-31T08:00:00Z"}, "due = '2031-01-31 08:00Z'", True),
    ({"cronSchedule": "0 12 1 1 *"}, '"cronSchedule"', "0 12 1 1 *"),
    ({"cronSchedule": "0 12 1 1 *", "timeZone": "Asia/Kathmandu"}, '"timeZone"', "Asia/Kathmandu"),
    ({"cronSchedule": "@yearly", "catchUp": "latest"}, '"catchUp"', "latest"),
    ({"cronSchedule": "@yearly", "concurrencyPolicy": "Replace"}, '"concurrencyPolicy"', "Replace"),
    ({"persistent": True}, "persistent", True),
    ({"priority": 5}, "priority", 5),
    ({"pool": "gpu"}, "pool", "gpu"),
    ({"concurrencyKey": "customer 7", "concurrencyLimit": 2}, '"concurrencyKey"', "customer 7"),
    ({"concurrencyKey": "customer 7", "concurrencyLimit": 2}, '"concurrencyLimit"', 2),
    ({"concurrencyKey": "k", "rateLimit": {"starts": 3, "periodSeconds": 60}}, '"rateLimit" * "ratePeriod"', 180_000),
    ({"timeoutSeconds": 30}, '"timeoutMs"', 30_000),
    ({"retry": {"limit": 3, "initialDelaySeconds": 5}}, '"retryLimit" * "retryInitialDelay"', 15_000),
    ({"retry": {"limit": 3, "factor": 1.5}}, '"retryFactor"', 1.5),
    ({"retry": {"limit": 3, "maxDelaySeconds": 60}}, '"retryMaxDelay"', 60_000),
    ({"retry": {"limit": 3, "jitter": 0.25}}, '"retryJitter"', 0.25),
    ({"autoRescheduleOnFailure": True}, '"autoRescheduleOnFailure"', True),
    (
        {"autoRescheduleOnFailure": True, "autoRescheduleOnFailureDelaySeconds": 9},
        '"autoRescheduleOnFailureDelay"',
        9000,
    ),
    ({"removeDelaySeconds": 86_400}, '"removeDelay"', 86_400_000),
    (
        {"dataFrom": [{"name": "key", "secretKeyRef": {"name": "mail", "key": "api-key"}}]},
        '"dataFrom"',
        [{"name": "key", "secretKeyRef": {"key": "api-key", "name": "mail"}}],
    ),
    ({"suspend": True}, "\"heldDue\" is not null and due = 'infinity'", True),
    ({"cancel": True}, '"cancelRequested" and not success', True),
]
LATER_FIELDS = {"rerun", "historyLimit", "ttlSecondsAfterFinished"}
"""Each has a test of its own below."""


def test_no_field_is_left_out() -> None:
    definition = yaml.safe_load((MANIFESTS / "crds" / "workerjobs.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert {name for spec, _, _ in ROW_FIELDS for name in spec} | LATER_FIELDS | {"type"} == fields.keys()
    parts = {name for spec, _, _ in ROW_FIELDS for name in spec.get("retry", ())}
    assert parts == fields["retry"]["properties"].keys()


def test_each_field_is_seen_in_the_row(operators: Operators, jobs: WorkerJobs, database_url: str) -> None:
    operators.start()
    jobs.apply(*(workerjob(f"job-{n}", {"type": "report"} | spec) for n, (spec, _, _) in enumerate(ROW_FIELDS)))
    eventually(lambda: all(jobs.states().values()))
    found = {
        n: column(database_url, expression, f"\"resourceName\" = 'job-{n}'")
        for n, (_, expression, _) in enumerate(ROW_FIELDS)
    }
    # The cancelled job was looked at once more.
    jobs.wait(f"job-{len(ROW_FIELDS) - 1}", "Cancelled")
    found[len(ROW_FIELDS) - 1] = column(
        database_url, ROW_FIELDS[-1][1], f"\"resourceName\" = 'job-{len(ROW_FIELDS) - 1}'"
    )
    assert found == {n: [value] for n, (_, _, value) in enumerate(ROW_FIELDS)}


# --- and what a worker makes of them


@pytest.mark.slow
@in_loop
async def test_each_field_is_seen_in_a_worker(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, told: Told, database_url: str
) -> None:
    operators.start()
    moment = (datetime.now(UTC) + timedelta(seconds=5)).replace(microsecond=0)
    tell = {"type": "tell", "data": told.data()}
    rated = tell | {"concurrencyKey": "api", "rateLimit": {"starts": 1, "periodSeconds": 2}}
    async with worker_process(database_url, tmp_path) as worker, open_store(database_url) as store:
        # Its one child is busy, so that what comes meanwhile waits.
        jobs.apply(workerjob("first", {"type": "hold", "data": told.data()}))
        jobs.wait("first", "Running")
        jobs.apply(
            workerjob("low", tell),
            workerjob("high", tell | {"priority": 5}),
            workerjob("older", tell | {"tag": "nightly"}),
            workerjob("due", tell | {"due": moment.isoformat()}),
            workerjob("elsewhere", tell | {"pool": "gpu"}),
            workerjob("context", {"type": "context", "data": {"a": 1, "b": 2}, "userId": 7, "tag": "mine"}),
            workerjob("timeout", {"type": "hold", "data": told.data(until="never"), "timeoutSeconds": 1}),
            workerjob(
                "retry",
                {"type": "failUntil", "data": {"attempt": 3}}
                | {"retry": {"limit": 2, "initialDelaySeconds": 1, "factor": 2}},
            ),
            workerjob(
                "again",
                {"type": "failUntil", "data": {"attempt": 2}}
                | {"autoRescheduleOnFailure": True, "autoRescheduleOnFailureDelaySeconds": 1},
            ),
            workerjob("rated-1", rated),
            workerjob("rated-2", rated),
            workerjob("brief", tell | {"removeDelaySeconds": 1}),
            workerjob("persistent", tell | {"removeDelaySeconds": 1, "persistent": True}),
            workerjob("zone", tell | {"cronSchedule": "0 12 1 1 *", "timeZone": "Asia/Kathmandu"}),
        )
        jobs.wait("older", "Pending")
        jobs.apply(workerjob("newer", tell | {"tag": "nightly"}))
        assert "Job cancelled due to new job being created" in jobs.wait("older", "Cancelled")["error"]
        assert jobs.wait("zone", "Scheduled")["nextDue"].endswith("-01-01T06:15:00Z")
        eventually(lambda: None not in jobs.states().values())
        told.go()

        ends = {"timeout": "Failed"} | dict.fromkeys(
            ("low", "high", "due", "context", "retry", "again", "rated-1", "rated-2", "brief", "persistent", "newer"),
            "Succeeded",
        )
        statuses = {name: jobs.wait(name, state) for name, state in ends.items()}

        def moments(name: str, what: str = "started") -> list[datetime]:
            return column(database_url, what, f"\"resourceName\" = '{name}'")

        assert moments("high") < moments("low")
        assert moments("due")[0] >= moment
        assert jobs.status("elsewhere")["state"] == "Pending"
        shown = statuses["context"]["result"]
        assert (shown["user_id"], shown["tag"], shown["keys"]) == (7, "mine", ["a", "b"])
        assert shown["pid"] != worker.pid
        assert "1 s" in statuses["timeout"]["error"]
        assert (statuses["retry"]["result"], statuses["again"]["result"]) == (3, 2)
        ended, due = moments("retry", "finished"), moments("retry", "due")
        first, second = due[1] - ended[0], due[2] - ended[1]
        # Counted from the run's end in the worker, a moment before or after the row's.
        assert timedelta(seconds=0.8) <= first < timedelta(seconds=1.8) <= second
        assert moments("again", "due")[1] - moments("again", "finished")[0] >= timedelta(seconds=0.8)
        starts = sorted(moments("rated-1") + moments("rated-2"))
        assert starts[1] - starts[0] >= timedelta(seconds=1.9)
        # Gone with their resources, one leaves its row and one does not.
        jobs.delete("brief", "persistent")
        eventually(
            lambda: len(sql(database_url, 'select 1 from "workerJobResources" where "deletedAt" is not null')) == 2
        )
        await store.prune(100)
        assert (moments("brief"), len(moments("persistent"))) == ([], 1)


# --- suspend


@in_loop
async def test_suspended_job_is_held_back_until_it_is_resumed(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    jobs.apply(workerjob("a", {"type": "report", "suspend": True}))
    suspended = jobs.wait("a", "Suspended")
    assert "nextDue" not in suspended
    assert jobs.condition("a", "Suspended")["message"] == "Nothing is started until suspend is false"
    async with open_store(database_url) as store:
        assert await claim_all(store) == []
        # A change reaches it all the same.
        generation = set_field(jobs, "a", data={"n": 2})
        observed(jobs, "a", generation)
        assert await claim_all(store) == []
        set_field(jobs, "a", suspend=False)
        jobs.wait("a", "Pending")
        (job,) = await claim_all(store)
        assert (job.id, job.data) == (suspended["jobId"], {"n": 2})
        assert job.due < job.created_at or job.due == job.created_at
        jobs.wait("a", "Running")
        assert jobs.condition("a", "Suspended")["reason"] == "JobResumed"


@in_loop
async def test_running_job_of_a_suspended_resource_ends_and_its_retry_waits(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operator = operators.start()
    jobs.apply(workerjob("a", {"type": "report", "retry": {"limit": 1, "initialDelaySeconds": 0}}))
    jobs.wait("a", "Pending")
    async with open_store(database_url) as store:
        (job,) = await claim_all(store)
        set_field(jobs, "a", suspend=True)
        jobs.kubectl("wait", "--for=condition=Suspended", "wj/a", "--timeout=50s")
        assert jobs.status("a")["state"] == "Running"
        # The worker needs no operator for that.
        operator.kill()
        await store.settle([settle(job, FAILURE, now=await store.now())])
        assert count_rows(database_url, "finished is null and due = 'infinity'") == 1
        assert await claim_all(store) == []
    operators.start()
    jobs.wait("a", "Suspended")


@in_loop
async def test_suspended_cron_job_leaves_out_ticks_and_goes_on_with_the_next(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, told: Told, database_url: str
) -> None:
    operators.start()
    async with worker_process(database_url, tmp_path):
        jobs.apply(workerjob("a", {"type": "tell", "data": told.data(), "cronSchedule": "* * * * * *"}))
        eventually(lambda: jobs.status("a").get("counts", {}).get("succeeded", 0) >= 1)
        set_field(jobs, "a", suspend=True)
        status = jobs.wait("a", "Suspended")
        ran = count_rows(database_url, "finished is not null")
        await asyncio.sleep(2.5)  # two ticks pass, at least
        assert count_rows(database_url, "finished is not null") == ran
        assert jobs.status("a") == status
        before = sql(database_url, "select now()")[0][0]
        set_field(jobs, "a", suspend=False)
        eventually(lambda: count_rows(database_url, "finished is not null") > ran)
        ticks = column(database_url, "tick", "finished is not null")
        assert ticks[ran] > before
        assert count_rows(database_url, "finished is null") <= 1


# --- cancel


@in_loop
async def test_cancel_ends_what_runs_and_what_waits(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, told: Told, database_url: str
) -> None:
    operators.start()
    async with worker_process(database_url, tmp_path):
        jobs.apply(
            workerjob("running", {"type": "hold", "data": told.data()}),
            workerjob("pending", {"type": "tell", "data": told.data(), "due": "2031-01-01T00:00:00Z"}),
            workerjob("never", {"type": "tell", "data": told.data(), "cancel": True}),
        )
        jobs.wait("running", "Running")
        jobs.wait("pending", "Pending")
        set_field(jobs, "running", cancel=True)
        set_field(jobs, "pending", cancel=True)
        for name in ("running", "pending", "never"):
            jobs.wait(name, "Cancelled")
            jobs.kubectl("wait", "--for=condition=Failed", f"wj/{name}", "--timeout=50s")
            assert jobs.condition(name, "Failed")["reason"] == "JobCancelled"
        assert list(told.folder.glob("*.ran")) == []
        # Taken back, it runs no more; a new token makes it.
        observed(jobs, "never", set_field(jobs, "never", cancel=False))
        assert jobs.status("never")["state"] == "Cancelled"
        set_field(jobs, "never", rerun="now")
        jobs.wait("never", "Succeeded")


@in_loop
async def test_cancelled_cron_job_ends_its_run_and_rests_until_that_is_taken_back(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, told: Told, database_url: str
) -> None:
    operators.start()
    async with worker_process(database_url, tmp_path):
        jobs.apply(workerjob("a", {"type": "hold", "data": told.data(), "cronSchedule": "* * * * * *"}))
        jobs.wait("a", "Running")
        set_field(jobs, "a", cancel=True)
        jobs.wait("a", "Suspended")
        assert jobs.condition("a", "Suspended")["message"] == "Nothing is started until cancel is false"
        assert jobs.status("a")["counts"]["cancelled"] == 1
        set_field(jobs, "a", cancel=False)
        jobs.wait("a", "Running")
        assert count_rows(database_url, "finished is null") == 1


# --- rerun


@in_loop
async def test_each_new_token_runs_a_job_once_more(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, told: Told, database_url: str
) -> None:
    operator = operators.start()
    async with worker_process(database_url, tmp_path):
        spec = {"type": "tell", "data": told.data()}
        jobs.apply(workerjob("a", spec))
        jobs.wait("a", "Succeeded")
        for number, token in enumerate(("monday", "tuesday", "monday", None, "tuesday"), 1):
            generation = set_field(jobs, "a", rerun=token)
            runs = 1 + min(number, 2)
            eventually(lambda runs=runs: jobs.status("a")["counts"]["succeeded"] == runs)  # type: ignore[misc]
            observed(jobs, "a", generation)
            if number == 2:
                operator.stop()
                operator = operators.start()
        assert column(database_url, '"rescheduledFromJob"') == [None, 1, 2]
        # Made anew with a token, it runs once.
        jobs.apply(workerjob("b", spec | {"rerun": "monday"}))
        jobs.wait("b", "Succeeded")
        observed(jobs, "b", set_field(jobs, "b", rerun=None))
    assert count_rows(database_url, "\"resourceName\" = 'b'") == 1
    keys = sql(database_url, """select name, "runKey" from "workerJobResources" order by 1, 2""")
    assert keys == [("a", "initial"), ("a", "monday"), ("a", "tuesday"), ("b", "monday")]


@in_loop
async def test_cron_job_is_run_once_more_beside_its_schedule(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, told: Told, database_url: str
) -> None:
    operators.start()
    async with worker_process(database_url, tmp_path):
        spec = {"type": "tell", "data": told.data(), "cronSchedule": "@yearly", "tag": "yearly"}
        jobs.apply(workerjob("a", spec))
        next_due = jobs.wait("a", "Scheduled")["nextDue"]
        set_field(jobs, "a", rerun="now")
        eventually(lambda: jobs.status("a").get("counts", {}).get("succeeded") == 1)
        # Its line waits as before.
        assert jobs.status("a")["nextDue"] == next_due
    assert column(database_url, "finished is null and \"cronSchedule\" = '@yearly'") == [True, False]


# --- history, counts, time to live


@in_loop
async def test_counts_outlive_rows_and_history_is_as_long_as_was_asked(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    jobs.apply(workerjob("a", {"type": "report", "historyLimit": 3, "removeDelaySeconds": 1}))
    async with open_store(database_url) as store:
        for number in range(6):
            if number:
                set_field(jobs, "a", rerun=f"run {number}")
            eventually(lambda: count_rows(database_url, "finished is null") == 1)
            (job,) = await claim_all(store)
            await store.settle([settlement(job, FAILURE if number % 3 == 0 else SUCCESS)])
        eventually(lambda: jobs.status("a").get("counts", {}).get("succeeded") == 4)
        assert jobs.status("a")["counts"] == {"succeeded": 4, "failed": 2, "cancelled": 0, "retried": 0, "lost": 0}
        eventually(lambda: column(database_url, "id") == [4, 5, 6])
        # They stay past their time, and no longer with a lower limit.
        sql(database_url, """update "workerJobs" set "removeAt" = now() - interval '1 day'""")
        assert await store.prune(100) == 0
        set_field(jobs, "a", historyLimit=1)
        eventually(lambda: column(database_url, "id") == [6])
        observed(jobs, "a", set_field(jobs, "a", historyLimit=None))
    assert jobs.status("a")["counts"]["failed"] == 2


@in_loop
async def test_resource_is_deleted_some_time_after_its_end(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operators.start()
    jobs.apply(
        workerjob("soon", {"type": "report", "ttlSecondsAfterFinished": 1}),
        workerjob("later", {"type": "report", "ttlSecondsAfterFinished": 3600}),
        workerjob("never", {"type": "report"}),
    )
    async with open_store(database_url) as store:
        eventually(lambda: count_rows(database_url) == 3)
        await store.settle([settlement(job) for job in await claim_all(store)])
    for name in ("later", "never"):
        jobs.wait(name, "Succeeded")
    jobs.kubectl("wait", "--for=delete", "wj/soon", "--timeout=50s")
    assert set(jobs.states()) == {"later", "never"}
    # Of several runs the last end counts, not that of the one that was stored last.
    jobs.apply(workerjob("outlasted", {"type": "report", "ttlSecondsAfterFinished": 600}))
    async with open_store(database_url) as store:
        eventually(lambda: count_rows(database_url, "started is null and finished is null") == 1)
        (first,) = await claim_all(store)
        set_field(jobs, "outlasted", rerun="again")
        eventually(lambda: count_rows(database_url, "started is null and finished is null") == 1)
        (second,) = await claim_all(store)
        await store.settle([settlement(second)])
        sql(database_url, """update "workerJobs" set finished = now() - interval '1 hour' where id = %s""", second.id)
        await store.settle([settlement(first)])
    jobs.wait("outlasted", "Succeeded")
    jobs.delete("outlasted")
    # Shortened, its time is up.
    set_field(jobs, "later", ttlSecondsAfterFinished=0)
    jobs.kubectl("wait", "--for=delete", "wj/later", "--timeout=50s")
    eventually(
        lambda: sql(database_url, 'select name from "workerJobResources" where "deletedAt" is null') == [("never",)]
    )


# --- limits and cron policies, with a real worker


@in_loop
async def test_jobs_of_one_key_run_one_after_the_other(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, told: Told, database_url: str
) -> None:
    operators.start()
    spec = {"type": "hold", "data": told.data(), "concurrencyKey": "printer", "concurrencyLimit": 1}
    async with worker_process(database_url, tmp_path, count=2):
        jobs.apply(workerjob("a", spec), workerjob("b", spec))
        eventually(lambda: sorted(jobs.states().values(), key=str) == ["Pending", "Running"])
        assert count_rows(database_url, "started is not null") == 1
        told.go()
        jobs.kubectl("wait", "--for=condition=Complete", "wj/a", "wj/b", "--timeout=50s")
    first, second = sql(database_url, 'select started, finished from "workerJobs" order by started')
    assert first[1] <= second[0]


# --- dataFrom


def environment_of(pid: int) -> str:
    """The environment that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_text()


@in_loop
async def test_values_reach_the_job_and_never_the_table(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, database_url: str
) -> None:
    operators.start()
    make_secret(jobs, "mail", ALLOWED, **{"api-key": "tiger-4711", "user": "ada"})
    jobs.kubectl("create", "configmap", "page", "--from-literal=title=Grüße")
    sources = [
        reference("key", "secret", "mail", "api-key"),
        reference("title", "configMap", "page", "title"),
        reference("left out", "configMap", "page", "none", optional=True),
    ]
    async with worker_in_cluster(jobs, tmp_path, database_url) as worker:
        jobs.apply(workerjob("a", {"type": "echo", "data": {"n": 1}, "dataFrom": sources}))
        status = jobs.wait("a", "Succeeded")
        assert status["result"] == {"n": 1, "key": "tiger-4711", "title": "Grüße"}
        # The job gave it back; nothing else has it.
        sql(database_url, 'update "workerJobs" set result = null')
        assert "tiger" not in str(sql(database_url, 'select * from "workerJobs"'))
        assert "tiger" not in worker.log.read_text()
        # A changed value is seen by the next run.
        make_secret(jobs, "mail", ALLOWED, **{"api-key": "lion-4712"})
        set_field(jobs, "a", rerun="again")
        eventually(lambda: jobs.status("a")["counts"]["succeeded"] == 2)
        eventually(lambda: jobs.status("a")["result"]["key"] == "lion-4712")


@in_loop
async def test_job_can_not_read_the_token_that_its_worker_uses(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, database_url: str
) -> None:
    if not can_seal():
        pytest.skip("this kernel has no Landlock")
    operators.start()
    make_secret(jobs, "mail", ALLOWED, key="tiger-4711")
    (tmp_path / "readable").write_text("anyone")
    async with worker_in_cluster(jobs, tmp_path, database_url) as worker:
        paths = {
            "plain": tmp_path / "account/token",
            "through": Path(f"/proc/{worker.pid}/root{tmp_path}/account/token"),
            "memory": Path(f"/proc/{worker.pid}/mem"),
            "readable": tmp_path / "readable",
        }
        source = [reference("key", "secret", "mail", "key")]
        jobs.apply(
            *(
                workerjob(name, {"type": "readFile", "data": {"path": str(path)}, "dataFrom": source})
                for name, path in paths.items()
            )
        )
        results = {name: jobs.wait(name, "Succeeded")["result"] for name in paths}
        assert results == dict.fromkeys(("plain", "through", "memory"), "PermissionError") | {
            "readable": "anyoneanyone"
        }
        token = token_of(tmp_path)
        assert [each for each in worker.family if token in environment_of(each.pid)] == []


@in_loop
async def test_values_that_a_job_may_not_have_fail_it_with_a_sentence(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, database_url: str
) -> None:
    operators.start()
    make_secret(jobs, "private", None, key="tiger-4711")
    make_secret(jobs, "mail", ALLOWED, key="tiger-4711")
    cases = {
        "label": (
            reference("a", "secret", "private", "key"),
            'Secret private is not labelled quickdapp.xyz/allow-jobs: "true", so jobs get nothing of it',
        ),
        "object": (reference("a", "configMap", "none", "key"), "there is no ConfigMap none"),
        "key": (reference("a", "secret", "mail", "none"), "Secret mail has no key none"),
    }
    async with worker_in_cluster(jobs, tmp_path, database_url):
        jobs.apply(*(workerjob(name, {"type": "echo", "dataFrom": [each]}) for name, (each, _) in cases.items()))
        for name, (_, sentence) in cases.items():
            assert jobs.wait(name, "Failed")["error"] == f"dataFrom can't be resolved: {sentence}"
        # Who can write rows, and no WorkerJobs, gets no values: the row has to be what the resource says.
        forged = [{"name": "a", "secretKeyRef": {"name": "mail", "key": "key"}}]
        jobs.apply(
            workerjob("plain", {"type": "echo", "due": "2031-01-01T00:00:00Z"}),
            workerjob("other", {"type": "echo", "dataFrom": forged, "due": "2031-01-01T00:00:00Z"}),
        )
        jobs.wait("plain", "Pending")
        jobs.wait("other", "Pending")
        sql(
            database_url,
            """update "workerJobs" set "dataFrom" = %s::jsonb, due = now() where "resourceName" = 'plain'""",
            json.dumps(forged),
        )
        sql(
            database_url,
            """update "workerJobs" set data = '{"to": "me"}', due = now() where "resourceName" = 'other'""",
        )
        sql(
            database_url,
            """insert into "workerJobs" (type, "dataFrom", namespace, "resourceName")
            values ('echo', %s::jsonb, %s, 'other')""",
            json.dumps(forged),
            jobs.namespace,
        )
        says = f"dataFrom can't be resolved: WorkerJob {jobs.namespace}/%s says something else now (%s)"
        assert jobs.wait("plain", "Failed")["error"] == says % ("plain", "dataFrom")
        assert jobs.wait("other", "Failed")["error"] == says % ("other", "data")
        (result,) = eventually(lambda: column(database_url, "result", '"resourceUid" is null and finished is not null'))
        assert result["error"].endswith("that it belongs to was deleted")
    assert "tiger" not in str(sql(database_url, 'select * from "workerJobs"'))


@in_loop
async def test_worker_without_rights_or_without_a_cluster_says_what_it_lacks(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, database_url: str
) -> None:
    operators.start()
    make_secret(jobs, "mail", ALLOWED, key="tiger-4711")
    spec = {"type": "echo", "dataFrom": [reference("a", "secret", "mail", "key")]}
    async with worker_in_cluster(jobs, tmp_path, database_url, may_read=False):
        jobs.apply(workerjob("forbidden", spec))
        error = jobs.wait("forbidden", "Failed")["error"]
        assert error.startswith("dataFrom can't be resolved: the Kubernetes API refuses GET /apis/quickdapp.xyz/v1/")
        assert f'User "system:serviceaccount:{jobs.namespace}:worker" cannot get resource "workerjobs"' in error
    async with worker_process(database_url, tmp_path, name="elsewhere"):
        jobs.apply(workerjob("nowhere", spec))
        assert jobs.wait("nowhere", "Failed")["error"] == (
            "dataFrom can't be resolved: there is no Kubernetes cluster around this worker, which would have its values"
        )


# --- what is said of it


def test_type_that_no_worker_knows_is_not_accepted(
    operators: Operators, jobs: WorkerJobs, worker: None, database_url: str
) -> None:
    operators.start()
    eventually(lambda: sql(database_url, "select 1 from \"workerJobWorkers\" where types <> '{}'"))
    jobs.apply(
        workerjob("once", {"type": "nobodyKnows"}),
        workerjob("cron", {"type": "nobodyKnows", "cronSchedule": "@yearly"}),
        workerjob("elsewhere", {"type": "nobodyKnows", "pool": "gpu"}),
    )
    jobs.kubectl("wait", "--for=condition=Accepted=False", "wj/once", "wj/cron", "--timeout=50s")
    accepted = jobs.condition("cron", "Accepted")
    assert (accepted["reason"], accepted["message"]) == (
        "TypeUnknown",
        "No worker of pool default knows the job type nobodyKnows",
    )
    assert jobs.wait("once", "Failed")["error"] == "Unknown job type: nobodyKnows"
    # Of a pool without workers nothing is known.
    jobs.kubectl("wait", "--for=condition=Accepted", "wj/elsewhere", "--timeout=50s")


@in_loop
async def test_events_tell_what_happened_each_once(operators: Operators, jobs: WorkerJobs, database_url: str) -> None:
    operator = operators.start()
    jobs.apply(
        workerjob("good", {"type": "report", "retry": {"limit": 1, "initialDelaySeconds": 0}}),
        workerjob("bad", {"type": "report", "cronSchedule": "0 0 30 2 *"}),
        workerjob("held", {"type": "report", "suspend": True}),
    )
    jobs.wait("bad", "Invalid")
    jobs.wait("held", "Suspended")
    async with open_store(database_url) as store:
        for outcome in (FAILURE, Outcome(True, "1")):
            eventually(lambda: count_rows(database_url, "started is null and finished is null and due <= now()") == 1)
            (job,) = await claim_all(store)
            await store.settle([settle(job, outcome, now=await store.now())])
            # Each end is seen by itself.
            eventually(
                lambda job=job: (
                    jobs.status("good")
                    .get("counts", {})
                    .get(  # type: ignore[misc]
                        "failed" if job.attempt == 1 else "succeeded"
                    )
                    == 1
                )
            )
    set_field(jobs, "held", suspend=False)
    jobs.wait("held", "Pending")

    def told() -> set[tuple[str, str, str]]:
        items = json.loads(jobs.kubectl("get", "events.events.k8s.io", "-o", "json").stdout)["items"]
        return {(each["regarding"]["name"], each["type"], each["reason"]) for each in items}

    expected = {
        ("good", "Normal", "Accepted"),
        ("good", "Warning", "Rescheduled"),
        ("good", "Normal", "Succeeded"),
        ("bad", "Warning", "Refused"),
        ("held", "Normal", "Accepted"),
        ("held", "Normal", "Suspended"),
        ("held", "Normal", "Resumed"),
    }
    eventually(lambda: told() == expected)
    described = jobs.kubectl("describe", "wj/good").stdout
    assert "Rescheduled" in described
    assert "no paper" in described
    # Nothing is told again by an operator that returns.
    operator.stop()
    operators.start()
    jobs.apply(workerjob("last"))
    eventually(lambda: ("last", "Normal", "Accepted") in told())
    items = json.loads(jobs.kubectl("get", "events.events.k8s.io", "-o", "json").stdout)["items"]
    assert len(items) == len(expected) + 1
    assert operator.complaints() == []


def test_columns_say_what_people_look_for(operators: Operators, jobs: WorkerJobs, database_url: str) -> None:
    operators.start()
    jobs.apply(
        workerjob("a", {"type": "report", "cronSchedule": "0 0 1 1 *", "pool": "gpu"}),
        workerjob("b", {"type": "report", "cronSchedule": "0 0 1 1 *", "suspend": True}),
    )
    jobs.wait("a", "Scheduled")
    jobs.wait("b", "Suspended")
    shown = jobs.kubectl("get", "wj", "-o", "wide").stdout.splitlines()
    assert shown[1].split()[:3] == ["a", "report", "Scheduled"]
    assert jobs.status("a")["nextDue"] in shown[1]
    assert "gpu" in shown[1]
    assert shown[2].split()[:3] == ["b", "report", "Suspended"]
