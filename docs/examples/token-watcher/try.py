"""Sends tokens on a development chain, and shows what jobs and notifications become of it. All is gone afterwards."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from workerjobs import WorkerManager, app
from workerjobs.testing import database

HERE = Path(__file__).parent
# The chain and its contracts are those of this project's tests.
sys.path.insert(0, str(HERE.parents[2]))

from tests.support.anvil import ACCOUNTS, anvil  # noqa: E402
from tests.support.contracts import TokenFactory  # noqa: E402

OWNER, FRIEND = ACCOUNTS[1], ACCOUNTS[2]
WATCHED = {
    "WEB3_SUPPORTED_CHAINS": "anvil",
    "WEB3_CHAIN_FILTERS": str(HERE / "filters.yaml"),
    "WATCH_FROM_BLOCK": "0",
}


def wait_for(connection: psycopg.Connection[Any], statement: str, is_there: Callable[[list[Any]], bool]) -> list[Any]:
    """Ask again until the answer will do."""
    for _ in range(600):
        rows = connection.execute(statement.encode()).fetchall()
        if is_there(rows):
            return rows
        time.sleep(0.1)
    raise TimeoutError(statement)


def main() -> None:
    """Show it."""
    with anvil() as chain, database() as url, psycopg.connect(url, autocommit=True) as connection:
        # The tables users, user_auth and notifications; a friend who owns a wallet.
        app.install_quickdapp(url)
        connection.execute("insert into users default values")
        connection.execute(
            "insert into user_auth (user_id, auth_type, auth_identifier) values (1, 'WEB3_WALLET', %s)", [FRIEND]
        )
        token = TokenFactory.deploy(chain).create("Demo Gold", "DGLD", supply=1_000 * 10**18, creator=OWNER)
        os.environ |= WATCHED | {"WEB3_ANVIL_RPC": chain.url}
        with WorkerManager(database_url=url, worker_count=3, job_modules=[str(HERE / "watcher_jobs.py")]):
            for amount in (5, 12):
                token.transfer(FRIEND, amount * 10**18)
                print(f"sent {amount} of {token.address}")
            booked = "select id, result from \"workerJobs\" where type = 'bookTransfer' and success order by id"
            for job_id, result in wait_for(connection, booked, lambda rows: len(rows) == 2):
                print(f"job {job_id} booked {result}")
            told = "select id, data->'arguments'->>'value', data->>'revoked' from notifications order by id"
            for number, value, _ in wait_for(connection, told, lambda rows: len(rows) == 2):
                print(f"notification {number}: received {int(value) // 10**18}")
            chain.reorg(1)
            print("the chain is reorganised: its last block, with the last transfer, is another one now")
            for number, _, revoked in wait_for(connection, told, lambda rows: any(row[2] for row in rows)):
                print(f"notification {number} {'is revoked' if revoked else 'stays'}")


if __name__ == "__main__":
    main()
