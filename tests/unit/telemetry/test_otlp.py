"""What OpenTelemetry reports in the log."""

from __future__ import annotations

import logging
from typing import Any

from structlog.testing import capture_logs

from healthomics_gateway.telemetry.otlp import MAX_REPORT, REPORT_SECONDS, Reports
from testkit.clocks import MonotonicClock


def report(reports: Reports, text: str) -> list[Any]:
    """Return the events for one report of OpenTelemetry."""
    record = logging.LogRecord(
        "opentelemetry.x", logging.WARNING, "", 0, text, (), None
    )
    with capture_logs() as log:
        reports.handle(record)
    return log


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
