"""Reading which chains are watched, and how."""

from __future__ import annotations

import pytest

from workerjobs.domain.blocks import Confirmations
from workerjobs.errors import InvalidSettingsError
from workerjobs.settings import chain_settings

KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


def test_nothing_set_watches_nothing() -> None:
    settings = chain_settings({})
    assert (settings.chains, settings.factory_address, settings.filters_file) == ((), None, None)
    with pytest.raises(InvalidSettingsError, match="WEB3_SUPPORTED_CHAINS is not set"):
        settings.find()


def test_chains_are_known_by_name_or_described() -> None:
    settings = chain_settings(
        {
            "WEB3_SUPPORTED_CHAINS": "base, my-chain",
            "WEB3_BASE_RPC": "https://one.example/key, http://two.example:8545",
            "WEB3_MY_CHAIN_RPC": "http://localhost:1",
            "WEB3_MY_CHAIN_CHAIN_ID": "99",
            "WEB3_MY_CHAIN_CONFIRMATIONS": "finalized",
            "WEB3_MY_CHAIN_FROM_BLOCK": "7",
            "WEB3_MY_CHAIN_RPC_RATE": "25",
            "WEB3_CONFIRMATIONS": "12",
            "WATCH_FROM_BLOCK": "0",
            "WEB3_FACTORY_CONTRACT_ADDRESS": "0x" + "AB" * 20,
            "WEB3_SERVER_WALLET_PRIVATE_KEY": KEY,
            "WEB3_POOL": "chains",
        }
    )
    assert settings.pool == "chains"
    base, mine = settings.chains
    assert settings.find() == base
    assert settings.find("my-chain") == mine
    assert (base.chain_id, base.rpc_urls) == (8453, ("https://one.example/key", "http://two.example:8545"))
    assert (base.confirmations, base.from_block) == (Confirmations(None, 12), 0)
    assert (mine.chain_id, mine.confirmations.tag, mine.from_block) == (99, "finalized", 7)
    assert mine.requests_per_second == 25
    assert settings.factory_address == "0x" + "ab" * 20
    with pytest.raises(InvalidSettingsError, match=r"'sepolia' is not among WEB3_SUPPORTED_CHAINS \(base, my-chain\)"):
        settings.find("sepolia")


def test_all_problems_are_named_at_once_without_secrets() -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        chain_settings(
            {
                "WEB3_SUPPORTED_CHAINS": "mainnet,ethereum,anvil,other",
                "WEB3_MAINNET_RPC": "https://node.example/secret-key,ftp://node.example/secret-key",
                "WEB3_ETHEREUM_RPC": "https://node.example",
                "WEB3_ETHEREUM_CHAIN_ID": "5",
                "WEB3_ANVIL_CONFIRMATIONS": "soon",
                "WEB3_OTHER_RPC": "http://localhost:1",
                "WEB3_FACTORY_CONTRACT_ADDRESS": "0x12",
                "WEB3_SERVER_WALLET_PRIVATE_KEY": KEY + "1",
                "WATCH_FROM_BLOCK": "-1",
            }
        )
    problems = caught.value.problems
    assert not any("secret-key" in problem or KEY in problem for problem in problems)
    for part in (
        "WEB3_MAINNET_RPC, endpoint 2, is not accepted",
        "WEB3_ETHEREUM_CHAIN_ID=5 is not accepted: ethereum is 1",
        "WEB3_ANVIL_RPC is missing",
        "WEB3_ANVIL_CONFIRMATIONS='soon' is not accepted: give latest, safe, finalized or a number of blocks",
        "WEB3_OTHER_CHAIN_ID is missing",
        "WEB3_FACTORY_CONTRACT_ADDRESS='0x12' is not accepted",
        "WEB3_SERVER_WALLET_PRIVATE_KEY is not accepted",
        "WATCH_FROM_BLOCK='-1' is not accepted",
    ):
        assert any(part in problem for problem in problems), part
    assert len(problems) == 8


def test_two_names_of_one_chain_are_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="mainnet and ethereum, which are one chain"):
        chain_settings(
            {
                "WEB3_SUPPORTED_CHAINS": "mainnet,ethereum",
                "WEB3_MAINNET_RPC": "https://node.example",
                "WEB3_ETHEREUM_RPC": "https://node.example",
            }
        )


def test_endpoints_of_websocket_tell_of_new_blocks_beside_those_that_are_asked() -> None:
    given = {"WEB3_SUPPORTED_CHAINS": "base", "WEB3_BASE_RPC": "wss://one.example/key, https://two.example"}
    (chain,) = chain_settings(given).chains
    assert (chain.rpc_urls, chain.head_urls) == (("https://two.example",), ("wss://one.example/key",))
    with pytest.raises(InvalidSettingsError, match="WEB3_BASE_RPC has no endpoint to ask: give an http or https URL"):
        chain_settings(given | {"WEB3_BASE_RPC": "wss://one.example/key"})
