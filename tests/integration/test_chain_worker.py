"""watchChain as a job of a real worker: its cron row, its runs, its metrics, and its commands."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from tests.support.anvil import ACCOUNTS, anvil
from tests.support.chains import make_user, notifications
from tests.support.cli import workerjobs
from tests.support.contracts import TokenFactory
from tests.support.loop import in_loop, until
from tests.support.table import sql
from tests.support.workers import worker_process

FILTERS = """
filters:
  - name: sent
    event: Transfer(address indexed from, address indexed to, uint256 value)
    action: enqueue
    options: {type: echo, data: {note: transfer}}
"""
LATE = """
  - name: late
    event: Transfer(address indexed from, address indexed to, uint256 value)
    fromBlock: 0
    action: webhook
    options: {url: "http://127.0.0.1:9", secretEnv: NONE}
"""


@in_loop
async def test_a_worker_follows_a_chain_and_shows_how_far_it_is(database_url: str, tmp_path: Path) -> None:
    await make_user(database_url)
    filters = tmp_path / "filters.yaml"
    filters.write_text(FILTERS + LATE)
    with anvil() as chain:
        token = TokenFactory.deploy(chain).create()
        variables = {
            "WEB3_SUPPORTED_CHAINS": "anvil",
            # Nothing listens at the first one.
            "WEB3_ANVIL_RPC": f"http://127.0.0.1:9,{chain.url}",
            "WATCH_FROM_BLOCK": "0",
            # The jobs of chains are made where the worker is that makes them.
            "WORKER_POOL": "chains",
            "WEB3_CHAIN_FILTERS": str(filters),
            "WORKER_BUILTIN_JOBS": "on",
            "WORKER_HEALTH_PORT": "0",
            "WORKER_LOG_LEVEL": "debug",
        }
        async with worker_process(database_url, tmp_path, count=2, **variables) as worker:
            await until(lambda: len(notifications(database_url)) == 1, seconds=60)
            token.transfer(ACCOUNTS[1], 5)
            await until(lambda: len(notifications(database_url)) == 2)
            rows = sql(
                database_url,
                """select distinct data::text, pool, "cronSchedule", tag, "autoRescheduleOnFailureDelay"
                from "workerJobs" where type = 'watchChain'""",
            )
            assert rows == [('{"chain":"anvil"}', "chains", "*/3 * * * * *", "cron:watchChain:anvil", 10_000)]
            assert sql(database_url, """select pool from "workerJobs" where type = 'deployMulticall3'""") == [
                ("chains",)
            ]
            ended = """select result from "workerJobs" where type = 'watchChain' and success"""
            await until(lambda: sql(database_url, ended), seconds=60)
            assert sql(database_url, ended)[0][0]["chain"] == "anvil"
            assert sql(database_url, """select count(*) from "workerJobs" where type = 'echo'""") == [(2,)]
            retried = """select 1 from "workerJobs" where type = 'chainWebhook' and "rescheduledFromJob" is not null"""
            await until(lambda: sql(database_url, retried), seconds=60)
            chain.reorg(1)
            await until(lambda: len(notifications(database_url, revoked=True)) == 1, seconds=60)
            (said,) = worker.said("Probes and metrics at")
            address = said["message"].rpartition(" ")[2]

            def metrics() -> str:
                with urllib.request.urlopen(f"{address}/metrics", timeout=60) as response:
                    return str(response.read().decode())

            height = chain.block_number
            await until(lambda: f'workerjobs_chain_cursor_block{{chain="anvil"}} {height}.0' in metrics(), seconds=60)
            await until(lambda: 'workerjobs_chain_reorgs_total{chain="anvil"} 1.0' in metrics(), seconds=60)
            refused = 'workerjobs_chain_rpc_errors_total{chain="anvil",class="connection",endpoint="1:127.0.0.1:9"}'
            await until(lambda: refused in metrics(), seconds=60)
            shown = metrics()
            assert f'workerjobs_chain_head_block{{chain="anvil"}} {height}.0' in shown
            assert 'workerjobs_chain_effects_revoked_total{chain="anvil"}' in shown
            assert 'workerjobs_chain_lag_seconds{chain="anvil"}' in shown
            assert 'workerjobs_chain_logs_total{chain="anvil"}' in shown
            assert 'workerjobs_chain_lag_blocks{chain="anvil"} 0.0' in shown
            assert 'workerjobs_chain_filter_lag_blocks{chain="anvil",filter="late"} 0.0' in shown
            assert 'workerjobs_chain_rpc_requests_total{chain="anvil",endpoint="2:127.0.0.1' in shown
        status = workerjobs("chain", "status", "-o", "json", database_url=database_url)
        (state,) = json.loads(status.stdout)
        assert (state["chain"], state["number"], state["condition"]) == ("anvil", height, None)
        assert state["endpoints"][0]["errors"]["connection"] > 0
        assert state["endpoints"][1]["requests"] > 0
        assert [(each["filter"], each["behind"]) for each in state["filters"]] == [("late", 0)]
        # Where the chain is watched, and not where other jobs run.
        hooks = """select distinct pool from "workerJobs" where type = 'chainWebhook'"""
        assert sql(database_url, hooks) == [("chains",)]
        rewound = workerjobs("chain", "rewind", "anvil", "1", database_url=database_url, variables=variables)
        assert rewound.stdout.startswith("anvil goes on after block 1; ")
        assert notifications(database_url) == []


def test_filters_are_declared_listed_and_removed_by_command(database_url: str, tmp_path: Path) -> None:
    filters = tmp_path / "filters.yaml"
    filters.write_text(FILTERS)
    applied = workerjobs("chain", "filter", "apply", "-f", str(filters), database_url=database_url)
    assert applied.stdout == "chain filter sent applied\n"
    listed = workerjobs("chain", "filter", "list", "-o", "json", database_url=database_url)
    assert [(each["name"], each["fromBlock"]) for each in json.loads(listed.stdout)] == [("sent", None)]
    filters.write_text(FILTERS.replace("enqueue", "mail").replace("Transfer(", "Transfer"))
    refused = workerjobs("chain", "filter", "apply", "-f", str(filters), database_url=database_url)
    assert refused.returncode == 2
    assert "action is 'mail': give enqueue, notify or webhook" in refused.stderr
    assert "is no event" in refused.stderr
    removed = workerjobs("chain", "filter", "remove", "sent", database_url=database_url)
    assert removed.returncode == 0
    again = workerjobs("chain", "filter", "remove", "sent", database_url=database_url)
    assert (again.returncode, again.stderr) == (1, "Error: There is no declared chain filter sent\n")
