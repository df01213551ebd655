"""Parses and formats durations such as `250ms` or `2m`."""

from __future__ import annotations

import re
from datetime import timedelta

LONGEST = timedelta(days=365)  # gRPC's own arithmetic fails with longer ones

_UNITS_US = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1000}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)(ms|s|m|h)")


def parse_duration(text: str) -> timedelta:
    """Parse a duration like `250ms`, `5s`, `2m` or `1h`; raise ValueError."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError("write a duration like 250ms, 5s or 2m")
    us = round(float(match[1]) * _UNITS_US[match[2]])
    if us > LONGEST / timedelta(microseconds=1):
        raise ValueError("write a duration of at most a year")
    return timedelta(microseconds=us)


def duration_text(duration: timedelta) -> str:
    """Format a duration of at most a year so that `parse_duration` can parse it."""
    us = duration // timedelta(microseconds=1)
    if not us:
        return "0s"
    for unit, size_us in _UNITS_US.items():
        if us % size_us == 0:
            return f"{us // size_us}{unit}"
    return f"{us // 1000}.{us % 1000:03}ms"


def elapsed_text(duration: timedelta) -> str:
    """Format a duration roughly, with its two largest units, such as `3h 5m`."""
    seconds = max(0, int(duration.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    if minutes:
        return f"{minutes}m {seconds % 60}s"
    return f"{seconds}s"
