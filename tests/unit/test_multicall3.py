"""What is decided about Multicall3, where a development chain can't show it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workerjobs.domain.multicall3 import (
    COST,
    ETHER,
    GAS_LIMIT,
    GWEI,
    Deployment,
    DeploymentFacts,
    DeploymentPolicy,
    DeploymentRefusedError,
    plan_deployment,
)

FACTS = DeploymentFacts(
    chain="sepolia",
    expected_chain_id=11155111,
    is_development=False,
    chain_id=11155111,
    is_development_node=False,
    code_hash=None,
    deployer_nonce=0,
    deployer_balance=0,
    block_gas_limit=30_000_000,
    gas_needed=872_504,
    base_fee=GWEI,
    wallet="0xwallet",
    wallet_balance=ETHER,
    payment_fee=21_000 * 3 * GWEI,
)
ALLOWED = DeploymentPolicy(allow_production=True, spending_limit=ETHER)


def test_missing_contract_is_sent_and_its_sender_paid_what_it_lacks() -> None:
    assert plan_deployment(FACTS, ALLOWED) == Deployment("send", "it is not there", COST)
    assert plan_deployment(replace(FACTS, deployer_balance=COST - 7), ALLOWED).payment == 7
    assert plan_deployment(replace(FACTS, deployer_balance=2 * COST), ALLOWED).payment == 0


def test_chain_whose_gas_means_something_else_is_refused() -> None:
    # Arbitrum counts the transaction's bytes as gas: the transaction would fail and use up the nonce.
    with pytest.raises(DeploymentRefusedError, match="takes 2,500,000 gas on sepolia") as refused:
        plan_deployment(replace(FACTS, gas_needed=2_500_000), ALLOWED)
    assert refused.value.reason == "TooMuchGas"
    assert plan_deployment(replace(FACTS, gas_needed=GAS_LIMIT), ALLOWED).action == "send"
    assert plan_deployment(replace(FACTS, gas_needed=None), ALLOWED).action == "send"


def test_base_fee_may_be_higher_where_nothing_has_to_be_paid_first() -> None:
    paid = replace(FACTS, deployer_balance=COST)
    assert plan_deployment(replace(paid, base_fee=100 * GWEI), ALLOWED).action == "send"
    for facts, base_fee in ((paid, 100 * GWEI + 1), (FACTS, 80 * GWEI)):
        with pytest.raises(DeploymentRefusedError) as refused:
            plan_deployment(replace(facts, base_fee=base_fee), ALLOWED)
        assert refused.value.reason == "BaseFeeTooHigh"


@pytest.mark.parametrize(("chain_is", "node_is"), [(True, False), (False, True)])
def test_code_is_set_only_where_chain_and_node_are_for_development(chain_is: bool, node_is: bool) -> None:
    facts = replace(FACTS, is_development=chain_is, is_development_node=node_is, deployer_nonce=1)
    with pytest.raises(DeploymentRefusedError) as refused:
        plan_deployment(facts, ALLOWED)
    assert refused.value.reason == "NonceUsed"
    both = replace(facts, is_development=True, is_development_node=True)
    assert plan_deployment(both, DeploymentPolicy()).action == "setCode"
