"""Records spans with OpenTelemetry's SDK, and exports them; the only module that does.

It needs the extra `otel`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import inf
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from healthomics_gateway.telemetry.spans import ERROR_TYPE, Attributes

SERVICE = "healthomics-gateway"
UNNAMED = "unknown_service"  # begins the SDK's name of a service without a name
REPORT_SECONDS = 300.0  # between two events about failures of OpenTelemetry
MAX_REPORT = 300  # characters

_NO_CONTEXT = Context()
_USER = re.compile(r"\S+@")  # user and password of a URL

_log = structlog.get_logger("tracing")


class RecordedSpan:
    """A span of OpenTelemetry; see `spans.Span`."""

    __slots__ = ("_span", "_tracer", "received_at")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        """Wrap `span`, which `tracer` has begun."""
        self._tracer = tracer
        self._span = span
        self.received_at: int | None = None

    @property
    def origin(self) -> SpanContext:
        """The identity of the span, for links."""
        return self._span.get_span_context()

    @property
    def ids(self) -> Mapping[str, str]:
        """The ids of the trace and of the span, for the log."""
        return {
            "trace_id": format_trace_id(self.origin.trace_id),
            "span_id": format_span_id(self.origin.span_id),
        }

    def child(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        is_client: bool = False,
        start: int | None = None,
    ) -> RecordedSpan:
        """Begin a span of the same trace, at `start` or now."""
        span = self._tracer.start_span(
            name,
            set_span_in_context(self._span, _NO_CONTEXT),
            SpanKind.CLIENT if is_client else SpanKind.INTERNAL,
            attributes,
            start_time=start,
        )
        return RecordedSpan(self._tracer, span)

    def link(self, origin: SpanContext) -> None:
        """Link the span to another one."""
        if self._span.is_recording():
            self._span.add_link(origin)

    def set(self, attributes: Attributes) -> None:
        """Set attributes."""
        self._span.set_attributes(attributes)

    def event(
        self, name: str, attributes: Attributes | None = None, *, at: int | None = None
    ) -> None:
        """Add an event, at `at` or now."""
        self._span.add_event(name, attributes, timestamp=at)

    def end(
        self, reason: str = "", *, is_fault: bool = False, at: int | None = None
    ) -> None:
        """End the span, at `at` or now, unless it has ended."""
        if not self._span.is_recording():
            return
        if reason:
            self._span.set_attribute(ERROR_TYPE, reason)
        if is_fault:
            self._span.set_status(StatusCode.ERROR)
        self._span.end(at)


class Tracing:
    """Begins the spans of calls and polls, and exports them; see `spans.Tracer`."""

    def __init__(
        self, provider: TracerProvider, *, propagator: TextMapPropagator | None = None
    ) -> None:
        """Record with `provider`; `propagator` reads the parents of calls."""
        self._provider = provider
        self._tracer = provider.get_tracer("healthomics_gateway")
        self._propagator = propagator or get_global_textmap()
        self._fields = frozenset(self._propagator.fields)

    def of_call(
        self, name: str, headers: Iterable[tuple[str, Any]], attributes: Attributes
    ) -> tuple[RecordedSpan | None, Mapping[str, str] | None]:
        """Return the span of a call, or None, and the ids for its log line.

        A call that isn't sampled has the id of its caller's trace, if there is one.
        """
        context = _NO_CONTEXT
        for key, _ in headers:
            if key in self._fields:
                context = self._propagator.extract(headers, context, _HEADERS)
                break
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes)
        if span.is_recording():
            recorded = RecordedSpan(self._tracer, span)
            return recorded, recorded.ids
        if context is _NO_CONTEXT:
            return None, None
        parent = get_current_span(context).get_span_context()
        if not parent.is_valid:
            return None, None
        return None, {"trace_id": format_trace_id(parent.trace_id)}

    def root(self, name: str, attributes: Attributes) -> RecordedSpan | None:
        """Return a span of a new trace, or None if it isn't sampled."""
        span = self._tracer.start_span(name, _NO_CONTEXT, attributes=attributes)
        return RecordedSpan(self._tracer, span) if span.is_recording() else None

    async def flushed(self, seconds: float) -> None:
        """Export the spans that have ended, for at most `seconds`."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._provider.force_flush()  # its own timeout has no effect
            loop.call_soon_threadsafe(ended.set)

        _in_thread(flush)
        try:
            await asyncio.wait_for(ended.wait(), seconds)
        except TimeoutError:
            _log.warning("spans_not_exported", seconds=seconds)

    def close(self) -> None:
        """Stop exporting, without waiting for it."""
        _in_thread(self._provider.shutdown)


def exported(protocol: str) -> Tracing:
    """Return the tracing that the variables OTEL_* ask for.

    `protocol` is `http/protobuf` or `grpc`. Raises an exception if a variable is
    invalid.
    """
    reports = logging.getLogger("opentelemetry")
    reports.handlers, reports.propagate = [Reports()], False
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith(UNNAMED):
        resource = resource.merge(Resource({"service.name": SERVICE}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(EXPORTERS[protocol]()))
    return Tracing(provider)


def _grpc_exporter() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc import (  # noqa: PLC0415  # it starts threads
        trace_exporter,
    )

    return trace_exporter.OTLPSpanExporter()


EXPORTERS: Mapping[str, Callable[[], SpanExporter]] = {
    "http/protobuf": OTLPSpanExporter,
    "grpc": _grpc_exporter,
}


class Reports(logging.Handler):
    """Logs what OpenTelemetry reports as an event, at most one in `REPORT_SECONDS`.

    While no collector can be reached, OpenTelemetry reports each batch that fails, and
    while its queue is full, each span that is lost.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a report."""
        super().__init__(logging.WARNING)
        self._clock = clock
        self._quiet_until = -inf
        self._count = 0  # since the last event

    def emit(self, record: logging.LogRecord) -> None:
        """Log a report, or count it."""
        self._count += 1
        if self._clock() < self._quiet_until:
            return
        self._quiet_until = self._clock() + REPORT_SECONDS
        why = _USER.sub("***@", record.getMessage())[:MAX_REPORT]
        _log.warning("tracing_failed", why=why, reports=self._count)
        self._count = 0


class _Headers(Getter[Any]):
    """Reads the metadata of a call for a propagator."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        """Return the values of a key, or None; gRPC has made its name lower case."""
        return [each for name, each in carrier if name == key] or None

    def keys(self, carrier: Any) -> list[str]:
        """Return all keys."""
        return [name for name, _ in carrier]


_HEADERS = _Headers()


def _in_thread(work: Callable[[], object]) -> None:
    """Run blocking work in a thread that doesn't keep the process."""
    threading.Thread(target=partial(_quietly, work), name="spans", daemon=True).start()


def _quietly(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # no failure of tracing hurts the gateway
        _log.warning("tracing_failed", why=type(error).__name__, reports=1)
