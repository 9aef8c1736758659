"""The mirror, on a real Postgres and an API server that is faked where a real one can't be made to fail at will."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.loop import in_loop, until
from tests.support.operators import workerjob
from tests.support.table import claim_all, count_rows, open_store, settlement, sql
from workerjobs.domain.job import Job, NewJob
from workerjobs.errors import ClusterError, ClusterUnavailableError, DatabaseUnavailableError, InvalidInputError
from workerjobs.kube import events as events_module
from workerjobs.kube import mirror as module
from workerjobs.kube import writer as writer_module
from workerjobs.kube.events import Event, EventWriter
from workerjobs.kube.mirror import Mirror
from workerjobs.kube.reconcile import StatusWrite
from workerjobs.kube.writer import StatusWriter
from workerjobs.ports.notices import Notice, Reconnected, ResourceNotice
from workerjobs.storage.postgres import PostgresJobStore


class FakeCluster:
    """WorkerJobs in a dictionary, and an API that refuses what it is told to."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.writes: list[tuple[str, dict[str, Any]]] = []
        self.events: list[tuple[str, str, int]] = []
        self.event_names: set[str] = set()
        self.list_error: ClusterError | None = None
        self.write_error: ClusterError | None = None
        self.may_write = asyncio.Event()
        self.may_write.set()

    def apply(self, name: str, spec: dict[str, Any] | None = None, *, generation: int = 1) -> dict[str, Any]:
        """Create or change a resource; its uid is its name."""
        self.version += 1
        metadata = {
            "namespace": "shop",
            "uid": name,
            "generation": generation,
            "resourceVersion": str(self.version),
        }
        status = self.resources.get(name, {}).get("status")
        self.resources[name] = workerjob(name, spec, **metadata) | ({"status": status} if status else {})
        return self.resources[name]

    async def workerjob_uids(self, namespaces: Sequence[str]) -> frozenset[str]:
        if self.list_error is not None:
            raise self.list_error
        return frozenset(self.resources)

    async def write_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> int | None:
        await self.may_write.wait()
        if self.write_error is not None:
            raise self.write_error
        if uid not in self.resources:
            return None
        self.version += 1
        self.resources[uid] |= {"status": dict(status)}
        self.resources[uid]["metadata"]["resourceVersion"] = str(self.version)
        self.writes.append((uid, dict(status)))
        return self.version

    async def write_event(self, namespace: str, name: str, event: Mapping[str, Any]) -> None:
        self.events.append((event["regarding"]["name"], event["reason"], event.get("series", {}).get("count", 1)))
        self.event_names.add(event["metadata"]["name"])

    async def delete_workerjob(self, namespace: str, name: str, uid: str, version: int) -> None:
        self.resources.pop(uid, None)

    def state(self, name: str) -> str | None:
        """What the status of a resource says."""
        state: str | None = self.resources[name].get("status", {}).get("state")
        return state


def tell(mirror: Mirror, manifest: dict[str, Any]) -> None:
    """Tell of a resource, as the watch does."""
    mirror.resource_seen(manifest, int(manifest["metadata"]["resourceVersion"]))


@asynccontextmanager
async def running(
    url: str, cluster: FakeCluster, *, store: Any = None, cluster_id: str = "here"
) -> AsyncIterator[Mirror]:
    """A mirror at work."""
    async with open_store(url) as own:
        mirror = Mirror(store or own, cluster, cluster_id, sweep_seconds=0.05)  # type: ignore[arg-type]  # what it uses
        task = asyncio.create_task(mirror.run())
        try:
            await until(mirror.started.is_set)
            yield mirror
        finally:
            task.cancel()
            await asyncio.wait({task})
    if not task.cancelled():
        task.result()


# --- resources that vanish


@in_loop
async def test_list_that_fails_cancels_nothing(database_url: str) -> None:
    cluster = FakeCluster()
    async with running(database_url, cluster) as mirror:
        tell(mirror, cluster.apply("a"))
        await until(lambda: cluster.state("a") == "Pending")
        for error in (ClusterUnavailableError("gone away"), ClusterError("410: the continue token is too old")):
            cluster.list_error = error
            del cluster.resources["a"]
            with pytest.raises(ClusterError):
                await mirror.sweep()
            await asyncio.sleep(0.2)
            assert count_rows(database_url, "finished is null") == 1
            cluster.apply("a")
        cluster.list_error = None
        await mirror.sweep()
        await asyncio.sleep(0.2)
        assert count_rows(database_url, "finished is null") == 1
        del cluster.resources["a"]
        await until(lambda: count_rows(database_url, "finished is null") == 0)


@in_loop
async def test_sweep_is_not_taken_in_by_what_it_lists_and_the_watch_has_seen_deleted(database_url: str) -> None:
    cluster = FakeCluster()
    async with running(database_url, cluster) as mirror:
        tell(mirror, cluster.apply("a", {"type": "report", "cronSchedule": "@daily"}))
        await until(lambda: cluster.state("a") == "Scheduled")
        mirror.resource_deleted("a")  # while the list still holds it
        for _ in range(3):
            await mirror.sweep()
            await asyncio.sleep(0.1)
        assert count_rows(database_url, "finished is null") == 0
        assert count_rows(database_url) == 1


@in_loop
async def test_sweep_leaves_rows_of_other_clusters_and_without_a_resource_alone(database_url: str) -> None:
    cluster = FakeCluster()
    async with open_store(database_url) as store, running(database_url, FakeCluster(), cluster_id="there"):
        async with running(database_url, cluster) as mirror:
            tell(mirror, cluster.apply("a"))
            await until(lambda: cluster.state("a") == "Pending")
        await store.submit([NewJob(type="plain")])
        await asyncio.sleep(0.3)
        assert count_rows(database_url, "finished is null") == 2


@in_loop
async def test_resource_that_only_waits_for_a_finalizer_is_gone(database_url: str) -> None:
    cluster = FakeCluster()
    async with running(database_url, cluster) as mirror:
        tell(mirror, cluster.apply("a"))
        await until(lambda: cluster.state("a") == "Pending")
        manifest = cluster.apply("a")
        manifest["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        tell(mirror, manifest)
        await until(lambda: count_rows(database_url, "finished is null") == 0)


@in_loop
async def test_row_inserted_while_its_resource_was_deleted_is_cancelled(database_url: str) -> None:
    cluster = FakeCluster()
    async with running(database_url, cluster) as mirror:
        tell(mirror, cluster.apply("a"))
        await until(lambda: cluster.state("a") == "Pending")
        del cluster.resources["a"]
        mirror.resource_deleted("a")
        await until(lambda: count_rows(database_url, "finished is null") == 0)
        sql(
            database_url,
            'insert into "workerJobs" (type, "clusterId", "resourceUid") values (%s, %s, %s)',
            "late",
            "here",
            "a",
        )
        await until(lambda: count_rows(database_url, "finished is null") == 0)


# --- troubles of one resource, or of all


class RefusingStore:
    """A store whose database refuses, or fails at, some jobs."""

    def __init__(self, store: PostgresJobStore) -> None:
        self._store = store
        self.errors: dict[str, Exception] = {}
        self.outage: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        if self.outage is not None:
            raise self.outage
        return getattr(self._store, name)

    async def submit(self, jobs: Sequence[NewJob]) -> list[Job]:
        for job in jobs:
            if job.type in self.errors:
                raise self.errors[job.type]
        return await self._store.submit(jobs)


@in_loop
async def test_job_that_the_database_refuses_is_invalid_and_the_others_are_taken(database_url: str) -> None:
    cluster = FakeCluster()
    async with open_store(database_url) as own:
        store = RefusingStore(own)
        store.errors["bad"] = InvalidInputError("The database refuses the job: no such thing")
        async with running(database_url, cluster, store=store) as mirror:
            for number in range(5):
                tell(mirror, cluster.apply(f"good-{number}"))
            tell(mirror, cluster.apply("bad", {"type": "bad"}))
            await until(lambda: all(map(cluster.state, cluster.resources)))
            assert [cluster.state(f"good-{number}") for number in range(5)] == ["Pending"] * 5
            status = cluster.resources["bad"]["status"]
            assert status["state"] == "Invalid"
            assert status["conditions"][0]["message"] == "The database refuses the job: no such thing"
            # A newer generation is tried again.
            store.errors.clear()
            tell(mirror, cluster.apply("bad", {"type": "bad", "priority": 1}, generation=2))
            await until(lambda: cluster.state("bad") == "Pending")


@in_loop
async def test_defect_that_one_resource_shows_does_not_stop_the_others(
    database_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POSTPONE_SECONDS", 0.1)
    cluster = FakeCluster()
    async with open_store(database_url) as own:
        store = RefusingStore(own)
        store.errors["bad"] = ZeroDivisionError()
        async with running(database_url, cluster, store=store) as mirror:
            for name, kind in (("a", "good"), ("b", "bad"), ("c", "good")):
                tell(mirror, cluster.apply(name, {"type": kind}))
            await until(lambda: cluster.state("a") and cluster.state("c"))
            assert "WorkerJob shop/b could not be mirrored" in caplog.text
            store.errors.clear()
            await until(lambda: cluster.state("b") == "Pending")


@in_loop
async def test_outage_of_the_database_is_said_once_per_loop_and_caught_up_with(
    database_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    caplog.set_level(logging.INFO, "workerjobs")
    cluster = FakeCluster()
    async with open_store(database_url) as own:
        store = RefusingStore(own)
        async with running(database_url, cluster, store=store) as mirror:
            tell(mirror, cluster.apply("a"))
            tell(mirror, cluster.apply("b"))
            await until(lambda: cluster.state("a") and cluster.state("b"))
            store.outage = DatabaseUnavailableError("The database is away")
            tell(mirror, cluster.apply("a", {"type": "report", "priority": 1}, generation=2))
            tell(mirror, cluster.apply("c"))
            del cluster.resources["b"]
            mirror.resource_deleted("b")
            await until(lambda: caplog.text.count("The database is away") == 2)
            await asyncio.sleep(0.3)  # several more tries
            store.outage = None
            await until(lambda: cluster.state("c") == "Pending")
            await until(lambda: count_rows(database_url, "finished is null and priority = 1") == 1)
            await until(lambda: count_rows(database_url, "finished is not null") == 1)
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("The database is away") == 2
    assert "Mirroring WorkerJobs works again" in messages


# --- what is looked at, and written


@in_loop
async def test_own_status_and_old_news_are_not_looked_at_again(database_url: str) -> None:
    cluster = FakeCluster()
    async with open_store(database_url) as store:
        mirror = Mirror(store, cluster, "here")  # type: ignore[arg-type]  # what it uses
        first = cluster.apply("a")
        tell(mirror, first)
        writing = asyncio.create_task(mirror._writer.run())
        await mirror.step()
        await until(lambda: cluster.state("a") == "Pending")
        assert not mirror._dirty
        tell(mirror, cluster.resources["a"])
        assert not mirror._dirty
        tell(mirror, first | {"metadata": first["metadata"] | {"resourceVersion": "1"}, "status": {"state": "Old"}})
        assert not mirror._dirty
        writing.cancel()
        await asyncio.wait({writing})


@in_loop
async def test_notices_make_a_resource_be_looked_at(database_url: str) -> None:
    cluster = FakeCluster()
    queue: asyncio.Queue[Notice] = asyncio.Queue()

    class Notices:
        is_listening = True

        async def notices(self) -> AsyncIterator[Notice]:
            while True:
                yield await queue.get()

    async with open_store(database_url) as store:
        mirror = Mirror(store, cluster, "here")  # type: ignore[arg-type]  # what it uses
        tell(mirror, cluster.apply("a"))
        tell(mirror, cluster.apply("b"))
        await mirror.step()
        listening = asyncio.create_task(mirror.listen(Notices()))
        for notice, expected in (
            (ResourceNotice("there", "a"), set()),
            (ResourceNotice("here", "stranger"), set()),
            (ResourceNotice("here", "a"), {"a"}),
            (Reconnected(), {"a", "b"}),
        ):
            mirror._dirty.clear()
            mirror._unhurried.clear()
            queue.put_nowait(notice)
            await until(queue.empty)
            await asyncio.sleep(0)
            assert {*mirror._dirty, *mirror._unhurried} == expected
        listening.cancel()
        await asyncio.wait({listening})


@in_loop
async def test_news_does_not_wait_for_the_slow_look_at_everything(database_url: str) -> None:
    cluster = FakeCluster()
    async with open_store(database_url) as store:
        mirror = Mirror(store, cluster, "here")  # type: ignore[arg-type]  # what it uses
        for number in range(2 * module.UNHURRIED_BATCH):
            tell(mirror, cluster.apply(f"job-{number}"))
        await mirror.step()
        last = f"job-{2 * module.UNHURRIED_BATCH - 1}"
        await mirror.sweep()
        await store.settle([settlement(job) for job in await claim_all(store) if job.resource_name == last])
        mirror._mark([last])
        await mirror.step()
        assert (mirror._resources[last].status or {})["state"] == "Succeeded"
        assert mirror.queue_length == module.UNHURRIED_BATCH - 1


@in_loop
async def test_short_run_is_written_as_its_end_alone(database_url: str) -> None:
    cluster = FakeCluster()
    cluster.may_write.clear()
    async with open_store(database_url) as store, running(database_url, cluster) as mirror:
        tell(mirror, cluster.apply("a"))
        await until(lambda: count_rows(database_url) == 1)
        (job,) = await claim_all(store)
        await store.settle([settlement(job)])
        mirror._mark(["a"])
        await asyncio.sleep(0.2)
        cluster.may_write.set()
        await until(lambda: cluster.state("a") == "Succeeded")
        # The first write had begun; what came between was never written.
        assert len(cluster.writes) <= 2


@in_loop
async def test_500_resources_at_once_are_mirrored(database_url: str) -> None:
    cluster = FakeCluster()
    async with running(database_url, cluster) as mirror:
        for number in range(750):
            tell(mirror, cluster.apply(f"job-{number}"))
        await until(lambda: all(cluster.state(name) == "Pending" for name in cluster.resources))
    assert count_rows(database_url) == 750


# --- the writer


def write(state: str, *, uid: str = "a", is_urgent: bool = True, **more: Any) -> StatusWrite:
    return StatusWrite(uid, "shop", uid, {"state": state} | more, is_urgent)


@dataclasses.dataclass
class Heard:
    written: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    lost: list[str] = dataclasses.field(default_factory=list)

    def writer(self, cluster: FakeCluster) -> StatusWriter:
        return StatusWriter(
            cluster,  # type: ignore[arg-type]  # what it uses
            lambda uid, version: self.written.append((uid, version)),
            self.lost.append,
        )


@asynccontextmanager
async def at_work(writer: StatusWriter) -> AsyncIterator[None]:
    task = asyncio.create_task(writer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@in_loop
async def test_only_the_latest_status_of_a_resource_is_written_one_at_a_time() -> None:
    cluster, heard = FakeCluster(), Heard()
    cluster.apply("a")
    cluster.may_write.clear()
    writer = heard.writer(cluster)
    async with at_work(writer):
        for state in ("1", "2", "3"):
            writer.put(write(state))
            await asyncio.sleep(0.01)
        cluster.may_write.set()
        await until(lambda: cluster.state("a") == "3")
    assert [status["state"] for _, status in cluster.writes] == ["1", "3"]


@in_loop
async def test_of_a_short_run_the_end_alone_is_written() -> None:
    cluster, heard = FakeCluster(), Heard()
    cluster.apply("a")
    cluster.apply("b")
    writer = heard.writer(cluster)
    async with at_work(writer):
        for state in ("Pending", "Running", "Succeeded"):
            writer.put(write(state))
        # One that stays is written too, after all that was put before it.
        writer.put(write("Pending", uid="b"))
        await until(lambda: cluster.state("b") == "Pending")
    assert [(uid, status["state"]) for uid, status in cluster.writes] == [("a", "Succeeded"), ("b", "Pending")]


@in_loop
async def test_progress_waits_for_its_turn_and_states_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "PROGRESS_SECONDS", 600.0)
    cluster, heard = FakeCluster(), Heard()
    cluster.apply("a")
    writer = heard.writer(cluster)
    async with at_work(writer):
        writer.put(write("Running"))
        await until(lambda: len(cluster.writes) == 1)
        for percent in range(20):
            writer.put(write("Running", is_urgent=False, percent=percent))
            await asyncio.sleep(0.01)
        assert len(cluster.writes) == 1
        monkeypatch.setattr(writer_module, "PROGRESS_SECONDS", 0.5)
        writer.put(write("Running", is_urgent=False, percent=20))
        await until(lambda: len(cluster.writes) == 2)
        assert cluster.writes[-1][1]["percent"] == 20
        monkeypatch.setattr(writer_module, "PROGRESS_SECONDS", 600.0)
        writer.put(write("Running", is_urgent=False, percent=50))
        writer.put(write("Succeeded"))
        await until(lambda: cluster.state("a") == "Succeeded")


@in_loop
async def test_status_is_kept_while_the_api_is_away(caplog: pytest.LogCaptureFixture) -> None:
    cluster, heard = FakeCluster(), Heard()
    for name in "abc":
        cluster.apply(name)
    cluster.write_error = ClusterUnavailableError("The API is away")
    writer = heard.writer(cluster)
    async with at_work(writer):
        for name in "abc":
            writer.put(write("Running", uid=name))
        await until(lambda: "The API is away" in caplog.text)
        writer.put(write("Succeeded", uid="a"))
        cluster.write_error = None
        await until(lambda: len(cluster.writes) == 3)
    assert {uid: status["state"] for uid, status in cluster.writes} == {
        "a": "Succeeded",
        "b": "Running",
        "c": "Running",
    }
    assert heard.lost == []
    assert caplog.text.count("The API is away") == 1


@in_loop
async def test_status_that_is_refused_or_has_no_resource_any_more_is_given_up() -> None:
    cluster, heard = FakeCluster(), Heard()
    cluster.apply("a")
    writer = heard.writer(cluster)
    async with at_work(writer):
        writer.put(write("Running", uid="gone"))
        await until(lambda: heard.lost == ["gone"])
        cluster.write_error = ClusterError("a is forbidden")
        writer.put(write("Running"))
        await until(lambda: heard.lost == ["gone", "a"])
    assert cluster.writes == []


# --- Events


@in_loop
async def test_repeated_events_are_one_with_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "UPDATE_SECONDS", 0.3)
    cluster = FakeCluster()
    writer = EventWriter(cluster, "WorkerJob")  # type: ignore[arg-type]  # what it uses
    task = asyncio.create_task(writer.run())
    failed = Event("Failed", "no paper", "Run", is_warning=True)
    writer.put("u", "shop", "a", failed)
    await until(lambda: cluster.events)
    for _ in range(49):
        writer.put("u", "shop", "a", failed)
    writer.put("u", "shop", "a", Event("Succeeded", "done", "Run"))
    await until(lambda: len(cluster.events) >= 3)
    await asyncio.sleep(0.5)
    assert sorted(cluster.events) == [("a", "Failed", 1), ("a", "Failed", 50), ("a", "Succeeded", 1)]
    assert len(cluster.event_names) == 2
    task.cancel()
    await asyncio.wait({task})


@in_loop
async def test_of_very_many_events_warnings_are_written_first_and_the_rest_is_dropped() -> None:
    cluster = FakeCluster()
    writer = EventWriter(cluster, "WorkerJob")  # type: ignore[arg-type]  # what it uses
    for number in range(3 * events_module.MAX_WAITING):
        writer.put(f"u-{number}", "shop", f"job-{number}", Event("Accepted", "fine", "Mirror"))
    writer.put("bad", "shop", "bad", Event("Refused", "not fine", "Mirror", is_warning=True))
    task = asyncio.create_task(writer.run())
    await until(lambda: len(cluster.events) >= events_module.BURST)
    await asyncio.sleep(0.3)
    assert cluster.events[0] == ("bad", "Refused", 1)
    assert len(cluster.events) < events_module.BURST + 20
    assert sum(map(len, writer._waiting)) <= events_module.MAX_WAITING
    task.cancel()
    await asyncio.wait({task})
