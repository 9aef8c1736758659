"""The same commands at the database and at a server, which is a real one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from tests.support.api import api
from tests.support.cli import workerjobs, workerjobs_json
from tests.support.loop import in_loop
from tests.support.table import sql
from tests.support.web import TOKEN

READS = (
    ("list",),
    ("list", "--type", "report", "--state", "failed", "--since", "1h"),
    ("show", "1"),
    ("cron", "list"),
    ("cron", "next", "nightly", "-n", "3"),
    ("pauses",),
    ("limit", "list"),
    ("workers",),
    ("types", "--live"),
    ("top",),
    ("explain", "default"),
)
ROWS = """
    insert into "workerJobs" (type, data, started, finished, success, result, tag, "createdAt")
    values
        ('report', '{"z": 1, "a": [2]}', now(), now(), true, '{"pages": 3}', null, now()),
        ('report', '{}', now(), now(), false, '{"error": "no paper"}', 'tagged', now() - interval '2 days'),
        ('mail', '{}', now() - interval '3 h', now() - interval '2 h', false, '{"error": "no stamp"}', null, now())
"""
WORKER = """
    insert into "workerJobWorkers" (owner, pool, host, pid, version, children, types, "startedAt", "seenAt", "bootedAt")
    values ('w', 'default', 'here', 7, '1', 2, '{report}', now(), now() + interval '1 h', now())
"""


@in_loop
async def test_commands_work_at_a_server_as_at_its_database(database_url: str, tmp_path: Path) -> None:
    sql(database_url, ROWS)
    sql(database_url, WORKER)
    workerjobs("submit", "nightly", "--cron", "0 3 * * *", "--time-zone", "Europe/Berlin", database_url=database_url)
    async with api(database_url, tmp_path) as client:
        there = {"WORKERJOBS_SERVER": client.server.url, "WORKERJOBS_TOKEN": TOKEN}

        def at_server(*arguments: str) -> Any:
            return workerjobs_json(*arguments, database_url=None, variables=there)

        for command in READS:
            seen, asked = workerjobs_json(*command, database_url=database_url), at_server(*command)
            if command == ("top",):
                for each in (seen, asked):
                    each["oldestSeconds"] = None
            assert asked == seen, command
        assert [job["id"] for job in at_server("list", "--type", "report")] == [2, 1]
        # Changes.
        submitted = at_server("submit", "report", "--data", '{"b": 1}', "--delay", "60", "--retries", "2")
        assert (submitted["data"], submitted["retryLimit"], submitted["state"]) == ({"b": 1}, 2, "pending")
        assert workerjobs_json("show", str(submitted["id"]), database_url=database_url) == submitted
        (cancelled,) = at_server("cancel", str(submitted["id"]))
        assert cancelled["state"] == "cancelled"
        (again,) = at_server("retry", "2")
        assert (again["rescheduledFromJob"], again["state"]) == (2, "pending")
        said = workerjobs("cancel", "1", "999", database_url=None, variables=there)
        assert (said.returncode, said.stderr) == (
            1,
            "Error: Job 1 has succeeded already\nError: There is no job 999\n",
        )
        triggered = at_server("cron", "trigger", "nightly")
        assert (triggered["type"], triggered["cronSchedule"]) == ("nightly", None)
        assert workerjobs("cron", "pause", "nightly", "--reason", "new", database_url=None, variables=there).stdout == (
            "The cron job nightly is paused\n"
        )
        assert [each["isSuspended"] for each in workerjobs_json("cron", "list", database_url=database_url)] == [True]
        assert [each["reason"] for each in at_server("pauses")] == ["new"]
        assert workerjobs("cron", "resume", "nightly", database_url=None, variables=there).returncode == 0
        twice = workerjobs("cron", "resume", "nightly", database_url=None, variables=there)
        assert (twice.returncode, twice.stderr) == (1, "Error: The cron job nightly is not paused\n")
        for verb in ("pause", "resume"):
            assert workerjobs(verb, "type", "mail", database_url=None, variables=there).returncode == 0
        audit = [each["action"] for each in (await client.get("/audit"))["entries"]]
        assert audit[:5] == ["types.resume", "types.pause", "cron.resume", "cron.pause", "cron.trigger"]
        for words in (
            "limit set type mail/urgent --rate 10/1m",
            "limit set key customer/7 --concurrency 2",
            "pause type mail/urgent",
            "pause pool eu/slow",
        ):
            assert workerjobs(*words.split(), database_url=None, variables=there).returncode == 0, words
        for listed in (("limit", "list"), ("pauses",)):
            assert [each["name"] for each in at_server(*listed)][-1:] == ["mail/urgent"]
            assert at_server(*listed) == workerjobs_json(*listed, database_url=database_url)
        for words in ("limit remove type mail/urgent", "limit remove key customer/7", "resume type mail/urgent"):
            codes = [workerjobs(*words.split(), database_url=None, variables=there).returncode for _ in range(2)]
            assert codes == [0, 1], words
        assert workerjobs("resume", "pool", "eu/slow", database_url=None, variables=there).returncode == 0
        # Exports of both are the same, and in both formats.
        lines = workerjobs("export", database_url=None, variables=there).stdout
        assert lines == workerjobs("export", database_url=database_url).stdout
        assert [json.loads(line)["id"] for line in lines.splitlines()] == [7, 6, 5, 4, 3, 2, 1]
        # What goes wrong is said.
        refusals = {
            ("--server", client.server.url, "list"): (1, "wants a valid token: set WORKERJOBS_TOKEN"),
            ("list", "--server", "http://127.0.0.1:1"): (1, "The server http://127.0.0.1:1 can't be reached"),
            ("list", "--server", "ftp://x"): (2, "The server's URL is not accepted"),
            ("token", "list", "--server", client.server.url): (2, "token works at the database alone"),
            ("pool", "list", "--server", client.server.url): (2, "WorkerPools are in a cluster"),
            ("list", "--server", "http://x", "--context", "y"): (2, "exclude each other"),
        }
        for arguments, (code, sentence) in refusals.items():
            ended = workerjobs(*arguments, database_url=None)
            assert (ended.returncode, sentence in ended.stderr) == (code, True), ended.stderr
        reading = workerjobs_json("token", "create", "reader", "--scope", "read", database_url=database_url)["token"]
        only_reads = there | {"WORKERJOBS_TOKEN": reading}
        assert workerjobs("list", database_url=None, variables=only_reads).returncode == 0
        refused = workerjobs("retry", "2", database_url=None, variables=only_reads)
        assert (refused.returncode, "may look and not change anything" in refused.stderr) == (1, True)
        assert reading not in refused.stderr


def failed(url: str, count: int, job_type: str = "report", ago: str = "1 minute") -> None:
    sql(
        url,
        """insert into "workerJobs" (type, started, finished, success, result)
        select %s, now() - %s::interval, now() - %s::interval, false, '{"error": "no"}' from generate_series(1, %s)""",
        job_type,
        ago,
        ago,
        count,
    )


def test_retry_of_failed_jobs_takes_the_last_of_each_chain_once(database_url: str) -> None:
    failed(database_url, 3)
    failed(database_url, 1, "mail")
    failed(database_url, 1, ago="2 hours")
    # 1 was tried again as 6, which failed as well; 2 was run again by hand and goes on.
    sql(
        database_url,
        """insert into "workerJobs" (type, started, finished, success, "rescheduledFromJob", attempt)
        values ('report', now(), now(), false, 1, 2), ('report', now(), null, null, 2, 1)""",
    )
    which = ("retry", "--failed", "--type", "report", "--since", "1h")
    assert workerjobs_json(*which, "--dry-run", database_url=database_url) == [3, 6]
    told = workerjobs(*which, "--dry-run", database_url=database_url).stdout
    assert told == "Would run 2 failed jobs (2 report) again: 3, 6\n"
    unasked = workerjobs(*which, database_url=database_url)
    assert (unasked.returncode, "give --yes" in unasked.stderr) == (2, True)
    done = workerjobs(*which, "--yes", database_url=database_url)
    assert (done.returncode, done.stdout) == (0, "2 jobs run again: 8, 9\n")
    again = workerjobs(*which, "--yes", database_url=database_url)
    assert (again.returncode, again.stderr) == (0, "No such job failed.\n")
    near = workerjobs("retry", "--failed", "--type", "reprot", database_url=database_url)
    assert near.stderr == "No such job failed. Did you mean report?\n"
    for arguments in (["retry"], ["retry", "3", "--failed"], ["retry", "3", "--since", "1h"]):
        assert workerjobs(*arguments, database_url=database_url).returncode == 2


@in_loop
async def test_bulk_changes_by_filter_are_the_same_at_a_server_and_at_a_database(
    database_url: str, tmp_path: Path
) -> None:
    failed(database_url, 3)
    failed(database_url, 1, "mail")
    sql(
        database_url,
        """insert into "workerJobs" (type, pool, due, "cronSchedule", "cronKey")
        values ('report', 'eu', now() + interval '1 day', null, null), ('report', 'us', now(), null, null),
            ('mail', 'eu', now() + interval '1 day', '@daily', 'daily-mail')""",
    )
    async with api(database_url, tmp_path) as client:
        there = {"WORKERJOBS_SERVER": client.server.url, "WORKERJOBS_TOKEN": TOKEN}
        at_places: list[dict[str, Any]] = [
            {"database_url": database_url, "variables": {}},
            {"database_url": None, "variables": there},
        ]

        for place in at_places:
            told = workerjobs(
                "list", "--state", "failed,running", "-s", "pending", "--type", "mail", "-o", "json", **place
            )
            assert [(each["id"], each["state"]) for each in json.loads(told.stdout)] == [(7, "pending"), (4, "failed")]
            wrong = workerjobs("list", "--state", "faild", **place)
            assert (wrong.returncode, wrong.stderr) == (
                2,
                "Error: --state: there is no state 'faild'. Did you mean failed? "
                "There are pending, running, succeeded, failed, cancelled\n",
            )
            told = workerjobs("retry", "--failed", "--type", "report", "--dry-run", **place)
            assert told.stdout == "Would run 3 failed jobs (3 report) again: 1, 2, 3\n", told.stderr
            told = workerjobs("cancel", "--pool", "eu", "--dry-run", **place)
            assert told.stdout == (
                "Would cancel 2 unfinished jobs (1 mail, 1 report, 1 of cron jobs, which end with them): 5, 7\n"
            )
            unasked = workerjobs("cancel", "--pool", "eu", **place)
            assert (unasked.returncode, "would be cancelled: give --yes, or --dry-run" in unasked.stderr) == (2, True)
            refused = workerjobs("cancel", "--state", "failed", "--yes", **place)
            assert (refused.returncode, "give some of pending, running" in refused.stderr) == (2, True)
            near = workerjobs("cancel", "--pool", "ue", "--type", "repotr", "--yes", **place)
            assert near.stderr == "No such job is unfinished. Did you mean report?\n"
        for limit, place in enumerate(at_places, 1):
            done = workerjobs("retry", "--failed", "--type", "report", "--limit", str(limit), "--yes", **place)
            assert done.stdout == f"{limit} jobs run again: {'8' if limit == 1 else '9, 10'}\n", done.stderr
            done = workerjobs(
                "cancel", "--type", "report", "--until", "2099-01-01", "--state", "pending", "--yes", **place
            )
            assert done.stdout == f"{3 if limit == 1 else 2} jobs cancelled, 0 running ones will be stopped\n"
    ((left,),) = sql(database_url, 'select array_agg(id) from "workerJobs" where finished is null')
    assert left == [7]


def test_export_writes_pages_in_the_order_of_ids_and_a_file_as_a_whole(database_url: str, tmp_path: Path) -> None:
    failed(database_url, 1_201)
    lines = workerjobs("export", "--limit", "1100", database_url=database_url).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(1201, 101, -1))
    file = tmp_path / "jobs.csv"
    fields = ("--format", "csv", "--fields", "id,state,result,isSuspended")
    done = workerjobs("export", *fields, "--until", "1s", "--to", str(file), database_url=database_url)
    assert done.stderr == f"1201 jobs written to {file}\n"
    rows = list(csv.reader(io.StringIO(file.read_text())))
    assert rows[:2] == [["id", "state", "result", "isSuspended"], ["1201", "failed", '{"error": "no"}', "false"]]
    assert len(rows) == 1202
    wrong = workerjobs("export", "--fields", "id,stat", database_url=database_url)
    assert (
        wrong.stderr == "Error: --fields: there is no stat. Did you mean state or started?\n" or wrong.returncode == 2
    )
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.csv"]
    nowhere = workerjobs("export", "--to", str(tmp_path / "no" / "file"), database_url=database_url)
    assert (nowhere.returncode, "can't be written" in nowhere.stderr) == (2, True)


def test_names_are_completed_from_the_database(database_url: str) -> None:
    sql(database_url, WORKER)
    workerjobs("submit", "nightly", "--cron", "@daily", "--pool", "slow", database_url=database_url)
    for words, names in {
        "workerjobs list --type ": {"nightly", "report"},
        "workerjobs list --type re": {"report"},
        "workerjobs list --state fa": {"failed"},
        "workerjobs explain ": {"default", "slow"},
        "workerjobs cron pause ": {"nightly"},
        "workerjobs re": {"retry", "resume"},
    }.items():
        variables = {"_WORKERJOBS_COMPLETE": "complete_bash", "COMP_WORDS": words}
        variables["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        shown = workerjobs(database_url=database_url, variables=variables)
        assert set(shown.stdout.split()) == names, (words, shown.stderr)
    nowhere = workerjobs(
        database_url="postgresql://u@127.0.0.1:1/x",
        variables={
            "_WORKERJOBS_COMPLETE": "complete_bash",
            "COMP_WORDS": "workerjobs list --type ",
            "COMP_CWORD": "3",
        },
    )
    assert nowhere.stdout.strip() == ""
    for shell in ("bash", "zsh", "fish"):
        assert "_WORKERJOBS_COMPLETE" in workerjobs("completion", shell, database_url=None).stdout


def test_unknown_names_are_told_the_nearest_one(database_url: str) -> None:
    sql(database_url, WORKER)
    workerjobs("submit", "nightly", "--cron", "@daily", database_url=database_url)
    for arguments, code, sentence in (
        (("list", "--type", "reprot"), 0, "No jobs. Did you mean report?"),
        (("submit", "reprot"), 0, "No live worker of the pool default knows the type reprot. Did you mean report?"),
        (("explain", "defualt"), 1, "of the pool defualt. Did you mean default?"),
        (("cron", "trigger", "nightyl"), 1, "There is no cron job nightyl. Did you mean nightly?"),
        (("pause", "pool", "defalt"), 0, "Did you mean default?"),
        (("list", "--since", "soon"), 2, "--since is 'soon': give how long ago"),
    ):
        ended = workerjobs(*arguments, database_url=database_url)
        assert (ended.returncode, sentence in ended.stderr) == (code, True), ended.stderr
