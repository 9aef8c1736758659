"""Traces: from a submit through the row and the claim to the job's process, and out of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.cli import environment
from tests.support.collector import Collector, Span, collector
from tests.support.loop import in_loop, until
from tests.support.table import open_store
from tests.support.workers import finished, worker_process
from workerjobs import tracing
from workerjobs.domain.job import Job, NewJob
from workerjobs.ports.jobs import JobQuery
from workerjobs.storage.postgres import PostgresJobStore

JOBS = str(Path(__file__).parents[1] / "support" / "observed_jobs.py")
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE_ID}-{SPAN_ID}-01"


def submit_traced(url: str, collected: Collector, **given: list[dict[str, Any]]) -> None:
    ended = subprocess.run(
        [sys.executable, JOBS, url, json.dumps(given)],
        env=environment(url, OTEL_EXPORTER_OTLP_ENDPOINT=collected.url, OTEL_SERVICE_NAME="shop"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


async def first_of(store: PostgresJobStore, job_type: str) -> Job:
    job = min(await store.list(JobQuery(type=job_type)), key=lambda each: each.id)
    return await finished(store, job)


@in_loop
async def test_trace_goes_from_the_submit_through_the_job_to_what_it_calls(database_url: str, tmp_path: Path) -> None:
    kinds = ("callOut", "callOutAsync", "callOutFresh")
    with collector() as collected:
        await asyncio.to_thread(
            submit_traced,
            database_url,
            collected,
            submit=[
                *({"type": kind, "data": {"url": f"{collected.url}/{kind}"}} for kind in kinds),
                {"type": "failOnce", "retry": {"limit": 1, "initialDelay": 0}},
                {"type": "whatIsLoaded", "traceparent": GIVEN},
            ],
            submit_many=[{"type": "echoMany"}, {"type": "echoMany"}],
            schedule=[{"type": "whatIsLoaded", "pool": "default", "tag": "line", "cronSchedule": "* * * * * *"}],
        )
        (request,) = collected.find("GET /order")
        submits = {span.name: span for span in collected.spans if span.kind == 4}
        assert {span.service for span in collected.spans} == {"shop"}
        assert {span.parent_id for span in submits.values()} == {request.span_id}
        async with (
            worker_process(
                database_url, tmp_path, WORKER_JOB_MODULES=JOBS, OTEL_EXPORTER_OTLP_ENDPOINT=collected.url
            ) as process,
            open_store(database_url) as store,
        ):
            jobs = {kind: await first_of(store, kind) for kind in kinds}
            failed = await first_of(store, "failOnce")
            tried_again = await follow_up_of(store, failed)
            given = next(job for job in await store.list(JobQuery()) if job.traceparent == GIVEN)
            tick = await finished_tick(store)
            bulk = await store.list(JobQuery(type="echoMany"))
            assert [is_context_of(each.traceparent, request) for each in bulk] == [True, True]
            for job in (tried_again, given):
                await finished(store, job)
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
            records = process.records()
        # A worker that ends has sent all of its spans.
        for kind, job in jobs.items():
            (run,) = runs_of(collected, job)
            submit = submits[f"submit {kind}"]
            assert is_context_of(job.traceparent, submit)
            assert (run.trace_id, run.parent_id, run.kind) == (request.trace_id, submit.span_id, 5)
            assert (run.service, run.is_error) == ("workerjobs-worker", False)
            assert is_context_of(job.result, run)
            assert is_context_of(collected.calls[f"/{kind}"]["Traceparent"], run)
        lines = [record for record in records if record.get("job_id") == jobs["callOut"].id]
        assert {"calling out", "calling", "Succeeded"} <= {record["message"] for record in lines}
        assert {record.get("trace_id") for record in lines} == {request.trace_id}
        (first,), (second,) = runs_of(collected, failed), runs_of(collected, tried_again)
        assert (first.is_error, first.events) == (True, ("exception",))
        # What follows a run belongs to it.
        assert is_context_of(tried_again.traceparent, first)
        assert (second.trace_id, second.parent_id, second.is_error) == (request.trace_id, first.span_id, False)
        (told,) = runs_of(collected, given)
        assert (told.trace_id, told.parent_id) == (TRACE_ID, SPAN_ID)
        # Each run of a cron line is a trace by itself: one of all of them would never end.
        (ticked,) = runs_of(collected, tick)
        (schedule,) = [each for each in collected.find("submit whatIsLoaded") if is_context_of(tick.traceparent, each)]
        assert ticked.trace_id != request.trace_id
        assert (ticked.parent_id, ticked.links) == ("", (f"{schedule.trace_id}-{schedule.span_id}",))
        assert is_context_of(tick.result["traceparent"], ticked)
        assert {record["trace_id"] for record in records if record.get("job_id") == tick.id} == {ticked.trace_id}


def runs_of(collected: Collector, job: Job) -> list[Span]:
    return collected.find(f"run {job.type}", messaging_message_id=str(job.id))


def is_context_of(traceparent: str | None, span: Span) -> bool:
    """Whether it is this span, sampled; the SDK says in the flags as well whether the id is random."""
    found = re.fullmatch(rf"00-{span.trace_id}-{span.span_id}-0([0-9a-f])", traceparent or "")
    return found is not None and int(found[1], 16) & 1 == 1


async def find(store: PostgresJobStore, is_it: Callable[[Job], bool]) -> Job:
    async def look() -> Job | None:
        return next((each for each in await store.list(JobQuery()) if is_it(each)), None)

    found = await until(look)
    assert found is not None
    return found


async def follow_up_of(store: PostgresJobStore, job: Job) -> Job:
    return await find(store, lambda each: each.rescheduled_from_job == job.id)


async def finished_tick(store: PostgresJobStore) -> Job:
    return await find(store, lambda each: each.tag == "line" and each.state.is_final)


@in_loop
async def test_without_opentelemetry_jobs_are_told_the_context_and_nothing_of_it_is_loaded(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        worker_process(database_url, tmp_path, WORKER_JOB_MODULES=JOBS, OTEL_TRACES_EXPORTER="zipkin") as process,
        open_store(database_url) as store,
    ):
        (job,) = await store.submit([NewJob(type="whatIsLoaded", traceparent=GIVEN)])
        assert (await finished(store, job)).result == {"traceparent": GIVEN, "modules": []}
        await until(lambda: process.said("Succeeded"))
        assert {record.get("trace_id") for record in process.said("Succeeded")} == {TRACE_ID}
        (warning,) = process.said("not traced")
        assert warning["message"] == (
            "Jobs are not traced: OTEL_TRACES_EXPORTER='zipkin' is not accepted: give otlp or none"
        )


def test_a_request_to_the_api_hands_its_context_to_the_job(database_url: str) -> None:
    from workerjobs import client

    token = tracing.caller.set(GIVEN)
    try:
        with psycopg.connect(database_url) as connection:
            assert client.submit(connection, {"type": "echo"}).traceparent == GIVEN
    finally:
        tracing.caller.reset(token)


@pytest.mark.parametrize(
    ("variables", "is_asked_for", "obstacle"),
    [
        ({}, False, None),
        ({"OTEL_SERVICE_NAME": "shop"}, False, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True, None),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True, None),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, None),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False, "none"),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False, None),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            True,
            "OTEL_EXPORTER_OTLP_PROTOCOL='grpc' is not accepted: give http/protobuf",
        ),
    ],
)
def test_the_standard_variables_decide(variables: dict[str, str], is_asked_for: bool, obstacle: str | None) -> None:
    assert tracing.is_asked_for(variables) is is_asked_for
    found = tracing.obstacle(variables)
    assert found is None if obstacle is None else obstacle in (found or "")


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        (GIVEN, TRACE_ID),
        (f"01-{TRACE_ID}-{SPAN_ID}-00-more", TRACE_ID),
        (f"{GIVEN}-more", None),
        (GIVEN.upper(), None),
        (f"ff-{TRACE_ID}-{SPAN_ID}-01", None),
        (f"00-{'0' * 32}-{SPAN_ID}-01", None),
        (f"00-{TRACE_ID}-{'0' * 16}-01", None),
        ("", None),
        (None, None),
    ],
)
def test_trace_id_is_read_from_valid_contexts_alone(traceparent: str | None, trace_id: str | None) -> None:
    assert tracing.trace_id_of(traceparent) == trace_id


def test_what_anybodys_processors_raise_is_no_failure_of_a_job(caplog: pytest.LogCaptureFixture) -> None:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

    class Failing(SpanProcessor):
        def __init__(self, moment: str) -> None:
            self._moment = moment

        def on_start(self, span: object, parent_context: object = None) -> None:
            if self._moment == "start":
                raise RuntimeError("no disk")

        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("no disk")

    for moment in ("start", "end"):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(Failing(moment))
        traced = tracing.RunTracing(exports=False)
        traced._process, traced._tracer = os.getpid(), provider.get_tracer("test")
        with traced.run(1, "echo", 1, GIVEN, is_root=False) as traceparent:
            assert tracing.trace_id_of(traceparent) == TRACE_ID
        with pytest.raises(ValueError, match="the job's"), traced.run(1, "echo", 1, GIVEN, is_root=False):
            raise ValueError("the job's")
    assert [record.message for record in caplog.records if record.name == "workerjobs.tracing"] == [
        *["This run is not traced"] * 2,
        *["The span of this run is not complete"] * 2,
    ]
