"""A job that reads from many contracts at once."""

from workerjobs import job
from workerjobs.settings import chain_settings


@job("holdings")
def holdings(data):
    """What a wallet holds of some tokens. Data: wallet, tokens, chain."""
    # Loaded where the job runs: web3 takes a second, and workers import this file at their start.
    from workerjobs.chain.multicall import Call, read_many
    from workerjobs.chain.node import open_node

    node = open_node(chain_settings().find(data.get("chain")))
    calls = []
    for token in data["tokens"]:
        calls.append(Call(token, "symbol()(string)", may_fail=True))
        calls.append(Call(token, "balanceOf(address)(uint256)", (data["wallet"],), may_fail=True))
    # One request for 250 tokens, and all of it as of one block.
    answers = read_many(node, calls)
    return {
        token: {"symbol": symbol.value, "balance": str(balance.value)}
        for token, symbol, balance in zip(data["tokens"], answers[::2], answers[1::2], strict=True)
        if symbol.succeeded and balance.succeeded
    }
