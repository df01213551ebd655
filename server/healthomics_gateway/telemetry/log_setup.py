"""Logging, set up once: one event a line on stderr, and no flood of them."""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from healthomics_gateway.telemetry.log_lines import (
    AUDIT,
    MAX_LINE,
    Renderer,
    json_line,
    plain,
    text_lines,
)
from healthomics_gateway.telemetry.log_writer import LogWriter

# At DEBUG botocore writes the session token and every body, and at INFO for each look
# where it has found credentials.
QUIETEST = {
    "boto3": logging.INFO,
    "botocore": logging.INFO,
    "botocore.credentials": logging.WARNING,
    "urllib3": logging.INFO,
}
LINES_PER_SECOND = 2000  # of one kind: more than the calls that one process can answer
FLUSH_SECONDS = 0.3  # for the last lines to be written when the process ends
CLOSED = -1  # a file descriptor that can't be written to


def set_up_logging(*, level: str, log_format: str) -> LogWriter:
    """Send our events and every library's to stderr, as JSON or readable.

    `log_format` is `json`, `text` or `auto`: readable on a terminal, else JSON.
    Returns the writer, which knows what was lost.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    file = sys.stderr.fileno() if sys.stderr else CLOSED
    is_terminal = file != CLOSED and os.isatty(file)
    is_text = log_format == "text" or (log_format == "auto" and is_terminal)
    render = Renderer(text_lines(colors=is_terminal) if is_text else json_line)
    shared: list[Any] = (
        [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ]
        if is_text
        else [_stamped]
    )

    def report(lost: int, of_audit: int) -> str:
        event: Any = {"event": "log_lines_lost", "lost": lost, "lost_audit": of_audit}
        for process in shared:
            event = process(None, "warning", event)
        return render(None, "warning", event)

    writer = LogWriter(file, report=report)
    atexit.register(writer.flush, FLUSH_SECONDS)
    cap = Cap(uncapped=frozenset({AUDIT}))
    structlog.configure(
        processors=[cap, *shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=partial(_Lines, writer),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(writer)
    handler.addFilter(cap)
    handler.addFilter(_is_own_matter)
    handler.addFilter(_without_traceback)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                render,
            ],
        )
    )
    _route_libraries(handler, number)
    _log_last_words()
    return writer


def _route_libraries(handler: logging.Handler, level: int) -> None:
    """Send what libraries log, and Python's warnings, to `handler`."""
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(capture=True)  # by itself Python writes them as they are
    for name, quietest in QUIETEST.items():
        logging.getLogger(name).setLevel(max(level, quietest))


def _is_own_matter(record: logging.LogRecord) -> bool:
    """Drop what gRPC says of its clients, such as one whose path isn't UTF-8.

    They can cause a traceback with each call. A level wouldn't do: where gRPC can't log
    it prints.
    """
    return not record.name.startswith("grpc.")


def _without_traceback(record: logging.LogRecord) -> bool:
    """Drop botocore's tracebacks: each failed refresh has one, with ARNs and paths.

    The event `credentials_unavailable` says what failed and what to do.
    """
    if record.name.startswith("botocore."):
        record.exc_info = record.exc_text = None
    return True


class _Lines:
    """What structlog hands its finished lines to; the logger AUDIT is the audit's."""

    def __init__(self, writer: LogWriter, name: str = "") -> None:
        is_audit = name == AUDIT

        def put(line: str) -> None:
            writer.put(line.encode(), is_audit=is_audit)

        self.debug = self.info = self.warning = self.error = self.critical = put


class _Handler(logging.Handler):
    """Hands libraries' events to the writer; one that can't be rendered too."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  # arguments that don't fit the message
            record.msg = f"{plain(record.msg)} % {plain(record.args)}"
            record.args = ()
            line = self.format(record)
        self._writer.put(line.encode())


class Printed(io.TextIOBase):
    """A stderr that logs what is printed to it, a line each.

    gRPC prints a traceback where it can't tell a client of a failure: written as it is,
    it would wait for the reader of stderr, and every call with it.
    """

    def __init__(self) -> None:
        """Have nothing printed."""
        self._log = logging.getLogger("stderr")
        self._rest = ""

    def write(self, text: str) -> int:
        """Log the lines that are complete, and a part that is longer than a line."""
        *lines, rest = f"{self._rest}{text}".split("\n")
        if len(rest) > MAX_LINE:  # whoever prints without end keeps no memory
            lines, rest = [*lines, rest], ""
        self._rest = rest
        for line in lines:
            self._log.warning("%s", line)
        return len(text)


def _log_last_words() -> None:
    """Log what Python itself would write to stderr, and would wait for."""
    log = logging.getLogger("python")

    def unraisable(what: Any) -> None:
        error = (what.exc_type, what.exc_value, what.exc_traceback)
        words = what.err_msg or "Exception ignored in"
        log.error("%s: %r", words, what.object, exc_info=error)

    def of_thread(what: Any) -> None:
        error = (what.exc_type, what.exc_value, what.exc_traceback)
        log.error("Exception in thread %s", what.thread, exc_info=error)

    sys.excepthook = lambda *error: log.critical("Uncaught exception", exc_info=error)
    sys.unraisablehook = unraisable
    threading.excepthook = of_thread


class Cap:
    """Lets so many lines of each kind through in a second, and counts the others.

    The next line that passes tells in `left_out` how many were. Our events are of a
    kind by name and reason, so that a flood of refusals hides nothing else; a
    library's by its logger and level.
    """

    def __init__(
        self,
        *,
        lines_per_second: int = LINES_PER_SECOND,
        uncapped: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing written; our events of the `uncapped` names all pass."""
        self._uncapped = uncapped
        self._lines_per_second = lines_per_second
        self._clock = clock
        self._second = 0  # of the clock, which the lines are counted in
        self._written: Counter[tuple[Any, Any]] = Counter()  # by kind
        self._left_out = 0

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Pass our event on, or drop it; a processor of structlog."""
        name = event["event"]
        if name not in self._uncapped and not self._passes((name, event.get("reason"))):
            raise structlog.DropEvent
        if self._left_out:
            event["left_out"], self._left_out = self._left_out, 0
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a library's event is written; a filter of logging."""
        return self._passes((record.name, record.levelno))

    def _passes(self, kind: tuple[Any, Any]) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._written.clear()
        self._written[kind] += 1
        passes = self._written[kind] <= self._lines_per_second
        self._left_out += not passes
        return passes


def _stamped(_logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add level and time in one go; orjson writes the time, at a fraction of it."""
    event["level"] = method
    event["timestamp"] = datetime.now(UTC)
    return event
