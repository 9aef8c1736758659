"""manifests/builtin-jobs: declarations of the jobs that come with WorkerJobs."""

from __future__ import annotations

from pathlib import Path

from workerjobs.cli.apply import parse_documents
from workerjobs.cli.manifest_files import read_documents
from workerjobs.jobs.registry import BUILTIN_JOBS

FOLDER = Path(__file__).parents[2] / "manifests" / "builtin-jobs"


def test_manifests_of_the_builtin_jobs_are_accepted() -> None:
    jobs, problems, _ = parse_documents(read_documents([str(FOLDER)]))
    assert problems == []
    # chainWebhook is submitted by filters alone.
    assert {job.type for job in jobs} == BUILTIN_JOBS.keys() - {"chainWebhook"}
