"""A real development chain: anvil, from its package on npm, on a free port of this machine.

``python -m tests.support.anvil`` installs it. What was found out about anvil 1.7.1, and tests rely on:

- Multicall3 is not at genesis.
- ``anvil_reorg`` keeps the height and sends no ``removed`` logs: only hashes tell of it. ``anvil_rollback`` shortens
  the chain.
- After a thousand blocks or so ``anvil_reorg`` may go back to a state without the code of contracts, and calls to them
  then succeed and do nothing; not with ``--prune-history 100000``, which keeps all states in memory.
- ``--slots-in-an-epoch 1`` brings safe and finalized near the head.
- ``evm_setIntervalMining(0)`` switches automatic mining off for good.
- Its accounts are unlocked: it signs for them.
- Automatic mining goes on beside: a transaction may be in no block yet when its sending was answered.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.npm import NodeError, packages
from tests.support.require import require_or_skip

START_SECONDS = 60.0
STOP_SECONDS = 10.0
CALL_SECONDS = 30.0
RECEIPT_SECONDS = 30.0
CHAIN_ID = 31337
# Of the mnemonic that anvil always uses: "test test test test test test test test test test test junk".
ACCOUNTS = (
    "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
    "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
    "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
    "0x90f79bf6eb2c4f870365e785982e1f101e93b906",
)
# The key of the first account, as every installation of anvil prints it.
PRIVATE_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


class RpcError(Exception):
    """What the node answered instead of a result."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['message']} ({error['code']})")
        self.code: int = error["code"]
        self.data = error.get("data")


@dataclass
class Anvil:
    """One running chain. Its methods may be called by one thread at a time."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path
    host: str = "127.0.0.1"
    _connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection(self.host, self.port, timeout=CALL_SECONDS)

    @property
    def url(self) -> str:
        """Where it answers JSON-RPC, over HTTP; ``ws_url`` is the same over WebSocket."""
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where it answers JSON-RPC over WebSocket."""
        return f"ws://{self.host}:{self.port}"

    def call(self, method: str, *params: Any) -> Any:
        """Call one method of its JSON-RPC.

        Raises:
            RpcError: The node refuses.
        """
        (answer,) = self.batch([(method, *params)])
        return answer

    def batch(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call many methods in one request.

        Args:
            calls: Each a method's name, followed by its parameters.

        Returns:
            The results, in the same order.

        Raises:
            RpcError: The node refuses one of them; those after it were called all the same.
        """
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, *params) in enumerate(calls)
        ]
        self._connection.request("POST", "/", json.dumps(requests), {"Content-Type": "application/json"})
        answers = json.loads(self._connection.getresponse().read())
        for answer in answers:
            if "error" in answer:
                raise RpcError(answer["error"])
        return [answer["result"] for answer in sorted(answers, key=lambda each: each["id"])]

    @property
    def block_number(self) -> int:
        """The height of the chain."""
        return int(self.call("eth_blockNumber"), 16)

    def block(self, which: int | str = "latest") -> dict[str, Any]:
        """A block with the hashes of its transactions, as JSON-RPC says it."""
        answer: dict[str, Any] = self.call(
            "eth_getBlockByNumber", hex(which) if isinstance(which, int) else which, False
        )
        return answer

    def balance(self, address: str) -> int:
        """What an address has, in wei."""
        return int(self.call("eth_getBalance", address, "latest"), 16)

    def mine(self, blocks: int = 1, *, seconds: int = 1) -> None:
        """Mine blocks at once; their timestamps are so many seconds apart."""
        self.call("anvil_mine", hex(blocks), hex(seconds))

    def hold_transactions(self, held: bool = True) -> None:
        """Leave transactions waiting until ``mine``, or mine each one at once again."""
        self.call("evm_setAutomine", not held)

    def reorg(self, depth: int, transactions: Sequence[tuple[dict[str, Any] | str, int]] = ()) -> None:
        """Replace the last blocks by as many others.

        Args:
            depth: How many blocks.
            transactions: What the new blocks hold: each a transaction, signed or as for ``eth_sendTransaction``, and
                the block (0 is the first new one). What the old blocks held and is not among them is gone.
        """
        self.call("anvil_reorg", depth, list(transactions))

    def rollback(self, depth: int) -> None:
        """Cut off the last blocks: the chain is shorter then."""
        self.call("anvil_rollback", depth)

    def send(self, sender: str = ACCOUNTS[0], **transaction: Any) -> str:
        """Send a transaction of an account that the node signs for; with automatic mining, wait until it is in a block.

        Args:
            sender: One of ``ACCOUNTS``, or an impersonated one.
            transaction: Of ``eth_sendTransaction``: ``to``, ``data``, ``value`` and so on, numbers as integers.

        Returns:
            Its hash.
        """
        values = {name: hex(value) if isinstance(value, int) else value for name, value in transaction.items()}
        answers = self.batch([("eth_sendTransaction", {"from": sender, **values}), ("anvil_getAutomine",)])
        sent: str = answers[0]
        if answers[1]:
            self._wait_for_receipt(sent)
        return sent

    def receipt(self, transaction_hash: str) -> dict[str, Any]:
        """Wait for the receipt of a transaction; a failed one is an error.

        Raises:
            AssertionError: It is in no block, or failed there.
        """
        receipt = self._wait_for_receipt(transaction_hash)
        assert receipt["status"] == "0x1", f"{transaction_hash} failed"
        return receipt

    def _wait_for_receipt(self, transaction_hash: str) -> dict[str, Any]:
        deadline = time.monotonic() + RECEIPT_SECONDS
        while True:
            receipt: dict[str, Any] | None = self.call("eth_getTransactionReceipt", transaction_hash)
            if receipt is not None:
                return receipt
            assert time.monotonic() < deadline, f"{transaction_hash} is in no block"
            time.sleep(0.005)

    def stop(self) -> None:
        """End the process, which keeps nothing."""
        self._connection.close()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def program() -> Path:
    """Find anvil, installing it where needed.

    Raises:
        NodeError: It can't be installed on this machine.
    """
    return packages(Path(__file__).parent) / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"


@contextmanager
def anvil(*arguments: str, host: str = "127.0.0.1", port: int = 0) -> Iterator[Anvil]:
    """Run a fresh chain until the end of the block.

    Args:
        arguments: More of its command line, such as ``--slots-in-an-epoch 1`` or ``--chain-id 1``.
        host: The address of this machine that it listens on.
        port: 0 for any free one.
    """
    try:
        path = program()
    except NodeError as error:
        require_or_skip("anvil", f"anvil can't be had: {error}")
    with ExitStack() as stack:
        # What it caches, and its log, go with it.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workerjobs-anvil-")))
        log = folder / "anvil.log"
        process = subprocess.Popen(
            [path, "--host", host, "--port", str(port), "--disable-console-log", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"HOME": str(folder), "NO_COLOR": "1"},
        )
        try:
            chain = Anvil(_port_of(process, log), process, log, host)
        except BaseException:
            process.kill()
            process.wait()
            raise
        stack.callback(chain.stop)
        yield chain


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until it listens; it says so once it does, with the port that it chose."""
    deadline = time.monotonic() + START_SECONDS
    while (found := re.search(r"Listening on [\d.]+:(\d+)", log.read_text())) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"anvil did not start: {log.read_text()}")
        time.sleep(0.02)
    return int(found[1])
