"""Traces across processes: a job's row carries a W3C trace context, and OpenTelemetry uses it where it is in use.

Nothing here imports OpenTelemetry unless a worker was asked to trace (`RunTracing`); programs that submit have imported
it themselves, or do not trace. It has its one home here.

Source:
    W3C Trace Context, "traceparent Header"; OpenTelemetry, "Semantic conventions for messaging spans".
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
"""How long the end of a process waits for its last spans to be sent."""
EXPORT_EVERY_MS = 1000
"""Where OTEL_BSP_SCHEDULE_DELAY says nothing: a child may be ended sooner than after the SDK's 5 s."""
SERVICE_NAME = "workerjobs-worker"
"""Where OTEL_SERVICE_NAME says nothing."""

_API = "opentelemetry.trace"
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_IDS = r"(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}"
_TRACEPARENT = re.compile(rf"00-{_IDS}|(?!00|ff)[0-9a-f]{{2}}-{_IDS}(-.*)?")


def trace_id_of(traceparent: str | None) -> str | None:
    """Read the trace's id; None for anything that is no traceparent.

    >>> trace_id_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    '0af7651916cd43dd8448eb211c80319c'
    >>> trace_id_of("hello")
    """
    found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    return None if found is None else found[1] or found[3]


# --- submitting


caller: ContextVar[str | None] = ContextVar("caller", default=None)
"""The traceparent that a request to this program came with, where it does not trace itself."""


def current() -> str | None:
    """The context that this program is in, or that a request came with; None where neither is traced."""
    api: Any = sys.modules.get(_API)
    if api is None or not hasattr(api, "use_span"):
        # The second: somebody else's thread is importing it at this moment.
        return caller.get()
    return _traceparent_of(api.get_current_span().get_span_context()) or caller.get()


@contextmanager
def submitting(job_type: str, count: int = 1) -> Iterator[str | None]:
    """A span around storing jobs, where this program traces.

    It does not become the current one: a generator holds it open, and may be driven in turns with others.

    Args:
        job_type: The jobs' type; of several types, the first one's.
        count: How many.

    Yields:
        The traceparent for their rows; None where nothing is traced here.
    """
    api: Any = sys.modules.get(_API)
    if api is None or not hasattr(api, "use_span"):
        yield current()
        return
    attributes: dict[str, str | int] = {
        "messaging.system": "workerjobs",
        "messaging.operation.name": "submit",
        "messaging.operation.type": "send",
        "messaging.destination.name": job_type,
    }
    if count != 1:
        attributes["messaging.batch.message_count"] = count
    span = _tracer_of(api).start_span(f"submit {job_type}", kind=api.SpanKind.PRODUCER, attributes=attributes)
    try:
        yield _traceparent_of(span.get_span_context()) or caller.get()
    except Exception as error:
        span.record_exception(error)
        span.set_status(api.StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        span.end()


# --- running


def is_asked_for(environment: Mapping[str, str]) -> bool:
    """Whether the standard variables of OpenTelemetry ask for traces: they name an endpoint, or the exporter."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if exporter := environment.get("OTEL_TRACES_EXPORTER", "").strip():
        return exporter != "none"
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return any(environment.get(name, "").strip() for name in endpoints)


def obstacle(environment: Mapping[str, str]) -> str | None:
    """Say what keeps this installation from tracing as it is asked to; None: nothing."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if exporter != "otlp":
        return f"OTEL_TRACES_EXPORTER={exporter!r} is not accepted: give otlp or none"
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := environment.get(name, "").strip():
            if protocol != "http/protobuf":
                return f"{name}={protocol!r} is not accepted: give http/protobuf (port 4318 of most collectors)"
            break
    if not all(map(_is_installed, _PACKAGES)):
        return 'it needs more packages: pip install "workerjobs[otel]"'
    return None


class RunTracing:
    """Spans around the runs of jobs, in the process that runs them.

    Args:
        exports: Whether to set up the SDK from the OTEL_* variables where the job modules have not done it.

    Raises:
        Exception: Whatever OpenTelemetry raises at variables that it can't use.
    """

    def __init__(self, *, exports: bool) -> None:
        self._api: Any = importlib.import_module(_API)
        self._context: Any = importlib.import_module("opentelemetry.context")
        propagation = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
        self._propagator: Any = propagation.TraceContextTextMapPropagator()
        self._provider: Any = None
        self._exporter: Any = None
        if exports:
            self._set_up()
        self._process = 0
        """Where spans were made; a fork of it has to export its own."""
        self._tracer: Tracer | None = None

    @classmethod
    def where_used(cls, *, exports: bool) -> RunTracing | None:
        """Make one where it is asked for, or where the job modules use OpenTelemetry themselves."""
        if not exports and _API not in sys.modules:
            return None
        try:
            return cls(exports=exports)
        except Exception:
            log.exception("Jobs are not traced: OpenTelemetry can't be set up")
            return None

    @contextmanager
    def run(
        self, job_id: int, job_type: str, attempt: int, traceparent: str | None, *, is_root: bool
    ) -> Iterator[str | None]:
        """A span around a run, current for what the job does.

        Args:
            job_id: The job's.
            job_type: Likewise.
            attempt: Likewise.
            traceparent: What the row carries.
            is_root: The run begins a trace of its own, and only links to what the row carries.

        Yields:
            The traceparent of the span, or that of the row where nothing is traced.
        """
        try:
            span, token = self._begin(job_id, job_type, attempt, traceparent, is_root=is_root)
        except Exception:
            log.exception("This run is not traced")
            yield traceparent
            return
        try:
            yield _traceparent_of(span.get_span_context()) or traceparent
        except BaseException as error:
            with _logged():
                # Also one that was interrupted: who reads the trace sees a run that did not come to its end.
                span.record_exception(error)
                span.set_status(self._api.StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            with _logged():
                self._context.detach(token)
                span.end()

    def _begin(
        self, job_id: int, job_type: str, attempt: int, traceparent: str | None, *, is_root: bool
    ) -> tuple[Span, Any]:
        """Begin a run's span and make it the current one; returns it, and what makes the one before current again."""
        api = self._api
        parent = self._propagator.extract(
            {} if traceparent is None else {"traceparent": traceparent}, self._context.Context()
        )
        links = []
        if is_root:
            if (origin := api.get_current_span(parent).get_span_context()).is_valid:
                links.append(api.Link(origin))
            parent = self._context.Context()
        span = self._tracer_here().start_span(
            f"run {job_type}",
            context=parent,
            kind=api.SpanKind.CONSUMER,
            links=links,
            attributes={
                "messaging.system": "workerjobs",
                "messaging.operation.name": "run",
                "messaging.operation.type": "process",
                "messaging.destination.name": job_type,
                "messaging.message.id": str(job_id),
                "workerjobs.job.attempt": attempt,
            },
            record_exception=False,
            set_status_on_exception=False,
        )
        return span, self._context.attach(api.set_span_in_context(span, parent))

    def close(self) -> None:
        """Send the last spans, for `FLUSH_SECONDS` at most, before this process ends."""
        if self._process != os.getpid():
            return
        flush = getattr(self._api.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            # The SDK's own timeout does not hold where the collector is away.
            thread = threading.Thread(target=flush, daemon=True)
            thread.start()
            thread.join(FLUSH_SECONDS)

    def _tracer_here(self) -> Tracer:
        if self._tracer is None or self._process != os.getpid():
            self._process = os.getpid()
            if self._provider is not None:
                self._export()
            self._tracer = _tracer_of(self._api)
        return self._tracer

    def _set_up(self) -> None:
        """Prepare the SDK from its variables, where the job modules have not done it.

        Here is what takes long, so that a process forked for a job does not do it again; and nothing that starts a
        thread, which would forbid the fork.
        """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME as NAME
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider

        if not isinstance(self._api.get_tracer_provider(), self._api.ProxyTracerProvider):
            return
        # What the variables say wins over this.
        resource = Resource.create({NAME: SERVICE_NAME}).merge(OTELResourceDetector().detect())
        self._exporter = OTLPSpanExporter()
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._api.set_tracer_provider(self._provider)

    def _export(self) -> None:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        delay = None if os.environ.get("OTEL_BSP_SCHEDULE_DELAY") else EXPORT_EVERY_MS
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, schedule_delay_millis=delay))


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        # Of the packages around it.
        return False


@contextmanager
def _logged() -> Iterator[None]:
    """Samplers, processors and exporters may be anyone's: what they raise is no failure of the job."""
    try:
        yield
    except Exception:
        log.exception("The span of this run is not complete")


@cache
def _version() -> str:
    # Read from files: once, and not for every job.
    return version("workerjobs")


def _tracer_of(api: Any) -> Tracer:
    tracer: Tracer = api.get_tracer("workerjobs", _version())
    return tracer


def _traceparent_of(context: SpanContext) -> str | None:
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
