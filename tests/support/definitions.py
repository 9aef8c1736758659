"""Definitions of other projects' custom resources (KEDA, Karpenter, the Prometheus operator), from their Go modules.

``tests/support/crds`` pins them, with a go.sum.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.support.cluster.gobuild import find_go
from tests.support.cluster.sources import SourceError, cache_folder, report_to_stderr

MODULE = Path(__file__).parent / "crds"
_FOLDERS = {
    "github.com/kedacore/keda/v2": ("config/crd/bases",),
    "github.com/prometheus-operator/prometheus-operator": ("example/prometheus-operator-crd",),
    "sigs.k8s.io/karpenter": ("pkg/apis/crds", "kwok/apis/crds"),
}


def definition_files(*names: str) -> list[Path]:
    """Download what is missing, and return files.

    Args:
        names: Of definitions, as in ``scaledobjects.keda.sh``.

    Raises:
        SourceError: They can't be downloaded, or there is no Go toolchain for it.
    """
    found = {}
    for path, folder in module_folders(MODULE, *_FOLDERS).items():
        for place in _FOLDERS[path]:
            for file in (folder / place).glob("*.yaml"):
                group, _, plural = file.stem.partition("_")
                found[f"{plural}.{group}"] = file
    return [found[name] for name in names]


def module_folders(pinned: Path, *paths: str) -> dict[str, Path]:
    """Download what is missing of Go modules, and return their folders.

    Args:
        pinned: The folder of the ``go.mod`` that pins them.
        paths: Of the modules.

    Raises:
        SourceError: They can't be downloaded, or there is no Go toolchain for it.
    """
    oldest = re.search(r"(?m)^go\s+(\S+)", (pinned / "go.mod").read_text())
    assert oldest
    environment = os.environ | {
        "GOMODCACHE": str(cache_folder() / "go" / "mod"),
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    command = [find_go(oldest[1], report_to_stderr), "mod", "download", "-json", *paths]
    result = subprocess.run(command, cwd=pinned, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SourceError(f"go mod download failed: {(result.stderr or result.stdout).strip()}")
    return {each["Path"]: Path(each["Dir"]) for each in _objects(result.stdout)}


def _objects(text: str) -> list[dict[str, str]]:
    """What ``go -json`` prints: objects one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        each, at = decoder.raw_decode(text, at)
        found.append(each)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found
