"""People whom a proxy has signed in: its headers count where a listed peer sends them, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.api import Api, api
from tests.support.cli import workerjobs, workerjobs_json
from tests.support.loop import in_loop

PROXY, STRANGER = "127.0.0.2", "127.0.0.1"
VARIABLES = {
    "WORKERJOBS_SERVER_TOKEN": "",
    "WORKERJOBS_TRUSTED_PROXIES": f"10.9.0.0/16, {PROXY}",
    "WORKERJOBS_PROXY_USER_HEADER": "X-Forwarded-User",
    "WORKERJOBS_PROXY_READ_GROUPS": "staff",
    "WORKERJOBS_PROXY_WRITE_GROUPS": "ops, admins",
}


async def ask(
    client: Api, peer: str, headers: Iterable[tuple[str, str]], path: str = "/me", method: str = "GET"
) -> tuple[int, Any]:
    """Send a request from an address of this machine; headers may come twice."""
    body = json.dumps({"type": "echo"}) if method == "POST" else None
    more = [("Content-Type", "application/json"), *headers]
    connector = aiohttp.TCPConnector(local_addr=(peer, 0))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, f"{client.server.url}{path}", data=body, headers=more) as answer,
    ):
        return answer.status, await answer.json()


def me(user: str | None, groups: str | None = None, *more: tuple[str, str]) -> list[tuple[str, str]]:
    said = [("X-Forwarded-User", user), ("X-Forwarded-Groups", groups)]
    return [(name, value) for name, value in said if value is not None] + list(more)


@in_loop
async def test_people_do_what_their_groups_may(database_url: str, tmp_path: Path) -> None:
    async with api(database_url, tmp_path, as_process=False, **VARIABLES) as client:
        for groups, scope in {"staff": "read", "ops": "write", "others,admins ,staff": "write"}.items():
            assert await ask(client, PROXY, me("ada@example.org", groups), "/api/v1/me") == (
                200,
                {"actor": "user:ada@example.org", "scope": scope},
            )
        for groups in ("others", "", "STAFF", "staff2", None):  # type: ignore[assignment]
            status, refused = await ask(client, PROXY, me("bob", groups), "/api/v1/me")
            assert (status, refused["detail"]) == (403, "bob is in none of the groups that may use this server")
        status, refused = await ask(client, PROXY, me("eve", "staff"), "/api/v1/jobs", "POST")
        assert (status, refused["detail"]) == (
            403,
            "user:eve may look and not change anything: that takes the scope write",
        )
        address = ("X-Forwarded-For", "203.0.113.7")
        assert (await ask(client, PROXY, me("ada", "ops", address), "/api/v1/jobs", "POST"))[0] == 201
        # A token that the proxy passes on is its own matter.
        own = ("Authorization", "Bearer eyJhbGciOi.eyJzdWIi.c2ln")
        _, audit = await ask(client, PROXY, me("ada", "ops", own), "/api/v1/audit")
        (entry,) = audit["entries"]
        assert (entry["actor"], entry["address"], entry["tokenId"]) == ("user:ada", "203.0.113.7", None)
        for unclear in (
            me("ada", "ops", ("X-Forwarded-User", "root")),
            me("ada", "staff", ("X-Forwarded-Groups", "ops")),
            me("", "ops"),
            me("a" * 251, "ops"),
        ):
            assert (await ask(client, PROXY, unclear, "/api/v1/me"))[0] == 403
        assert (await ask(client, PROXY, me("ada", "ops"), "/api/tickets", "POST"))[0] == 422


@in_loop
async def test_headers_of_a_peer_that_is_not_listed_mean_nothing(database_url: str, tmp_path: Path) -> None:
    token = workerjobs_json("token", "create", "reader", database_url=database_url)["token"]
    shown = ("Authorization", f"Bearer {token}")
    async with api(database_url, tmp_path, as_process=False, **VARIABLES) as client:
        for spoofed in (
            me("ada", "ops"),
            # Who says to speak for the proxy, or to be it, is none.
            me("ada", "ops", ("X-Forwarded-For", PROXY), ("Forwarded", f"for={PROXY}"), ("X-Real-IP", PROXY)),
            # Nobody is let in unseen because all come from this machine.
            [],
        ):
            assert (await ask(client, STRANGER, spoofed, "/api/v1/me"))[0] == 401
            assert (await ask(client, STRANGER, spoofed, "/api/v1/jobs", "POST"))[0] == 401
            assert await ask(client, STRANGER, [*spoofed, shown], "/api/v1/me") == (
                200,
                {"actor": "reader", "scope": "read"},
            )
        # The proxy itself, where it has signed nobody in.
        assert (await ask(client, PROXY, me(None, "ops"), "/api/v1/me"))[0] == 401
        assert (await ask(client, PROXY, [shown], "/api/v1/me"))[1]["actor"] == "reader"
    async with api(database_url, tmp_path) as client:
        # Not asked for, such headers mean nothing, whoever sends them.
        assert (await ask(client, PROXY, me("ada", "ops"), "/api/v1/me"))[0] == 401


def test_no_token_is_called_as_people_are(database_url: str) -> None:
    ended = workerjobs("token", "create", "user:ada", database_url=database_url)
    assert (ended.returncode, "means something else" in ended.stderr) == (2, True)


@in_loop
async def test_proxy_is_known_where_the_server_listens_on_all_addresses(database_url: str, tmp_path: Path) -> None:
    """Of both families: the socket shows those of IPv4 as such of IPv6."""
    everywhere = VARIABLES | {"WORKERJOBS_SERVER_HOST": "::", "WORKERJOBS_SERVER_TOKEN": "t" * 32}
    async with api(database_url, tmp_path, as_process=False, **everywhere) as client:
        asked = me("ada", "ops", ("X-Forwarded-For", "203.0.113.7"))
        assert (await ask(client, PROXY, asked, "/api/v1/jobs", "POST"))[0] == 201
        _, audit = await ask(client, PROXY, me("ada", "ops"), "/api/v1/audit")
        (entry,) = audit["entries"]
        assert (entry["actor"], entry["address"]) == ("user:ada", "203.0.113.7")
        assert (await ask(client, STRANGER, me("ada", "ops"), "/api/v1/me"))[0] == 401
