"""Installing the packages of the Node clients."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.node import node
from tests.support.npm import NodeError
from tests.support.require import require_or_skip


def test_failed_or_killed_installation_leaves_nothing_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("npm") is None:
        require_or_skip("node", "there is no npm on this machine")
    monkeypatch.setenv("WORKERJOBS_CACHE", str(tmp_path))
    for name, value in {"registry": "http://127.0.0.1:9", "fetch_retries": "0", "cache": str(tmp_path / "npm")}.items():
        monkeypatch.setenv(f"npm_config_{name}", value)
    (tmp_path / "node" / "partial-killed" / "packages").mkdir(parents=True)
    with pytest.raises(NodeError, match="npm ci failed: npm error code ECONNREFUSED"):
        node()
    assert [file.name for file in (tmp_path / "node").iterdir()] == ["lock"]
