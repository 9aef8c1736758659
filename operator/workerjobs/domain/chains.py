"""Which chains there are, by the names that settings use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workerjobs.domain.blocks import Confirmations

CHAIN_IDS: Mapping[str, int] = {"anvil": 31337, "mainnet": 1, "ethereum": 1, "sepolia": 11155111, "base": 8453}
"""The names that need no id in the settings."""
DEVELOPMENT_CHAIN_IDS = frozenset({31337, 1337})
"""Chains that begin anew when their node does; nothing on them is worth anything."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain and how it is watched."""

    name: str
    chain_id: int
    rpc_urls: tuple[str, ...]
    """Endpoints (http or https), the preferred one first; they may hold keys and are never shown."""
    confirmations: Confirmations = field(default_factory=Confirmations)
    from_block: int | None = None
    """The first block to process where the chain was never watched; None: the current one."""
    finality_blocks: int = 64
    """So many blocks below the head a block counts as final where the chain names none."""
    requests_per_second: float | None = None
    """What each endpoint is asked at most; None: any number."""
    timeout_seconds: float = 10.0
    """How long one request may take."""
    head_urls: tuple[str, ...] = ()
    """Endpoints (ws or wss) that tell of new blocks."""

    @property
    def is_development(self) -> bool:
        """Whether it begins anew when its node does."""
        return self.chain_id in DEVELOPMENT_CHAIN_IDS
