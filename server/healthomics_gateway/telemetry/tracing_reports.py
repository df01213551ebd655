"""Logs the failures that OpenTelemetry reports: rarely, and in fixed words.

A report of a library can have headers, URLs and what callers have sent. So none of its
text is logged, only what it can't have from outside: the names of classes and codes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from errno import errorcode
from http import HTTPStatus

import structlog

REPORT_SECONDS = 300.0  # between two events with the same cause
MAX_CAUSES = 16  # in that time; further ones aren't logged
MAX_CHAIN = 10  # exceptions that are looked at for the cause

OTEL = "opentelemetry"  # some of its loggers repeat what a caller has sent
HTTP = "urllib3"  # repeats URLs
REPORTING = ("opentelemetry.exporter", "opentelemetry.sdk")

# By the beginning of a report. Any other report is named after its logger.
LOST = "the queue is full: spans are lost"
NOT_EXPORTED = "spans can't be exported"
KINDS: Mapping[str, str] = {
    "Queue full": LOST,
    "Failed to export": NOT_EXPORTED,
    "Exception while exporting": NOT_EXPORTED,
    "Transient error": NOT_EXPORTED,
    "Dropping span batch": "a batch of spans is too large: it is lost",
}
OTHER = "OpenTelemetry reports a failure"
# What follows from a shutdown isn't logged.
IGNORED = ("Shutdown in progress", "Exporter already", "OTLP client already")

_PHRASES = {each.phrase: each.value for each in HTTPStatus}

_log = structlog.get_logger("tracing")


class Silent(logging.NullHandler):
    """Logs nothing; it remembers whether anything was reported."""

    has_reports = False

    def handle(self, _record: logging.LogRecord) -> bool:
        """Remember a report."""
        self.has_reports = True
        return False


def attach(reports: logging.Handler) -> Silent:
    """Send what the exporters and the SDK report to `reports`; silence the others."""
    silent = Silent(logging.WARNING)
    for name, handler in ((OTEL, silent), (HTTP, logging.NullHandler())):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [handler], False
    for name in REPORTING:
        logging.getLogger(name).handlers = [reports]
    return silent


class Reports(logging.Handler):
    """Logs what OpenTelemetry reports as an event, and each cause rarely.

    While no collector can be reached, OpenTelemetry reports each batch that fails, and
    while its queue is full, each span that is lost.
    """

    def __init__(
        self, *, collector: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without a report; `collector` is its host and port, for the event."""
        super().__init__(logging.WARNING)
        self._collector = {"collector": collector} if collector else {}
        self._clock = clock
        self._quiet_until: dict[str, float] = {}  # by cause
        self._counts: dict[str, int] = {}  # since the last event with the cause

    def emit(self, record: logging.LogRecord) -> None:
        """Log a report, or count it."""
        if str(record.msg).startswith(IGNORED):
            return
        now = self._clock()
        why = self._cause(record, now)
        if why not in self._counts and len(self._counts) >= MAX_CAUSES:
            for each, end in list(self._quiet_until.items()):
                if end <= now:
                    del self._quiet_until[each], self._counts[each]
            if len(self._counts) >= MAX_CAUSES:
                return
        self._counts[why] = self._counts.get(why, 0) + 1
        if now < self._quiet_until.get(why, now):
            return
        self._quiet_until[why] = now + REPORT_SECONDS
        count, self._counts[why] = self._counts[why], 0
        _log.warning("tracing_failed", why=why, reports=count, **self._collector)

    def _cause(self, record: logging.LogRecord, now: float) -> str:
        """Return what a report is about, in fixed words.

        One without details belongs to one of its kind that was logged shortly before.
        """
        begins = (KINDS[each] for each in KINDS if str(record.msg).startswith(each))
        kind = next(begins, f"{OTHER}: {record.name}")
        details = ", ".join(dict.fromkeys(_details(record)))
        if details:
            return f"{kind}: {details}"
        logged = (each for each, end in self._quiet_until.items() if now < end)
        return next((each for each in logged if each.startswith(kind)), kind)


def _details(record: logging.LogRecord) -> Iterator[str]:
    """Return the names of the codes and of the exceptions in a report."""
    has_code = "code:" in str(record.msg)
    for each in record.args if isinstance(record.args, tuple) else ():
        if isinstance(each, Enum):  # a code of gRPC
            yield each.name
        elif isinstance(each, BaseException):
            yield _name(each)
        elif has_code and isinstance(each, int):
            yield f"HTTP status {each}"
        elif isinstance(each, str) and each in _PHRASES:
            yield f"HTTP status {_PHRASES[each]}"
    if record.exc_info and record.exc_info[1]:
        yield _name(record.exc_info[1])


def _name(error: BaseException) -> str:
    """Return the name of the class of the first cause of an exception."""
    for _ in range(MAX_CHAIN):
        earlier = error.__cause__ or error.__context__
        if earlier is None:
            break
        error = earlier
    number = error.errno if type(error) is OSError else None
    return errorcode.get(number or 0, type(error).__name__)
