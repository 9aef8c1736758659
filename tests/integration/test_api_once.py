"""Requests with an Idempotency-Key: carried out once, whatever happens to them, to the answer or to the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from tests.support.api import Answer, Api, api
from tests.support.cli import workerjobs_json
from tests.support.loop import in_loop, until
from tests.support.table import count_rows, open_store, sql

JOB = {"type": "echo", "data": {"z": 1, "a": {"é": [1.5, None]}}, "priority": 3}


async def submit(client: Api, key: str, body: Any = None, path: str = "/jobs") -> Answer:
    return await client.ask("POST", path, JOB if body is None else body, **{"Idempotency-Key": key})


@in_loop
async def test_request_sent_again_gets_the_first_answer_and_does_nothing(database_url: str, tmp_path: Path) -> None:
    token = workerjobs_json("token", "create", "shop", "--scope", "write", database_url=database_url)["token"]
    async with api(database_url, tmp_path) as client:
        first = await submit(client, "one")
        assert (first.status, "Idempotent-Replayed" in first.headers) == (201, False)
        # The job goes on meanwhile, and is even removed.
        sql(database_url, 'delete from "workerJobs"')
        # Written otherwise, it asks for the same.
        again = await submit(client, "one", {"priority": 3, **JOB})
        assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
        assert again.text == first.text
        assert again.headers["Location"] == first.headers["Location"] == f"jobs/{first.body['id']}"
        assert count_rows(database_url) == 0
        assert len((await client.get("/audit"))["entries"]) == 1

        for body, path in ((JOB | {"priority": 4}, "/jobs"), ({"jobs": [JOB]}, "/jobs/bulk")):
            other = await submit(client, "one", body, path)
            assert (other.status, other.body["detail"]) == (
                422,
                "Idempotency-Key: something else was asked with this key: give each request its own",
            )
        many = [await submit(client, "many", {"jobs": [JOB, JOB]}, "/jobs/bulk") for _ in range(2)]
        assert many[0].body == many[1].body
        assert (len(many[0].body["ids"]), count_rows(database_url)) == (2, 2)

        # Keys are their callers' own.
        theirs = await submit(client.with_token(token), "one")
        assert (theirs.status, "Idempotent-Replayed" in theirs.headers) == (201, False)
        # One that was refused is as good as not sent.
        assert (await submit(client, "late", JOB | {"cronSchedule": "never"})).status == 422
        assert (await submit(client, "late")).status == 201
        for wrong in ("", "two words", "x" * 256):
            assert (await submit(client, wrong)).status == 422, wrong


@in_loop
async def test_key_is_forgotten_after_a_day(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client, open_store(database_url) as store:
        first = await submit(client, "key")
        sql(database_url, """update "workerApiAnswers" set "createdAt" = now() - interval '25 hours'""")
        second = await submit(client, "key", JOB | {"priority": 4})
        assert second.body["id"] != first.body["id"]
        assert (await submit(client, "key", JOB | {"priority": 4})).body == second.body
        await store.remove_unused()
        assert sql(database_url, 'select key from "workerApiAnswers"') == [("key",)]
        sql(database_url, """update "workerApiAnswers" set "createdAt" = now() - interval '25 hours'""")
        await store.remove_unused()
        assert sql(database_url, 'select key from "workerApiAnswers"') == []


@in_loop
async def test_requests_at_once_with_one_key_make_one_job(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        answers = await asyncio.gather(*(submit(client, "key") for _ in range(12)))
        assert {answer.status for answer in answers} == {201}
        assert len({answer.text for answer in answers}) == 1
        assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
        assert count_rows(database_url) == 1


@in_loop
async def test_killed_server_leaves_a_key_that_can_be_used_again(database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(database_url) as holder:
        async with api(database_url, tmp_path, as_process=True) as client:
            # The job is stored and the audit waits: nothing is committed yet.
            holder.execute('lock table "workerAudit" in access exclusive mode')
            asking = asyncio.create_task(submit(client, "key"))

            def waits() -> bool:
                waiting = """select count(*) from pg_stat_activity where datname = current_database()
                    and wait_event_type = 'Lock' and query like '%%workerAudit%%'"""
                return sql(database_url, waiting) == [(1,)]

            await until(waits)
            client.process.process.kill()
            try:
                await asking
            except aiohttp.ClientError:
                pass
            else:
                raise AssertionError("a killed server answered")
        holder.rollback()
    async with api(database_url, tmp_path) as client:
        first = await submit(client, "key")
        assert (first.status, "Idempotent-Replayed" in first.headers) == (201, False)
        assert (await submit(client, "key")).text == first.text
        assert count_rows(database_url) == 1
