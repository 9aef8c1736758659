"""Many reads of contracts in few requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.anvil import ACCOUNTS, Anvil, anvil
from tests.support.contracts import Token, TokenFactory
from workerjobs.chain.deploying import multicall3_transaction
from workerjobs.chain.multicall import Call, CallFailedError, read_many
from workerjobs.chain.node import Web3Node
from workerjobs.domain.multicall3 import ADDRESS
from workerjobs.errors import ChainRefusedError, InvalidInputError
from workerjobs.testing import run_job

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


class CountingNode(Web3Node):
    """A node that remembers how many calls it was sent."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sizes: list[int] = []

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        if method == "eth_call":
            self.sizes.append(len(params[0]["data"]))
        return super().request(method, params)


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    with anvil() as running:
        running.call("anvil_setCode", ADDRESS, multicall3_transaction().runtime_code)
        yield running


@pytest.fixture(scope="module")
def token(chain: Anvil) -> Token:
    token = TokenFactory.deploy(chain).create("Gold", "GLD", decimals=2, supply=1_000)
    token.transfer(ACCOUNTS[1], 40)
    return token


def test_values_come_back_decoded_in_the_order_of_the_calls(chain: Anvil, token: Token) -> None:
    calls = [
        Call(token.address, "name()(string)"),
        Call(token.address, "balanceOf(address)(uint256)", (ACCOUNTS[1],)),
        Call(token.address, "decimals() returns (uint8)"),
        Call(ADDRESS, "getBlockNumber()(uint256)"),
    ]
    results = read_many(CountingNode(chain.url), calls)
    assert [each.value for each in results] == ["Gold", 40, 2, chain.block_number]
    assert read_many(CountingNode(chain.url), []) == []


def test_all_calls_see_one_block_however_many_requests_they_take(chain: Anvil, token: Token) -> None:
    node = CountingNode(chain.url)
    before = chain.block_number
    token.transfer(ACCOUNTS[2], 1)
    calls = [Call(token.address, "balanceOf(address)(uint256)", (ACCOUNTS[2],))] * 25
    assert [each.value for each in read_many(node, calls, batch=10, block=before)] == [0] * 25
    assert len(node.sizes) == 3
    assert [each.value for each in read_many(node, calls, batch=10)] == [1] * 25


def test_failures_are_results_where_they_may_be_and_else_name_the_call(chain: Anvil, token: Token) -> None:
    node = CountingNode(chain.url)
    fails = Call(token.address, "transferTimes(address,uint256,uint256)()", (ACCOUNTS[1], 1, 1), may_fail=True)
    nothing = Call(ACCOUNTS[3], "name()(string)", may_fail=True)
    works = Call(token.address, "symbol()(string)")
    results = read_many(node, [fails, nothing, works])
    assert [each.succeeded for each in results] == [False, False, True]
    # ERC20InsufficientBalance(address,uint256,uint256) of OpenZeppelin's contracts.
    assert results[0].data.hex().startswith("e450d38c")
    with pytest.raises(CallFailedError, match=r"transferTimes.* was reverted: 0xe450d38c"):
        read_many(node, [works, Call(fails.target, fails.signature, fails.arguments)])
    with pytest.raises(CallFailedError, match=r"name.* answered something else"):
        read_many(node, [Call(nothing.target, nothing.signature)])


def test_request_that_is_too_large_for_the_node_is_halved(chain: Anvil) -> None:
    # anvil takes requests of 2 MiB.
    node = CountingNode(chain.url)
    calls = [Call(ADDRESS, "getChainId()(uint256)")] * 6_000
    results = read_many(node, calls, batch=len(calls))
    assert [each.value for each in results] == [31337] * len(calls)
    assert len(node.sizes) == 3


def test_chain_without_multicall3_says_which_job_brings_it() -> None:
    with anvil() as bare, pytest.raises(ChainRefusedError, match="run the job deployMulticall3"):
        read_many(CountingNode(bare.url), [Call(ADDRESS, "getChainId()(uint256)")])


@pytest.mark.parametrize(
    ("signature", "arguments"),
    [("balanceOf", ()), ("balanceOf(address)(uint256)", ()), ("balanceOf(addres)(uint256)", ("0x",)), ("f(x", ())],
)
def test_call_that_is_not_well_formed_is_refused(chain: Anvil, signature: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"balanceOf|f\("):
        read_many(CountingNode(chain.url), [Call(ADDRESS, signature, arguments)])


def test_example_reads_what_a_wallet_holds(chain: Anvil, token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB3_SUPPORTED_CHAINS", "anvil")
    monkeypatch.setenv("WEB3_ANVIL_RPC", chain.url)
    other = TokenFactory.deploy(chain).create("Tin", "TIN", supply=7)
    # An address without a contract, and one that is no token, are left out.
    tokens = [token.address, ACCOUNTS[3], other.address, ADDRESS]
    run = run_job("holdings", {"wallet": ACCOUNTS[1], "tokens": tokens}, modules=[str(EXAMPLES / "holdings_jobs.py")])
    assert run.result == {
        token.address: {"symbol": "GLD", "balance": "40"},
        other.address: {"symbol": "TIN", "balance": "0"},
    }
