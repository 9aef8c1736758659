"""The Kubernetes client, where no API server is needed for what it does."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import yaml

from tests.support.loop import in_loop
from workerjobs.errors import ClusterUnavailableError
from workerjobs.kube.client import TIMEOUT_SECONDS
from workerjobs.kube.cluster import LEASE_TIMEOUT_SECONDS, KubernetesCluster


@in_loop
async def test_reading_a_lease_is_given_up_soon_where_the_api_server_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It takes connections, and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{silent.getsockname()[1]}"}}],
            "users": [{"name": "it", "user": {"token": "t"}}],
        }
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(kubeconfig))
        monkeypatch.setenv("KUBECONFIG", str(file))
        cluster = await KubernetesCluster.connect()
        try:
            async with asyncio.timeout((LEASE_TIMEOUT_SECONDS + TIMEOUT_SECONDS) / 2):
                with pytest.raises(ClusterUnavailableError, match="can't be reached"):
                    await cluster.find_lease("jobs", "operator")
        finally:
            await cluster.close()
