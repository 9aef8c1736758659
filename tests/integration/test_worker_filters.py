"""Workers that run some of their pool's jobs: by type, and by the namespace of their WorkerJobs."""

from __future__ import annotations

from pathlib import Path

from tests.support.loop import in_loop
from tests.support.table import open_store, read, sql, submit_one
from tests.support.workers import finished, worker_process
from workerjobs.domain.job import JobState, NewJob


@in_loop
async def test_worker_of_some_types_leaves_the_others_alone_and_fails_none(database_url: str, tmp_path: Path) -> None:
    async with open_store(database_url) as store:
        other = await submit_one(store, NewJob(type="add", data={"numbers": [1]}))
        unknown = await submit_one(store, NewJob(type="nobodyKnows"))
        async with worker_process(database_url, tmp_path, WORKER_TYPES="echo,mail") as worker:
            done = await finished(store, await submit_one(store, NewJob(type="echo", data={"a": 1})))
            assert done.state is JobState.SUCCEEDED
            (seen,) = sql(database_url, 'select types from "workerJobWorkers"')
            assert seen == (["echo"],)
            # Of what is known here only that, and what nobody knows is for those who run all types to judge.
            assert (await read(store, other)).state is JobState.PENDING
            assert (await read(store, unknown)).state is JobState.PENDING
            assert not worker.said("Traceback")


@in_loop
async def test_worker_of_some_namespaces_leaves_the_jobs_of_others_alone(database_url: str, tmp_path: Path) -> None:
    async with open_store(database_url) as store:
        jobs = {}
        for namespace in ("shop", "web", None):
            statement = 'insert into "workerJobs" (type, namespace) values (%s, %s) returning id'
            ((jobs[namespace],),) = sql(database_url, statement, "echo", namespace)
        async with worker_process(database_url, tmp_path, WORKER_NAMESPACES="shop"):
            assert (await finished(store, jobs["shop"])).state is JobState.SUCCEEDED
            for namespace in ("web", None):
                assert (await read(store, jobs[namespace])).state is JobState.PENDING
