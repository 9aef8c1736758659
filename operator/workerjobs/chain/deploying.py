"""What a job's process loads only when a job writes to a chain (`workerjobs.ports.chains.ChainWriters`)."""

from __future__ import annotations

import json
from importlib import resources

from workerjobs.chain.multicall import Call, read_many
from workerjobs.chain.node import open_node
from workerjobs.domain.multicall3 import ADDRESS
from workerjobs.ports.chains import ChainNode, MulticallTransaction

__all__ = ["multicall3_transaction", "open_node", "read_chain_id"]

_BEFORE_CODE = b"\xb9\x0f\x00"
"""What stands before Multicall3's creation code in its transaction: it is 0x0f00 bytes long (RLP)."""
CREATION_BYTES, CONSTRUCTOR_BYTES = 0x0F00, 32
"""Behind the constructor follows the code that it leaves on the chain."""


def read_chain_id(node: ChainNode) -> int:
    """Ask Multicall3 through itself (``aggregate3``) which chain it is on.

    Raises:
        ChainRefusedError: The node refuses the call.
        CallFailedError: Multicall3 does not answer as it should.
    """
    (answer,) = read_many(node, [Call(ADDRESS, "getChainId()(uint256)")])
    chain_id: int = answer.value
    return chain_id


def multicall3_transaction() -> MulticallTransaction:
    """Read the transaction that creates Multicall3, and the code that it leaves on the chain."""
    text = resources.files(__package__).joinpath("multicall3.json").read_text()
    signed = json.loads(text)["signedTransaction"]
    _, _, rest = bytes.fromhex(signed.removeprefix("0x")).partition(_BEFORE_CODE)
    creation = rest[:CREATION_BYTES]
    return MulticallTransaction(signed, f"0x{creation.hex()}", f"0x{creation[CONSTRUCTOR_BYTES:].hex()}")
