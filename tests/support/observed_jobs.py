"""Jobs that call out as an instrumented HTTP client would, and a program and an error hook around them."""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

from workerjobs import JobContext, job


def call(url: str) -> None:
    """Send a request with the current trace context in its headers, as instrumentations of HTTP clients do."""
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60):
        pass


@job("callOut")
def call_out(data: dict[str, Any], context: JobContext) -> str | None:
    print("calling out")
    context.log.info("calling")
    call(data["url"])
    return context.traceparent


@job("callOutAsync")
async def call_out_async(data: dict[str, Any], context: JobContext) -> str | None:
    call(data["url"])
    return context.traceparent


@job("callOutFresh", isolation="fresh")
def call_out_fresh(data: dict[str, Any], context: JobContext) -> str | None:
    call(data["url"])
    return context.traceparent


@job("failOnce")
def fail_once(data: dict[str, Any], context: JobContext) -> None:
    if context.attempt == 1:
        raise LookupError("no such thing")


@job("whatIsLoaded")
def what_is_loaded(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    return {"traceparent": context.traceparent, "modules": [name for name in sys.modules if "opentelemetry" in name]}


def submit_traced(url: str, jobs_json: str) -> None:
    """Submit jobs within a span of a program that has set up OpenTelemetry from its variables."""
    import psycopg
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from workerjobs import client

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    with (
        psycopg.connect(url, autocommit=True) as connection,
        trace.get_tracer("shop").start_as_current_span("GET /order"),
    ):
        jobs = json.loads(jobs_json)
        for each in jobs["submit"]:
            client.submit(connection, each)
        client.submit_many(connection, jobs["submit_many"])
        for each in jobs["schedule"]:
            client.schedule(connection, each)
    provider.shutdown()


if __name__ == "__main__":
    submit_traced(sys.argv[1], sys.argv[2])
