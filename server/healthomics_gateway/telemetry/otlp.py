"""Exports spans by OTLP, and reports OpenTelemetry's failures rarely.

It needs the extra `otel`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from math import inf

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from healthomics_gateway.telemetry.tracing import OtelTracer

SERVICE = "healthomics-gateway"
UNNAMED = "unknown_service"  # begins the SDK's name of a service without a name
REPORT_SECONDS = 300.0  # between two events about failures of OpenTelemetry
MAX_REPORT = 300  # characters

_USER = re.compile(r"\S+@")  # user and password of a URL

_log = structlog.get_logger("tracing")


def make_exporting_tracer(protocol: str) -> OtelTracer:
    """Create the tracer that the variables OTEL_* ask for.

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
    return OtelTracer(provider)


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
