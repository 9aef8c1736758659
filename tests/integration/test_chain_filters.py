"""Filters of logs: plug-ins, and those declared as data; and logs that can't be decoded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from eth_abi.abi import encode

from tests.support.anvil import ACCOUNTS, Anvil, anvil
from tests.support.chains import catch_up, make_user, notifications, watching
from tests.support.contracts import TokenFactory
from tests.support.loop import in_loop
from tests.support.table import sql
from workerjobs.chain.decoding import topic_of
from workerjobs.domain.declared_filters import read_filter
from workerjobs.domain.events import DecodedLog, parse_event
from workerjobs.domain.job import NewJob
from workerjobs.errors import ChainHandlerError, InvalidInputError
from workerjobs.jobs.chain_filters import ChainFilter, chain_filter, from_declaration, registered_filters
from workerjobs.jobs.chain_webhook import WebhookError, deliver, sign
from workerjobs.jobs.context import JobContext
from workerjobs.jobs.modules import import_job_module
from workerjobs.ports.chains import ChainTransaction
from workerjobs.storage.chain import PostgresChainStore

TRANSFER = "Transfer(address indexed from, address indexed to, uint256 value)"
NEW_TOKEN = (
    "ERC20NewToken(address indexed token,string name,string symbol,address indexed creator,uint256 initialSupply)"
)


@pytest.fixture
def chain() -> Iterator[Anvil]:
    with anvil() as running:
        yield running


def declared(**document: Any) -> ChainFilter:
    return from_declaration(read_filter({"name": "mine", "event": TRANSFER} | document))


def jobs(database_url: str) -> list[tuple[str, dict[str, Any], str]]:
    rows = sql(
        database_url,
        """select type, data, case when finished is null then 'pending' when success then 'done' else 'cancelled' end
        from "workerJobs" order by id""",
    )
    return [(row[0], row[1], row[2]) for row in rows]


@in_loop
async def test_a_declared_filter_submits_a_job_for_each_log_and_cancels_those_that_a_reorganisation_took(
    chain: Anvil, database_url: str
) -> None:
    token = TokenFactory.deploy(chain).create()
    mine = declared(
        action="enqueue",
        addresses=[token.address.upper().replace("0X", "0x")],
        options={"type": "count", "data": {"a": 1}},
    )
    async with watching(database_url, chain.url, [mine]) as watch:
        token.transfer(ACCOUNTS[1], 10)
        token.transfer(ACCOUNTS[1], 20)
        await catch_up(watch)
        _, first, second = jobs(database_url)
        assert first[0] == "count"
        assert first[1]["a"] == 1
        assert first[1]["log"]["arguments"] == {"from": ACCOUNTS[0], "to": ACCOUNTS[1], "value": "10"}
        assert second[2] == "pending"
        chain.reorg(1)
        await catch_up(watch)
    assert [state for _, _, state in jobs(database_url)] == ["pending", "pending", "cancelled"]


@in_loop
async def test_a_declared_filter_notifies_the_owner_of_a_wallet(chain: Anvil, database_url: str) -> None:
    await make_user(database_url, ACCOUNTS[1])
    token = TokenFactory.deploy(chain).create()
    mine = declared(action="notify", options={"user": "to", "data": {"type": "received", "icon": "coin"}})
    async with watching(database_url, chain.url, [mine]) as watch:
        token.transfer(ACCOUNTS[1], 10)
        token.transfer(ACCOUNTS[2], 10)
        await catch_up(watch)
    (only,) = notifications(database_url)
    assert (only["type"], only["icon"], only["arguments"]["value"]) == ("received", "coin", "10")


@in_loop
async def test_contracts_of_a_factory_are_watched_from_the_block_that_made_them(
    chain: Anvil, database_url: str
) -> None:
    factory, other = TokenFactory.deploy(chain), TokenFactory.deploy(chain)
    mine = declared(
        action="enqueue",
        options={"type": "count"},
        factory={"addresses": [factory.address], "event": NEW_TOKEN, "parameter": "token"},
    )
    async with watching(database_url, chain.url, [mine]) as watch:
        token, foreign = factory.create(), other.create()
        token.transfer(ACCOUNTS[1], 1)
        foreign.transfer(ACCOUNTS[1], 2)
        await catch_up(watch)
        token.transfer(ACCOUNTS[1], 3)
        later = factory.create()
        later.transfer(ACCOUNTS[1], 4)
        await catch_up(watch)
        seen = [(data["log"]["address"], data["log"]["arguments"]["value"]) for _, data, _ in jobs(database_url)]
        supply = str(10**24)
        assert seen == [
            (token.address, supply),
            (token.address, "1"),
            (token.address, "3"),
            (later.address, supply),
            (later.address, "4"),
        ]
        # What a reorganisation took is not watched any more.
        chain.reorg(2)
        await catch_up(watch)
    assert sql(database_url, 'select address from "workerChainAddresses"') == [(token.address,)]


@in_loop
async def test_a_log_that_cannot_be_decoded_is_kept_and_hinders_nothing(chain: Anvil, database_url: str) -> None:
    token = TokenFactory.deploy(chain).create()
    # As an NFT has it: the same topic with one more indexed parameter.
    mine = declared(
        event="Transfer(address indexed from, address indexed to, uint256 indexed id)",
        action="enqueue",
        options={"type": "count"},
    )
    good = from_declaration(
        read_filter({"name": "good", "event": TRANSFER, "action": "enqueue", "options": {"type": "good"}})
    )
    async with watching(database_url, chain.url, [mine, good]) as watch:
        token.transfer(ACCOUNTS[1], 10)
        await catch_up(watch)
        assert watch.counts.undecodable == 2
    assert [kind for kind, _, _ in jobs(database_url)] == ["good", "good"]
    letters = sql(database_url, 'select filter, topics[1], data, reason from "workerChainDeadLetters" order by id')
    assert len(letters) == 2
    assert letters[1] == (
        "mine",
        topic_of(parse_event(TRANSFER)),
        "0x" + encode(["uint256"], [10]).hex(),
        "it has 3 topics, not 4",
    )
    assert sql(database_url, 'select undecodable from "workerChains"') == [(2,)]


@in_loop
async def test_a_plug_in_writes_in_the_transaction_that_moves_the_cursor(chain: Anvil, database_url: str) -> None:
    sql(database_url, "create table sums (value numeric)")
    batches: list[int] = []

    @chain_filter("sums", TRANSFER)
    async def add(logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
        batches.append(len(logs))
        for log in logs:
            await transaction.connection.execute("insert into sums values (%s)", [log.arguments["value"]])
        if len(batches) == 1:
            raise RuntimeError("the first time fails")

    (plug_in,) = [each for each in registered_filters() if each.query.name == "sums"]
    token = TokenFactory.deploy(chain).create(supply=100)
    token.transfer(ACCOUNTS[1], 1, times=3)
    async with watching(database_url, chain.url, [plug_in]) as watch:
        with pytest.raises(ChainHandlerError, match=r"filter sums failed for blocks .* RuntimeError: the first"):
            await watch.step()
        assert sql(database_url, "select count(*) from sums") == [(0,)]
        assert sql(database_url, 'select condition from "workerChains"') == [("HandlerFailing",)]
        await catch_up(watch)
    assert sql(database_url, 'select condition from "workerChains"') == [(None,)]
    assert batches == [4, 4]
    assert sql(database_url, "select sum(value) from sums") == [(103,)]


@in_loop
async def test_example_tells_users_what_they_received(chain: Anvil, database_url: str) -> None:
    user_id = await make_user(database_url, ACCOUNTS[1])
    import_job_module(str(Path(__file__).parents[2] / "docs" / "examples" / "transfer_filters.py"))
    (plug_in,) = [each for each in registered_filters() if each.query.name == "transfers"]
    TokenFactory.deploy(chain).create(supply=100).transfer(ACCOUNTS[1], 7)
    async with watching(database_url, chain.url, [plug_in]) as watch:
        await catch_up(watch)
    assert sql(database_url, "select user_id, data ->> 'value' from notifications") == [(user_id, "7")]


@in_loop
async def test_logs_that_a_function_always_raises_for_are_given_up_one_by_one(chain: Anvil, database_url: str) -> None:
    user_id = await make_user(database_url)
    sql(database_url, "create table seen (value numeric)")

    async def picky(logs: Sequence[DecodedLog], transaction: ChainTransaction) -> None:
        for log in logs:
            await transaction.connection.execute("insert into seen values (%s)", [log.arguments["value"]])
            transaction.notify(log, user_id, {"value": str(log.arguments["value"])})
            transaction.enqueue(log, NewJob(type="count"))
            if log.arguments["value"] == 3:
                raise RuntimeError("not this one")
            if log.arguments["value"] == 5:
                # Refused by the database when it is stored.
                transaction.notify(log, user_id + 1, {})

    good = declared(name="good", action="enqueue", options={"type": "good"})
    mine = ChainFilter(replace(good.query, name="picky"), picky)
    token = TokenFactory.deploy(chain).create(supply=100)
    for value in range(1, 8):
        token.transfer(ACCOUNTS[1], value)
    async with watching(database_url, chain.url, [mine, good]) as watch:
        with pytest.raises(ChainHandlerError, match="not this one"):
            await watch.step()
        with pytest.raises(ChainHandlerError, match="not this one"):
            await watch.step()
        assert sql(database_url, "select count(*) from seen") == [(0,)]
        sql(database_url, """update "workerChains" set "conditionSince" = now() - interval '61 s'""")
        await catch_up(watch)
    kept = ["100", "1", "2", "4", "6", "7"]
    assert [str(value) for (value,) in sql(database_url, "select value from seen")] == kept
    assert [each["value"] for each in notifications(database_url)] == kept
    assert [kind for kind, _, _ in jobs(database_url)].count("count") == len(kept)
    assert [kind for kind, _, _ in jobs(database_url)].count("good") == 8
    letters = sql(
        database_url, 'select filter, data, array_length(topics, 1), reason from "workerChainDeadLetters" order by id'
    )
    (first, second) = letters
    assert first == (
        "picky",
        "0x" + encode(["uint256"], [3]).hex(),
        3,
        "its handler failed: RuntimeError: not this one",
    )
    assert second[1] == "0x" + encode(["uint256"], [5]).hex()
    assert "violates foreign key constraint" in second[3]
    assert sql(database_url, 'select undecodable, condition from "workerChains"') == [(2, None)]


@in_loop
async def test_a_webhook_is_delivered_as_a_signed_job(
    chain: Anvil, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[tuple[dict[str, str], bytes]] = []
    statuses = [503, 200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            received.append((headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(statuses[len(received) - 1])
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/hook"
        mine = declared(action="webhook", options={"url": url, "secretEnv": "HOOK_SECRET"})
        TokenFactory.deploy(chain).create(supply=5)
        async with watching(database_url, chain.url, [mine]) as watch:
            await catch_up(watch)
        ((kind, data, _),) = jobs(database_url)
        assert kind == "chainWebhook"
        assert sql(database_url, 'select "retryLimit" from "workerJobs"') == [(10,)]
        assert "secret" not in json.dumps(data).lower().replace("secretenv", "").replace("hook_secret", "")
        context = JobContext(job_id=1, job_type=kind)
        with pytest.raises(WebhookError, match="HOOK_SECRET"):
            await deliver(data, context)
        monkeypatch.setenv("HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        with pytest.raises(WebhookError, match="answered 503"):
            await deliver(data, context)
        assert await deliver(data, context) == {"status": 200}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    (first, _), (second, body) = received
    assert first["webhook-id"] == second["webhook-id"]
    expected = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", second["webhook-id"], int(second["webhook-timestamp"]), body
    )
    assert second["webhook-signature"] == expected
    assert json.loads(body)["arguments"]["value"] == "5"


def test_signatures_are_those_of_the_specification() -> None:
    # The example of standard-webhooks/standard-webhooks, libraries.
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"action": "mail"}, "action is 'mail': give enqueue, notify or webhook"),
        ({"action": "enqueue"}, "options.type is missing"),
        ({"action": "notify", "options": {"user": "value"}}, r"name the parameter .* \(from, to\)"),
        ({"action": "webhook", "options": {"url": "ftp://x", "secretEnv": "A"}}, "give an http or https address"),
        ({"action": "webhook", "options": {"url": "https://x"}}, "options.secretEnv is missing"),
        ({"action": "enqueue", "options": {"type": "a"}, "addresses": ["0x12"]}, "'0x12' is no address"),
        ({"action": "enqueue", "options": {"type": "a"}, "factory": {"event": "x"}}, "factory needs addresses"),
        ({"action": "enqueue", "options": {"type": "a", "typ": "b"}}, "options.typ is not known"),
        ({"action": "enqueue", "options": {"type": "a"}, "adresses": []}, "adresses is not known"),
        ({"action": "enqueue", "options": {"type": "a"}, "event": "Transfer"}, "is no event"),
        (
            {"action": "enqueue", "options": {"type": "a"}, "fromBlock": -1},
            "fromBlock is -1: give the number of a block",
        ),
        ({"action": "enqueue", "options": {"type": "a"}, "fromBlock": "7"}, "fromBlock is '7': give the number"),
        ({"action": "enqueue", "options": {"type": "a"}, "fromBlock": True}, "fromBlock is True: give the number"),
        ({"action": "enqueue", "options": {"type": "a", "pool": 3}}, "options.pool is 3: give the name of a pool"),
    ],
)
def test_a_wrong_declaration_is_refused_with_a_sentence(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        read_filter({"name": "mine", "event": TRANSFER, **document})


@in_loop
async def test_declared_filters_are_kept_in_the_table(database_url: str) -> None:
    store = await PostgresChainStore.open(database_url, "workerjobs test")
    try:
        first = read_filter(
            {"name": "mine", "event": TRANSFER, "fromBlock": 7, "action": "enqueue", "options": {"type": "a"}}
        )
        await store.declare_filter(first)
        assert await store.filters() == [first]
        second = read_filter({"name": "mine", "event": TRANSFER, "action": "notify", "options": {"user": "to"}})
        await store.declare_filter(second)
        assert await store.filters() == [second]
        assert await store.remove_filter("mine")
        assert not await store.remove_filter("mine")
    finally:
        await store.close()
