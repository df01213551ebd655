"""The propagators, and the exporters."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.propagators.textmap import TextMapPropagator
from structlog.testing import capture_logs

from healthomics_gateway.telemetry.otlp import (
    EXPORTERS,
    UnknownPropagatorError,
    make_exporting_tracer,
    make_propagator,
)
from healthomics_gateway.telemetry.tracing_setup import SUPPORTED

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")


def fields(propagator: TextMapPropagator) -> set[str]:
    """Return the metadata that a propagator reads."""
    return set(propagator.fields)


def test_every_protocol_has_an_exporter() -> None:
    """The protocols that are accepted are those of the table."""
    assert set(SUPPORTED) == set(EXPORTERS)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(None, {"traceparent", "tracestate"}, id="default"),
        pytest.param(
            "tracecontext, baggage", {"traceparent", "tracestate"}, id="baggage"
        ),
        pytest.param("tracecontext,none", set(), id="none"),
    ],
)
def test_parent_is_read_from_what_is_asked_for(
    names: str | None, expected: set[str]
) -> None:
    """By default W3C's; baggage is never read, as nothing uses it."""
    assert expected == fields(make_propagator(names))


def test_unknown_propagator_is_a_fault() -> None:
    """A name that isn't installed is an error."""
    with pytest.raises(UnknownPropagatorError):
        make_propagator("tracecontext,pigeon")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((("baggage", "patient=JohnDoe;mrn=%zz,=%zz"),), id="baggage"),
        pytest.param((PARENT, ("tracestate", "JohnDoe=%zz,,,=")), id="tracestate"),
        pytest.param((("traceparent", "JohnDoe" * 100),), id="traceparent"),
    ],
)
def test_caller_cannot_write_an_event(headers: Any) -> None:
    """Metadata that OpenTelemetry warns about reaches no event."""
    tracer = make_exporting_tracer({}, "http/protobuf")
    with capture_logs() as log:
        span, _ = tracer.of_call("call", headers, {})
    tracer.close()

    assert span
    assert [] == log
