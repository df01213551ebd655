"""Clocks that a test sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime


class MonotonicClock:
    """A clock that stands still until the test sets it."""

    def __init__(self, now: float = 1000.0) -> None:
        """Begin at a time in seconds."""
        self.now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


class OffsetClock:
    """The machine's time of day, plus an offset that the test sets."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        """Begin with this offset."""
        self.offset = offset

    def __call__(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC) + self.offset

    def date(self) -> str:
        """Return the time as in a Date header."""
        return format_datetime(self(), usegmt=True)
