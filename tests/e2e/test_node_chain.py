"""Chain jobs in pods: a pool with `chain: true` gets its variables from a Secret, and watches a chain outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.anvil import ACCOUNTS, PRIVATE_KEY, anvil
from tests.support.chains import make_user, notifications
from tests.support.cluster.fixtures import Node
from tests.support.cluster.installation import NAMESPACE
from tests.support.contracts import TokenFactory
from tests.support.operators import eventually
from tests.support.pod_pool import pod_pool
from tests.support.table import sql
from workerjobs.domain.multicall3 import CODE_HASH

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]

SECRET = "workerjobs-chain"  # as the operator expects it where the chart names no other


@contextmanager
def chain_secret(node: Node, **variables: str) -> Iterator[None]:
    """The variables of chains, in the namespace of the pools."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "stringData": variables,
    }
    node.cluster.kubectl("apply", "--filename=-", input=json.dumps(secret))
    try:
        yield
    finally:
        node.cluster.kubectl("delete", "secret", SECRET, f"--namespace={NAMESPACE}")


def test_pods_with_chains_deploy_multicall3_and_notify_users(node: Node) -> None:
    # Where the database is, pods reach this machine.
    host = urlsplit(node.database_url).hostname or ""
    resources = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
    template: dict[str, Any] = {"spec": {"containers": [{"name": "worker", "resources": resources}]}}
    asyncio.run(make_user(node.database_url))

    def results(job_type: str) -> list[dict[str, Any]]:
        rows = sql(node.database_url, 'select result from "workerJobs" where type = %s and success', job_type)
        return [result for (result,) in rows]

    with (
        anvil(host=host) as chain,
        chain_secret(
            node,
            WEB3_SUPPORTED_CHAINS="anvil",
            WEB3_ANVIL_RPC=chain.url,
            WATCH_FROM_BLOCK="0",
            WEB3_SERVER_WALLET_PRIVATE_KEY=PRIVATE_KEY,
        ),
    ):
        try:
            with pod_pool(node.cluster, node.database_url, chain=True, workerCount=1, template=template) as pool:
                pool.wait(ready=1)
                eventually(lambda: results("deployMulticall3"), every=0.2)
                assert results("deployMulticall3")[0]["codeHash"] == CODE_HASH
                token = TokenFactory.deploy(chain).create("Gold", "GLD")
                token.transfer(ACCOUNTS[1], 5)
                eventually(lambda: len(notifications(node.database_url)) == 2, every=0.2)
                # All of it ran in the pool that has chains, and in no other.
                pools = """select distinct pool from "workerJobs" where type in ('watchChain', 'deployMulticall3')"""
                assert sql(node.database_url, pools) == [(pool.name,)]
        finally:
            # Nobody is left who could run it.
            sql(node.database_url, """delete from "workerJobs" where type in ('watchChain', 'deployMulticall3')""")
