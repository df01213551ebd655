"""What OpenTelemetry reports in the log, and the names of attributes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.semconv._incubating.attributes import (
    aws_attributes,
    cloud_attributes,
    http_attributes,
    rpc_attributes,
    url_attributes,
)
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from structlog.testing import capture_logs

from healthomics_gateway.telemetry import spans
from healthomics_gateway.telemetry.tracing import (
    MAX_REPORT,
    REPORT_SECONDS,
    Reports,
    Tracing,
)
from testkit.clocks import MonotonicClock

OWN = "healthomics_gateway."
CONVENTIONS = (
    *(aws_attributes, cloud_attributes, error_attributes, http_attributes),
    *(rpc_attributes, server_attributes, url_attributes),
)


def report(reports: Reports, text: str) -> list[Any]:
    """Return the events for one report of OpenTelemetry."""
    record = logging.LogRecord(
        "opentelemetry.x", logging.WARNING, "", 0, text, (), None
    )
    with capture_logs() as log:
        reports.handle(record)
    return log


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


def test_reports_are_logged_rarely() -> None:
    """One event in five minutes; the next has the number of those left out."""
    clock = MonotonicClock()
    reports = Reports(clock=clock)
    (first,) = report(reports, "a")
    assert [] == report(reports, "b")
    clock.now += REPORT_SECONDS
    (second,) = report(reports, "c")

    assert ("a", 1) == (first["why"], first["reports"])
    assert ("c", 2) == (second["why"], second["reports"])


def test_report_has_no_password_and_a_bound() -> None:
    """The user and password of an endpoint are masked, and long texts are cut."""
    (event,) = report(Reports(), "to http://user:secret@host " + "x" * MAX_REPORT)
    assert event["why"].startswith("to ***@host x")
    assert MAX_REPORT == len(event["why"])


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
    Tracing(provider).close()
    await failing.asked.wait()


async def test_span_ends_once() -> None:
    """The first end counts, and later links are ignored."""
    tracing = Tracing(TracerProvider(shutdown_on_exit=False))
    span = tracing.root("poll", {})
    other = tracing.root("poll", {})
    assert span
    assert other
    span.end("FIRST")
    span.end("SECOND", is_fault=True)
    span.link(other.origin)
    recorded: Any = span._span  # noqa: SLF001  # its attributes have no public way
    assert "FIRST" == recorded.attributes["error.type"]
    assert () == recorded.links
