"""The manifests on the pages and of the examples are accepted, by the API server and without one."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.support.docs import ROOT, all_blocks
from tests.support.operators import WorkerJobs
from workerjobs.kube.workerjob import LOCAL_CLUSTER, parse_workerjob

pytestmark = pytest.mark.cluster

KINDS = ("WorkerJob", "WorkerPool")


def manifests(namespace: str) -> list[dict[str, Any]]:
    pages = ["README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
    texts = [block.content for page in pages for block in all_blocks(page, "yaml") if "no-test" not in block.marks]
    texts += [file.read_text() for file in (ROOT / "docs" / "examples").rglob("*.yaml")]
    found: list[dict[str, Any]] = []
    for each in (document for text in texts for document in yaml.safe_load_all(text)):
        if isinstance(each, dict) and each.get("kind") in KINDS:
            # One for each, as several pages may use a name.
            each["metadata"] |= {"namespace": namespace, "name": f"{each['metadata']['name']}-{len(found)}"}
            found.append(each)
    return found


def test_manifests_on_the_pages_are_accepted(jobs: WorkerJobs) -> None:
    found = manifests(jobs.namespace)
    assert {each["kind"] for each in found} == set(KINDS)
    jobs.kubectl("apply", "--dry-run=server", "--filename=-", input=yaml.safe_dump_all(found))
    for each in found:
        if each["kind"] == "WorkerJob":
            parse_workerjob(each, LOCAL_CLUSTER)
