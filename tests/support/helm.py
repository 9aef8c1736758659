"""Helm and the programs around it, on the chart of this repository."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster.binaries import find_binaries
from tests.support.cluster.controlplane import Cluster
from tests.support.cluster.modules import HELM, HELM_DOCS, HELM_UNITTEST, KUBECONFORM

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "workerjobs"
MODULES = (HELM, HELM_DOCS, HELM_UNITTEST, KUBECONFORM)
"""What the tests of the chart need."""
TRIAL = {"postgres": {"enabled": True}}
"""The values that the chart can't do without, in their shortest form."""

Manifest = dict[str, Any]


class HelmError(Exception):
    """Helm refused; the text is what it said."""


def program(name: str) -> str:
    """The path of one of the programs of ``MODULES``, built where it is not in the cache."""
    (module,) = (each for each in MODULES if name in each.packages)
    return str(find_binaries(module)[name].path)


def helm(*args: str, cluster: Cluster | None = None, values: Mapping[str, Any] | None = None) -> str:
    """Run helm and return what it printed.

    Args:
        args: As on the command line.
        cluster: Where it installs; without one it can reach none.
        values: Values, in place of a file.

    Raises:
        HelmError: It failed.
    """
    # Nothing of a person's own settings, nor of their cluster.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
    environment["KUBECONFIG"] = str(cluster.kubeconfig) if cluster else os.devnull
    command = [program("helm"), *args]
    if values is not None:
        command += ["--values", "-"]
    result = subprocess.run(
        command,
        env=environment,
        input=None if values is None else json.dumps(values),
        stdin=subprocess.DEVNULL if values is None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if result.returncode != 0:
        raise HelmError(result.stderr.strip())
    return result.stdout


def render_text(values: Mapping[str, Any], *args: str, chart: Path = CHART) -> str:
    """What the chart holds with these values, as release ``workerjobs`` in the namespace ``workerjobs``."""
    return helm("template", "workerjobs", str(chart), "--namespace", "workerjobs", *args, values=values)


def render(values: Mapping[str, Any], *args: str) -> list[Manifest]:
    """The same as manifests, with ``postgres.enabled`` where the values say nothing of a database."""
    given = values if "postgres" in values or "database" in values else {**TRIAL, **values}
    return [each for each in yaml.safe_load_all(render_text(given, *args)) if each]


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """One of them."""
    (found,) = (each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def documents(text: str) -> Iterator[tuple[str, str]]:
    """Take what helm printed apart: the template, as in ``rbac.yaml``, and the text of each document."""
    for document in text.split("\n---\n"):
        source, _, rest = document.removeprefix("---\n").partition("\n")
        if rest.strip():
            yield source.rpartition("/templates/")[2], rest.strip() + "\n"
