"""`workerjobs server`: notifications reach those they are for, none is missed, and nobody else gets in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from tests.support.cli import workerjobs, workerjobs_json
from tests.support.loop import in_loop, until
from tests.support.ports import free_port
from tests.support.web import TOKEN, TOKEN_HEADER, make_users, next_message, served, server
from workerjobs import broadcast, client, notify
from workerjobs.errors import InvalidInputError, NotFoundError
from workerjobs.storage.quickdapp import install_quickdapp


@pytest.fixture
def url(database_url: str) -> str:
    install_quickdapp(database_url)
    make_users(database_url, 7, 8)
    return database_url


def tell(url: str, user_id: int, **data: Any) -> int:
    with psycopg.connect(url) as connection:
        return notify(connection, user_id, data)


# --- writing


def test_notification_is_written_with_the_callers_transaction(url: str) -> None:
    with psycopg.connect(url) as connection:
        number = notify(connection, 7, {"z": 1, "a": "é"})
        assert connection.execute(
            "select user_id, data::text, read from notifications where id = %s", [number]
        ).fetchone() == (
            7,
            '{"z":1,"a":"é"}',
            False,
        )
        connection.rollback()
        assert connection.execute("select count(*) from notifications").fetchone() == (0,)


def test_notification_that_cannot_be_written_says_why(url: str) -> None:
    with psycopg.connect(url) as connection:
        with pytest.raises(NotFoundError, match="There is no user 99"):
            notify(connection, 99, {})
        connection.rollback()
        given: list[Any] = [[1], "text"]
        for data in given:
            with pytest.raises(InvalidInputError, match="no JSON object"):
                notify(connection, 7, data)
            connection.rollback()
        with pytest.raises(InvalidInputError, match="NUL"):
            broadcast(connection, {"a": "\0"})


# --- listening


@in_loop
async def test_both_ways_to_listen_get_what_is_for_their_user(url: str, tmp_path: Path) -> None:
    async with (
        served(url) as web,
        web.stream(await web.ticket(7)) as stream,
        web.socket(await web.ticket(7)) as socket,
        web.socket(await web.ticket(8)) as other,
    ):
        for each in (socket, other):
            await next_message(each, "mark")
        await stream.mark()
        number = tell(url, 7, type="token_created", amount="5")
        name, message = await stream.next()
        assert (name, message["id"], message["read"], message["revoked"]) == ("notification", number, False, False)
        assert list(message["data"].items()) == [("type", "token_created"), ("amount", "5")]
        assert (await next_message(socket))["message"] == message
        with psycopg.connect(url) as connection:
            broadcast(connection, {"type": "maintenance"})
        for each in (socket, other):
            told = await next_message(each)
            assert (told["event"], told["message"]["data"]) == ("broadcast", {"type": "maintenance"})
        assert (await stream.next())[0] == "broadcast"


@in_loop
async def test_change_of_a_notification_is_told_as_its_new_state(url: str, tmp_path: Path) -> None:
    number = tell(url, 7, type="token_transfer")
    async with served(url) as web, web.socket(await web.ticket(7)) as socket:
        await next_message(socket, "mark")
        with psycopg.connect(url) as connection:
            connection.execute("""update notifications set data = '{"type":"token_transfer","revoked":true}'""")
            connection.execute("select workerjobs.announce_notifications('revoked', array[%s]::bigint[])", [number])
        message = (await next_message(socket))["message"]
        assert (message["id"], message["revoked"]) == (number, True)


@in_loop
async def test_who_comes_back_gets_what_was_missed_and_nothing_twice(url: str, tmp_path: Path) -> None:
    async with served(url) as web:
        async with web.stream(await web.ticket(7)) as stream:
            await stream.mark()
            with psycopg.connect(url) as writer, psycopg.connect(url) as other:
                # Holds the marks back for a while, as any transaction on this Postgres does.
                other.execute("select pg_current_xact_id()")
                early = notify(writer, 7, {"number": 1})
                transaction = writer.execute("select pg_current_xact_id()::text::bigint").fetchone()
                writer.commit()
                assert (await stream.next())[1]["id"] == early
            assert transaction is not None
            last = await stream.mark(beyond=transaction[0])
        missed = [tell(url, 7, number=2), tell(url, 7, number=3)]
        tell(url, 8, number=4)
        async with web.stream(await web.ticket(7), last) as stream:
            assert [(await stream.next())[1]["id"] for _ in missed] == missed
            new = tell(url, 7, number=5)
            assert (await stream.next())[1]["id"] == new
        async with web.socket(await web.ticket(7), last) as socket:
            assert [(await next_message(socket))["message"]["id"] for _ in range(3)] == [*missed, new]


@in_loop
async def test_transaction_that_was_open_while_others_committed_is_not_missed(url: str, tmp_path: Path) -> None:
    async with served(url) as web:
        with psycopg.connect(url) as slow:
            lower = notify(slow, 7, {"which": "slow"})
            async with web.stream(await web.ticket(7)) as stream:
                await stream.mark()
                higher = tell(url, 7, which="fast")
                assert (await stream.next())[1]["id"] == higher > lower
                last = stream.last
        async with web.stream(await web.ticket(7), last) as stream:
            # The fast one may come again: its transaction was not below the mark, as the slow one had begun before it.
            ids = [(await stream.next())[1]["id"]]
            if ids == [higher]:
                ids.append((await stream.next())[1]["id"])
            assert lower in ids


@in_loop
async def test_lost_connection_to_the_database_loses_nothing(url: str, tmp_path: Path) -> None:
    async with served(url) as web, web.socket(await web.ticket(7)) as socket:
        await next_message(socket, "mark")
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name like 'workerjobs server%' and datname = current_database()"
            )
        numbers = [tell(url, 7, number=each) for each in range(20)]
        assert [(await next_message(socket))["message"]["id"] for _ in numbers] == numbers


@in_loop
async def test_mark_of_another_server_is_answered_by_a_reset(url: str, tmp_path: Path) -> None:
    async with served(url) as web, web.socket(await web.ticket(7), str(2**61)) as socket:
        assert (await next_message(socket))["event"] == "reset"
        await next_message(socket, "mark")
        number = tell(url, 7, number=1)
        assert (await next_message(socket))["message"]["id"] == number


# --- who may


async def status(web: Any, path: str, **headers: str) -> int:
    async with web.http.get(f"{web.url}{path}", headers=headers) as answer:
        return int(answer.status)


@in_loop
async def test_ticket_is_needed_and_not_repeated_in_the_log(url: str, tmp_path: Path) -> None:
    variables: dict[str, Any] = {"WORKER_LOG_LEVEL": "trace", "WORKERJOBS_TICKET_SECONDS": "600"}
    made = [
        workerjobs("ticket", "7", "--seconds", seconds, database_url=None, variables={"WORKERJOBS_SERVER_TOKEN": TOKEN})
        for seconds in ("1", "600")
    ]
    short, own = (each.stdout.strip() for each in made)
    async with server(url, tmp_path, **variables) as web:
        path = "/api/notifications/stream?ticket="
        ticket = await web.ticket(7)
        async with web.stream(ticket) as stream, web.socket(ticket) as socket, web.stream(own) as other:
            await stream.mark()
            await next_message(socket, "mark")
            await other.mark()
        await until(lambda: _is_over(web, f"{path}{short}"))
        head, body, signature = ticket.split(".")
        forged = f"{head}.{body}.{signature[:-4]}AAAA"
        for bad in ("", "x", forged, f"{head}.{body}."):
            assert await status(web, f"{path}{bad}") == 401
        for bad in (short, forged):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with web.socket(bad):
                    pass
            assert refused.value.status == 401
        said = web.log.read_text()
    for secret in (signature, body, TOKEN, own, short):
        assert secret not in said


async def _is_over(web: Any, path: str) -> bool:
    async with web.http.get(f"{web.url}{path}") as answer:
        return int(answer.status) == 401


@in_loop
async def test_tickets_are_made_for_those_who_show_the_token(url: str, tmp_path: Path) -> None:
    async with served(url) as web:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN_HEADER["Authorization"][:-1]}):
            async with web.http.post(f"{web.url}/api/tickets", json={"userId": 7}, headers=headers) as answer:
                assert answer.status == 401
        for wrong in ({"userId": 0}, {"userId": "7"}, {"userId": 7, "admin": True}, {}):
            async with web.http.post(f"{web.url}/api/tickets", json=wrong, headers=TOKEN_HEADER) as answer:
                assert answer.status == 422
        # Tokens of the table make tickets too, where their scope is enough.
        for name, scope, status in (("shop", "write", 201), ("screen", "read", 403)):
            made = workerjobs_json("token", "create", name, "--scope", scope, database_url=url)["token"]
            headers = {"Authorization": f"Bearer {made}"}
            async with web.http.post(f"{web.url}/api/tickets", json={"userId": 7}, headers=headers) as answer:
                assert answer.status == status
                if status == 201:
                    async with web.stream((await answer.json())["ticket"]) as stream:
                        await stream.mark()


@in_loop
async def test_other_hosts_and_origins_are_refused(url: str, tmp_path: Path) -> None:
    async with served(url, WORKERJOBS_ALLOWED_ORIGINS="https://app.example") as web:
        path = f"/api/notifications/stream?ticket={await web.ticket(7)}"
        assert await status(web, path, Host="evil.example") == 403
        for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
            assert await status(web, path, Origin=origin) == 403
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with web.socket(await web.ticket(7), Origin=origin):
                    pass
            assert refused.value.status == 403
        for origin in ("https://app.example", "http://localhost:3000", web.url):
            async with web.stream(await web.ticket(7), Origin=origin) as stream:
                assert stream.answer.headers["Access-Control-Allow-Origin"] == origin
            async with web.socket(await web.ticket(7), Origin=origin) as socket:
                await next_message(socket, "mark")


@in_loop
async def test_connections_are_limited_for_each_user_and_in_all(url: str, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"WORKERJOBS_MAX_LISTENERS": "3", "WORKERJOBS_MAX_USER_LISTENERS": "2"}
    async with served(url, **limits) as web:
        first, second = await web.ticket(7), await web.ticket(8)
        async with web.stream(first) as one, web.socket(first) as two:
            await one.mark()
            await next_message(two, "mark")
            async with web.stream(first) as third:
                assert (third.answer.status, third.answer.headers["Retry-After"]) == (429, "5")
            async with web.socket(second) as another:
                await next_message(another, "mark")
                async with web.stream(second) as fourth:
                    assert fourth.answer.status == 503

        async def is_free() -> bool:
            async with web.stream(first) as again:
                return again.answer.status == 200

        await until(is_free)


@in_loop
async def test_server_ends_at_once_with_listeners_connected(url: str, tmp_path: Path) -> None:
    async with (
        server(url, tmp_path) as web,
        web.stream(await web.ticket(7)) as stream,
        web.socket(await web.ticket(7)) as socket,
    ):
        await stream.mark()
        await next_message(socket, "mark")
        web.process.terminate()
        assert await asyncio.wait_for(asyncio.to_thread(web.process.wait), 60) == 0
        assert "Traceback" not in web.log.read_text()


@in_loop
async def test_probes_and_metrics_are_on_a_port_of_their_own(url: str, tmp_path: Path) -> None:
    port = free_port()
    with psycopg.connect(url) as connection:
        client.submit(connection, {"type": "report"})
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with server(url, tmp_path, WORKER_HEALTH_PORT=str(port)) as web, web.stream(await web.ticket(7)) as stream:
        await stream.mark()
        jobs = f"{web.url}/api/v1/jobs"
        headers = TOKEN_HEADER | {"traceparent": traceparent}
        async with web.http.post(jobs, json={"type": "report", "pool": "paper"}, headers=headers) as answer:
            job = await answer.json()
            assert job["traceparent"] == traceparent
        headers = TOKEN_HEADER | {"traceparent": "no context"}
        async with web.http.post(jobs, json={"type": "report"}, headers=headers) as answer:
            assert (await answer.json())["traceparent"] is None
        for path in (f"/api/v1/jobs/{job['id']}", "/made/up"):
            async with web.http.get(f"{web.url}{path}", headers=TOKEN_HEADER):
                pass
        for path in ("healthz", "readyz"):
            async with web.http.get(f"http://127.0.0.1:{port}/{path}") as answer:
                assert (answer.status, await answer.text()) == (200, "ok\n")
        async with web.http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = await answer.text()
        for line in (
            "workerjobs_listeners 1.0",
            "workerjobs_listening 1.0",
            'workerjobs_http_requests_total{method="POST",route="/api/v1/jobs",status="201"} 2.0',
            # The route, whatever the job's id.
            'workerjobs_http_requests_total{method="GET",route="/api/v1/jobs/{jobId:int}",status="200"} 1.0',
            'workerjobs_http_requests_total{method="GET",route="other",status="404"} 1.0',
            'workerjobs_http_request_duration_seconds_count{method="POST",route="/api/v1/jobs"} 2.0',
            'workerjobs_queue_jobs{pool="default",state="due",type="report"} 1.0',
            'workerjobs_queue_oldest_due_age_seconds{pool="default",type="report"}',
            'workerjobs_build_info{role="server",version="',
            "process_resident_memory_bytes ",
        ):
            assert f"\n{line}" in metrics, metrics
        assert "_created" not in metrics


def test_settings_that_let_others_in_need_a_token(url: str) -> None:
    ended = workerjobs(
        "server",
        database_url=url,
        variables={
            "WORKERJOBS_SERVER_HOST": "0.0.0.0",
            "WORKERJOBS_TICKET_SECRET": "short",
            "WORKERJOBS_ALLOWED_ORIGINS": "app",
        },
    )
    assert ended.returncode == 2
    assert "set WORKERJOBS_SERVER_TOKEN as well" in ended.stderr
    assert "WORKERJOBS_TICKET_SECRET is too short" in ended.stderr
    assert "WORKERJOBS_ALLOWED_ORIGINS='app'" in ended.stderr
    assert json.dumps("short") not in ended.stderr
