"""Things that come in an order that is seldom seen."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.loop import in_loop
from tests.support.table import count_rows
from tests.support.workers import JOBS, run_one, worker
from workerjobs import NewJob, WorkerManager
from workerjobs.domain.job import JobState
from workerjobs.ports.workers import WorkerOrders, WorkerRecord
from workerjobs.storage.postgres import PostgresJobStore
from workerjobs.worker import supervisor
from workerjobs.worker.channel import Channel
from workerjobs.worker.messages import Bell, Finished, child_frame, frame
from workerjobs.worker.results import Results, make_memory

GROUPED = """
import os
from workerjobs.worker import nursery

def setsid(original=os.setsid):
    os.setpgid(0, 0)
    original()

os.setsid = setsid
parent = os.getpid()
if (pid := os.fork()) == 0:
    nursery._become_child(parent, os.dup(2))
    os._exit(0 if os.getpgid(0) == os.getpid() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
"""Between any look at its group and its own session the nursery makes the child the leader of its group."""


def test_child_lives_whose_nursery_is_quicker_than_its_own_session() -> None:
    ended = subprocess.run([sys.executable, "-c", GROUPED], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


class Side:
    """A child's side of its channel, as `workerjobs.worker.child` uses it."""

    def __init__(self, memory: int, channel: socket.socket) -> None:
        self.results = Results(memory)
        self.channel = channel

    def put(self, job_id: int) -> None:
        assert self.results.put(frame(Finished(job_id, True)))

    def send(self, message: Finished | Bell) -> None:
        if isinstance(message, Finished):
            self.results.goes_apart()
        self.channel.sendall(child_frame(message, self.results.written, self.results.apart))


@in_loop
async def test_results_keep_their_order_whichever_way_each_one_takes_and_whenever_they_are_taken() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    memory = make_memory()
    side = Side(memory, theirs)
    told: list[int] = []
    _, channel = await asyncio.get_running_loop().create_unix_connection(
        lambda: Channel(
            Results(memory),
            lambda: None,
            lambda results: told.extend(each.job_id for each in results),
            lambda message: told.append(0),
            lambda: None,
        ),
        sock=ours,
    )
    os.close(memory)
    side.put(1)
    channel.take_results()
    assert told == [1]
    side.put(2)
    # Larger than the memory is what may take the other way.
    side.send(Finished(3, True))
    side.put(4)
    side.send(Finished(5, True))
    side.put(6)
    # Whoever watches over the children looks before the channel is read.
    channel.take_results()
    assert told == [1]
    side.send(Bell())
    theirs.shutdown(socket.SHUT_WR)
    await channel.closed.wait()
    assert told == [1, 2, 3, 4, 5, 6, 0]
    # One that died before it could send what it had counted: what it had put before is not lost.
    side.put(7)
    side.results.goes_apart()
    channel.take_results()
    assert told[7:] == []
    channel.take_results(is_over=True)
    assert told[7:] == [7]
    theirs.close()


MIXED_UP = """
import gc, threading
from workerjobs import job
from workerjobs.worker.child import Child
from workerjobs.worker.messages import Failing, Finished

def send(message):
    (child,) = [each for each in gc.get_objects() if isinstance(each, Child)]
    child._send(message)
    threading.Event().wait()

@job("tellOfAnother")
def tell_of_another(data):
    send(Finished(data["job"], True))

@job("failAndHang")
def fail_and_hang(data, context):
    '''As where an error hook holds Python's lock and never lets it go.'''
    send(Failing(Finished(context.job_id, False, error="ValueError: no paper")))
"""


@in_loop
async def test_child_that_hangs_in_its_error_hook_or_tells_of_a_job_which_it_does_not_run_is_ended(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "mixed_up.py"
    module.write_text(MIXED_UP)
    monkeypatch.setattr(supervisor, "HOOK_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "KILL_SECONDS", 0.1)
    async with worker(database_url, modules=[JOBS, str(module)]) as running:
        # The same for one whose error hook hangs beyond all that the child can do; the job's error stays its own.
        job = await run_one(running.store, "failAndHang")
        assert (job.state, job.error) == (JobState.FAILED, "ValueError: no paper")
        job = await run_one(running.store, "tellOfAnother", {"job": 999})
        assert (job.state, job.error) == (JobState.FAILED, "The job's process was killed by signal SIGKILL")
        assert f"A child that ran job {job.id} told of the end of job 999: it is ended" in caplog.messages
        assert (await run_one(running.store, "echo", {"a": 1})).result == {"a": 1}


def test_job_is_stored_once_other_workers_can_see_that_its_type_is_known(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_before: list[int] = []
    show = PostgresJobStore.show_worker

    async def show_slowly(store: PostgresJobStore, record: WorkerRecord) -> WorkerOrders:
        if record.types and not rows_before:
            await asyncio.sleep(0.2)
            rows_before.append(count_rows(database_url))
        return await show(store, record)

    monkeypatch.setattr(PostgresJobStore, "show_worker", show_slowly)
    monkeypatch.setenv("WORKER_BUILTIN_JOBS", "off")
    with WorkerManager(database_url=database_url, worker_count=1, job_modules=[JOBS]) as manager:
        job = manager.submit_job(NewJob(type="echo"))
        assert rows_before == [0]
        assert manager.wait_for_job(job.id, timeout=60).state is JobState.SUCCEEDED
