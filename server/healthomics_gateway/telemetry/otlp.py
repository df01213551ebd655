"""Exports spans by OTLP. It needs the extra `otel`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from healthomics_gateway.telemetry.tracing import OtelTracer
from healthomics_gateway.telemetry.tracing_reports import (
    Reports,
    attach,
)
from healthomics_gateway.telemetry.tracing_variables import PROPAGATORS, collector

SERVICE = "healthomics-gateway"
UNNAMED = "unknown_service"  # begins the SDK's name of a service without a name
GROUP = "opentelemetry_propagator"  # of the entry points of propagators
UNUSED = frozenset({"none", "baggage"})  # nothing in the gateway reads baggage


def make_exporting_tracer(variables: Mapping[str, str], protocol: str) -> OtelTracer:
    """Create the tracer that the variables OTEL_* ask for.

    They must also be those of the process. `protocol` is `http/protobuf` or `grpc`.
    Raises an exception if OpenTelemetry does, or if it only logs a fault.
    """
    propagator = make_propagator(variables.get(PROPAGATORS))
    silent = attach(logging.NullHandler())
    tracer = OtelTracer(_exporting_provider(protocol), propagator=propagator)
    if silent.has_reports:
        tracer.close()
        raise RejectedValueError
    attach(Reports(collector=collector(variables, protocol)))
    return tracer


def _exporting_provider(protocol: str) -> TracerProvider:
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith(UNNAMED):
        resource = resource.merge(Resource({"service.name": SERVICE}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(EXPORTERS[protocol]()))
    return provider


def make_propagator(names: str | None) -> TextMapPropagator:
    """Return what reads a call's parent; raises UnknownPropagatorError."""
    if names is None:
        return TraceContextTextMapPropagator()
    known = {each.name: each for each in entry_points(group=GROUP)}
    listed = [each.strip() for each in names.split(",")]
    if set(listed) - known.keys() - UNUSED:
        raise UnknownPropagatorError
    if "none" in listed:
        return CompositePropagator([])
    used = dict.fromkeys(each for each in listed if each not in UNUSED)
    return CompositePropagator([known[each].load()() for each in used])


class UnknownPropagatorError(ValueError):
    """There is no propagator with a name."""


class RejectedValueError(ValueError):
    """OpenTelemetry has logged a fault of a variable, and goes on with a default."""


def _grpc_exporter() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc import (  # noqa: PLC0415  # it starts threads
        trace_exporter,
    )

    return trace_exporter.OTLPSpanExporter()


EXPORTERS: Mapping[str, Callable[[], SpanExporter]] = {
    "http/protobuf": OTLPSpanExporter,
    "grpc": _grpc_exporter,
}
