"""Exponential back-off."""

from __future__ import annotations

from math import inf

MAX_DOUBLINGS = 64  # more than any cap needs; 2.0 ** 1024 would overflow


def backoff_seconds(
    doublings: int, *, base_seconds: float, max_seconds: float = inf
) -> float:
    """Return `base_seconds` doubled `doublings` times, but at most `max_seconds`."""
    return min(base_seconds * 2.0 ** min(doublings, MAX_DOUBLINGS), max_seconds)
