"""Sets up logging to stderr, once: one event a line, and a limit for floods."""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from healthomics_gateway.telemetry.log_level import LogLevel
from healthomics_gateway.telemetry.log_limit import LogLimit
from healthomics_gateway.telemetry.log_lines import (
    AUDIT,
    MAX_LINE,
    Renderer,
    json_line,
    text_lines,
    unformatted,
)
from healthomics_gateway.telemetry.log_lock import LogLock
from healthomics_gateway.telemetry.log_writer import LogWriter

FLUSH_SECONDS = 0.3  # for the last lines to be written when the process ends
CLOSED = -1  # a file descriptor that can't be written to


def set_up_logging(
    *,
    level: LogLevel,
    log_format: str,
    worker: int | None = None,
    lock: LogLock | None = None,
) -> LogWriter:
    """Send events of the gateway and of libraries to stderr; return the writer.

    `level` can be changed later. `log_format` is `json`, `text` or `auto`: text on a
    terminal, JSON elsewhere. Each line has the number `worker`, and `lock` keeps it
    apart from those of other processes.
    """
    file = sys.stderr.fileno() if sys.stderr else CLOSED
    is_terminal = file != CLOSED and os.isatty(file)
    is_text = log_format == "text" or (log_format == "auto" and is_terminal)
    render = Renderer(text_lines(colors=is_terminal) if is_text else json_line)
    shared: list[Any] = [_stamped]
    if is_text:
        shared = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ]
    if worker is not None:
        shared.append(partial(_numbered, worker))
    writer = LogWriter(file, report=_report_of_losses([*shared, render]), lock=lock)
    atexit.register(writer.flush, FLUSH_SECONDS)
    limit = LogLimit(unlimited=frozenset({AUDIT}))
    structlog.configure(
        processors=[level, limit, *shared, render],
        # Loggers are cached, so the level is a processor: it can change.
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=partial(_Lines, writer),
        cache_logger_on_first_use=True,
    )
    _route_libraries(_handler(writer, limit, shared, render))
    level.apply()
    _log_uncaught_exceptions()
    return writer


def _report_of_losses(processors: list[Any]) -> Callable[[int, int], str]:
    """Return the function that renders the event `log_lines_lost`."""

    def report(lost: int, of_audit: int) -> str:
        event: Any = {"event": "log_lines_lost", "lost": lost, "lost_audit": of_audit}
        for process in processors:
            event = process(None, "warning", event)
        return str(event)

    return report


def _handler(
    writer: LogWriter, limit: LogLimit, shared: list[Any], render: Renderer
) -> logging.Handler:
    """Return the handler of what libraries log."""
    handler = _Handler(writer)
    handler.addFilter(limit)
    handler.addFilter(_is_not_of_grpc)
    handler.addFilter(_without_traceback)
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[remove_meta, render]
        )
    )
    return handler


def _route_libraries(handler: logging.Handler) -> None:
    """Send what libraries log, and Python's warnings, to `handler`."""
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(capture=True)  # else Python prints them to stderr


def _is_not_of_grpc(record: logging.LogRecord) -> bool:
    """Drop what gRPC logs about its clients, such as one whose path isn't UTF-8.

    A client can cause a traceback with each call. Setting its level isn't enough: gRPC
    prints what it can't log.
    """
    return not record.name.startswith("grpc.")


def _without_traceback(record: logging.LogRecord) -> bool:
    """Remove botocore's tracebacks: each failed refresh has one, with ARNs and paths.

    The event `credentials_unavailable` says what failed and what to do.
    """
    if record.name.startswith("botocore."):
        record.exc_info = record.exc_text = None
    return True


class _Lines:
    """A logger to which structlog passes rendered lines; `AUDIT` names the audit's."""

    def __init__(self, writer: LogWriter, name: str = "") -> None:
        is_audit = name == AUDIT

        def put(line: str) -> None:
            writer.put(line.encode(), is_audit=is_audit)

        self.debug = self.info = self.warning = self.error = self.critical = put


class _Handler(logging.Handler):
    """Passes libraries' events to the writer, even if one can't be formatted."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  # arguments that don't fit the message
            record.msg = f"{unformatted(record.msg)} % {unformatted(record.args)}"
            record.args = ()
            line = self.format(record)
        self._writer.put(line.encode())


class Printed(io.TextIOBase):
    """A stderr that logs each line that is printed to it.

    gRPC prints a traceback if it can't send a failure to a client. Printed to the real
    stderr, it would block until stderr is read, and with it every call.
    """

    def __init__(self) -> None:
        """Start with nothing printed."""
        self._log = logging.getLogger("stderr")
        self._rest = ""

    def write(self, text: str) -> int:
        """Log the complete lines, and a part that is longer than the longest line."""
        *lines, rest = f"{self._rest}{text}".split("\n")
        if len(rest) > MAX_LINE:  # bounds the memory if no newline is printed
            lines, rest = [*lines, rest], ""
        self._rest = rest
        for line in lines:
            self._log.warning("%s", line)
        return len(text)


def _log_uncaught_exceptions() -> None:
    """Log the exceptions that Python would print to stderr, as printing may block."""
    log = logging.getLogger("python")

    def unraisable(what: Any) -> None:
        error = (what.exc_type, what.exc_value, what.exc_traceback)
        text = what.err_msg or "Exception ignored in"
        log.error("%s: %r", text, what.object, exc_info=error)

    def of_thread(what: Any) -> None:
        error = (what.exc_type, what.exc_value, what.exc_traceback)
        log.error("Exception in thread %s", what.thread, exc_info=error)

    sys.excepthook = lambda *error: log.critical("Uncaught exception", exc_info=error)
    sys.unraisablehook = unraisable
    threading.excepthook = of_thread


def _numbered(
    worker: int, _logger: Any, _method: str, event: dict[str, Any]
) -> dict[str, Any]:
    """Add the number of the worker process."""
    event["worker"] = worker
    return event


def _stamped(_logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add level and time in one step; it is faster, as orjson formats the time."""
    event["level"] = method
    event["timestamp"] = datetime.now(UTC)
    return event
