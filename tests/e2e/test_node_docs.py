"""What the README and the example of an image say of Kubernetes, done on a real node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support.cluster.fixtures import Node
from tests.support.cluster.images import image_of
from tests.support.cluster.installation import NAMESPACE
from tests.support.docs import ROOT, all_blocks
from tests.support.operators import eventually
from tests.support.pod_pool import pod_pool
from tests.support.table import sql

EXAMPLE = ROOT / "docs" / "examples" / "nightly-report"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("node")]


@pytest.mark.timeout(600)  # the node's start is part of it
def test_the_readmes_job_runs_on_the_cluster(node: Node, tmp_path: Path) -> None:
    for block in all_blocks("README.md"):
        if block.file:
            (tmp_path / block.file).write_text(block.content)
    (commands,) = (block for block in all_blocks("README.md", "shell") if "kubectl" in block.text)
    assert "slow" in commands.marks
    (tmp_path / ".venv").symlink_to(sys.prefix)
    try:
        ended = subprocess.run(
            ["bash", "-euc", commands.text],
            cwd=tmp_path,
            env={**os.environ, "KUBECONFIG": str(node.cluster.kubeconfig)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        (shown,) = (line for line in ended.stdout.splitlines() if line.startswith("send-report "))
        assert "Succeeded" in shown
        assert '{"sent":2}' in shown
    finally:
        node.cluster.kubectl("delete", "--ignore-not-found", f"--filename={tmp_path / 'send-report.yaml'}")
        node.cluster.kubectl("delete", "--ignore-not-found", f"--namespace={NAMESPACE}", "configmap/report-jobs")


def test_the_example_of_an_image_runs_its_job(node: Node) -> None:
    image = image_of("shop-jobs", EXAMPLE)
    node.take(image)
    with psycopg.connect(node.database_url) as connection:
        connection.execute("drop table if exists orders, sales_reports")
        connection.execute((EXAMPLE / "schema.sql").read_bytes())
        connection.execute("insert into orders (product, count, price, ordered_at) values ('pen', 2, 3, '2026-11-01Z')")
    with pod_pool(node.cluster, node.database_url, image=image.name, jobsConfigMap=None) as pool:
        submitted = """select workerjobs.submit('salesReport', '{"day": "2026-11-01"}', pool => %s)"""
        ((job_id,),) = sql(node.database_url, submitted, pool.name)
        ended = eventually(
            lambda: sql(node.database_url, 'select result from "workerJobs" where id = %s and success', job_id),
            seconds=60,
        )
    assert ended[0][0]["revenue"] == "6.00"
