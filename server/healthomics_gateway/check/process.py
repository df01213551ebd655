"""Checks what the process needs besides: its log, and its traces."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial

from healthomics_gateway.check.found import Found
from healthomics_gateway.check.step import Result, failed, ok, skipped
from healthomics_gateway.telemetry.log_lines import json_line
from healthomics_gateway.telemetry.log_writer import LogWriter
from healthomics_gateway.telemetry.spans import Tracer
from healthomics_gateway.telemetry.tracing_setup import (
    TracingError,
    exporter_variable,
    make_tracer,
)
from healthomics_gateway.threads import in_thread

FLUSH_SECONDS = 1.5  # for the event to be written; a write that takes 1 s is a fault


async def check_log(found: Found) -> Result:
    """Write an event to standard error, unless it is a terminal."""
    if os.isatty(found.log_file):
        return ok("standard error is this terminal")
    writer = LogWriter(found.log_file, report=lambda _lost, _of_audit: "")
    event = {"event": "log_checked", "level": "info", "timestamp": found.now()}
    writer.put(json_line(event).encode())
    await in_thread(partial(writer.flush, FLUSH_SECONDS), name="log-check")
    if why := writer.stall():
        return failed(
            f"standard error can't be written to: {why}. Redirect it to a file, to a"
            " pipe that is read, or to the journal, and look for a full disk"
        )
    return ok("an event is written to standard error")


async def check_traces(
    found: Found, *, make: Callable[[Mapping[str, str]], Tracer] = make_tracer
) -> Result:
    """Set up the traces that the variables ask for; nothing is exported yet."""
    variable = exporter_variable(found.environ)
    if variable is None:
        return skipped("no OTEL_* variable asks for traces")
    try:
        # In a thread, because it reads files, whose file system may hang.
        tracer = await in_thread(partial(make, found.environ), name="traces")
        tracer.close()
    except TracingError as error:
        return failed(f"{variable} asks for traces, but {error}")
    return ok(f"{variable} asks for traces, which can be set up")
