"""Waiting for jobs, and what they log, with a real worker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.support.api import api
from tests.support.cli import workerjobs, workerjobs_json
from tests.support.loop import in_loop, until
from tests.support.table import sql
from tests.support.web import TOKEN
from tests.support.workers import worker_process


@in_loop
async def test_watch_and_logs_follow_jobs_to_their_end(database_url: str, tmp_path: Path) -> None:
    def submit(*arguments: str) -> str:
        return str(workerjobs_json("submit", *arguments, database_url=database_url)["id"])

    async def later(*arguments: str, **variables: str) -> Any:
        url = None if variables else database_url
        return await asyncio.to_thread(workerjobs, *arguments, database_url=url, variables=variables)

    def held(name: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        return submit("hold", "--data", json.dumps({"folder": str(folder)}))

    async with worker_process(database_url, tmp_path, count=2):
        # Succeeded and failed, with exit codes; a job that is tried again goes on with its retry.
        good = submit("echo", "--data", '{"a": 1}')
        ended = await later("watch", good)
        assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, f'Job {good} succeeded: {{"a": 1}}')
        data = json.dumps({"attempt": 2})
        again = submit("failUntil", "--data", data, "--retries", "2", "--retry-delay", "0.1")
        ended = await later("watch", again)
        assert (ended.returncode, ended.stdout.splitlines()[-1]) == (
            0,
            f"Job {again} succeeded as job {int(again) + 1}, attempt 2: 2",
        )
        this = await later("watch", again, "--this-run", "-o", "json")
        assert (this.returncode, [job["state"] for job in json.loads(this.stdout)]) == (1, ["failed"])
        # Cancelled, and time that is up.
        running = held("cancelled")
        await until(lambda: list((tmp_path / "cancelled").glob("*.started")))
        late = await later("watch", running, "--timeout", "0")
        assert (late.returncode, late.stderr) == (124, "Error: not done after 0 s\n")
        assert (await later("cancel", running)).returncode == 0
        ended = await later("watch", good, running)
        assert (ended.returncode, f"Job {running} cancelled" in ended.stdout) == (3, True)
        assert (await later("watch", "4711")).stderr == "Error: There is no job 4711\n"
        # Lines of a job, while it runs and afterwards, at the database and at a server.
        said = submit("print", "--data", '{"line": "one", "bytes": 8}')
        follows = await later("logs", "-f", said)
        assert follows.stdout == "one\none\n"
        assert (await later("logs", said, "--tail", "1")).stdout == "one\n"
        raised = submit("raise", "--data", '{"what": "plain"}')
        assert (await later("watch", raised)).returncode == 1
        await until(lambda: sql(database_url, 'select 1 from "workerJobLogs" where "jobId" = %s', int(raised)))
        async with api(database_url, tmp_path) as client:
            there = {"WORKERJOBS_SERVER": client.server.url, "WORKERJOBS_TOKEN": TOKEN}
            lines = (await later("logs", raised, "--level", "error", "-o", "json", **there)).stdout.splitlines()
            (error,) = [json.loads(line) for line in lines]
            assert error["level"] == "error"
            assert error["message"].startswith("Failed: RuntimeError: no paper")
            assert "Traceback" in error["message"]
            assert (await later("logs", said, **there)).stdout == "one\none\n"
            assert (await client.refused("GET", "/jobs/4711/logs"))[0] == 404
            seen = await later("watch", again, **there)
            assert seen.returncode == 0
        silent = await later("logs", good)
        assert (silent.stdout, silent.stderr) == ("", f"No lines of job {good} are kept.\n")


@in_loop
async def test_lines_are_kept_up_to_a_limit_and_go_with_their_job(database_url: str, tmp_path: Path) -> None:
    async with worker_process(database_url, tmp_path, WORKER_KEEP_LOGS="3"):
        data = json.dumps({"line": "line", "bytes": 250})
        job = workerjobs_json("submit", "print", "--data", data, "--wait", database_url=database_url)
        lines = await asyncio.to_thread(workerjobs, "logs", "-f", str(job["id"]), database_url=database_url)
        assert lines.stdout.splitlines() == ["line", "line", "line", "More lines are in the worker's log alone"]
        sql(database_url, """update "workerJobs" set "removeAt" = now() - interval '1 s'""")
        workerjobs("submit", "removeOldWorkerJobs", "--wait", database_url=database_url)
        assert sql(database_url, 'select count(*) from "workerJobLogs" where "jobId" = %s', job["id"]) == [(0,)]
