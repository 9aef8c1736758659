"""What a job's process loads when, and only when, the job reads a chain (`workerjobs.ports.chains.OpenChainReader`)."""

from __future__ import annotations

from workerjobs.chain.reader import RpcChainReader, states_of
from workerjobs.domain.chains import Chain


async def open_reader(chain: Chain, *, seconds: float) -> RpcChainReader:
    """Open a chain."""
    return RpcChainReader(chain, states_of(chain), seconds)
