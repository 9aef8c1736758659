"""One node of a chain, for jobs that write to it now and then: deploying, paying."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from eth_account import Account
from eth_hash.auto import keccak
from requests.exceptions import RequestException
from web3 import HTTPProvider

from workerjobs.domain.chains import Chain
from workerjobs.errors import ChainRefusedError, ChainUnavailableError, InvalidSettingsError
from workerjobs.ports.chains import Payment, Receipt

# At debug they log the endpoint's URL, which may hold a key (web3 7.16, urllib3 2).
for _name in ("web3", "urllib3"):
    logging.getLogger(_name).setLevel(logging.WARNING)

TIMEOUT_SECONDS = 20.0
DEVELOPMENT_NODES = {"anvil": "anvil_setCode", "hardhatnetwork": "hardhat_setCode"}
"""How clients begin their version that can be told to set code, and the command for it."""
PLAIN_TIP = 10**9
"""Wei a gas for who makes the block, where the node suggests nothing."""


def open_node(chain: Chain, private_key: str | None = None) -> Web3Node:
    """Find a node of a chain that answers, in the order of its endpoints.

    Raises:
        ChainUnavailableError: None of them answers; says why of each.
        InvalidSettingsError: The key is none.
    """
    troubles = []
    for url in chain.rpc_urls:
        node = Web3Node(url, private_key)
        try:
            node.chain_id()
        except ChainUnavailableError as error:
            troubles.append(str(error))
        else:
            return node
    raise ChainUnavailableError(f"No endpoint of {chain.name} answers: {'; '.join(troubles)}")


class Web3Node:
    """A node behind an RPC endpoint; see `workerjobs.ports.chains.ChainNode`.

    Args:
        url: The endpoint, http or https. It may hold a key, so errors name its host alone.
        private_key: Of the wallet that pays; None: nothing can be paid.

    Raises:
        InvalidSettingsError: The key is none. It is not repeated.
    """

    def __init__(self, url: str, private_key: str | None = None) -> None:
        self.name = urlsplit(url).hostname or "the endpoint"
        self._provider = HTTPProvider(url, request_kwargs={"timeout": TIMEOUT_SECONDS})
        try:
            self._account = Account.from_key(private_key) if private_key else None
        except Exception:  # noqa: BLE001  # eth-account lets through whatever its parts raise, with the key in it
            raise InvalidSettingsError(
                "WEB3_SERVER_WALLET_PRIVATE_KEY is no private key: give 64 hexadecimal digits, with or without 0x"
            ) from None

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Call a method of the node's JSON-RPC.

        Raises:
            ChainUnavailableError: It does not answer, or not in JSON-RPC.
            ChainRefusedError: It answers with an error.
        """
        answer: Any
        try:
            answer = self._provider.make_request(method, list(params))
        except RequestException as error:
            # Its text holds the URL.
            answer = self._error_in(error, method)
        except ValueError:
            raise ChainUnavailableError(f"{self.name} does not answer {method} in JSON") from None
        if "error" in answer:
            problem = answer["error"]
            message = str(problem.get("message", problem)) if isinstance(problem, dict) else str(problem)
            raise ChainRefusedError(f"{self.name} refuses {method}: {message}", message)
        return answer["result"]

    def _error_in(self, error: RequestException, method: str) -> Any:
        """Read what a refusal over HTTP says: some providers answer errors of JSON-RPC with status 400."""
        response = error.response
        if response is None:
            why = type(error).__name__
        elif response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return {"error": {"message": "the request is too large"}}
        else:
            why = f"it answers {response.status_code}"
            with contextlib.suppress(ValueError):
                if isinstance(answer := response.json(), dict) and "error" in answer:
                    return answer
        raise ChainUnavailableError(f"{self.name} can't be asked for {method}: {why}") from None

    @property
    def wallet(self) -> str | None:
        """The address that pays."""
        return self._account.address if self._account is not None else None

    def chain_id(self) -> int:
        """Which chain the node is on."""
        return int(self.request("eth_chainId"), 16)

    def is_development_node(self) -> bool:
        """Whether it can be told to set code."""
        return self._set_code_method() is not None

    def code_hash(self, address: str) -> str | None:
        """Keccak-256 of the code at an address; None: there is none."""
        code = bytes.fromhex(self.request("eth_getCode", [address, "latest"]).removeprefix("0x"))
        return f"0x{keccak(code).hex()}" if code else None

    def nonce(self, address: str, *, with_pending: bool = False) -> int:
        """How many transactions an account has sent; with those that wait if asked for."""
        return self._number_of("eth_getTransactionCount", address, with_pending)

    def balance(self, address: str, *, with_pending: bool = False) -> int:
        """What an account has, in wei; with what is on its way if that is more."""
        return self._number_of("eth_getBalance", address, with_pending)

    def block_gas_limit(self) -> int:
        """Gas that the newest block may hold."""
        return int(self._head()["gasLimit"], 16)

    def base_fee(self) -> int:
        """Wei a gas that the newest block burns; 0 on chains without a base fee."""
        return int(self._head().get("baseFeePerGas") or "0x0", 16)

    def creation_gas(self, sender: str, code: str) -> int | None:
        """Gas that creating a contract takes; None: the node can't say."""
        try:
            return int(self.request("eth_estimateGas", [{"from": sender, "data": code}]), 16)
        except ChainRefusedError:
            return None

    def plan_payment(self, to: str, value: int) -> Payment:
        """Sign a payment from the wallet; nothing is sent.

        Raises:
            ChainRefusedError: The node can't say what it costs.
        """
        assert self._account is not None, "there is no wallet"
        base_fee = self.base_fee()
        # Estimated without a sender: a wallet that is too poor is told so in better words.
        gas = int(self.request("eth_estimateGas", [{"to": to, "value": "0x0"}]), 16)
        transaction: dict[str, Any] = {
            "chainId": self.chain_id(),
            "nonce": self.nonce(self._account.address, with_pending=True),
            "to": to,
            "value": value,
            "gas": gas,
        }
        if base_fee:
            tip = self._tip()
            price = 2 * base_fee + tip
            transaction |= {"type": 2, "maxFeePerGas": price, "maxPriorityFeePerGas": tip}
        else:
            price = int(self.request("eth_gasPrice"), 16)
            transaction |= {"gasPrice": price}
        signed = self._account.sign_transaction(transaction)
        return Payment(
            transaction_hash=f"0x{signed.hash.hex().removeprefix('0x')}",
            signed_transaction=f"0x{signed.raw_transaction.hex().removeprefix('0x')}",
            fee=gas * price,
        )

    def send(self, signed_transaction: str) -> None:
        """Send a signed transaction; one that the node knows already is no error.

        Raises:
            ChainRefusedError: The node does not take it.
        """
        try:
            self.request("eth_sendRawTransaction", [signed_transaction])
        except ChainRefusedError as error:
            if not any(
                known in error.reason.lower() for known in ("already known", "already imported", "known transac")
            ):
                raise

    def receipt(self, transaction_hash: str) -> Receipt | None:
        """What became of a transaction; None: it is in no block."""
        answer = self.request("eth_getTransactionReceipt", [transaction_hash])
        if answer is None:
            return None
        # Before Byzantium (2017) receipts had no status.
        return Receipt(gas_used=int(answer["gasUsed"], 16), succeeded=int(answer.get("status", "0x1"), 16) == 1)

    def set_code(self, address: str, code: str) -> None:
        """Put code at an address of a development node."""
        method = self._set_code_method()
        assert method is not None, "this is no development node"
        self.request(method, [address, code])

    def _number_of(self, method: str, address: str, with_pending: bool) -> int:
        number = int(self.request(method, [address, "latest"]), 16)
        if with_pending:
            # Not every node keeps a pending state.
            with contextlib.suppress(ChainRefusedError):
                number = max(number, int(self.request(method, [address, "pending"]), 16))
        return number

    def _set_code_method(self) -> str | None:
        version = str(self.request("web3_clientVersion")).lower()
        return next((method for name, method in DEVELOPMENT_NODES.items() if version.startswith(name)), None)

    def _head(self) -> dict[str, Any]:
        head: dict[str, Any] = self.request("eth_getBlockByNumber", ["latest", False])
        return head

    def _tip(self) -> int:
        try:
            return int(self.request("eth_maxPriorityFeePerGas"), 16)
        except ChainRefusedError:
            return PLAIN_TIP
