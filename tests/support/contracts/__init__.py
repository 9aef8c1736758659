"""The sample contracts of tests and of the demo: a factory of ERC-20 tokens, and its tokens.

``contracts.json`` is what the compiler makes of the sources beside it; ``make contracts`` writes it anew.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_utils.abi import function_signature_to_4byte_selector

from tests.support.anvil import ACCOUNTS, Anvil
from tests.support.node import node

FOLDER = Path(__file__).parent
ARTEFACT = FOLDER / "contracts.json"
COMPILE_SECONDS = 120


def compile_contracts() -> str:
    """Compile the sources of this folder.

    Returns:
        What ``contracts.json`` should hold: the compiler's version, and ABI and bytecode of each contract.

    Raises:
        NodeError: There is no node here, or the compiler can't be installed.
        AssertionError: The compiler refuses the sources.
    """
    program, environment = node(FOLDER)
    done = subprocess.run(
        [program, str(FOLDER / "compile.cjs"), str(FOLDER)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _artefact(name: str) -> dict[str, Any]:
    contract: dict[str, Any] = json.loads(ARTEFACT.read_text())["contracts"][name]
    return contract


def abi(name: str) -> list[dict[str, Any]]:
    """The ABI of ``TokenFactory`` or ``SampleToken``."""
    answer: list[dict[str, Any]] = _artefact(name)["abi"]
    return answer


def call_data(signature: str, *values: Any) -> str:
    """The input of a call, such as ``call_data("transfer(address,uint256)", to, 5)``."""
    kinds = signature.partition("(")[2].removesuffix(")")
    return f"0x{(function_signature_to_4byte_selector(signature) + encode(kinds.split(','), values)).hex()}"


@dataclass(frozen=True, slots=True)
class Token:
    """A token that the factory made; addresses are lower-case."""

    chain: Anvil
    address: str
    owner: str

    def transfer(self, to: str, value: int, *, sender: str | None = None, times: int = 1) -> str:
        """Send tokens, so many times in one transaction; return its hash."""
        data = (
            call_data("transfer(address,uint256)", to, value)
            if times == 1
            else call_data("transferTimes(address,uint256,uint256)", to, value, times)
        )
        return self.chain.send(sender or self.owner, to=self.address, data=data)


@dataclass(frozen=True, slots=True)
class TokenFactory:
    """A factory on a chain; its address is lower-case."""

    chain: Anvil
    address: str

    @classmethod
    def deploy(cls, chain: Anvil) -> TokenFactory:
        """Put a new one on the chain, which must mine by itself."""
        receipt = chain.receipt(chain.send(data=_artefact("TokenFactory")["bytecode"]))
        return cls(chain, receipt["contractAddress"].lower())

    def create(
        self,
        name: str = "Sample",
        symbol: str = "SMP",
        *,
        decimals: int = 18,
        supply: int = 10**24,
        creator: str = ACCOUNTS[0],
    ) -> Token:
        """Make a token, on a chain that mines by itself; the creator gets all of it."""
        data = call_data("createToken(string,string,uint8,uint256)", name, symbol, decimals, supply)
        receipt = self.chain.receipt(self.chain.send(creator, to=self.address, data=data))
        event = next(log for log in receipt["logs"] if log["address"].lower() == self.address)
        return Token(self.chain, f"0x{event['topics'][1][-40:]}", creator)
