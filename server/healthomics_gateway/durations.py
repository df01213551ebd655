"""Durations as people write and read them."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}  # seconds
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")


def parse_duration(text: str) -> timedelta:
    """Read `250ms`, `5s`, `2m` or `1h`; raise ValueError where it is none."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError("write a duration like 250ms, 5s or 2m")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def duration_text(duration: timedelta) -> str:
    """Write a duration as `parse_duration` reads it."""
    ms = round(duration / timedelta(milliseconds=1))
    for unit, size_ms in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if ms and ms % size_ms == 0:
            return f"{ms // size_ms}{unit}"
    return f"{ms}ms" if ms else "0s"


def elapsed_text(duration: timedelta) -> str:
    """Write about how long something took: its two largest units."""
    seconds = max(0, int(duration.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    if minutes:
        return f"{minutes}m {seconds % 60}s"
    return f"{seconds}s"
