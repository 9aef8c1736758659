"""Secrets are planted wherever WorkerJobs is given one, and looked for wherever it says something."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.support.api import EVERYTHING, api
from tests.support.cli import workerjobs, workerjobs_json
from tests.support.job_data import ALLOWED, make_secret, reference, token_of, worker_in_cluster
from tests.support.loop import in_loop, until
from tests.support.operators import Operators, WorkerJobs, eventually, workerjob
from tests.support.table import sql
from tests.support.workers import JOBS

pytestmark = pytest.mark.cluster

TYPED_JOBS = str(Path(JOBS).with_name("typed_jobs.py"))
NAMES = ("database", "server", "ticket_key", "backlog", "secret", "webhook", "wallet", "endpoint", "wrong_token")
PLANTED = {name: f"planted{number:02}{uuid4().hex}" for number, name in enumerate(NAMES)} | {
    "wallet": "0x" + "5eC7e7" * 10 + "abcd"
}
COMMANDS = (
    ("list",),
    ("show", "1"),
    ("export", "--format", "csv"),
    ("logs", "1"),
    ("cron", "list"),
    ("top",),
    ("explain", "default"),
    ("workers",),
    ("types", "--live"),
    ("pauses",),
    ("retry", "--failed", "--dry-run"),
    # Refused.
    ("show", "999999"),
    ("submit", "sendReportAsync", "--data", '{"copies": 0}'),
    ("cancel", "999999"),
)
AT_DATABASE = (("doctor",), ("limit", "list"), ("token", "list"), ("pool", "list"), ("chain", "status"))


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    """The test's database, for an account with a password of its own."""
    account = f"planted_{uuid4().hex[:12]}"
    sql(database_url, f"create role {account} superuser login password '{PLANTED['database']}'")
    parts = urlsplit(database_url)
    place = parts.netloc.rpartition("@")[2]
    try:
        yield parts._replace(netloc=f"{account}:{PLANTED['database']}@{place}").geturl()
    finally:
        sql(database_url, "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = %s", account)
        sql(database_url, f"drop owned by {account}; drop role {account}")


def get(address: str) -> str:
    """Read a page, whatever its status."""
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def command_lines(pids: Iterable[int]) -> str:
    """What everybody on the machine sees of processes."""
    return "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)


def pages_of(log: Path) -> str:
    """The pages on the port of probes and metrics, where a log says that this is."""
    (line,) = eventually(lambda: [each for each in log.read_text().splitlines() if "metrics at" in each])
    at = json.loads(line)["message"].rpartition(" ")[2]
    return "".join(get(f"{at}/{page}") for page in ("healthz", "readyz", "metrics", "nothing"))


@pytest.mark.slow
@pytest.mark.timeout(240)
@in_loop
async def test_no_secret_is_in_anything_that_is_said(
    operators: Operators, jobs: WorkerJobs, tmp_path: Path, url: str
) -> None:
    said: dict[str, str] = {}
    probes = {"WORKER_HEALTH_HOST": "127.0.0.1", "WORKER_HEALTH_PORT": "0", "WORKER_LOG_LEVEL": "trace"}
    made = {
        scope: workerjobs_json("token", "create", scope, "--scope", scope, database_url=url)["token"]
        for scope in ("read", "write")
    }
    operator = operators.start(DATABASE_URL=url, WORKERJOBS_BACKLOG_TOKEN=PLANTED["backlog"], **probes)
    make_secret(jobs, "mail", ALLOWED, key=PLANTED["secret"])
    given = [reference("copies", "secret", "mail", "key")]
    chain = {
        "WEB3_SUPPORTED_CHAINS": "anvil",
        "WEB3_ANVIL_RPC": f"http://127.0.0.1:9/v3/{PLANTED['endpoint']}",
        "WEB3_SERVER_WALLET_PRIVATE_KEY": PLANTED["wallet"],
        # It begins as a key in base64 and is none, which the job says.
        "HOOK_KEY": f"whsec_{PLANTED['webhook']}!",
    }
    of_server = {"WORKERJOBS_SERVER_TOKEN": PLANTED["server"], "WORKERJOBS_TICKET_SECRET": PLANTED["ticket_key"]}
    body = {"chain": "anvil", "blockHash": "0x1", "logIndex": 0, "filter": "mine"}
    of_worker: Any = {"WORKER_JOB_MODULES": f"{JOBS},{TYPED_JOBS}", "WORKER_KEEP_LOGS": "1000", **chain, **probes}
    async with (
        worker_in_cluster(jobs, tmp_path, url, **of_worker) as worker,
        api(url, tmp_path, as_process=True, **of_server, **probes) as client,
    ):
        jobs.apply(
            # Data that its model refuses, data that its function refuses, and data that all is well with.
            workerjob(
                "refused", {"type": "sendReportAsync", "data": {"to": ["a@b"], "when": "2030-01-01"}, "dataFrom": given}
            ),
            workerjob("failing", {"type": "raise", "data": {"what": "recursion"}, "dataFrom": given}),
            workerjob("fine", {"type": "log", "dataFrom": given}),
        )
        for name, state in (("refused", "Failed"), ("failing", "Failed"), ("fine", "Succeeded")):
            said[f"status of {name}"] = str(jobs.wait(name, state))
        assert "data.copies is hidden: give a whole number" in said["status of refused"]
        hooks = {"url": "http://127.0.0.1:9/hook", "secretEnv": "HOOK_KEY", "body": body}
        tried = [("chainWebhook", hooks), ("watchChain", {}), ("deployMulticall3", {})]
        server = client.with_token(made["write"])
        ids = [(await server.post("/jobs", {"type": each, "data": data}))["id"] for each, data in tried]

        async def are_finished() -> bool:
            return all([(await server.get(f"/jobs/{each}"))["finished"] for each in ids])

        await until(are_finished, seconds=60)
        assert [(await server.get(f"/jobs/{each}"))["success"] for each in ids] == [False] * 3
        ticket = await client.server.http.post(
            f"{client.server.url}/api/tickets", json={"userId": 7}, headers={"Authorization": f"Bearer {made['write']}"}
        )
        made["ticket"] = (await ticket.json())["ticket"]
        for place in ("stream", "socket"):
            async with client.server.http.get(
                f"{client.server.url}/api/notifications/{place}?ticket={made['ticket']}x"
            ) as answer:
                said[place] = await answer.text()
        secrets = PLANTED | made | {"service account": token_of(tmp_path)}
        for token in (made["read"], made["write"], PLANTED["server"], PLANTED["wrong_token"], None):
            someone = client.with_token(token)
            for method, path in EVERYTHING:
                if "events" not in path:
                    # No field of it is accepted, so that nothing is deleted that others look at.
                    wrong = {"priority": PLANTED["wrong_token"], "none": 1}
                    if method != "DELETE":
                        reply = await someone.ask(method, path, wrong if method != "GET" else None)
                        said[f"{method} {path} {token}"] = reply.text + str(reply.headers)
        at_server = {"WORKERJOBS_SERVER": client.server.url, "WORKERJOBS_TOKEN": made["write"]}
        wrong_one = at_server | {"WORKERJOBS_TOKEN": PLANTED["wrong_token"]}
        dead = url.replace(urlsplit(url).netloc.rpartition(":")[2], "9")
        for number, command in enumerate((*COMMANDS, *AT_DATABASE)):
            for form in ((), ("-o", "json")):
                if form and command[0] in ("export", "logs"):
                    continue
                runs: list[tuple[str | None, dict[str, str]]] = [(url, chain | of_server)]
                if number < len(COMMANDS):
                    runs += [(None, at_server), (None, wrong_one)]
                for each, variables in runs:
                    ended = workerjobs(*command, *form, database_url=each, variables=variables)
                    said[f"{' '.join((*command, *form))} at {variables}"] = ended.stdout + ended.stderr
        for command in (("list",), ("doctor",), ("token", "list")):
            ended = workerjobs(*command, database_url=dead, variables={"DATABASE_WAIT_SECONDS": "0"})
            assert ended.returncode != 0
            said[f"{command} at no database"] = ended.stdout + ended.stderr
        said |= {f"pages of {each}": pages_of(each) for each in (worker.log, client.process.log, operator.log)}
        tables = sql(url, "select quote_ident(tablename) from pg_tables where schemaname = 'public'")
        said |= {f"table {table}": str(sql(url, f"select t::text from {table} t")) for (table,) in tables}
        said["resources"] = jobs.kubectl("get", "workerjobs,workerpools,events", "-o", "json").stdout
        pids = [each.pid for each in worker.family] + [client.process.process.pid, operator.process.pid]
        said["command lines"] = command_lines(pids)
    said |= {f"log of {each.name}": each.read_text() for each in (worker.log, client.process.log, operator.log)}
    assert len(said) > 200
    assert len(said["log of worker.log"]) > 1_000
    found = [(where, name) for where, text in said.items() for name, value in secrets.items() if _is_in(value, text)]
    assert found == [], {name: sum(each == name for _, each in found) for _, name in found}


def _is_in(value: str, text: str) -> bool:
    """Whether a text has a secret in it, as it is or without the 0x of a key."""
    return value.removeprefix("0x").lower() in text.lower()


def test_search_finds_what_is_there() -> None:
    assert _is_in("0xAbC", "the key is abc.")
    assert not any(_is_in(value, "nothing") for value in PLANTED.values())
