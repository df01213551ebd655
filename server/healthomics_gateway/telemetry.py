"""Logging, set up once: one event a line on stderr, and no flood of them."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from structlog.dev import plain_traceback

# At DEBUG botocore writes the session token and every body.
QUIETEST = {"botocore": logging.INFO, "boto3": logging.INFO, "urllib3": logging.INFO}
AUDIT = "call"  # the event that each call is; none of them is left out
LINES_PER_SECOND = 2000  # of one kind: more than the calls that one process can answer
MAX_LINE = 16_384  # characters; what is longer has its values cut
MAX_VALUE = 2048  # characters of one value then


def set_up_logging(*, level: str, log_format: str) -> None:
    """Send our events and every library's to stderr, as JSON or readable.

    `log_format` is `json`, `text` or `auto`: readable on a terminal, else JSON.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    is_terminal = sys.stderr.isatty()
    is_text = log_format == "text" or (log_format == "auto" and is_terminal)
    render: list[Any] = (
        # A traceback that shows locals would show credentials.
        [
            structlog.dev.ConsoleRenderer(
                colors=is_terminal, exception_formatter=plain_traceback
            )
        ]
        if is_text
        else [structlog.processors.format_exc_info, rendered_json]
    )
    shared: list[Any] = (
        [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ]
        if is_text
        else [_stamped]
    )
    cap = Cap(uncapped=frozenset({AUDIT}))
    structlog.configure(
        processors=[cap, *shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *render,
            ],
        )
    )
    handler.addFilter(cap)
    logging.basicConfig(handlers=[handler], level=number, force=True)
    logging.captureWarnings(capture=True)  # by itself Python writes them as they are
    for name, quietest in QUIETEST.items():
        logging.getLogger(name).setLevel(max(number, quietest))


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


def rendered_json(_logger: Any, _method: str, event: dict[str, Any]) -> str:
    """Write an event as a line, whatever its values are; a processor of structlog."""
    line = _line(event)
    if len(line) > MAX_LINE:
        return _line({key: _cut(value) for key, value in event.items()})
    return line


def _line(event: dict[str, Any]) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z).decode()
    except TypeError:  # a lone surrogate, an integer beyond 64 bits
        return json.dumps(event, default=_written)


def _cut(value: Any) -> Any:
    if isinstance(value, datetime | int | float | None):
        return value
    return (value if isinstance(value, str) else repr(value))[:MAX_VALUE]


def _written(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}"
    return repr(value)
