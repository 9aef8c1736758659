"""deployMulticall3 on real chains: it works, it refuses, and it never pays for nothing."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.anvil import ACCOUNTS, PRIVATE_KEY, Anvil, anvil
from tests.support.loop import in_loop, until
from tests.support.rpc_proxy import Call, Reply, error, rpc_proxy
from tests.support.table import count_rows, open_store
from tests.support.workers import worker_process
from workerjobs.domain.job import Job, JobState
from workerjobs.domain.multicall3 import ADDRESS, CODE_HASH, COST, DEPLOYER, ETHER, GWEI, TRANSACTION_HASH
from workerjobs.domain.multicall3 import DeploymentRefusedError as Refused
from workerjobs.errors import ChainRefusedError, ChainUnavailableError, InvalidInputError, InvalidSettingsError
from workerjobs.jobs import deploy_multicall3 as job
from workerjobs.ports.jobs import JobQuery
from workerjobs.testing import JobRun, run_job

SIGNED = json.loads(resources.files("workerjobs.chain").joinpath("multicall3.json").read_text())["signedTransaction"]
OTHER_CODE = "0x60006000fd"
PAYS = {"allowProduction": True, "spendingLimit": "0.11"}

Deploy = Callable[..., JobRun]


@pytest.fixture
def deploy(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Deploy:
    """Run the job against a chain; ``mainnet`` is what the settings call anvil with that chain's id."""

    def run(chain: Anvil | str, /, *, name: str = "anvil", key: str | None = PRIVATE_KEY, **data: Any) -> JobRun:
        monkeypatch.setenv("WEB3_SUPPORTED_CHAINS", name)
        monkeypatch.setenv(f"WEB3_{name.upper()}_RPC", chain if isinstance(chain, str) else chain.url)
        if key is None:
            monkeypatch.delenv("WEB3_SERVER_WALLET_PRIVATE_KEY", raising=False)
        else:
            monkeypatch.setenv("WEB3_SERVER_WALLET_PRIVATE_KEY", key)
        return run_job("deployMulticall3", data, database_url=database_url)

    return run


@pytest.fixture
def chain() -> Iterator[Anvil]:
    with anvil() as running:
        yield running


@pytest.fixture
def production() -> Iterator[Anvil]:
    """A chain that the settings take for Ethereum's main one."""
    with anvil("--chain-id", "1") as running:
        yield running


def coins(chain: Anvil) -> list[tuple[int, str]]:
    """What the wallet and Multicall3's sender have, and how many transactions they have sent."""
    return [
        (chain.balance(account), str(chain.call("eth_getTransactionCount", account, "latest")))
        for account in (ACCOUNTS[0], DEPLOYER)
    ]


def refuses(deploy: Deploy, chain: Anvil, reason: str, **arguments: Any) -> str:
    """See that the job refuses for a reason, and that nothing was sent; returns what it says."""
    before = coins(chain), chain.block_number
    with pytest.raises(Refused) as refused:
        deploy(chain, **arguments)
    assert refused.value.reason == reason, str(refused.value)
    assert (coins(chain), chain.block_number) == before
    assert chain.call("txpool_status") == {"pending": "0x0", "queued": "0x0"}
    return str(refused.value)


# --- where it works


def test_fresh_chain_gets_multicall3_by_its_own_transaction_and_again_is_a_no_op(deploy: Deploy, chain: Anvil) -> None:
    run = deploy(chain)
    gas = int(chain.receipt(TRANSACTION_HASH)["gasUsed"], 16)
    assert run.result == {
        "address": ADDRESS,
        "transactionHash": TRANSACTION_HASH,
        "gasUsed": gas,
        "codeHash": CODE_HASH,
        "alreadyDeployed": False,
    }
    before = coins(chain), chain.block_number
    assert deploy(chain, key=None).result == run.result | {"alreadyDeployed": True}
    assert (coins(chain), chain.block_number) == before


def test_only_what_the_sender_lacks_is_paid(deploy: Deploy, chain: Anvil) -> None:
    chain.call("anvil_setBalance", DEPLOYER, hex(COST - 5 * GWEI))
    deploy(chain)
    payment = chain.block(1)["transactions"][0]
    assert int(chain.call("eth_getTransactionByHash", payment)["value"], 16) == 5 * GWEI
    assert chain.block(2)["transactions"] == [TRANSACTION_HASH]


def test_sender_that_has_enough_is_paid_nothing_and_no_wallet_is_needed(deploy: Deploy, production: Anvil) -> None:
    production.call("anvil_setBalance", DEPLOYER, hex(COST))
    result = deploy(production, name="mainnet", key=None, allowProduction=True).result
    assert (result["transactionHash"], result["alreadyDeployed"]) == (TRANSACTION_HASH, False)


def test_production_chain_is_paid_within_the_limit_that_was_given(deploy: Deploy, production: Anvil) -> None:
    wallet = production.balance(ACCOUNTS[0])
    assert deploy(production, name="mainnet", **PAYS).result["transactionHash"] == TRANSACTION_HASH
    assert COST <= wallet - production.balance(ACCOUNTS[0]) <= 11 * ETHER // 100


@pytest.mark.parametrize(
    ("setup", "key", "why"),
    [
        (("anvil_setNonce", DEPLOYER, "0x1"), PRIVATE_KEY, "has sent 1 others"),
        (("anvil_setNextBlockBaseFeePerGas", hex(101 * GWEI)), PRIVATE_KEY, "base fee"),
        (("anvil_setBalance", ACCOUNTS[0], "0x0"), PRIVATE_KEY, "has 0 ether"),
        (("anvil_mine",), None, "lacks 0.1 ether"),
    ],
    ids=["burned nonce", "base fee", "empty wallet", "no wallet"],
)
def test_development_node_gets_the_code_set_where_the_transaction_cannot_be_sent(
    deploy: Deploy, chain: Anvil, setup: tuple[str, ...], key: str | None, why: str
) -> None:
    chain.call(*setup)
    chain.mine()
    run = deploy(chain, key=key)
    assert (run.result["codeHash"], run.result["transactionHash"]) == (CODE_HASH, None)
    assert any("setCode" in message and why in message for message in run.messages)
    assert deploy(chain, key=key).result["alreadyDeployed"]


def test_force_redeploy_puts_the_code_over_other_code_on_a_development_node(deploy: Deploy, chain: Anvil) -> None:
    chain.call("anvil_setCode", ADDRESS, OTHER_CODE)
    result = deploy(chain, forceRedeploy=True).result
    assert (result["codeHash"], result["alreadyDeployed"]) == (CODE_HASH, False)
    assert deploy(chain, forceRedeploy=True).result["alreadyDeployed"]


@in_loop
async def test_workers_deploy_it_at_their_start_once_per_database(
    chain: Anvil, database_url: str, tmp_path: Path
) -> None:
    variables: dict[str, Any] = {
        "WEB3_SUPPORTED_CHAINS": "anvil",
        "WEB3_ANVIL_RPC": chain.url,
        "WEB3_SERVER_WALLET_PRIVATE_KEY": PRIVATE_KEY,
        "WORKER_BUILTIN_JOBS": "on",
    }

    async def one_succeeded() -> list[Job]:
        async with open_store(database_url) as store:
            return await store.list(JobQuery(type="deployMulticall3", states=(JobState.SUCCEEDED,)))

    for name in ("first", "second"):
        async with worker_process(database_url, tmp_path, name=name, **variables):
            (done,) = await until(one_succeeded)
    assert count_rows(database_url, "type = 'deployMulticall3'") == 1
    assert (done.tag, json.loads(done.data_json)) == ("deploy-multicall3", {"chain": "anvil"})
    assert json.loads(done.result_json or "")["transactionHash"] == TRANSACTION_HASH


# --- where it refuses, with nothing spent


@pytest.mark.parametrize("force", [False, True])
def test_other_code_at_the_address_is_refused(deploy: Deploy, production: Anvil, force: bool) -> None:
    production.call("anvil_setCode", ADDRESS, OTHER_CODE)
    said = refuses(deploy, production, "ForeignCode", name="mainnet", forceRedeploy=force, **PAYS)
    assert "stands other code" in said
    assert "forceRedeploy" not in said


def test_other_code_on_a_development_node_is_refused_until_it_is_forced(deploy: Deploy, chain: Anvil) -> None:
    chain.call("anvil_setCode", ADDRESS, OTHER_CODE)
    assert "forceRedeploy puts Multicall3 in its place" in refuses(deploy, chain, "ForeignCode")


def test_sender_that_has_sent_something_else_is_refused(deploy: Deploy, production: Anvil) -> None:
    production.call("anvil_setNonce", DEPLOYER, "0x1")
    assert "can never stand" in refuses(deploy, production, "NonceUsed", name="mainnet", **PAYS)


@pytest.mark.parametrize(("gwei", "room"), [(101, False), (90, True)])
def test_base_fee_that_the_transaction_cannot_pay_is_refused(
    deploy: Deploy, production: Anvil, gwei: int, room: bool
) -> None:
    production.call("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))
    production.mine()
    said = refuses(deploy, production, "BaseFeeTooHigh", name="mainnet", **PAYS)
    assert f"is {gwei} gwei" in said
    assert ("room for two blocks" in said) is room


def test_wallet_that_is_too_poor_is_refused(deploy: Deploy, production: Anvil) -> None:
    production.call("anvil_setBalance", ACCOUNTS[0], hex(COST))
    assert "has 0.1 ether" in refuses(deploy, production, "WalletTooPoor", name="mainnet", **PAYS)


def test_missing_wallet_is_refused(deploy: Deploy, production: Anvil) -> None:
    assert "WEB3_SERVER_WALLET_PRIVATE_KEY" in refuses(deploy, production, "NoWallet", name="mainnet", key=None, **PAYS)


def test_wrong_chain_is_refused(deploy: Deploy, chain: Anvil) -> None:
    said = refuses(deploy, chain, "WrongChain", name="mainnet", **PAYS)
    assert said == "The node is on chain 31337, and mainnet is chain 1: correct WEB3_MAINNET_RPC"


def test_production_chain_is_refused_without_being_asked_for(deploy: Deploy, production: Anvil) -> None:
    assert '"allowProduction": true' in refuses(deploy, production, "ProductionChain", name="mainnet")


@pytest.mark.parametrize("limit", [None, "0.05", "0.1"])
def test_more_than_the_spending_limit_is_refused(deploy: Deploy, production: Anvil, limit: str | None) -> None:
    data = {} if limit is None else {"spendingLimit": limit}
    assert "ether" in refuses(deploy, production, "SpendingLimit", name="mainnet", allowProduction=True, **data)


def test_blocks_too_small_for_the_transaction_are_refused(deploy: Deploy) -> None:
    with anvil("--chain-id", "1", "--gas-limit", "900000") as chain:
        assert "hold 900,000 gas" in refuses(deploy, chain, "GasLimitTooLow", name="mainnet", **PAYS)


def test_development_node_can_be_told_not_to_set_code(deploy: Deploy, chain: Anvil) -> None:
    refuses(deploy, chain, "NoWallet", key=None, setCode=False)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"spendingLimit": 0.1}, 'give ether as text, such as "0.11"'),
        ({"spendingLimit": "much"}, "spendingLimit is 'much'"),
        ({"spendingLimit": "0.0000000000000000001"}, "spendingLimit"),
        ({"allowProduction": "yes"}, "give true or false"),
        ({"spendinglimit": "1"}, "spendinglimit is not known"),
        ({"chain": 1}, "give a name of WEB3_SUPPORTED_CHAINS"),
    ],
)
def test_data_that_is_not_accepted_is_refused_before_anything_is_asked(
    deploy: Deploy, data: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        deploy("http://127.0.0.1:9", **data)


# Zero is no private key, though it is written as one.
@pytest.mark.parametrize("key", ["0xsecret", "0x" + "0" * 64])
def test_key_that_is_none_is_refused_and_not_repeated(deploy: Deploy, chain: Anvil, key: str) -> None:
    with pytest.raises(InvalidSettingsError, match="64 hexadecimal digits") as refused:
        deploy(chain, key=key)
    assert key[2:] not in "".join(traceback.format_exception(refused.value))


def test_endpoint_that_does_not_answer_is_named_without_its_key(deploy: Deploy) -> None:
    with pytest.raises(ChainUnavailableError, match="No endpoint of anvil answers") as failed:
        deploy("http://127.0.0.1:9/v2/secret")
    assert "secret" not in str(failed.value)


def test_next_endpoint_is_asked_where_one_does_not_answer(deploy: Deploy, chain: Anvil) -> None:
    assert deploy(f"http://127.0.0.1:9,{chain.url}").result["codeHash"] == CODE_HASH


def takes_no_unprotected(call: Call) -> dict[str, Any] | None:
    """As geth does it without --rpc.allow-unprotected-txs (ethereum/go-ethereum: internal/ethapi)."""
    if call["method"] == "eth_sendRawTransaction" and call["params"] == [SIGNED]:
        return error(call, -32000, "only replay-protected (EIP-155) transactions allowed over RPC")
    return None


def test_node_that_does_not_take_the_transaction_is_asked_before_anything_is_paid(
    deploy: Deploy, production: Anvil
) -> None:
    before = coins(production)
    with rpc_proxy(production.url) as proxy:
        proxy.on_call = takes_no_unprotected
        with pytest.raises(Refused, match="only replay-protected") as refused:
            deploy(proxy.url, name="mainnet", **PAYS)
        assert refused.value.reason == "NotAccepted"
        assert proxy.methods().count("eth_sendRawTransaction") == 1
    assert coins(production) == before


def test_development_node_behind_one_that_does_not_take_it_gets_the_code_set(deploy: Deploy, chain: Anvil) -> None:
    with rpc_proxy(chain.url) as proxy:
        proxy.on_call = takes_no_unprotected
        assert deploy(proxy.url).result["codeHash"] == CODE_HASH
    assert chain.balance(DEPLOYER) == 0


def test_chain_on_which_the_creation_takes_more_gas_is_refused(deploy: Deploy, production: Anvil) -> None:
    before = coins(production)
    with rpc_proxy(production.url) as proxy:
        # As on Arbitrum, where the transaction's bytes cost gas as well.
        proxy.on_answer = lambda call, result: (
            hex(2_500_000) if call["method"] == "eth_estimateGas" and "data" in call["params"][0] else result
        )
        with pytest.raises(Refused, match="takes 2,500,000 gas") as refused:
            deploy(proxy.url, name="mainnet", **PAYS)
    assert (refused.value.reason, coins(production)) == ("TooMuchGas", before)


def test_refusal_that_comes_with_an_http_status_says_what_the_node_said(deploy: Deploy, chain: Anvil) -> None:
    with rpc_proxy(chain.url) as proxy:
        proxy.on_request = lambda calls: Reply(
            400, json.dumps(error(calls[0], -32602, "no such plan")).encode(), {"Content-Type": "application/json"}
        )
        with pytest.raises(ChainRefusedError, match="refuses eth_chainId: no such plan"):
            deploy(proxy.url)
        proxy.on_request = lambda calls: Reply(500)
        with pytest.raises(ChainUnavailableError, match="it answers 500"):
            deploy(proxy.url)


# --- interrupted runs


def payment_of(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        (noted,) = connection.execute('select "transactionHash" from "workerChainPayments"').fetchall()
    return str(noted[0])


def test_run_that_was_killed_after_it_noted_its_payment_pays_once(
    deploy: Deploy, production: Anvil, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = job._wait

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    production.hold_transactions()
    monkeypatch.setattr(job, "_wait", die)
    with pytest.raises(KeyboardInterrupt):
        deploy(production, name="mainnet", **PAYS)
    noted = payment_of(database_url)
    # A node that lost it, and knows nothing of it.
    production.call("anvil_dropAllTransactions")
    with pytest.raises(KeyboardInterrupt):
        deploy(production, name="mainnet", **PAYS)
    assert payment_of(database_url) == noted
    monkeypatch.setattr(job, "_wait", wait)
    production.hold_transactions(False)
    production.mine()
    assert production.receipt(noted)
    assert deploy(production, name="mainnet", **PAYS).result["transactionHash"] == TRANSACTION_HASH
    assert int(production.call("eth_getTransactionCount", ACCOUNTS[0], "latest"), 16) == 1


def test_payment_that_somebody_took_is_not_made_again_unasked(
    deploy: Deploy, production: Anvil, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = job._is_taken
    monkeypatch.setattr(job, "_is_taken", lambda *_: False)
    monkeypatch.setattr(job, "WAIT_SECONDS", 0.2)
    with pytest.raises(Refused, match="goes on there"):
        deploy(production, name="mainnet", **PAYS)
    monkeypatch.setattr(job, "_is_taken", send)
    production.call("anvil_setBalance", DEPLOYER, "0x0")
    assert payment_of(database_url) in refuses(deploy, production, "PaidBefore", name="mainnet", **PAYS)
    result = deploy(production, name="mainnet", payAgain=True, **PAYS).result
    assert result["transactionHash"] == TRANSACTION_HASH


def test_payment_whose_nonce_went_to_another_transaction_is_signed_anew(
    deploy: Deploy, production: Anvil, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    production.hold_transactions()
    monkeypatch.setattr(job, "WAIT_SECONDS", 0.2)
    with pytest.raises(Refused, match="goes on there"):
        deploy(production, name="mainnet", **PAYS)
    noted = payment_of(database_url)
    production.call("anvil_dropAllTransactions")
    production.hold_transactions(False)
    production.receipt(production.send(to=ACCOUNTS[1], value=1))
    monkeypatch.setattr(job, "WAIT_SECONDS", 20.0)
    assert deploy(production, name="mainnet", **PAYS).result["transactionHash"] == TRANSACTION_HASH
    assert payment_of(database_url) != noted


def test_transaction_that_waits_already_is_waited_for(deploy: Deploy, production: Anvil) -> None:
    production.call("anvil_setBalance", DEPLOYER, hex(COST))
    production.hold_transactions()
    production.call("eth_sendRawTransaction", SIGNED)
    production.call("evm_setIntervalMining", 1)
    result = deploy(production, name="mainnet", **PAYS).result
    assert result["transactionHash"] == TRANSACTION_HASH
    assert production.balance(ACCOUNTS[0]) == 10_000 * ETHER
