"""The machine's part of the cluster with pods: what it needs, and how it says that it is missing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.cluster import images
from tests.support.packages import PackagesError, install_packages

REPOSITORY = Path(__file__).parents[2]


def test_archive_written_by_hand_is_an_image_of_one_program(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"a program")
    images._write_archive(tmp_path / "image.tar", "localhost/pause:1", program)
    with tarfile.open(tmp_path / "image.tar") as archive:

        def content(name: str) -> bytes:
            member = archive.extractfile(name)
            assert member is not None
            return member.read()

        (manifest,) = json.loads(content("manifest.json"))
        assert manifest["RepoTags"] == ["localhost/pause:1"]
        config = json.loads(content(manifest["Config"]))
        (layer,) = manifest["Layers"]
        assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(content(layer)).hexdigest()}"]
        assert config["config"]["Entrypoint"] == ["/pause"]


def test_image_has_another_key_after_any_change_of_what_it_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator" / "a.py").write_text("1")
    before = images._digest([tmp_path], "base")
    assert images._digest([tmp_path], "base") == before
    assert images._digest([tmp_path], "another base") != before
    (tmp_path / "operator" / "b.py").touch()
    with_another_file = images._digest([tmp_path], "base")
    assert with_another_file != before
    (tmp_path / "operator" / "a.py").write_text("2")
    assert images._digest([tmp_path], "base") not in (before, with_another_file)


def test_program_that_fails_is_quoted() -> None:
    with pytest.raises(images.ImagesError, match=r"sh failed with exit code 3; the end of what it said:\nno room"):
        images._run(["sh", "-c", "echo no room; exit 3"])


def test_program_that_is_missing_is_named() -> None:
    with pytest.raises(images.ImagesError, match="there is no such-program on this machine"):
        images._run(["such-program"])


def test_packages_that_cannot_be_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PackagesError, match=r"^buildah, socat cannot be installed: this machine has no apt$"):
        install_packages(["buildah", "socat"])


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root has capabilities to drop")
def test_make_cluster_names_kind_where_the_machine_can_run_no_node() -> None:
    variables = {name: value for name, value in os.environ.items() if not name.endswith("KUBECONFIG")}
    ended = subprocess.run(
        [
            *("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"),
            *(sys.executable, "-m", "tests.support.cluster", "demo"),
        ],
        cwd=REPOSITORY,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "error: no node can run here: a node needs the whole of root, and this one lacks CAP_SYS"
    )
    assert "kind create cluster" in ended.stderr
    assert ended.stderr.count("\n") == 1
