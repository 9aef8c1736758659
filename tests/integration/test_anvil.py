"""The development chain and the sample contracts that other tests build on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eth_abi.abi import decode
from eth_utils.crypto import keccak

from tests.support.anvil import ACCOUNTS, CHAIN_ID, Anvil, RpcError, anvil
from tests.support.contracts import ARTEFACT, TokenFactory, compile_contracts
from tests.support.npm import NodeError
from tests.support.require import require_or_skip

MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"


@pytest.fixture
def chain() -> Iterator[Anvil]:
    with anvil() as running:
        yield running


def test_chain_is_fresh_and_ends_with_its_block() -> None:
    with anvil() as chain, anvil() as other:
        assert chain.port != other.port
        assert int(chain.call("eth_chainId"), 16) == CHAIN_ID
        assert chain.block_number == 0
        assert chain.call("eth_getCode", MULTICALL3, "latest") == "0x"
    assert chain.process.returncode is not None
    assert other.process.returncode is not None


def test_reorganisation_keeps_the_height_and_a_rollback_shortens_it(chain: Anvil) -> None:
    token = TokenFactory.deploy(chain).create()
    chain.mine(2)
    sent = token.transfer(ACCOUNTS[1], 5)
    before = {number: chain.block(number)["hash"] for number in range(chain.block_number + 1)}
    chain.reorg(2, [({"from": ACCOUNTS[0], "to": ACCOUNTS[2], "value": "0x1"}, 1)])
    after = {number: chain.block(number)["hash"] for number in range(chain.block_number + 1)}
    assert after.keys() == before.keys()
    assert [number for number in before if before[number] != after[number]] == [4, 5]
    assert chain.call("eth_getTransactionReceipt", sent) is None
    assert len(chain.block(5)["transactions"]) == 1
    chain.rollback(3)
    assert chain.block_number == 2


def test_refusal_says_code_and_message(chain: Anvil) -> None:
    with pytest.raises(RpcError, match="not found") as refused:
        chain.call("eth_noSuchThing")
    assert refused.value.code == -32601


def test_factory_and_token_emit_the_events_that_jobs_wait_for(chain: Anvil) -> None:
    factory = TokenFactory.deploy(chain)
    token = factory.create("Gold", "GLD", decimals=2, supply=1_000, creator=ACCOUNTS[1])
    created = keccak(text="ERC20NewToken(address,string,string,address,uint256)").hex()
    (log,) = chain.call("eth_getLogs", {"fromBlock": "0x0", "address": factory.address})
    assert log["topics"][0] == f"0x{created}"
    assert [f"0x{topic[-40:]}" for topic in log["topics"][1:]] == [token.address, ACCOUNTS[1]]
    assert decode(["string", "string", "uint256"], bytes.fromhex(log["data"][2:])) == ("Gold", "GLD", 1_000)

    token.transfer(ACCOUNTS[2], 7, times=3)
    moved = keccak(text="TokenTransferred(address,address,uint256,string,string,uint8)").hex()
    logs = chain.call("eth_getLogs", {"fromBlock": "0x0", "address": token.address, "topics": [f"0x{moved}"]})
    assert len(logs) == 3
    assert [f"0x{topic[-40:]}" for topic in logs[0]["topics"][1:]] == [ACCOUNTS[1], ACCOUNTS[2]]
    values = decode(["uint256", "string", "string", "uint8"], bytes.fromhex(logs[0]["data"][2:]))
    assert values == (7, "Gold", "GLD", 2)


def test_committed_contracts_are_what_the_compiler_makes_of_their_sources() -> None:
    try:
        compiled = compile_contracts()
    except NodeError as error:
        require_or_skip("node", str(error))
    assert compiled == ARTEFACT.read_text()
