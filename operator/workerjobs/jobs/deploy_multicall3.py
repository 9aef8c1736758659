"""deployMulticall3: puts Multicall3 on a chain that lacks it, and never pays for nothing."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar, cast

from workerjobs.domain.chains import Chain
from workerjobs.domain.job import NewJob, ResourceRef, RetryPolicy
from workerjobs.domain.multicall3 import (
    ADDRESS,
    CODE_HASH,
    DEPLOYER,
    ETHER,
    TRANSACTION_HASH,
    DeploymentFacts,
    DeploymentPolicy,
    DeploymentRefusedError,
    in_ether,
    plan_deployment,
)
from workerjobs.errors import ChainRefusedError, InvalidInputError, InvalidSettingsError
from workerjobs.jobs.context import JobContext
from workerjobs.ports.chains import ChainNode, ChainWriters, MulticallTransaction, SignedTransaction
from workerjobs.settings import ChainSettings, chain_settings

T = TypeVar("T")

CHAIN_WRITERS = "workerjobs.chain.deploying"
TAG = "deploy-multicall3"
WAIT_SECONDS = 180.0
"""How long a transaction may take into a block."""
POLL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
BUILTIN = "builtin"
"""Stands in the place of a cluster's id for jobs that WorkerJobs itself makes once."""
_POOR = ("insufficient funds", "insufficientfunds", "insufficient balance", "exceeds account balance")
"""How nodes say that a sender can't pay: geth, erigon, reth, anvil; nethermind; others; besu."""
_NONCE_IS_PAST = ("nonce too low", "oldnonce", "nonce is too low")
"""How they say that the account has sent another transaction in this one's place."""


def deploy_multicall3_at_start(settings: ChainSettings, pool: str) -> list[NewJob]:
    """The built-in job for the primary chain: made once per database, tried again a few times where it fails."""
    if not settings.chains:
        return []
    chain = settings.find().name
    uid = f"deployMulticall3:{chain}"
    return [
        NewJob(
            type="deployMulticall3",
            tag=TAG,
            data={"chain": chain},
            pool=pool,
            retry=RetryPolicy(5),
            resource=ResourceRef(cluster_id=BUILTIN, namespace="", name=uid, uid=uid, generation=1),
        )
    ]


def deploy_multicall3(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Put Multicall3 on a chain that lacks it; where it is, check that it is the true one and works.

    Data: chain (the primary one), forceRedeploy (false: on a development node, set the code again), allowProduction
    (false), spendingLimit (ether that may leave the wallet, fees included, such as "0.11"; needed on production
    chains), setCode (true: on a development node, set the code where the transaction can't be sent), payAgain (false:
    pay the transaction's sender once only, also where somebody took what it was paid).
    """
    chain, policy, pay_again = _read(data)
    chains = _load()
    node = chains.open_node(chain, chain_settings().wallet_private_key)
    transaction = chains.multicall3_transaction()
    facts = _gather(node, chain, transaction)
    deployment = plan_deployment(facts, policy)
    context.log.info("Multicall3 on %s: %s, as %s", chain.name, deployment.action, deployment.reason)
    was_sent = False
    if deployment.action == "setCode":
        node.set_code(ADDRESS, transaction.runtime_code)
    elif deployment.action == "send":
        try:
            _send(node, facts, transaction, deployment.payment, context, pay_again)
            was_sent = True
        except DeploymentRefusedError as error:
            if error.reason != "NotAccepted" or not (facts.can_set_code and policy.may_set_code):
                raise
            context.log.info("Multicall3 on %s: setCode, as %s", chain.name, error)
            node.set_code(ADDRESS, transaction.runtime_code)
    return _verify(chains, node, facts, was_sent=was_sent)


def _load() -> ChainWriters:
    try:
        return cast("ChainWriters", importlib.import_module(CHAIN_WRITERS))
    except ImportError as error:
        raise InvalidSettingsError(
            f'Jobs that write to chains need more packages: pip install "workerjobs[chain]" ({error})'
        ) from error


def _read(data: Mapping[str, Any]) -> tuple[Chain, DeploymentPolicy, bool]:
    """Read the job's data.

    Raises:
        InvalidInputError: With everything that is wrong with it.
        InvalidSettingsError: The settings name no chain.
    """
    flags = {"forceRedeploy": False, "allowProduction": False, "setCode": True, "payAgain": False}
    known = {"chain", "spendingLimit", *flags}
    problems = [f"{name} is not known: give {', '.join(sorted(known))}" for name in sorted(data.keys() - known)]
    problems += [
        f"{name} is {data[name]!r}: give true or false" for name in flags if not isinstance(data.get(name, False), bool)
    ]
    limit = data.get("spendingLimit")
    spending_limit = _parse_ether(limit)
    if limit is not None and spending_limit is None:
        problems.append(f'spendingLimit is {limit!r}: give ether as text, such as "0.11"')
    name = data.get("chain")
    if name is not None and not isinstance(name, str):
        problems.append(f"chain is {name!r}: give a name of WEB3_SUPPORTED_CHAINS")
    if problems:
        raise InvalidInputError(problems)
    flags |= {key: data[key] for key in flags if key in data}
    policy = DeploymentPolicy(
        force=flags["forceRedeploy"],
        allow_production=flags["allowProduction"],
        spending_limit=spending_limit,
        may_set_code=flags["setCode"],
    )
    return chain_settings().find(name), policy, flags["payAgain"]


def _parse_ether(value: object) -> int | None:
    """Read an amount; a float would not be what was written."""
    if not isinstance(value, str):
        return None
    try:
        wei = Decimal(value) * ETHER
    except InvalidOperation:
        return None
    return int(wei) if wei.is_finite() and wei >= 0 and wei == int(wei) else None


def _gather(node: ChainNode, chain: Chain, transaction: MulticallTransaction) -> DeploymentFacts:
    balance = node.balance(DEPLOYER, with_pending=True)
    wallet = node.wallet
    return DeploymentFacts(
        chain=chain.name,
        expected_chain_id=chain.chain_id,
        is_development=chain.is_development,
        chain_id=node.chain_id(),
        is_development_node=node.is_development_node(),
        code_hash=node.code_hash(ADDRESS),
        deployer_nonce=node.nonce(DEPLOYER),
        deployer_balance=balance,
        block_gas_limit=node.block_gas_limit(),
        gas_needed=node.creation_gas(DEPLOYER, transaction.creation_code),
        base_fee=node.base_fee(),
        wallet=wallet,
        wallet_balance=node.balance(wallet) if wallet is not None else 0,
        payment_fee=node.plan_payment(DEPLOYER, 0).fee if wallet is not None else 0,
    )


def _send(
    node: ChainNode,
    facts: DeploymentFacts,
    transaction: MulticallTransaction,
    payment: int,
    context: JobContext,
    pay_again: bool,
) -> None:
    """Send the transaction, paying its sender first as far as needed, and wait until it is in a block.

    The node is asked before anything is paid: one that takes no transaction without a chain's id (geth without
    ``--rpc.allow-unprotected-txs``) says so now, and all others that the sender is poor.

    Source:
        ethereum/go-ethereum, internal/ethapi, SubmitTransaction: it looks at the chain's id before balances.
    """
    if not _is_taken(node, transaction):
        if payment:
            _pay(node, facts, payment, context, pay_again)
        # Behind a load balancer, the next node may not know of the payment yet.
        _wait(context, facts.chain, "the payment of its sender", lambda: _is_taken(node, transaction) or None)
    receipt = _wait(context, facts.chain, "Multicall3's transaction", lambda: node.receipt(TRANSACTION_HASH))
    if not receipt.succeeded:
        raise DeploymentRefusedError(
            "Reverted",
            f"Multicall3's transaction failed on {facts.chain} after {receipt.gas_used:,} gas, and can't be sent again",
        )


def _is_taken(node: ChainNode, transaction: MulticallTransaction) -> bool:
    """Send the transaction; False: its sender is too poor as yet.

    Raises:
        DeploymentRefusedError: The node does not take it for another reason.
    """
    try:
        node.send(transaction.signed_transaction)
    except ChainRefusedError as error:
        if any(text in error.reason.lower() for text in _POOR):
            return False
        if node.receipt(TRANSACTION_HASH) is None:
            raise DeploymentRefusedError(
                "NotAccepted", f"{node.name} does not take Multicall3's transaction: {error.reason}"
            ) from error
    return True


def _pay(node: ChainNode, facts: DeploymentFacts, amount: int, context: JobContext, pay_again: bool) -> None:
    """Pay Multicall3's sender, once per chain whatever happens to this process, and wait until it is in a block."""
    payment = node.plan_payment(DEPLOYER, amount)
    # A development chain begins anew: what was noted of it would be of another one.
    signed = payment if facts.is_development else _note(node, facts.chain_id, payment, context, pay_again)
    context.log.info("Paying Multicall3's sender %s ether on %s", in_ether(amount), facts.chain)
    try:
        node.send(signed.signed_transaction)
    except ChainRefusedError as error:
        # It may be there already, sent by another worker or by an earlier run.
        if node.receipt(signed.transaction_hash) is None:
            raise DeploymentRefusedError("NotAccepted", f"{node.name} refuses the payment: {error.reason}") from error
    what = f"the payment {signed.transaction_hash}"
    if not _wait(context, facts.chain, what, lambda: node.receipt(signed.transaction_hash)).succeeded:
        raise DeploymentRefusedError("Reverted", f"{what} failed on {facts.chain}")


def _note(
    node: ChainNode, chain_id: int, payment: SignedTransaction, context: JobContext, pay_again: bool
) -> SignedTransaction:
    """Store a payment before it is sent: a later run, or another worker, then sends the very same one.

    Returns:
        What to send: this payment, or the one that was stored before and is still on its way.
    """
    noted = context.connections.remember_payment(chain_id, payment, None)
    while noted.transaction_hash != payment.transaction_hash:
        receipt = node.receipt(noted.transaction_hash)
        if receipt is None:
            try:
                node.send(noted.signed_transaction)
            except ChainRefusedError as error:
                if not any(text in error.reason.lower() for text in _NONCE_IS_PAST):
                    raise DeploymentRefusedError(
                        "NotAccepted", f"{node.name} refuses the payment of an earlier run: {error.reason}"
                    ) from error
            else:
                return noted
        elif receipt.succeeded and not pay_again:
            raise DeploymentRefusedError(
                "PaidBefore",
                f"Multicall3's sender was paid by {noted.transaction_hash}, and somebody took it: its key is public. "
                'Pay it yourself, or submit deployMulticall3 with "payAgain": true',
            )
        # It was paid for nothing, or can't come into a block any more.
        noted = context.connections.remember_payment(chain_id, payment, noted.transaction_hash)
    return noted


def _wait(context: JobContext, chain: str, what: str, look: Callable[[], T | None]) -> T:
    """Ask again and again until there is an answer.

    Raises:
        DeploymentRefusedError: There was none in time.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    pauses = itertools.chain(POLL_SECONDS, itertools.repeat(POLL_SECONDS[-1]))
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise DeploymentRefusedError(
                "NoAnswer",
                f"{what} is in no block of {chain} after {WAIT_SECONDS:g} s: submit the job again, it goes on there",
            )
        context.progress(0, 1, f"waiting for {what}")
        time.sleep(next(pauses))
    return found


def _verify(chain: ChainWriters, node: ChainNode, facts: DeploymentFacts, *, was_sent: bool) -> dict[str, Any]:
    """Look whether the true Multicall3 is there now and answers; returns the job's result."""
    code_hash = node.code_hash(ADDRESS)
    if code_hash != CODE_HASH:
        raise DeploymentRefusedError(
            "ForeignCode", f"At {ADDRESS} on {facts.chain} stands code with the hash {code_hash}, not Multicall3"
        )
    answered = chain.read_chain_id(node)
    if answered != facts.chain_id:
        raise DeploymentRefusedError(
            "WrongChain", f"Multicall3 on {facts.chain} says that it is on chain {answered}, not {facts.chain_id}"
        )
    was_there = facts.code_hash == CODE_HASH
    receipt = node.receipt(TRANSACTION_HASH) if was_sent or was_there else None
    return {
        "address": ADDRESS,
        "transactionHash": TRANSACTION_HASH if receipt is not None else None,
        "gasUsed": receipt.gas_used if receipt is not None else None,
        "codeHash": code_hash,
        "alreadyDeployed": was_there,
    }
