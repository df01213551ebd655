"""Spans of OpenTelemetry: their attributes, their ends, and what is sampled."""

from __future__ import annotations

import asyncio
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.semconv._incubating.attributes import (
    aws_attributes,
    cloud_attributes,
    http_attributes,
    rpc_attributes,
    url_attributes,
)
from opentelemetry.semconv.attributes import error_attributes, server_attributes

from healthomics_gateway.telemetry import spans
from healthomics_gateway.telemetry.tracing import OtelTracer

OWN = "healthomics_gateway."
CONVENTIONS = (
    *(aws_attributes, cloud_attributes, error_attributes, http_attributes),
    *(rpc_attributes, server_attributes, url_attributes),
)


def test_attributes_are_those_of_the_conventions() -> None:
    """Each attribute is known to the installed conventions, or has the own prefix."""
    known = {
        value
        for module in CONVENTIONS
        for value in vars(module).values()
        if isinstance(value, str)
    }
    used = {name for names in spans.SPANS.values() for name in names}
    assert set() == {each for each in used if not each.startswith(OWN)} - known


class _Failing(SpanProcessor):
    """A processor that can't be stopped."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def shutdown(self) -> None:
        self._loop.call_soon_threadsafe(self.asked.set)
        raise RuntimeError


async def test_failure_to_stop_is_harmless() -> None:
    """`close` returns at once, whatever the processor raises."""
    provider = TracerProvider(shutdown_on_exit=False)
    failing = _Failing()
    provider.add_span_processor(failing)
    OtelTracer(provider).close()
    await failing.asked.wait()


async def test_span_ends_once() -> None:
    """The first end counts, and later links are ignored."""
    tracer = OtelTracer(TracerProvider(shutdown_on_exit=False))
    span = tracer.root("poll", {})
    other = tracer.root("poll", {})
    assert span
    assert other
    span.end("FIRST")
    span.end("SECOND", is_fault=True)
    span.link(other.origin)
    recorded: Any = span._span  # noqa: SLF001  # its attributes have no public way
    assert "FIRST" == recorded.attributes["error.type"]
    assert () == recorded.links


class _Counting(Sampler):
    """Samples every call, and counts the decisions."""

    def __init__(self) -> None:
        self.traces: list[int] = []

    def should_sample(self, _context: Any, trace_id: int, *_: Any) -> SamplingResult:
        self.traces.append(trace_id)
        return SamplingResult(Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "counting"


def test_sampler_decides_once_for_each_span() -> None:
    """The decision before a span is created is the one for it, with the trace's id."""
    sampler = _Counting()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracer = OtelTracer(provider)
    span, ids = tracer.of_call("call", (), {})
    assert span
    assert ids
    assert [int(ids["trace_id"], 16)] == sampler.traces
    span.child("part")
    assert tracer.root("poll", {})
    assert 3 == len(set(sampler.traces)) + 1  # the part has the trace of the call
    assert "counting" == provider.sampler.get_description()
