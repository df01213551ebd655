"""Checks what the process needs besides: its log, and the packages of its extras."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec

from healthomics_gateway.check.found import Found
from healthomics_gateway.check.step import Result, failed, ok, skipped
from healthomics_gateway.telemetry.log_lines import json_line
from healthomics_gateway.telemetry.log_writer import LogWriter
from healthomics_gateway.threads import in_thread

FLUSH_SECONDS = 1.5  # for the event to be written; a write that takes 1 s is a fault
EXPORTER = "OTEL_TRACES_EXPORTER"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
OTLP = "otlp"  # the only exporter of the extra
PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp")  # of the extra `otel`


async def check_log(found: Found) -> Result:
    """Write an event to standard error, unless it is a terminal."""
    if os.isatty(found.log_file):
        return ok("standard error is this terminal")
    writer = LogWriter(found.log_file, report=lambda _lost, _of_audit: "")
    event = {"event": "log_checked", "level": "info", "timestamp": found.now()}
    writer.put(json_line(event).encode())
    await in_thread(partial(writer.flush, FLUSH_SECONDS), name="log-check")
    if fault := writer.fault():
        why = fault.rpartition(": ")[2]  # the rest counts the lines
        return failed(
            f"standard error can't be written to: {why}. Redirect it to a file, to a"
            " pipe that is read, or to the journal, and look for a full disk"
        )
    return ok("an event is written to standard error")


async def check_traces(
    found: Found, *, is_installed: Callable[[], bool] | None = None
) -> Result:
    """Check that the extra `otel` is installed if an exporter is configured."""
    variable = exporter_variable(found.environ)
    if variable is None:
        return skipped("no OTEL_* variable configures an OTLP exporter")
    if not (is_installed or has_otel)():
        return failed(
            f"{variable} is set, but the extra otel isn't installed; run"
            " pip install 'healthomics-gateway[otel]', or unset it"
        )
    return ok(f"{variable} is set, and the extra otel is installed")


def exporter_variable(environ: Mapping[str, str]) -> str | None:
    """Return the variable that configures an exporter of traces, None if none does."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporters = [each.strip() for each in environ.get(EXPORTER, "").split(",")]
    if any(exporters):
        return EXPORTER if OTLP in exporters else None
    return next((name for name in ENDPOINTS if environ.get(name, "").strip()), None)


def has_otel(packages: tuple[str, ...] = PACKAGES) -> bool:
    """Return whether the packages of the extra `otel` are installed."""
    try:
        return all(find_spec(name) for name in packages)
    except ModuleNotFoundError:  # of a parent
        return False
