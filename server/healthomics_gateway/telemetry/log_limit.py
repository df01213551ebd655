"""Limits how many lines of each kind are logged in a second."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

LINES_PER_SECOND = 2000  # of one kind: more than the calls that one process can answer


class LogLimit:
    """Passes a number of lines of each kind in a second, and counts the others.

    The next line that passes has that count as `left_out`. The kind of the gateway's
    events is their name and reason, so that a flood of rejections hides no other event;
    the kind of a library's events is their logger and level.
    """

    def __init__(
        self,
        *,
        lines_per_second: int = LINES_PER_SECOND,
        unlimited: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with no line counted; events with a name in `unlimited` always pass."""
        self._unlimited = unlimited
        self._lines_per_second = lines_per_second
        self._clock = clock
        self._second = 0  # of the clock: the second that is counted
        self._lines: Counter[tuple[Any, Any]] = Counter()  # in this second, by kind
        self._left_out = 0

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Return an event of the gateway, or drop it; a processor of structlog."""
        name = event["event"]
        kind = name, event.get("reason")
        if name not in self._unlimited and not self._passes(kind):
            raise structlog.DropEvent
        if self._left_out:
            event["left_out"], self._left_out = self._left_out, 0
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a library's event is logged; a filter of logging."""
        return self._passes((record.name, record.levelno))

    def _passes(self, kind: tuple[Any, Any]) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._lines.clear()
        self._lines[kind] += 1
        passes = self._lines[kind] <= self._lines_per_second
        self._left_out += not passes
        return passes
