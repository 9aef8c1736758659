"""What `make demo-chain` shows: a chain, its contracts, and notifications as a browser would get them.

Everything is real and is gone afterwards: anvil, Postgres, a worker, a server.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.support.anvil import ACCOUNTS, PRIVATE_KEY, Anvil, anvil
from tests.support.contracts import Token, TokenFactory
from tests.support.loop import until
from tests.support.table import open_store, sql
from tests.support.web import Server, Stream, server
from tests.support.workers import worker_process
from workerjobs import app
from workerjobs.chain.multicall import Call, read_many
from workerjobs.chain.node import Web3Node
from workerjobs.domain.declared_filters import read_filter
from workerjobs.domain.job import Job
from workerjobs.ports.jobs import JobQuery

USER_WALLET, FRIEND = ACCOUNTS[1], ACCOUNTS[2]


def say(text: str) -> None:
    """Show a step."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


async def main() -> None:
    """Run the demo."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workerjobs-demo-")))
        chain = stack.enter_context(anvil())
        url = stack.enter_context(app.throwaway_database())
        app.install_quickdapp(url)
        ((user_id,),) = sql(url, "insert into users default values returning id")
        sql(
            url,
            "insert into user_auth (user_id, auth_type, auth_identifier) values (%s, 'WEB3_WALLET', %s)",
            user_id,
            USER_WALLET,
        )
        say(f"A development chain (anvil) runs at {chain.url}; a user owns the wallet {USER_WALLET}")
        factory = TokenFactory.deploy(chain)
        say(f"Deployed the sample token factory at {factory.address}")
        variables: dict[str, Any] = {
            "WEB3_SUPPORTED_CHAINS": "anvil",
            "WEB3_ANVIL_RPC": chain.url,
            "WEB3_SERVER_WALLET_PRIVATE_KEY": PRIVATE_KEY,
            "WEB3_FACTORY_CONTRACT_ADDRESS": factory.address,
            "WATCH_FROM_BLOCK": "0",
            "WORKER_BUILTIN_JOBS": "on",
        }
        say("Starting `workerjobs worker`, which watches the chain and submits the job deployMulticall3 …")
        await stack.enter_async_context(worker_process(url, folder, count=2, **variables))
        deployed = await until(lambda: finished(url, "deployMulticall3"), seconds=60)
        assert deployed is not None
        say(f"The job deployMulticall3 {deployed.state}: {deployed.result_json}")
        say("Starting `workerjobs server`, to which the user's browser listens …")
        web = await stack.enter_async_context(server(url, folder))
        say(f"It serves {web.url}")
        await listen(chain, factory, web, url, user_id)
    say("All of it is gone again. docs/chain-jobs.md says how to watch a chain of yours")


async def listen(chain: Anvil, factory: TokenFactory, web: Server, url: str, user_id: int) -> None:
    """Do things on the chain, and show what the user is told."""
    async with web.stream(await web.ticket(user_id)) as stream:
        await stream.mark()
        began = time.monotonic()
        token = factory.create("Demo Gold", "DGLD", supply=1_000 * 10**18, creator=USER_WALLET)
        say(f"The user created a token at {token.address}")
        await show(stream, began)
        for amount in (5, 12):
            began = time.monotonic()
            token.transfer(FRIEND, amount * 10**18)
            say(f"The user sent {amount} DGLD to {FRIEND}")
            await show(stream, began)
        await declare_late(url)
        show_balances(chain, token)
        began = time.monotonic()
        chain.reorg(1)
        say("The chain is reorganised: the last block is another one now, without the last transfer")
        await show(stream, began)
        show_balances(chain, token)


def show_balances(chain: Anvil, token: Token) -> None:
    """Read what both wallets hold through Multicall3."""
    holders = (USER_WALLET, FRIEND)
    calls = [Call(token.address, "balanceOf(address)(uint256)", (holder,)) for holder in holders]
    user, friend = (each.value // 10**18 for each in read_many(Web3Node(chain.url), calls))
    say(f"In one call through Multicall3: the user holds {user} DGLD, {FRIEND} {friend}")


async def declare_late(url: str) -> None:
    """Declare a filter that begins before all that happened so far, and show that it catches up."""
    declared = read_filter(
        {
            "name": "booked",
            "event": "Transfer(address indexed from, address indexed to, uint256 value)",
            "fromBlock": 0,
            "action": "enqueue",
            "options": {"type": "echo"},
        }
    )
    began = time.monotonic()
    async with app.open_chain_store(url) as store:
        await store.declare_filter(declared)
    say("Declared a filter of all transfers since block 0, with a job for each")
    booked = "select count(*) from \"workerJobs\" where type = 'echo' and success"
    # The token was made with one, and sent twice since.
    await until(lambda: sql(url, booked) == [(3,)], seconds=30)
    say(f"  → it caught up by itself after {time.monotonic() - began:.2f} s: 3 jobs ran")


async def show(stream: Stream, began: float) -> None:
    """Wait for a notification and show it."""
    name, message = await stream.next(seconds=30)
    data = message["data"]
    what = "revoked" if message["revoked"] else name
    say(f"  → {what} after {time.monotonic() - began:.2f} s: {data['message']}")
    print(f"            {json.dumps(data)}", flush=True)


async def finished(url: str, job_type: str) -> Job | None:
    """The first finished job of a type."""
    async with open_store(url) as store:
        jobs = await store.list(JobQuery(type=job_type))
    return next((job for job in jobs if job.state.is_final), None)


if __name__ == "__main__":
    asyncio.run(main())
