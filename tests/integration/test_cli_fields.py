"""WorkerJob manifests without a cluster: the fields that concern the resource, not a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import workerjobs
from tests.support.loop import in_loop
from tests.support.operators import workerjob
from tests.support.table import claim_all, count_rows, open_store, settlement, sql


class Manifest:
    """One manifest, applied again and again."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._file = folder / "job.json"

    def apply(self, **spec: Any) -> str:
        """Apply it with other fields; returns what is printed."""
        self._file.write_text(json.dumps(workerjob("a", {"type": "report", **spec})))
        ended = workerjobs("apply", "-f", str(self._file), database_url=self._url)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()


@pytest.fixture
def manifest(database_url: str, tmp_path: Path) -> Manifest:
    return Manifest(database_url, tmp_path)


@in_loop
async def test_suspended_manifest_is_held_back_until_it_is_resumed(manifest: Manifest, database_url: str) -> None:
    assert manifest.apply(suspend=True) == "workerjob/a created (job 1, pending)"
    assert manifest.apply(suspend=True) == "workerjob/a unchanged (job 1, pending)"
    async with open_store(database_url) as store:
        assert await claim_all(store) == []
        assert manifest.apply(suspend=False) == "workerjob/a configured (job 1, pending)"
        assert [job.id for job in await claim_all(store)] == [1]


@in_loop
async def test_manifest_is_cancelled_and_run_again(manifest: Manifest, database_url: str) -> None:
    manifest.apply()
    assert manifest.apply(cancel=True) == "workerjob/a configured (job 1, cancelled)"
    assert manifest.apply() == "workerjob/a configured (job 1, cancelled)"
    assert manifest.apply(rerun="x") == "workerjob/a configured (job 2, pending)"
    assert manifest.apply(rerun="x", priority=5) == "workerjob/a configured (job 2, pending)"
    assert manifest.apply(rerun="x", priority=5) == "workerjob/a unchanged (job 2, pending)"
    async with open_store(database_url) as store:
        (job,) = await claim_all(store)
        assert (job.id, job.priority, job.rescheduled_from_job) == (2, 5, 1)
        await store.settle([settlement(job)])
        # Kept as long as it says, by the job that removes old rows.
        manifest.apply(rerun="y", historyLimit=2)
        await store.settle([settlement(job) for job in await claim_all(store)])
        sql(database_url, """update "workerJobs" set "removeAt" = now()""")
        await store.prune(100)
    assert count_rows(database_url) == 2


@in_loop
async def test_suspended_cron_manifest_goes_on_with_its_next_tick(manifest: Manifest, database_url: str) -> None:
    manifest.apply(cronSchedule="@yearly", suspend=True)
    sql(
        database_url,
        """update "workerJobs" set "heldDue" = now() - interval '1 day', tick = now() - interval '1 day'""",
    )
    manifest.apply(cronSchedule="@yearly")
    assert sql(database_url, """select tick = due and due > now(), "heldDue" from "workerJobs" """) == [(True, None)]


def test_data_from_needs_a_cluster(database_url: str) -> None:
    sources = [{"name": "key", "secretKeyRef": {"name": "mail", "key": "api-key"}}]
    document = json.dumps(workerjob("a", {"type": "report", "dataFrom": sources}))
    for command in (["apply", "-f", "-"], ["dev", "--ephemeral", "-f", "-"]):
        refused = workerjobs(*command, database_url=database_url, input=document)
        assert refused.returncode != 0
        assert (
            "spec.dataFrom needs a Kubernetes cluster, which has the Secrets and ConfigMaps: put them in data here"
            in (refused.stderr.replace("\n", " "))
        )
        assert "Traceback" not in refused.stderr
