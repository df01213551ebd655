"""The spans of a call and of its messages, so that no span lasts as long as a watch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import time_ns

from healthomics_gateway.telemetry.spans import (
    CHANGE,
    HEARTBEAT,
    RUN_STATUS,
    STATE,
    STREAM_END,
    Origin,
    Span,
)

MAX_HEARTBEATS = 8  # of a watch: the last ones since its last change


class MessageSpans:
    """Has the span of the call, until it has sent a message, and then shorter ones.

    A stream's later messages have a span for each change of a run, and one for the end.
    A unary call has only the span of the call.
    """

    __slots__ = ("_call", "_heartbeats", "_now", "_open")

    def __init__(self, call: Span, *, now: Callable[[], int] = time_ns) -> None:
        """Begin with the span of a call; `now` is in nanoseconds since the epoch."""
        self._call = call
        self._open: Span | None = call
        self._heartbeats: deque[int] = deque(maxlen=MAX_HEARTBEATS)
        self._now = now

    def heartbeat(self) -> None:
        """Note that a heartbeat is sent: it becomes an event of the next span."""
        self._heartbeats.append(self._now())

    def change(self, status: str, origin: Origin | None) -> None:
        """Note that a state of a run is sent; `origin` is the fetch that read it."""
        span = self._current(CHANGE)
        span.event(STATE, {RUN_STATUS: status})
        if origin:
            span.link(origin)

    def sent(self) -> None:
        """Note that a message has been sent: it ends the span."""
        if self._open:
            self._open.end()
            self._open = None

    def last(self) -> Span:
        """Return the span that the end of the call belongs to."""
        return self._current(STREAM_END)

    def _current(self, name: str) -> Span:
        if self._open is None:
            self._open = self._call.child(name)
        while self._heartbeats:
            self._open.event(HEARTBEAT, at=self._heartbeats.popleft())
        return self._open
