"""What OpenTelemetry reports in the log."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from healthomics_gateway.telemetry.tracing_reports import (
    LOST,
    MAX_CAUSES,
    NOT_EXPORTED,
    OTHER,
    REPORT_SECONDS,
    Reports,
    attach,
)
from testkit.clocks import MonotonicClock

SECRET = "SECRETTOKEN"
FAILED = "Failed to export %s batch code: %s, reason: %s"
TRANSIENT = "Transient error %s encountered while exporting %s batch, retrying"
GRPC_FAILED = "Failed to export %s to %s, error code: %s, error details: %s"


def report(reports: Reports, text: str, *args: Any, name: str = "x") -> list[Any]:
    """Return the events for one report of OpenTelemetry."""
    record = logging.LogRecord(name, logging.WARNING, "", 0, text, args, None)
    with capture_logs() as log:
        reports.handle(record)
    return log


def why(text: str, *args: Any) -> str:
    """Return what the event for one report says."""
    (event,) = report(Reports(), text, *args)
    said: str = event["why"]
    return said


def raised(first: Exception) -> Exception:
    """Return an exception with another one as its cause."""
    error = ValueError(SECRET)
    error.__context__ = RuntimeError(SECRET)
    error.__context__.__cause__ = first
    return error


def test_each_cause_is_logged_rarely() -> None:
    """One event in five minutes; the next has the number of reports since then."""
    clock = MonotonicClock()
    reports = Reports(collector="collector:4318", clock=clock)
    (first,) = report(reports, FAILED, "spans", 401, SECRET)
    assert [] == report(reports, FAILED, "spans", 401, SECRET)
    (other,) = report(reports, "Queue full, dropping %s.", "Span")
    clock.now += REPORT_SECONDS
    (second,) = report(reports, FAILED, "spans", 401, SECRET)

    assert (f"{NOT_EXPORTED}: HTTP status 401", 1) == (first["why"], first["reports"])
    assert (LOST, 1) == (other["why"], other["reports"])
    assert (first["why"], 2) == (second["why"], second["reports"])
    assert {"collector:4318"} == {each["collector"] for each in (first, other, second)}


def test_report_without_a_cause_belongs_to_the_one_before() -> None:
    """The end of the attempts isn't another event than their failure."""
    reports = Reports()
    end = "Failed to export %s batch due to timeout, max retries or shutdown."
    report(reports, TRANSIENT, ConnectionRefusedError(), "spans")
    assert [] == report(reports, end, "spans")
    assert NOT_EXPORTED == why(end, "spans")


def test_causes_are_bounded() -> None:
    """A collector that answers in many ways can't fill the log or the memory."""
    clock = MonotonicClock()
    reports = Reports(clock=clock)
    events = [
        each
        for code in range(MAX_CAUSES + 5)
        for each in report(reports, FAILED, "spans", code, "")
    ]
    assert MAX_CAUSES == len(events)
    clock.now += REPORT_SECONDS
    assert report(reports, FAILED, "spans", MAX_CAUSES, "")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param((FAILED, "spans", 503, SECRET), "HTTP status 503", id="status"),
        pytest.param(
            (TRANSIENT, "Service Unavailable", "spans"), "HTTP status 503", id="phrase"
        ),
        pytest.param(
            (FAILED, "spans", None, raised(ConnectionRefusedError(SECRET))),
            "ConnectionRefusedError",
            id="refused",
        ),
        pytest.param(
            (FAILED, "spans", None, raised(socket.gaierror(-2, SECRET))),
            "gaierror",
            id="name",
        ),
        pytest.param(
            (FAILED, "spans", None, OSError(errno.ENETUNREACH, SECRET)),
            "ENETUNREACH",
            id="errno",
        ),
        pytest.param(
            (GRPC_FAILED, "spans", "host", grpc.StatusCode.UNAUTHENTICATED, SECRET),
            "UNAUTHENTICATED",
            id="grpc",
        ),
        pytest.param(
            ("Failed to export %s %s %s", [SECRET], {SECRET}, raised(TimeoutError())),
            "TimeoutError",
            id="without a hash",
        ),
    ],
)
def test_event_has_the_cause(args: tuple[Any, ...], *, expected: str) -> None:
    """The names of codes and exceptions, but no text of a library or a collector."""
    assert f"{NOT_EXPORTED}: {expected}" == why(*args)


def test_event_has_the_exception_of_a_report() -> None:
    """What an exporter raises is named by its class."""
    record = logging.LogRecord("x", logging.ERROR, "", 0, "Exception while", (), None)
    record.msg = "Exception while exporting %s."
    error = raised(TimeoutError())
    record.exc_info = type(error), error, None
    with capture_logs() as log:
        Reports().handle(record)

    assert f"{NOT_EXPORTED}: TimeoutError" == log[0]["why"]


def test_unknown_report_is_named_after_its_logger() -> None:
    """Its text isn't logged."""
    (event,) = report(Reports(), f"{SECRET} %s", SECRET, name="opentelemetry.sdk.trace")
    assert f"{OTHER}: opentelemetry.sdk.trace" == event["why"]
    assert "collector" not in event


def test_shutdown_is_not_reported() -> None:
    """What the exporter says when it is stopped is no failure."""
    assert [] == report(Reports(), "Shutdown in progress, aborting retry.")


def test_only_exporters_and_the_sdk_are_heard() -> None:
    """What a caller has sent reaches no event, nor does a URL."""
    attach(Reports())
    with capture_logs() as log:
        for name in ("baggage.propagation", "trace.span", "propagate", "util.re"):
            logging.getLogger(f"opentelemetry.{name}").error(SECRET)
        logging.getLogger("urllib3.connection").error(SECRET)
        logging.getLogger("opentelemetry.sdk.trace").error(SECRET)
        logging.getLogger("opentelemetry.exporter.otlp").error(SECRET)

    assert [
        f"{OTHER}: opentelemetry.sdk.trace",
        f"{OTHER}: opentelemetry.exporter.otlp",
    ] == [each["why"] for each in log]
