"""What several modules of these tests use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.anvil import Anvil
from tests.support.rpc_proxy import RpcProxy, rpc_proxy


@pytest.fixture
def proxy(chain: Anvil) -> Iterator[RpcProxy]:
    """A proxy in front of the chain of a module's own."""
    with rpc_proxy(chain.url) as running:
        yield running
