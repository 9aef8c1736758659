"""A filter of logs that tells users what their wallets receive."""

from workerjobs.jobs.chain_filters import chain_filter


@chain_filter("transfers", "Transfer(address indexed from, address indexed to, uint256 value)", from_block=0)
async def transfers(logs, transaction):
    users = await transaction.users_of_wallets({log.arguments["to"] for log in logs})
    for log in logs:
        if user_id := users.get(log.arguments["to"]):
            transaction.notify(log, user_id, {"type": "received", "value": str(log.arguments["value"])})
