"""The commands, as processes, on a real database."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support.cli import environment, workerjobs, workerjobs_json
from tests.support.table import sql
from workerjobs.storage.migrate import migrations

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"

MANIFESTS = """\
# The first is right.
apiVersion: quickdapp.xyz/v1
kind: WorkerJob
metadata: {name: good}
spec: {type: countPrimes, data: {upTo: 10}}
---
apiVersion: quickdapp.xyz/v1
kind: WorkerJob
metadata: {name: bad}
spec:
  type: countPrimes
  cronSchedule: "61 * * * *"
---
apiVersion: quickdapp.xyz/v1
kind: WorkerJob
metadata: {name: later}
spec: {type: countPrimes, due: 2040-01-01T00:00:00Z}
"""


def test_submitted_job_is_listed_shown_and_cancelled(database_url: str) -> None:
    job = workerjobs_json("submit", "report", "--data", '{"z": 1, "a": 2}', "--delay", "60", database_url=database_url)
    assert job["state"] == "pending"
    assert list(job["data"]) == ["z", "a"]
    assert [row["id"] for row in workerjobs_json("list", database_url=database_url)] == [job["id"]]
    assert workerjobs_json("show", str(job["id"]), database_url=database_url)["type"] == "report"
    (cancelled,) = workerjobs_json("cancel", str(job["id"]), database_url=database_url)
    assert cancelled["state"] == "cancelled"
    again = workerjobs("cancel", str(job["id"]), database_url=database_url)
    assert again.returncode == 1
    assert again.stderr == f"Error: Job {job['id']} has cancelled already\n"


def test_cancel_by_tag_ends_pending_jobs_and_stops_running_ones(database_url: str) -> None:
    pending, running = (
        workerjobs_json("submit", "report", "--delay", "60", database_url=database_url)["id"] for _ in range(2)
    )
    other = workerjobs_json("submit", "report", "--tag", "other", "--delay", "60", database_url=database_url)["id"]
    with psycopg.connect(database_url) as connection:
        connection.execute("update \"workerJobs\" set tag = 'nightly' where tag is null")
        connection.execute('update "workerJobs" set started = now() where id = %s', [running])
    ended = workerjobs("cancel", "--tag", "nightly", database_url=database_url)
    assert ended.returncode == 0
    assert ended.stdout == f"Job {pending} cancelled\nJob {running} is running and will be stopped\n"
    assert workerjobs_json("show", str(other), database_url=database_url)["state"] == "pending"
    assert workerjobs_json("show", str(running), database_url=database_url)["cancelRequested"]
    nobody = workerjobs("cancel", "--tag", "unknown", database_url=database_url)
    assert (nobody.returncode, nobody.stderr) == (0, "No unfinished job has the tag unknown.\n")


def test_retry_runs_finished_jobs_again_all_or_none(database_url: str) -> None:
    first, second = (
        str(workerjobs_json("submit", "report", "--delay", "60", database_url=database_url)["id"]) for _ in range(2)
    )
    workerjobs("cancel", first, database_url=database_url)
    refused = workerjobs("retry", first, second, database_url=database_url)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"Error: Not finished: job {second}. Only finished jobs can be run again; cancel it first.\n"
    )
    missing = workerjobs("retry", first, "4711", database_url=database_url)
    assert (missing.returncode, missing.stderr) == (1, "Error: There is no job 4711\n")
    assert len(workerjobs_json("list", database_url=database_url)) == 2
    done = workerjobs("retry", first, database_url=database_url)
    assert (done.returncode, done.stdout) == (0, f"Job {first} runs again as job 3\n")
    (again,) = workerjobs_json("retry", first, database_url=database_url)
    assert (again["rescheduledFromJob"], again["state"]) == (int(first), "pending")


def test_tables_for_people_show_type_and_state(database_url: str) -> None:
    workerjobs("submit", "report", "--tag", "nightly", database_url=database_url)
    listed = workerjobs("list", "--state", "pending", "--tag", "nightly", database_url=database_url)
    assert "report" in listed.stdout
    assert "pending" in listed.stdout
    shown = workerjobs("show", "1", database_url=database_url)
    assert "nightly" in shown.stdout
    assert workerjobs("list", "--state", "failed", database_url=database_url).stderr == "No jobs.\n"


def test_job_that_is_held_back_is_listed_as_suspended(database_url: str) -> None:
    sql(
        database_url,
        """insert into "workerJobs" (type, due, "heldDue", started, finished, success)
        values ('held', 'infinity', '2040-01-01', null, null, null), ('old', 'infinity', now(), null, now(), false)""",
    )
    old, held = workerjobs_json("list", database_url=database_url)
    assert (held["state"], held["isSuspended"], held["due"]) == ("pending", True, "2040-01-01T00:00:00+00:00")
    assert old["isSuspended"] is False
    lines = workerjobs("list", database_url=database_url).stdout.splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["cancelled", "suspended"]


def test_submit_with_a_tag_cancels_the_pending_job_of_that_tag(database_url: str) -> None:
    for _ in range(2):
        workerjobs_json("submit", "report", "--tag", "nightly", "--delay", "60", database_url=database_url)
    newer, older = workerjobs_json("list", "--tag", "nightly", database_url=database_url)
    assert newer["state"] == "pending"
    assert older["result"] == {"error": "Job cancelled due to new job being created"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "--data", "{"], "--data is not JSON"),
        (["report", "--data", "[1]"], "--data is not an object"),
        (["report", "--data", "@/no/such/file"], "/no/such/file can't be read"),
        (["report", "--data", '{"a": "\\u0000"}'], "NUL character"),
        (["report", "--data", '{"a": "\\ud800"}'], "surrogate"),
        (["report", "--data", '{"a": NaN}'], "data can't be stored"),
        (["report", "--cron", "* * *"], "has 3 fields"),
        (["report", "--cron", "0 0 30 2 *"], "30"),
        (["report", "--cron", "@hourly", "--time-zone", "Mars/Phobos"], "Mars/Phobos"),
        (["report", "--time-zone", "UTC"], "timeZone needs a cronSchedule"),
        (["report", "--catch-up", "all"], "catchUp needs a cronSchedule"),
        (["report", "--concurrency-policy", "Allow"], "concurrencyPolicy needs a cronSchedule"),
        (["report", "--due", "tomorrow"], "--due is 'tomorrow'"),
        (["report", "--due", "2030-01-01", "--delay", "1"], "exclude each other"),
        (["report", "--priority", "40000"], "priority is 40000"),
        (["report", "--delay", "inf"], "--delay"),
        (["report", "--timeout", "1e10"], "--timeout"),
        (["report", "--retries", "1", "--retry-delay", "inf"], "--retry-delay"),
        (["", "--tag", "x\ny"], "control characters"),
    ],
)
def test_submit_refuses_bad_input_with_a_sentence(database_url: str, arguments: list[str], sentence: str) -> None:
    ended = workerjobs("submit", *arguments, database_url=database_url)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert workerjobs_json("list", database_url=database_url) == []


def test_submit_refuses_data_over_the_limit(database_url: str) -> None:
    ended = workerjobs(
        "submit", "report", "--data", "-", input=json.dumps({"a": "x" * 2**20}), database_url=database_url
    )
    assert ended.returncode == 2
    assert "1,048,576 are accepted (1 MiB)" in ended.stderr


def test_submit_takes_the_policies_of_a_cron_job_and_jitter(database_url: str) -> None:
    policies = ("--cron", "@hourly", "--catch-up", "latest", "--concurrency-policy", "replace")
    retry = ("--retries", "2", "--retry-jitter", "0.5")
    job = workerjobs_json("submit", "report", *policies, *retry, database_url=database_url)
    assert (job["catchUp"], job["concurrencyPolicy"], job["retryJitter"]) == ("latest", "Replace", 0.5)


def test_submit_takes_a_due_moment_in_the_past_as_now(database_url: str) -> None:
    ended = workerjobs("submit", "report", "--due", "2001-01-01", database_url=database_url)
    assert ended.stdout == "Job 1 submitted, due now\n"


def test_apply_takes_the_good_documents_and_names_the_bad_one(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(MANIFESTS)
    ended = workerjobs("apply", "-f", str(file), database_url=database_url)
    assert ended.returncode == 1
    assert f"{file}:7: spec.cronSchedule" in ended.stderr
    assert "workerjob/good created" in ended.stdout
    assert "workerjob/later created" in ended.stdout
    jobs = workerjobs_json("list", database_url=database_url)
    assert {job["resourceName"] for job in jobs} == {"good", "later"}


def test_apply_goes_on_after_a_document_that_is_no_yaml(database_url: str) -> None:
    broken = MANIFESTS.replace('cronSchedule: "61', 'cronSchedule: ["61')
    ended = workerjobs("apply", "-f", "-", input=broken, database_url=database_url)
    assert ended.returncode == 1
    assert "standard input:7: it is not YAML at line" in ended.stderr
    assert "workerjob/later created" in ended.stdout


def test_apply_again_changes_the_pending_job_and_runs_nothing_twice(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(MANIFESTS.split("---")[2])
    first = workerjobs_json("apply", "-f", str(file), database_url=database_url)
    assert first[0]["action"] == "created"
    assert workerjobs_json("apply", "-f", str(file), database_url=database_url)[0]["action"] == "unchanged"
    file.write_text(file.read_text().replace("2040", "2041"))
    assert workerjobs_json("apply", "-f", str(file), database_url=database_url)[0]["action"] == "configured"
    (job,) = workerjobs_json("list", database_url=database_url)
    assert job["due"] == "2041-01-01T00:00:00+00:00"
    workerjobs("cancel", str(job["id"]), database_url=database_url)
    assert workerjobs_json("apply", "-f", str(file), database_url=database_url)[0]["action"] == "unchanged"
    assert len(workerjobs_json("list", database_url=database_url)) == 1


def test_apply_notes_what_only_a_cluster_can_apply(database_url: str) -> None:
    ended = workerjobs("apply", "-f", "-", input="kind: Deployment\napiVersion: apps/v1\n", database_url=database_url)
    assert ended.returncode == 0
    assert "skipped, as a Deployment needs a cluster" in ended.stderr


def test_apply_takes_the_samples(database_url: str) -> None:
    applied = workerjobs_json("apply", "-f", str(SAMPLES), database_url=database_url)
    assert len(applied) >= 5
    assert {each["action"] for each in applied} == {"created"}


@pytest.mark.parametrize("value", ["0", "-1", "abc", "1001", "1.5"])
def test_worker_refuses_a_bad_count(database_url: str, value: str) -> None:
    ended = workerjobs("worker", database_url=database_url, variables={"WORKER_COUNT": value, "WORKER_LOG_LEVEL": "x"})
    assert ended.returncode == 2
    assert f'WORKER_COUNT={value!r} is not accepted: give a number from 1 to 1000, "cpus" or "auto"' in ended.stderr
    assert "WORKER_LOG_LEVEL='x' is not accepted" in ended.stderr


def test_commands_say_when_there_is_no_database() -> None:
    url = "postgresql://someone:secret-word@127.0.0.1:1/jobs"
    for command in (
        *(["list"], ["show", "1"], ["cancel", "1"], ["submit", "x"], ["apply", "-f", str(SAMPLES)]),
        *(["migrate"], ["worker"], ["operator"], ["dev"]),
    ):
        ended = workerjobs(*command, database_url=url)
        assert ended.returncode == 1
        assert "someone@127.0.0.1:1/jobs can't be reached" in ended.stderr
        assert "secret-word" not in ended.stderr
        assert "Traceback" not in ended.stderr


def test_commands_say_when_the_password_is_wrong(database_url: str) -> None:
    right = urlsplit(database_url)
    wrong = database_url.replace(f":{right.password}@", ":wrong-one@")
    ended = workerjobs("worker", database_url=wrong, variables={"DATABASE_WAIT_SECONDS": "60"})
    assert ended.returncode == 1
    assert "refuses the connection: password authentication failed" in ended.stderr
    assert "wrong-one" not in ended.stderr


def with_open_files(limit: str, database_url: str, log: Path) -> subprocess.Popen[bytes]:
    """Run a worker with 12 children under a limit of open files, such as ``-S 40``."""
    with log.open("w") as output:
        return subprocess.Popen(
            ["/bin/sh", "-c", f'ulimit {limit}; exec "$0" -m workerjobs worker', sys.executable],
            env=environment(database_url, WORKER_COUNT="12"),
            stdout=output,
            stderr=output,
        )


def test_worker_raises_its_limit_of_open_files(database_url: str, tmp_path: Path) -> None:
    process = with_open_files("-S -n 40", database_url, tmp_path / "log")
    try:
        deadline = time.monotonic() + 60
        while "runs 12 children" not in (said := (tmp_path / "log").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.01)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()


def test_worker_says_when_it_may_not_open_enough_files(database_url: str, tmp_path: Path) -> None:
    process = with_open_files("-n 60", database_url, tmp_path / "log")
    assert process.wait(60) == 2
    assert (tmp_path / "log").read_text() == (
        "Error: 12 children need 72 open files, and this process may have 60: raise the limit (ulimit -n), or give a "
        "lower WORKER_COUNT\n"
    )


@pytest.mark.parametrize("role", ["worker", "operator"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_role_that_waits_for_its_database_says_so_once_and_ends_on_a_signal(
    tmp_path: Path, role: str, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    url = "postgresql://someone:secret-word@127.0.0.1:1/jobs"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workerjobs", role],
            env=environment(url, DATABASE_WAIT_SECONDS="600"),
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 60
        while "Waiting: The database someone@127.0.0.1:1/jobs can't be reached" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        # Two more tries.
        time.sleep(2.2)
        assert len(log.read_text().splitlines()) == 1
        process.send_signal(number)
        assert process.wait(60) == 0
        assert len(log.read_text().splitlines()) == 1
    finally:
        process.kill()


def test_commands_say_when_the_account_lacks_a_right(database_url: str) -> None:
    user = f"reader_{urlsplit(database_url).path[-16:]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"create role {user} login password 'right'".encode())
        try:
            url = urlsplit(database_url)
            reader = url._replace(netloc=f"{user}:right@{url.hostname}:{url.port}").geturl()
            for command in (["list"], ["submit", "report"], ["worker"]):
                ended = workerjobs(*command, database_url=reader)
                assert ended.returncode == 1
                assert ended.stderr.startswith(
                    f"Error: The database {user}@{url.hostname}:{url.port}{url.path} refuses"
                )
                assert "permission denied for table" in ended.stderr
                assert len(ended.stderr.splitlines()) == 1
        finally:
            connection.execute(f"drop role {user}".encode())


def test_commands_say_when_the_url_is_none() -> None:
    ended = workerjobs("list", database_url="mysql://x:pw@h/d")
    assert ended.returncode == 2
    assert "DATABASE_URL is not accepted" in ended.stderr
    assert "pw" not in ended.stderr


def test_commands_ask_for_the_migration(empty_database_url: str) -> None:
    ended = workerjobs("list", database_url=empty_database_url)
    assert ended.returncode == 1
    assert "run `workerjobs migrate`" in ended.stderr
    applied = "".join(f"Applied {name}\n" for _, name, _ in migrations())
    assert workerjobs("migrate", database_url=empty_database_url).stdout == applied
    assert workerjobs("migrate", database_url=empty_database_url).stdout == "The database is up to date.\n"
    assert workerjobs("list", database_url=empty_database_url).returncode == 0


def test_commands_refuse_a_database_of_a_newer_schema(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            'insert into "workerJobsMigrations" (version, name, "compatibleFrom") values (99, \'x\', 98)'
        )
    for command in (["list"], ["worker"], ["migrate"]):
        ended = workerjobs(*command, database_url=database_url)
        assert ended.returncode == 1
        assert "schema version 99" in ended.stderr
        assert "upgrade WorkerJobs" in ended.stderr


def test_show_names_a_job_that_is_not_there(database_url: str) -> None:
    ended = workerjobs("show", "77", database_url=database_url)
    assert ended.returncode == 1
    assert ended.stderr == "Error: There is no job 77\n"


# --- job types

TYPED_JOBS = str(Path(__file__).parents[1] / "support" / "typed_jobs.py")
NO_DATABASE = "postgresql://someone@127.0.0.1:1/jobs"


def test_types_lists_types_with_their_arguments() -> None:
    ended = workerjobs("types", "--jobs", TYPED_JOBS, database_url=NO_DATABASE)
    assert ended.returncode == 0, ended.stderr
    lines = {line.split()[0]: line for line in ended.stdout.splitlines()}
    assert "to, when, copies=1" in lines["sendReport"]
    assert "Send a report." in lines["sendReport"]
    assert "any" in lines["plain"]
    assert "removeOldWorkerJobs" in lines
    # Samples are known only where they are asked for.
    assert "countPrimes" not in lines


def test_types_as_json_are_schemas() -> None:
    types = {each["type"]: each for each in workerjobs_json("types", "--jobs", TYPED_JOBS, database_url=NO_DATABASE)}
    assert types["sendReport"]["schema"]["required"] == ["to", "when"]
    assert types["sendReport"]["description"] == "Send a report."
    assert types["sendReport"]["where"] == f"{TYPED_JOBS}:send_report"
    assert types["sendReport"]["options"] == {
        "isolation": "fresh",
        "memoryMib": 256,
        "timeoutSeconds": 30,
        "concurrency": 2,
        "retry": {"limit": 3, "initialDelay": 10_000, "factor": 2.0, "maxDelay": 3_600_000},
    }
    assert types["plain"]["schema"] == {"type": "object"}
    assert types["removeOldWorkerJobs"]["schema"] == {"type": "object"}


def test_types_reads_the_environment_and_names_modules_that_can_not_be_imported() -> None:
    variables = {"WORKER_JOB_MODULES": f"{TYPED_JOBS},no_such_module"}
    ended = workerjobs("types", database_url=NO_DATABASE, variables=variables)
    assert ended.returncode == 1
    assert "sendReport" in ended.stdout
    assert ended.stderr == (
        "Error: no_such_module can't be imported: ModuleNotFoundError: No module named 'no_such_module'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (
            ["sendReport", "--data", '{"to": []}'],
            [
                "data.when is missing: give a moment such as 2030-01-31T08:00:00Z",
                "data.to is []: give a list of at least 1 item, each text",
            ],
        ),
        (
            ["sendReport", "--data", '{"to": ["x"], "when": "2030-01-31T08:00:00Z"}'],
            ['data.to is ["x"]: every address needs an @'],
        ),
        (["sendReprt"], ["Unknown job type: sendReprt: did you mean sendReport?"]),
        (["plain", "--data", '{"a": "\\u0000"}'], ["data can't be stored"]),
        (["plain", "--jobs", "no_such_module"], ["--jobs: no_such_module can't be imported: ModuleNotFoundError"]),
    ],
    ids=str,
)
def test_submit_checks_type_and_data_against_the_functions_it_is_shown(
    database_url: str, arguments: list[str], sentences: list[str]
) -> None:
    ended = workerjobs("submit", *arguments, "--jobs", TYPED_JOBS, database_url=database_url)
    assert ended.returncode == 2
    for sentence in sentences:
        assert f"Error: {sentence}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert workerjobs_json("list", database_url=database_url) == []


def test_submit_stores_what_the_function_takes(database_url: str) -> None:
    data = '{"to": ["ada@example.org"], "when": "2030-01-31T08:00:00Z"}'
    ended = workerjobs("submit", "sendReport", "--data", data, "--jobs", TYPED_JOBS, database_url=database_url)
    assert ended.stdout == "Job 1 submitted, due now\n", ended.stderr
