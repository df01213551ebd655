"""Records spans with OpenTelemetry's SDK.

It needs the extra `otel`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider
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
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from healthomics_gateway.telemetry.sampling import Decisions, TraceIds
from healthomics_gateway.telemetry.spans import ERROR_TYPE, Attributes
from healthomics_gateway.threads import in_thread

THREAD = "spans"  # the name of those that export

_NO_CONTEXT = Context()

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


class OtelTracer:
    """Begins the spans of calls and polls, and exports them; see `spans.Tracer`."""

    def __init__(
        self, provider: TracerProvider, *, propagator: TextMapPropagator | None = None
    ) -> None:
        """Record with `provider`; `propagator` reads the parent, by default W3C's."""
        self._provider = provider
        self._decisions = Decisions(provider.sampler)
        self._ids = TraceIds()
        provider.sampler, provider.id_generator = self._decisions, self._ids
        self._tracer = provider.get_tracer("healthomics_gateway")
        self._propagator = propagator or TraceContextTextMapPropagator()
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
        else:
            if self._decisions.drops_roots:
                return None, None
        parent = get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else self._ids.draw()
        if self._decisions.samples(context, trace_id, name, attributes):
            span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes)
            recorded = RecordedSpan(self._tracer, span)
            return recorded, recorded.ids
        ids = {"trace_id": format_trace_id(trace_id)} if parent.is_valid else None
        return None, ids

    def root(self, name: str, attributes: Attributes) -> RecordedSpan | None:
        """Return a span of a new trace, or None if it isn't sampled."""
        span = self._tracer.start_span(name, _NO_CONTEXT, attributes=attributes)
        return RecordedSpan(self._tracer, span) if span.is_recording() else None

    async def flush(self, seconds: float) -> None:
        """Export the spans that have ended, for at most `seconds`."""
        work = partial(_quietly, self._provider.force_flush)
        try:  # The timeout of `force_flush` itself has no effect.
            await asyncio.wait_for(in_thread(work, name=THREAD), seconds)
        except TimeoutError:
            _log.warning("spans_not_exported", seconds=seconds)

    def close(self) -> None:
        """Stop exporting, without waiting for it."""
        work = partial(_quietly, self._provider.shutdown)
        threading.Thread(target=work, name=THREAD, daemon=True).start()


class _Headers(Getter[Any]):
    """Reads the metadata of a call for a propagator."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        """Return the values of a key, or None; gRPC has made its name lower case."""
        return [each for name, each in carrier if name == key] or None

    def keys(self, carrier: Any) -> list[str]:
        """Return all keys."""
        return [name for name, _ in carrier]


_HEADERS = _Headers()


def _quietly(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # no failure of tracing hurts the gateway
        _log.warning("tracing_failed", why=type(error).__name__, reports=1)
