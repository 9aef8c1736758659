"""Who may use the HTTP API: tokens and their scopes, loopback, limits, the audit; and what is never shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.api import Api, api
from tests.support.cli import workerjobs, workerjobs_json
from tests.support.loop import in_loop, until
from tests.support.table import allow_connections, sql
from tests.support.web import TOKEN
from tests.support.workers import worker

EVERYTHING = [
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("POST", "/jobs/bulk"),
    ("POST", "/jobs/cancel"),
    ("POST", "/jobs/retry"),
    ("GET", "/jobs/1"),
    ("PATCH", "/jobs/1"),
    ("DELETE", "/jobs/1"),
    ("POST", "/jobs/1/cancel"),
    ("POST", "/jobs/1/retry"),
    ("POST", "/jobs/1/rerun"),
    ("GET", "/jobs/1/events"),
    ("GET", "/jobs/1/logs"),
    ("GET", "/jobs/full"),
    ("GET", "/cron"),
    ("POST", "/cron/trigger"),
    ("POST", "/cron/pause"),
    ("POST", "/cron/resume"),
    ("GET", "/workers"),
    ("GET", "/pools"),
    ("GET", "/pools/default"),
    ("GET", "/pools/default/pause"),
    ("PUT", "/pools/default/pause"),
    ("DELETE", "/pools/default/pause"),
    ("GET", "/pauses"),
    ("GET", "/types"),
    ("GET", "/types/echo"),
    ("GET", "/types/echo/pause"),
    ("PUT", "/types/echo/pause"),
    ("DELETE", "/types/echo/pause"),
    ("GET", "/limits"),
    ("GET", "/types/echo/limit"),
    ("PUT", "/types/echo/limit"),
    ("DELETE", "/types/echo/limit"),
    ("GET", "/keys/customer/limit"),
    ("PUT", "/keys/customer/limit"),
    ("DELETE", "/keys/customer/limit"),
    ("GET", "/me"),
    ("GET", "/statistics"),
    ("GET", "/audit"),
    ("GET", "/events"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
]


def create(url: str, name: str, *arguments: str) -> str:
    """Make a token by the command."""
    made: str = workerjobs_json("token", "create", name, *arguments, database_url=url)["token"]
    return made


@in_loop
async def test_nothing_is_told_without_a_token_where_others_can_connect(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path, WORKERJOBS_SERVER_HOST="0.0.0.0") as client:
        client.server.url = client.server.url.replace("0.0.0.0", "127.0.0.1")
        described = (await client.ask("GET", "/openapi.json")).body
        paths = {(method.upper(), path) for path, each in described["paths"].items() for method in each}
        listed = {(method, f"/api/v1{path}") for method, path in EVERYTHING}
        assert {
            (method, path.format(jobId=1, pool="default", type="echo", key="customer"))
            for method, path in paths
            if path.startswith("/api/v1")
        } <= listed
        nobody = client.with_token(None)
        for method, path in EVERYTHING:
            answer = await nobody.ask(method, path, {} if method in ("POST", "PUT") else None)
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), path
        assert sql(database_url, 'select count(*) from "workerJobPauses"') == [(0,)]
        # The Kubernetes API server's proxy keeps Authorization to itself.
        for token, status in ((TOKEN, 200), (TOKEN[1:], 401)):
            assert (await nobody.ask("GET", "/jobs", **{"X-WorkerJobs-Token": token})).status == status


@in_loop
async def test_read_token_looks_and_changes_nothing(database_url: str, tmp_path: Path) -> None:
    reading, writing = create(database_url, "dashboard"), create(database_url, "shop", "--scope", "write")
    async with api(database_url, tmp_path) as client:
        reader, writer = client.with_token(reading), client.with_token(writing)
        job = await writer.post("/jobs", {"type": "echo"})
        for method, path in EVERYTHING:
            if method != "GET":
                status, why = await reader.refused(method, path, {})
                assert (status, "scope write" in why) == (403, True), path
        assert (await reader.get("/jobs"))["jobs"][0]["id"] == job["id"]
        assert (await reader.get(f"/jobs/{job['id']}"))["state"] == "pending"
        entries = (await reader.get("/audit"))["entries"]
        assert [(each["actor"], each["action"], each["details"]) for each in entries] == [
            ("shop", "jobs.submit", {"type": "echo", "pool": "default", "id": job["id"]})
        ]
        assert entries[0]["address"] == "127.0.0.1"


@in_loop
async def test_token_is_over_when_it_is_revoked_or_expired(database_url: str, tmp_path: Path) -> None:
    token = create(database_url, "deploy", "--scope", "write")
    short = create(database_url, "short", "--days", "0.001")
    async with api(database_url, tmp_path) as client:
        assert (await client.with_token(token).ask("GET", "/jobs")).status == 200
        (deploy, _) = workerjobs_json("token", "list", database_url=database_url)
        assert (deploy["name"], deploy["scope"], deploy["revokedAt"]) == ("deploy", "write", None)
        assert deploy["lastUsedAt"] is not None
        assert workerjobs("token", "revoke", "deploy", database_url=database_url).returncode == 0
        assert (await client.with_token(token).ask("GET", "/jobs")).status == 401
        sql(database_url, """update "workerApiTokens" set "expiresAt" = now() where name = 'short'""")
        assert (await client.with_token(short).ask("GET", "/jobs")).status == 401
        assert create(database_url, "deploy") != token
        for wrong in ("", "x", token[:-1], f"{token}x", "é"):
            headers = {"Authorization": f"Bearer {wrong}"}
            assert (await client.with_token(None).ask("GET", "/jobs", **headers)).status == 401, wrong


def test_token_command_refuses_in_sentences(database_url: str) -> None:
    create(database_url, "one")
    for arguments, why in {
        ("create", "one"): "There is a token one already",
        ("create", "server"): "means something else",
        ("create", " "): "give a text",
    }.items():
        ended = workerjobs("token", *arguments, database_url=database_url)
        assert ended.returncode == 2
        assert why in ended.stderr
    ended = workerjobs("token", "revoke", "two", database_url=database_url)
    assert (ended.returncode, ended.stderr) == (1, "Error: There is no token two\n")
    ((stored,),) = sql(database_url, 'select hash from "workerApiTokens"')
    assert len(stored) == 64
    shown = workerjobs("token", "list", database_url=database_url)
    assert "one" in shown.stdout
    assert stored not in shown.stdout


@in_loop
async def test_loopback_needs_no_token_but_a_loopback_host_and_origin(database_url: str, tmp_path: Path) -> None:
    reading = create(database_url, "reader")
    async with api(database_url, tmp_path, WORKERJOBS_SERVER_TOKEN="") as client:
        nobody = client.with_token(None)
        assert (await nobody.post("/jobs", {"type": "echo"}))["state"] == "pending"
        assert (await nobody.get("/audit"))["entries"][0]["actor"] == "loopback"
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            answer = await nobody.ask("POST", "/jobs", {"type": "echo"}, **headers)
            assert (answer.status, answer.headers["Content-Type"]) == (403, "application/problem+json")
        # Whoever shows one is held to it.
        assert (await client.with_token(reading).ask("POST", "/jobs", {"type": "echo"})).status == 403
        assert (await client.with_token("wrong").ask("GET", "/jobs")).status == 401


@in_loop
async def test_requests_are_limited_in_size_and_number(database_url: str, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"WORKERJOBS_API_RATE": "5", "WORKERJOBS_MAX_BODY_MIB": "0.01"}
    other = create(database_url, "other")
    async with api(database_url, tmp_path, **limits) as client:
        large = {"type": "echo", "data": {"x": "y" * 20_000}}
        assert (await client.refused("POST", "/jobs", large))[0] == 413

        async def in_pieces() -> Any:
            for _ in range(20):
                yield b" " * 1000

        url = f"{client.server.url}/api/v1/jobs"
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        async with client.server.http.post(url, data=in_pieces(), headers=headers) as answer:
            assert answer.status == 413
        statuses = [(await client.ask("GET", "/pauses")).status for _ in range(15)]
        assert {200, 429} == set(statuses)
        refused = await client.ask("GET", "/pauses")
        if refused.status == 429:
            assert int(refused.headers["Retry-After"]) >= 1
        assert (await client.with_token(other).ask("GET", "/pauses")).status == 200

        async def again() -> bool:
            return (await client.ask("GET", "/pauses")).status == 200

        await until(again)
        # Who shares the address with somebody who guesses is not locked out, unless the token was never seen before.
        guesses = [(await client.with_token(f"guess {each}").ask("GET", "/pauses")).status for each in range(20)]
        assert guesses[0] == 401
        assert guesses[-1] == 429
        assert (await client.with_token(other).ask("GET", "/pauses")).status == 200


@in_loop
async def test_change_and_its_entry_in_the_audit_are_one(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        sql(database_url, 'alter table "workerAudit" add constraint nothing check (action = $$none$$)')
        assert (await client.ask("POST", "/jobs", {"type": "echo"})).status == 500
        assert (await client.ask("PUT", "/pools/default/pause")).status == 500
        assert sql(database_url, 'select count(*) from "workerJobs"') == [(0,)]
        assert sql(database_url, 'select count(*) from "workerJobPauses"') == [(0,)]


@in_loop
async def test_secrets_are_in_no_answer_and_no_log(database_url: str, tmp_path: Path) -> None:
    planted = "planted-secret-0123456789"
    secret = create(database_url, "secret", "--scope", "write")
    reference = [{"name": "password", "secretKeyRef": {"name": "db", "key": "password"}}]
    async with api(database_url, tmp_path, as_process=True, WORKER_LOG_LEVEL="trace") as client, worker(database_url):
        sql(
            database_url,
            """insert into "workerJobs" (type, "dataFrom", "clusterId", namespace, "resourceName", "resourceUid")
            values ('echo', %s, 'c', 'n', 'r', 'u')""",
            json.dumps(reference),
        )
        texts = []
        for token in (TOKEN, secret, planted):
            other: Api = client.with_token(token)
            for method, path in EVERYTHING:
                if "events" in path:
                    continue
                body = {"type": 7, "priority": planted, "data": planted} if method == "POST" else None
                answer = await other.ask(method, path, body)
                texts.append(answer.text + str(answer.headers))
        shown = await client.get("/jobs/1")
        assert shown["dataFrom"] == reference
        said = client.process.log.read_text()
    for text in (*texts, said):
        for each in (planted, TOKEN, secret):
            assert each not in text


@in_loop
async def test_database_that_is_away_is_said_without_its_address(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path) as client:
        await client.get("/jobs")
        allow_connections(database_url, False)
        try:
            answer = await client.ask("GET", "/jobs")
            assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
            assert "Retry-After" in answer.headers
            assert database_url.rpartition("/")[2] not in answer.text
        finally:
            allow_connections(database_url, True)

        async def is_back() -> bool:
            return (await client.ask("GET", "/jobs")).status == 200

        await until(is_back)
