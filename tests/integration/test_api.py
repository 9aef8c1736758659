"""The HTTP API: what programs ask of jobs, cron jobs, pools and types, over real connections and with a real worker."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.api import Api, api, event
from tests.support.cli import workerjobs_json
from tests.support.loop import in_loop, until
from tests.support.table import count_rows, open_store, sql
from tests.support.workers import JOBS, Told, worker
from workerjobs.domain.job import NewJob

TYPED = str(Path(JOBS).with_name("typed_jobs.py"))
SHOW_POOL = """
insert into "workerPools" (uid, "clusterId", namespace, name, pool, desired, replicas, ready, reason, message)
values ('u1', 'ours', 'shop', 'main', 'default', 4, 2, 1, 'JobsWaiting', '4 are due')
"""
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()


async def ended(client: Api, job_id: int) -> dict[str, Any]:
    """Wait until a job is finished."""

    async def look() -> dict[str, Any] | None:
        job: dict[str, Any] = await client.get(f"/jobs/{job_id}")
        return job if job["finished"] else None

    found: dict[str, Any] | None = await until(look)
    assert found is not None
    return found


@in_loop
async def test_job_is_submitted_run_and_shown_with_its_history(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client, worker(database_url):
        answer = await client.ask("POST", "/jobs", {"type": "echo", "data": {"z": 1, "a": "é"}, "priority": 5})
        assert answer.status == 201
        assert answer.headers["Location"] == f"jobs/{answer.body['id']}"
        job = await ended(client, answer.body["id"])
        assert (job["state"], job["priority"], job["attempt"]) == ("succeeded", 5, 1)
        assert list(job["data"].items()) == [("z", 1), ("a", "é")]
        assert job["result"] == {"a": "é", "z": 1}
        assert [run["id"] for run in job["history"]] == [job["id"]]

        failing = {"type": "no such function", "retry": {"limit": 1, "initialDelay": 0}}
        first = await client.post("/jobs", failing)
        failed = await ended(client, first["id"])
        assert failed["result"] == {"error": "Unknown job type: no such function"}

        async def retried() -> list[Any] | None:
            history = (await client.get(f"/jobs/{first['id']}"))["history"]
            return history if len(history) == 2 and history[1]["finished"] else None

        history = await until(retried)
        assert history is not None
        assert [(run["attempt"], run["state"], run["error"]) for run in history] == [
            (number, "failed", "Unknown job type: no such function") for number in (1, 2)
        ]
        assert [run["rescheduledFromJob"] for run in history] == [None, first["id"]]


@in_loop
async def test_finished_jobs_run_again_and_others_do_not(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        async with worker(database_url):
            good = await ended(client, (await client.post("/jobs", {"type": "echo"}))["id"])
            bad = await ended(client, (await client.post("/jobs", {"type": "unknown"}))["id"])
        assert await client.refused("POST", f"/jobs/{good['id']}/retry") == (
            409,
            f"Job {good['id']} has succeeded: rerun runs it again all the same",
        )
        again = await client.post(f"/jobs/{good['id']}/rerun")
        assert (again["state"], again["rescheduledFromJob"]) == ("pending", good["id"])
        assert (await client.refused("POST", f"/jobs/{again['id']}/rerun"))[0] == 409
        retried = await client.post(f"/jobs/{bad['id']}/retry")
        assert [run["id"] for run in (await client.get(f"/jobs/{retried['id']}"))["history"]] == [
            bad["id"],
            retried["id"],
        ]
        both = await client.post("/jobs/retry", {"ids": [bad["id"], good["id"]]})
        assert len(both["ids"]) == 2
        assert (await client.get(f"/jobs/{both['ids'][0]}"))["rescheduledFromJob"] == bad["id"]
        assert await client.refused("POST", "/jobs/4711/retry") == (404, "There is no job 4711")
        before = count_rows(database_url)
        assert (await client.refused("POST", "/jobs/retry", {"ids": [bad["id"], 4711]}))[0] == 404
        assert count_rows(database_url) == before


@in_loop
async def test_jobs_are_cancelled_by_id_and_by_tag(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with api(database_url, tmp_path) as client, worker(database_url, grace=5):
        waiting = await client.post("/jobs", {"type": "echo", "due": TOMORROW})
        cancelled = await client.post(f"/jobs/{waiting['id']}/cancel", {"reason": "not needed"}, status=200)
        assert (cancelled["state"], cancelled["result"]) == ("cancelled", {"error": "not needed"})
        assert await client.refused("POST", f"/jobs/{waiting['id']}/cancel") == (
            409,
            f"Job {waiting['id']} is finished",
        )
        running = await client.post("/jobs", {"type": "hold", "tag": "held", "data": told.data()})
        await told.run(running["id"])
        later = await client.post("/jobs", {"type": "echo", "due": TOMORROW, "tag": "held"})
        assert await client.post("/jobs/cancel", {"tag": "held"}, status=200) == {
            "cancelled": [later["id"]],
            "stopping": [running["id"]],
        }
        assert (await ended(client, running["id"]))["state"] == "cancelled"
        assert (await client.refused("POST", "/jobs/cancel", {"ids": [1], "tag": "x"}))[0] == 422


@in_loop
async def test_bulk_cancel_and_retry_take_what_a_filter_finds_up_to_a_limit(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        jobs = [{"type": "report", "due": TOMORROW, "pool": "eu"}] * 4 + [{"type": "mail", "due": TOMORROW}]
        ids = (await client.post("/jobs/bulk", {"jobs": jobs}))["ids"]
        which = {"where": {"type": "report", "state": ["pending", "running"]}, "limit": 3}
        assert await client.post("/jobs/cancel", which | {"dryRun": True}, status=200) == {
            "count": 4,
            "types": {"report": 4},
            "cronJobs": 0,
            "ids": ids[:3],
            "before": ids[3] + 1,
        }
        assert len((await client.get("/audit"))["entries"]) == 1
        keyed = [
            await client.ask("POST", "/jobs/cancel", which | {"reason": "storm"}, **{"Idempotency-Key": "one"})
            for _ in range(2)
        ]
        assert [each.body for each in keyed] == [{"cancelled": ids[:3], "stopping": []}] * 2
        assert [each.headers.get("Idempotent-Replayed") for each in keyed] == [None, "true"]
        assert (await client.get(f"/jobs/{ids[0]}"))["result"] == {"error": "storm"}
        assert (await client.post("/jobs/cancel", which, status=200))["cancelled"] == ids[3:4]
        entry = (await client.get("/audit"))["entries"][1]
        assert (entry["action"], entry["details"]["where"], entry["details"]["ids"]) == (
            "jobs.cancel",
            {"type": "report", "state": ["pending", "running"]},
            ids[:3],
        )

        # Each runs again once; failed ones unless others are named.
        assert (await client.post("/jobs/retry", {"where": {"type": "report"}}))["ids"] == []
        again = {"where": {"state": ["cancelled"], "pool": "eu", "before": ids[2]}}
        new = (await client.post("/jobs/retry", again))["ids"]
        assert [(await client.get(f"/jobs/{each}"))["rescheduledFromJob"] for each in new] == ids[:2]
        assert (await client.post("/jobs/retry", again))["ids"] == []
        assert (await client.post("/jobs/retry", again | {"dryRun": True}, status=200))["count"] == 0

        listed = await client.get("/jobs?state=cancelled&state=pending&type=report")
        assert [each["id"] for each in listed["jobs"]] == [*reversed(new), *reversed(ids[:4])]
        assert await client.get("/jobs?state=pending,cancelled&type=report") == listed
        refusals = {
            "where: say which jobs, by at least one of state, type": {"where": {}},
            "where.state: cancel does nothing to failed jobs: give some of pending, running": {
                "where": {"state": ["failed"]}
            },
            "where.state: there is no state 'faild'. Did you mean failed?": {"where": {"state": "faild"}},
            "ids, tag or where: give one of them": {"where": {"type": "mail"}, "ids": [1]},
            "dryRun needs where": {"ids": [1], "dryRun": True},
            "where.since: give a moment such as": {"where": {"since": 5}},
            "where: unknown field 'typ': did you mean type?": {"where": {"typ": "mail"}},
        }
        for words, body in refusals.items():
            status, detail = await client.refused("POST", "/jobs/cancel", body)
            assert (status, detail[: len(words)]) == (422, words)
        assert (await client.refused("GET", "/jobs?state=lost"))[1] == (
            "state: there is no state 'lost'. There are pending, running, succeeded, failed, cancelled"
        )


@in_loop
async def test_bulk_is_stored_whole_or_not_at_all(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        jobs = [{"type": "echo", "data": {"n": number}, "pool": "bulk"} for number in range(1000)]
        ids = (await client.post("/jobs/bulk", {"jobs": jobs}))["ids"]
        assert ids == sorted(ids)
        assert (await client.get(f"/jobs/{ids[7]}"))["data"] == {"n": 7}
        before = count_rows(database_url)
        status, why = await client.refused(
            "POST", "/jobs/bulk", {"jobs": [{"type": "a"}, {"type": "b", "cronSchedule": "61 * * * *"}]}
        )
        assert status == 422
        assert why.startswith("jobs[1]: ")
        assert count_rows(database_url) == before


@in_loop
async def test_bad_input_is_answered_with_all_its_problems(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client, worker(database_url, modules=(TYPED,)):
        cases: dict[str, tuple[Any, list[str]]] = {
            "unknown field": ({"type": "a", "prio": 1}, ["unknown field 'prio': did you mean priority?"]),
            "no type": ({}, ["type: field required"]),
            "two problems": (
                {"type": "a", "priority": 99_999, "persistent": "yes"},
                [
                    "persistent: input should be a valid boolean",
                    "priority: input should be less than or equal to 32767",
                ],
            ),
            "schedule": ({"type": "a", "timeZone": "Europe/Berlin"}, ["timeZone needs a cronSchedule"]),
            "NUL": (
                {"type": "a", "data": {"x": "\0"}},
                ["data can't be stored: a string holds a NUL character, which Postgres can't store"],
            ),
        }
        for body, problems in cases.values():
            answer = await client.ask("POST", "/jobs", body)
            assert (answer.status, sorted(answer.body["errors"])) == (422, problems), answer.text
        near = {
            "/jobs/bulk": (
                {"jobs": [{"type": "a"}, {"typ": "a", "type": "b"}]},
                "jobs.1: unknown field 'typ': did you mean type?",
            ),
            "/jobs": (
                {"type": "a", "retry": {"limt": 1, "limit": 1}},
                "retry: unknown field 'limt': did you mean limit?",
            ),
        }
        for path, (body, sentence) in near.items():
            assert await client.refused("POST", path, body) == (422, sentence)
        assert await client.refused("GET", "/jobs?sate=failed") == (422, "unknown field 'sate': did you mean state?")
        assert await client.refused("POST", "/jobs", b"{") == (422, "The body is not JSON")

        async def known_types() -> list[Any]:
            found: list[Any] = (await client.get("/types"))["types"]
            return found

        (known, *_) = await until(known_types)
        assert await client.get(f"/types/{known['type']}") == known
        required = next(each for each in (await client.get("/types"))["types"] if each["schema"].get("required"))
        status, why = await client.refused("POST", "/jobs", {"type": required["type"], "data": {}})
        assert status == 422
        assert f"data.{required['schema']['required'][0]} is missing" in why
        assert (await client.refused("GET", "/types/nobody"))[0] == 404
        for path in ("/jobs?limit=0", "/jobs?type=%00", "/jobs/0", "/jobs?state=lost"):
            assert (await client.refused("GET", path))[0] == 422, path
        assert (await client.refused("GET", "/nothing"))[0] == 404
        assert (await client.refused("GET", "/jobs/x"))[0] == 404
        for path, allowed in {
            "/jobs": "GET, POST",
            "/jobs/bulk": "POST",
            "/pools/a/b/pause": "DELETE, GET, PUT",
        }.items():
            answer = await client.ask("PATCH", path)
            assert (answer.status, answer.headers["Allow"]) == (405, allowed)


@in_loop
async def test_list_is_filtered_and_read_page_by_page(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        async with open_store(database_url) as store:
            for number in range(25):
                await store.submit([NewJob(type=f"t{number % 2}", pool="p", tag=f"tag {number}", user_id=number)])
        found: list[int] = []
        path = "/jobs?type=t1&limit=5"
        while True:
            page = await client.get(path)
            found += [job["id"] for job in page["jobs"]]
            if page["next"] is None:
                break
            path = f"/jobs?type=t1&limit=5&before={page['next']}"
        assert found == sorted(found, reverse=True)
        assert len(found) == 12
        for query, count in {
            "tag=tag%203": 1,
            "userId=4": 1,
            "pool=p": 25,
            "pool=q": 0,
            "state=pending": 25,
            "state=running": 0,
            "state=failed": 0,
            "state=pending&type=t0": 13,
        }.items():
            assert len((await client.get(f"/jobs?{query}"))["jobs"]) == count, query
        assert "data" not in (await client.get("/jobs"))["jobs"][0]


@in_loop
async def test_cron_jobs_are_listed_with_their_ticks(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        await client.post("/jobs", {"type": "echo", "cronSchedule": "0 8 * * *", "timeZone": "Europe/Berlin"})
        with_sql = "select workerjobs.schedule('echo', '*/5 * * * * *', key => 'often')"
        sql(database_url, with_sql)
        daily, often = (await client.get("/cron?ticks=3"))["cron"]
        assert (daily["cronSchedule"], daily["timeZone"], daily["isSuspended"]) == ("0 8 * * *", "Europe/Berlin", False)
        assert daily["nextTicks"][0] == daily["due"]
        ticks = [datetime.fromisoformat(tick) for tick in often["nextTicks"]]
        assert [later - earlier for earlier, later in pairwise(ticks)] == [timedelta(seconds=5)] * 2
        assert ticks[0] > datetime.now(UTC) - timedelta(seconds=6)
        for action in ("trigger", "pause", "resume"):
            refusal = await client.refused("POST", f"/cron/{action}", {"key": "oftne"})
            assert refusal == (404, "There is no cron job oftne. Did you mean often?")
        refusal = await client.refused("POST", "/cron/resume", {"key": "often"})
        assert refusal == (404, "The cron job often is not paused")
        page = await client.get("/cron?limit=1")
        assert [job["id"] for job in page["cron"]] == [daily["id"]]
        assert [job["id"] for job in (await client.get(f"/cron?after={page['next']}"))["cron"]] == [often["id"]]
        async with worker(database_url):

            async def ran() -> bool:
                jobs = (await client.get("/cron"))["cron"]
                return any(job["lastStates"][:1] == ["succeeded"] for job in jobs if job["cronKey"] == "often")

            await until(ran)


@in_loop
async def test_pools_and_types_are_paused_and_resumed(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client, worker(database_url, children=2):
        paused = await client.ask("PUT", "/pools/default/pause", {"reason": "upgrade"})
        assert (paused.status, paused.body["kind"], paused.body["reason"]) == (200, "pool", "upgrade")
        job = await client.post("/jobs", {"type": "echo"})
        await client.post("/jobs", {"type": "echo", "pool": "other", "concurrencyKey": "k", "priority": 3})
        await client.post("/jobs", {"type": "tell", "pool": "other", "due": TOMORROW})

        async def is_shown() -> bool:
            return "echo" in (await client.get("/pools"))["pools"][0]["types"]

        await until(is_shown)
        default, other = (await client.get("/pools"))["pools"]
        assert (default["name"], default["workers"], default["children"], default["waiting"]) == ("default", 1, 2, 1)
        assert default["pause"]["reason"] == "upgrade"
        sql(database_url, SHOW_POOL)
        (resource,) = (await client.get("/workerpools"))["workerPools"]
        assert (resource["namespace"], resource["name"], resource["pool"]) == ("shop", "main", "default")
        assert (resource["desired"], resource["replicas"], resource["ready"], resource["workers"]) == (4, 2, 1, 1)
        assert (resource["reason"], resource["message"]) == ("JobsWaiting", "4 are due")
        assert resource["pause"] == default["pause"]
        assert (other["name"], other["workers"], other["waiting"], other["later"]) == ("other", 0, 1, 1)
        figures = await client.get("/statistics")
        assert (figures["waiting"], figures["later"], figures["running"], figures["workers"]) == (2, 1, 0, 1)
        assert [(each["pool"], each["type"]) for each in figures["queues"]] == [
            ("default", "echo"),
            ("other", "echo"),
            ("other", "tell"),
        ]
        (shown,) = (await client.get("/workers"))["workers"]
        assert (shown["pool"], shown["children"], shown["isDraining"]) == ("default", 2, False)
        assert [each["name"] for each in (await client.get("/pauses"))["pauses"]] == ["default"]
        assert (await client.ask("DELETE", "/pools/default/pause")).status == 204
        assert await client.refused("DELETE", "/pools/default/pause") == (404, "The pool default is not paused")
        assert (await ended(client, job["id"]))["state"] == "succeeded"
        assert (await client.ask("PUT", "/types/echo/pause")).status == 200
        assert (await client.get("/types/echo"))["isPaused"] is True
        assert (await client.ask("DELETE", "/types/echo/pause")).status == 204
        recent = {each["type"]: each for each in (await client.get("/statistics"))["recent"]}
        assert (recent["echo"]["runs"], recent["echo"]["failed"]) == (1, 0)


@in_loop
async def test_type_that_no_live_worker_knows_is_stored_with_a_hint(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        # Whoever submits before any worker has come is right to.
        assert (await client.post("/jobs", {"type": "ehco", "due": TOMORROW}))["warnings"] == []
        async with worker(database_url):

            async def is_known() -> bool:
                return any(each["type"] == "echo" for each in (await client.get("/types"))["types"])

            await until(is_known)
            hint = "No live worker of the pool default knows the type ehco. Did you mean echo?"
            wrong = {"type": "ehco", "due": TOMORROW}
            for _ in range(2):  # Also where the answer is an earlier one.
                answer = await client.ask("POST", "/jobs", wrong, **{"Idempotency-Key": "one"})
                assert (answer.status, answer.body["warnings"]) == (201, [hint])
            assert (await client.get(f"/jobs/{answer.body['id']}"))["state"] == "pending"
            assert (await client.post("/jobs", {"type": "echo"}))["warnings"] == []
            assert (await client.post("/jobs", wrong | {"pool": "empty"}))["warnings"] == []
            bulk = await client.post("/jobs/bulk", {"jobs": [wrong, {"type": "echo"}, wrong]})
            assert (len(bulk["ids"]), bulk["warnings"]) == (3, [hint])


@in_loop
async def test_changes_are_told_as_they_happen(database_url: str, tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with api(database_url, tmp_path) as client, worker(database_url), client.stream("/events") as stream:
        assert (await stream.next())[0] == "reset"
        job = await client.post("/jobs", {"type": "hold", "data": told.data()})
        await told.run(job["id"])
        assert (await event(stream, "job", id=job["id"], state="running"))["type"] == "hold"
        async with client.stream(f"/jobs/{job['id']}/events") as one:
            assert (await one.next())[1]["state"] == "running"
            await client.ask("PUT", "/types/other/pause")
            await event(stream, "pauses")
            told.go()
            await event(stream, "job", id=job["id"], state="succeeded")
            assert (await event(one, "job", state="succeeded"))["id"] == job["id"]
            assert (await asyncio.wait_for(one.answer.content.read(), 60)).strip() == b""
        assert (await client.refused("GET", "/jobs/4711/events"))[0] == 404


@in_loop
async def test_server_ends_at_once_while_changes_are_listened_to(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path, as_process=True) as client:
        job = await client.post("/jobs", {"type": "echo", "due": TOMORROW})
        async with client.stream("/events") as stream, client.stream(f"/jobs/{job['id']}/events") as one:
            await stream.next()
            await one.next()
            client.process.process.terminate()
            assert await asyncio.wait_for(asyncio.to_thread(client.process.process.wait), 60) == 0
        assert "Traceback" not in client.process.log.read_text()


@in_loop
async def test_description_names_every_operation_and_how_it_is_refused(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        described = (await client.ask("GET", "/openapi.json")).body
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in described["paths"].items()
        if path.startswith("/api/v1/")
        for method, operation in methods.items()
    }
    assert len(operations) >= 20
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert {"401", "403", "429", "503"} <= operation["responses"].keys(), name
        assert operation["security"] == [{"token": []}], name
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    for name in operations:
        assert f"`{name.replace('/api/v1', '')}`" in page, f"docs/api.md does not tell of {name}"
    text = json.dumps(described)
    assert "HTTPValidationError" not in text


@in_loop
async def test_pending_jobs_are_changed_and_finished_ones_deleted(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        job = await client.post("/jobs", {"type": "echo", "due": TOMORROW, "pool": "slow"})
        path = f"/jobs/{job['id']}"
        changed = await client.ask("PATCH", path, {"priority": 7, "pool": "default"})
        assert (changed.body["priority"], changed.body["pool"], changed.body["due"]) == (7, "default", job["due"])
        assert await client.refused("DELETE", path) == (409, f"Job {job['id']} is pending: cancel it first")
        for wrong, why in (
            ({}, "nothing is given: give due, priority or pool"),
            ({"due": "soon"}, "due is 'soon': give a moment such as 2030-01-31T08:00:00Z"),
            ({"data": {}}, "unknown field 'data': accepted: due, pool, priority"),
            ({"priority": 2**15}, "priority: input should be less than or equal to 32767"),
        ):
            assert await client.refused("PATCH", path, wrong) == (422, why)
        cron = await client.post("/jobs", {"type": "echo", "cronSchedule": "@yearly"})
        assert (await client.refused("PATCH", f"/jobs/{cron['id']}", {"due": None}))[0] == 409
        assert (await client.ask("PATCH", f"/jobs/{cron['id']}", {"priority": 1})).status == 200
        async with worker(database_url):
            # Told to the worker at once.
            assert (await client.ask("PATCH", path, {"due": None})).status == 200
            assert (await ended(client, job["id"]))["state"] == "succeeded"
        assert await client.refused("PATCH", path, {"due": None}) == (
            409,
            f"Job {job['id']} is not pending any more: only pending jobs are changed",
        )
        sql(
            database_url,
            """update "workerJobs" set "clusterId" = 'c', namespace = 'shop', "resourceName" = 'r', "resourceUid" = 'u'
            where id = %s""",
            job["id"],
        )
        whose = f"Job {job['id']} is of the WorkerJob shop/r: change or delete that"
        assert await client.refused("DELETE", path) == (409, whose)
        sql(database_url, 'update "workerJobs" set "resourceUid" = null where id = %s', job["id"])
        line = """insert into "workerJobLogs" ("jobId", at, level, message) values (%s, now(), 'info', 'Hello')"""
        sql(database_url, line, job["id"])
        sql(database_url, line, cron["id"])
        assert (await client.ask("DELETE", path)).status == 204
        assert (await client.refused("DELETE", path))[0] == 404
        # Its log lines go with it, and nobody else's.
        assert sql(database_url, 'select "jobId" from "workerJobLogs"') == [(cron["id"],)]
        done = [(each["action"], each["details"]) for each in (await client.get("/audit"))["entries"]]
        assert done[0] == ("jobs.delete", {"ids": [job["id"]], "type": "echo"})
        assert done[1] == ("jobs.change", {"ids": [job["id"]], "due": None})


@in_loop
async def test_types_and_keys_are_limited_as_by_the_command(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        path = "/keys/eu%2Fcustomer%207/limit"
        limit = {
            "kind": "key",
            "name": "eu/customer 7",
            "concurrency": 2,
            "rateLimit": 10,
            "ratePeriod": 60_000,
            "running": 0,
        }
        wanted = {name: limit[name] for name in ("concurrency", "rateLimit", "ratePeriod")}
        assert (await client.ask("PUT", path, wanted)).body == limit
        assert await client.get(path) == limit
        assert (await client.ask("PUT", "/types/echo/limit", {"concurrency": 0})).body["ratePeriod"] is None
        assert workerjobs_json("limit", "list", database_url=database_url) == (await client.get("/limits"))["limits"]
        assert [each["name"] for each in (await client.get("/limits"))["limits"]] == ["eu/customer 7", "echo"]
        # All of it is put anew.
        assert (await client.ask("PUT", path, {"concurrency": 1})).body["rateLimit"] is None

        job = await client.post("/jobs", {"type": "echo"})
        async with worker(database_url):
            await client.ask("DELETE", "/types/echo/limit")
            assert (await ended(client, job["id"]))["state"] == "succeeded"
        for name in ("types/echo", "keys/unknown"):
            kind = name[:4].rstrip("s")
            assert await client.refused("GET", f"/{name}/limit") == (
                404,
                f"No limit is set for the {kind} {name.rpartition('/')[2]}",
            )
            assert (await client.refused("DELETE", f"/{name}/limit"))[0] == 404
        for wrong, why in (
            ({}, "no limit is given: give jobs at once, starts in a period, or both"),
            ({"rateLimit": 5}, "rateLimit and ratePeriod go together: give both"),
            ({"ratePeriod": 5, "concurrency": 1}, "rateLimit and ratePeriod go together: give both"),
            ({"concurrency": -1}, "concurrency: input should be greater than or equal to 0"),
            ({"atOnce": 1}, "unknown field 'atOnce': accepted: concurrency, rateLimit, ratePeriod"),
        ):
            status, said = await client.refused("PUT", path, wrong)
            assert (status, why in said) == (422, True), said
        done = [(each["action"], each["details"]) for each in (await client.get("/audit"))["entries"]]
        assert ("types.unlimit", {"name": "echo"}) in done
        assert ("keys.limit", {"name": "eu/customer 7", "concurrency": 1}) in done


@in_loop
async def test_what_did_not_change_is_not_sent_again(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        job = await client.post("/jobs", {"type": "echo"})
        path = f"/jobs/{job['id']}"
        first = await client.ask("GET", path)
        assert first.headers["Cache-Control"] == "private, no-cache"
        assert {"Authorization", "Cookie"} <= set(first.headers["Vary"].split(", "))
        tag = first.headers["ETag"]
        for known in (tag, f'"other", {tag}', "*"):
            again = await client.ask("GET", path, **{"If-None-Match": known})
            assert (again.status, again.text, again.headers["ETag"]) == (304, "", tag)
        head = await client.ask("HEAD", path)
        assert (head.status, head.text, head.headers["ETag"]) == (200, "", tag)
        assert int(head.headers["Content-Length"]) == len(first.text.encode())
        assert (await client.ask("HEAD", "/jobs/4711")).status == 404
        assert (await client.ask("HEAD", "/events")).status == 405
        await client.post(f"{path}/cancel", status=200)
        changed = await client.ask("GET", path, **{"If-None-Match": tag})
        assert (changed.status, changed.body["state"]) == (200, "cancelled")
        assert (await client.with_token(None).ask("HEAD", path)).status == 401
        refused = await client.ask("GET", "/nothing")
        assert (refused.status, "ETag" in refused.headers) == (404, False)


@in_loop
async def test_description_is_fit_to_make_a_client_from(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        described = (await client.ask("GET", "/openapi.json")).body
    operations = [(path, method, each) for path, all_ in described["paths"].items() for method, each in all_.items()]
    names = [each["operationId"] for _, _, each in operations]
    assert len(set(names)) == len(names)
    assert {"submitJob", "submitJobs", "listJobs", "showJob", "limitKey", "makeATicket"} <= set(names)
    for path, _, each in operations:
        assert each["summary"], path
        assert each["description"], path
        good = {status: answer for status, answer in each["responses"].items() if status.startswith("2")}
        assert good, path
        assert all(status == "204" or "content" in answer for status, answer in good.items()), path
        for parameter in each.get("parameters", ()):
            assert parameter.get("description"), (path, parameter["name"])
    schemas = described["components"]["schemas"]
    answers = {name for name in schemas if "Input" not in name}
    assert answers
    # Whoever reads an answer finds all of its names, and no others.
    for name in (
        "JobSummary",
        "JobWithHistory",
        "Statistics",
        "TypeOrKeyLimit",
        "Pool",
        "WorkerPool",
        "SubmittedJob",
        "Me",
    ):
        assert schemas[name]["additionalProperties"] is False
        assert set(schemas[name]["required"]) == schemas[name]["properties"].keys()
