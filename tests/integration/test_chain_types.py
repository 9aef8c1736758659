"""Workers with and without chains beside each other, in one pool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support.loop import in_loop
from tests.support.table import open_store, sql
from tests.support.workers import run_jobs, worker_process
from workerjobs.domain.job import JobState, NewJob

CHAIN_TYPES = {"chainWebhook", "deployMulticall3", "watchChain"}
CHAIN: dict[str, Any] = {
    "WEB3_SUPPORTED_CHAINS": "anvil",
    "WEB3_ANVIL_RPC": "http://127.0.0.1:9",
    "HOOK_SECRET": "of this worker alone",
}


@contextmanager
def web_hook() -> Iterator[str]:
    """The address of a web server that takes whatever is posted."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@in_loop
async def test_jobs_of_chains_are_left_to_the_worker_that_has_chains(database_url: str, tmp_path: Path) -> None:
    async with (
        worker_process(database_url, tmp_path, name="with", **CHAIN),
        # As it has more children, it would get most of them.
        worker_process(database_url, tmp_path, name="without", count=4),
        open_store(database_url) as store,
    ):
        known = sql(database_url, """select types from "workerJobWorkers" order by children""")
        assert [CHAIN_TYPES & {*types} for (types,) in known] == [CHAIN_TYPES, set()]
        with web_hook() as url:
            body = {"chain": "anvil", "blockHash": "0x1", "logIndex": 0, "filter": "mine"}
            data = {"url": url, "secretEnv": "HOOK_SECRET", "body": body}
            done = await run_jobs(store, *(NewJob(type="chainWebhook", data=data) for _ in range(20)))
    assert {job.state for job in done} == {JobState.SUCCEEDED}, [job.error for job in done]


@in_loop
async def test_job_of_a_chain_that_no_worker_has_is_of_an_unknown_type(database_url: str, tmp_path: Path) -> None:
    async with worker_process(database_url, tmp_path), open_store(database_url) as store:
        (done,) = await run_jobs(store, NewJob(type="watchChain"))
    assert done.error == "Unknown job type: watchChain"
