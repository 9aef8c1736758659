"""Multicall3: what is known of it, and whether and how to put it on a chain.

Multicall3 has the same address everywhere because its transaction was signed once, without a chain's id: who pays its
sender 0.1 ether can send it. It works as the sender's first transaction only (nonce 0), at 100 gwei and 1,000,000 gas.
That sender's private key is public: whatever it is paid can be taken by anyone, and any other code can stand at the
address.

Source:
    mds1/multicall3, README.md, "New Deployments" (MIT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workerjobs.errors import WorkerJobsError

ADDRESS = "0xcA11bde05977b3631167028862bE2a173976CA11"
DEPLOYER = "0x05f32B3cC3888453ff71B01135B34FF8e41263F2"
TRANSACTION_HASH = "0x07471adfe8f4ec553c1199f495be97fc8be8e0626ae307281c22534460184ed1"
CODE_HASH = "0xd5c15df687b16f2ff992fc8d767b4216323184a2bbc6ee2f9c398c318e770891"
"""Keccak-256 of the contract's code on a chain, 3,808 bytes."""
GWEI, ETHER = 10**9, 10**18
GAS_PRICE = 100 * GWEI
GAS_LIMIT = 1_000_000
COST = GAS_PRICE * GAS_LIMIT
"""What the sender must have, in wei: 0.1 ether."""
BASE_FEE_BEFORE_FUNDING = GAS_PRICE * 8 * 8 // (9 * 9)
"""From one block to the next the base fee grows by an eighth at most (EIP-1559). Below this, two full blocks, one with
the payment and one after it, leave the transaction payable: it is not stranded with the money on a public account."""

Refusal = Literal[
    "WrongChain",
    "ForeignCode",
    "ProductionChain",
    "NonceUsed",
    "GasLimitTooLow",
    "TooMuchGas",
    "BaseFeeTooHigh",
    "NoWallet",
    "WalletTooPoor",
    "SpendingLimit",
    "PaidBefore",
    "NotAccepted",
    "Reverted",
    "NoAnswer",
]


class DeploymentRefusedError(WorkerJobsError):
    """Multicall3 can't be put on a chain, or must not be.

    Attributes:
        reason: Which of the checks says so.
    """

    def __init__(self, reason: Refusal, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentFacts:
    """What was found on a chain before anything is done. Amounts are wei."""

    chain: str
    """Its name in WEB3_SUPPORTED_CHAINS."""
    expected_chain_id: int
    is_development: bool
    """Its coins are worth nothing."""
    chain_id: int
    """What the node says."""
    is_development_node: bool
    """The node takes commands that set code."""
    code_hash: str | None
    """Of what stands at the address; None: nothing."""
    deployer_nonce: int
    deployer_balance: int
    """With what is on its way there."""
    block_gas_limit: int
    gas_needed: int | None
    """The node's estimate for the creation; None where it gives none."""
    base_fee: int
    """0 on chains without one."""
    wallet: str | None
    """The server wallet's address; None where no key is set."""
    wallet_balance: int
    payment_fee: int
    """What paying the deployer costs at most, beside what is paid."""

    @property
    def shortfall(self) -> int:
        """What the deployer lacks."""
        return max(0, COST - self.deployer_balance)

    @property
    def can_set_code(self) -> bool:
        """Both the chain and its node are for development."""
        return self.is_development and self.is_development_node


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPolicy:
    """What who asked for the job allows."""

    force: bool = False
    """Set the code again on a development node, also over other code."""
    allow_production: bool = False
    spending_limit: int | None = None
    """Wei that may leave the wallet, fees included; needed on production chains."""
    may_set_code: bool = True
    """On a development node, set the code where the transaction can't be sent."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What to do."""

    action: Literal["verify", "setCode", "send"]
    reason: str
    payment: int = 0
    """Wei to pay the deployer first."""


def plan_deployment(facts: DeploymentFacts, policy: DeploymentPolicy) -> Deployment:
    """Decide what to do about Multicall3 on a chain.

    Raises:
        DeploymentRefusedError: Nothing may be done; no coin was spent.
    """
    if facts.chain_id != facts.expected_chain_id:
        raise DeploymentRefusedError(
            "WrongChain",
            f"The node is on chain {facts.chain_id}, and {facts.chain} is chain {facts.expected_chain_id}: "
            f"correct {rpc_variable(facts.chain)}",
        )
    if facts.code_hash == CODE_HASH:
        if policy.force and facts.can_set_code:
            return Deployment("setCode", "forceRedeploy was asked for")
        return Deployment("verify", "it is there")
    if facts.code_hash is not None:
        if policy.force and facts.can_set_code:
            return Deployment("setCode", "forceRedeploy was asked for, over other code")
        advice = ": on this development node, forceRedeploy puts Multicall3 in its place" if facts.can_set_code else ""
        raise DeploymentRefusedError(
            "ForeignCode",
            f"At {ADDRESS} on {facts.chain} stands other code (hash {facts.code_hash}), which must not be called as "
            f"Multicall3{advice}",
        )
    if not facts.is_development and not policy.allow_production:
        raise DeploymentRefusedError(
            "ProductionChain",
            f"Multicall3 is not on {facts.chain}, where coins have a value: to deploy it there, submit the job "
            'deployMulticall3 with "allowProduction": true and a "spendingLimit" in ether',
        )
    obstacle = _obstacle(facts, policy)
    if obstacle is None:
        return Deployment("send", "it is not there", facts.shortfall)
    if facts.can_set_code and policy.may_set_code:
        return Deployment("setCode", str(obstacle))
    raise obstacle


def _obstacle(facts: DeploymentFacts, policy: DeploymentPolicy) -> DeploymentRefusedError | None:
    """Why the transaction should not be sent; None: it should."""
    chain, payment = facts.chain, facts.shortfall
    spent = payment + facts.payment_fee if payment else 0
    if facts.deployer_nonce != 0:
        return DeploymentRefusedError(
            "NonceUsed",
            f"The account that signed Multicall3's transaction has sent {facts.deployer_nonce} others on {chain}; it "
            "works as its first one only, so Multicall3 can never stand at its address there",
        )
    if facts.block_gas_limit < GAS_LIMIT:
        return DeploymentRefusedError(
            "GasLimitTooLow",
            f"Blocks of {chain} hold {facts.block_gas_limit:,} gas, and Multicall3's transaction asks for "
            f"{GAS_LIMIT:,}",
        )
    if facts.gas_needed is not None and facts.gas_needed > GAS_LIMIT:
        return DeploymentRefusedError(
            "TooMuchGas",
            f"Creating Multicall3 takes {facts.gas_needed:,} gas on {chain}, and its transaction brings {GAS_LIMIT:,}: "
            "it would fail there, and use up the only nonce that works",
        )
    highest = BASE_FEE_BEFORE_FUNDING if payment else GAS_PRICE
    if facts.base_fee > highest:
        margin = " with room for two blocks" if facts.base_fee <= GAS_PRICE else ""
        return DeploymentRefusedError(
            "BaseFeeTooHigh",
            f"The base fee of {chain} is {in_gwei(facts.base_fee)} gwei, and Multicall3's transaction pays "
            f"{in_gwei(GAS_PRICE)}: it must be at most {in_gwei(highest)}{margin}; try again when it is lower",
        )
    if not payment:
        return None
    if facts.wallet is None:
        return DeploymentRefusedError(
            "NoWallet",
            f"Multicall3's sender {DEPLOYER} lacks {in_ether(payment)} ether on {chain}: set "
            "WEB3_SERVER_WALLET_PRIVATE_KEY to pay it from that wallet, or pay it yourself",
        )
    if policy.spending_limit is None and not facts.is_development:
        return DeploymentRefusedError(
            "SpendingLimit",
            f"Deploying Multicall3 on {chain} takes {in_ether(spent)} ether: give at least that as spendingLimit",
        )
    if policy.spending_limit is not None and spent > policy.spending_limit:
        return DeploymentRefusedError(
            "SpendingLimit",
            f"Deploying Multicall3 on {chain} takes up to {in_ether(spent)} ether, and spendingLimit is "
            f"{in_ether(policy.spending_limit)}",
        )
    if facts.wallet_balance < spent:
        return DeploymentRefusedError(
            "WalletTooPoor",
            f"The wallet {facts.wallet} has {in_ether(facts.wallet_balance)} ether on {chain}, and deploying "
            f"Multicall3 takes up to {in_ether(spent)}",
        )
    return None


def rpc_variable(chain: str) -> str:
    """The environment variable with a chain's RPC endpoints."""
    return f"WEB3_{chain.upper().replace('-', '_')}_RPC"


def in_ether(wei: int) -> str:
    """Write an amount for people.

    Example:
        >>> in_ether(10**17), in_ether(0), in_ether(100_021_000_000_000_001)
        ('0.1', '0', '0.100021000000000001')
    """
    return _decimal(wei, 18)


def in_gwei(wei: int) -> str:
    """Write a price of gas for people.

    Example:
        >>> in_gwei(100_500_000_000)
        '100.5'
    """
    return _decimal(wei, 9)


def _decimal(number: int, digits: int) -> str:
    whole, rest = divmod(number, 10**digits)
    return f"{whole}.{rest:0{digits}}".rstrip("0").rstrip(".")
